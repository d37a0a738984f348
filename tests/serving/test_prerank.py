"""The best items by inner product: exactly those of a full sort."""

import itertools

import numpy as np
import pytest

from dicm_jax.errors import RequestError
from dicm_jax.serving import Ranker, User
from dicm_jax.serving.prerank import Index, top


@pytest.mark.parametrize("seed", range(4))
def test_the_best_are_those_of_a_stable_sort(seed):
    rng = np.random.default_rng(seed)
    for length, values in itertools.product((1, 2, 17, 1000), (1, 3, 10**9)):
        score_N = rng.integers(-values, values, length, endpoint=True).astype(np.float32)
        wanted = np.argsort(-score_N.astype(np.float64), kind="stable")
        for count in {0, 1, length // 2, length - 1, length, length + 5}:
            np.testing.assert_array_equal(top(score_N, count), wanted[:count])


def test_extreme_scores_are_sorted_too():
    score_N = np.array([0.0, np.inf, -np.inf, 3e38, -0.0, np.inf], np.float32)
    assert top(score_N, 6).tolist() == [1, 5, 3, 0, 4, 2]
    assert top(score_N, 1).tolist() == [1]
    assert top(np.zeros(0, np.float32), 3).tolist() == []


def test_the_ranker_agrees_with_float64_over_all_items(ranker, queries):
    servable = ranker.servable
    index_NP = servable.models["prerank"].index_NP
    assert index_NP is not None
    for query in queries:
        lookup = ranker._now.engine.lookup
        places_L, _, _ = lookup.behaviors(query.user.behaviors)
        user_P = ranker._now.engine.user_vector(lookup.user(query.user), places_L)
        exact_N = index_NP.astype(np.float64) @ user_P.astype(np.float64)
        best = ranker.prerank(query.user, 25)
        scores = [score for _, score in best]
        wanted = np.sort(exact_N)[::-1][:25]
        np.testing.assert_allclose(scores, wanted, atol=1e-5)
        assert scores == sorted(scores, reverse=True)
        for name, score in best:
            assert exact_N[servable.names.index(name)] == pytest.approx(score, abs=1e-5)
    vectors = {tuple(name for name, _ in ranker.prerank(query.user, 25)) for query in queries}
    assert len(vectors) > 1, "all users have the same items: nothing was shown"


def test_more_than_there_are_gives_all(ranker, queries):
    best = ranker.prerank(queries[0].user, 10_000)
    assert sorted(name for name, _ in best) == sorted(ranker.servable.names)
    assert ranker.prerank(User(), 0) == []
    assert ranker.prerank(User(), 3) == ranker.prerank(User(), 400)[:3]


def test_the_exported_index_is_what_the_programs_make(ranker):
    """Also of the items that are not in the first call."""
    engine, servable = ranker._now.engine, ranker.servable
    place_N = np.arange(1, len(servable.names) + 1, dtype=np.int32)
    made_NP = engine.item_vectors(place_N, engine.lookup.usual_context(place_N))
    index_NP = servable.models["prerank"].index_NP
    np.testing.assert_allclose(made_NP, index_NP, rtol=0, atol=1e-5)


def test_a_million_items(ranker):
    rng = np.random.default_rng(0)
    vector_NP = rng.standard_normal((1_000_000, 10)).astype(np.float32)
    vector_NP[[7, 999_999]] = 0
    index = Index(ranker._now.engine, vector_NP, [str(n) for n in range(1_000_000)])
    user_P = rng.standard_normal(10).astype(np.float32)
    best = index.best(user_P, 1000)
    exact_N = vector_NP.astype(np.float64) @ user_P
    chosen = np.array([int(name) for name, _ in best])
    assert len(set(chosen.tolist())) == 1000
    # None that was left out is better than one that was taken, but for rounding.
    left_N = np.delete(exact_N, chosen)
    assert left_N.max() <= exact_N[chosen].min() + 1e-5
    np.testing.assert_allclose([score for _, score in best], exact_N[chosen], atol=1e-5)


def test_a_servable_without_prerank_says_so(servable, tmp_path, queries):
    import json
    import shutil

    from dicm_jax import sealed_json
    from dicm_jax.serving import format as files
    from tests.serving.made import BUCKETS

    copy = shutil.copytree(servable / "1", tmp_path / "copy")
    shutil.rmtree(copy / "models/prerank")
    body = json.loads((copy / files.NAME).read_text())
    del body["crc32"], body["models"]["prerank"]
    sealed_json.save(copy / files.NAME, body)
    files.MANIFEST.write(copy)
    ranker = Ranker(copy, room=0, buckets=BUCKETS)
    with pytest.raises(RequestError, match=r"no model 'prerank' that preranks .*: it has none"):
        ranker.prerank(queries[0].user, 5)
