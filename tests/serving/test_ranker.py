"""What a ranker answers does not depend on how a query is cut, filled up or packed."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from dicm_jax.errors import RequestError, TooLargeError, UnknownNameError
from dicm_jax.serving import NewItem, Query, Ranker, User
from dicm_jax.serving.buckets import Bucket
from tests.serving.made import BUCKETS

CLOSE = {"rtol": 0, "atol": 1e-6}


def _of_size(ranker: Ranker, size: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(ranker.servable.names), size))


@pytest.mark.parametrize("model", ["dicm", "baseline"])
def test_a_query_alone_and_among_others_gets_the_same_scores(ranker, queries, model):
    together = ranker.rank_many(queries, model=model)
    for query, found in zip(queries, together, strict=True):
        alone = ranker.rank(query.user, query.candidates, model=model)
        np.testing.assert_allclose(alone.scores, found.scores, **CLOSE)
        one_by_one = [
            ranker.rank(query.user, [name], model=model).scores[0] for name in query.candidates
        ]
        np.testing.assert_allclose(one_by_one, found.scores, **CLOSE)
    assert np.ptp(together[0].scores) > 1e-3, "all scores are alike: nothing was shown"


@pytest.mark.parametrize("size", [1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 300])
def test_scores_are_the_same_at_every_size(ranker, queries, size):
    user, names = queries[1].user, _of_size(ranker, size)
    found = ranker.rank(user, names).scores
    of_name = dict(
        zip(ranker.servable.names, ranker.rank(user, ranker.servable.names).scores, strict=True)
    )
    np.testing.assert_allclose(found, [of_name[name] for name in names], **CLOSE)


def test_ten_thousand_candidates(ranker, queries):
    names = _of_size(ranker, 10_000)
    scores = ranker.rank(queries[0].user, names).scores
    assert scores.shape == (10_000,)
    np.testing.assert_allclose(scores[:400], scores[400:800], **CLOSE)


def test_each_shape_of_a_call_gives_the_same(servable, queries, ranker):
    query = queries[2]
    wanted = ranker.rank_many([query])[0].scores
    for bucket in (Bucket(1, 48), Bucket(3, 32)):
        other = Ranker(servable, room=0, buckets=(bucket,))
        np.testing.assert_allclose(other.rank_many([query, query])[1].scores, wanted, **CLOSE)
        weights, same = other.attention(query), ranker.attention(query)
        assert weights.keys() == same.keys()
        for name in weights:
            np.testing.assert_allclose(weights[name], same[name], **CLOSE)


def test_without_images_is_as_if_no_item_had_a_photo(ranker, queries, servable):
    query = queries[0]
    seen = ranker.rank_many([query])[0].scores
    unseen = ranker.rank_many([query], images=False)[0].scores
    assert np.abs(seen - unseen).max() > 1e-4
    # New items like those of the catalogue, but for their photos, say the same.
    engine = ranker._now.engine
    rows = {n: t.at[1:].set(1) for n, t in engine.tables["dicm"].items() if n == "image_rows"}
    tables, engine.tables["dicm"] = engine.tables["dicm"], engine.tables["dicm"] | rows
    try:
        np.testing.assert_allclose(ranker.rank_many([query])[0].scores, unseen, **CLOSE)
    finally:
        engine.tables["dicm"] = tables


def test_the_baseline_does_not_look_at_images(ranker, queries):
    with_images, without = (
        ranker.rank(queries[0].user, queries[0].candidates, model="baseline", images=images).scores
        for images in (True, False)
    )
    np.testing.assert_array_equal(with_images, without)


def test_only_the_newest_behaviors_are_seen(ranker, queries):
    most = ranker.servable.behaviors
    names = ranker.servable.names[: most + 30]
    long, short = (ranker.rank(User(behaviors=b), names[:20]) for b in (names, names[-most:]))
    assert len(long.behaviors) == most
    assert long.behaviors == short.behaviors == tuple(names[-most:])
    np.testing.assert_array_equal(long.scores, short.scores)
    older = ranker.rank(User(behaviors=names[:most]), names[:20])
    assert np.abs(older.scores - long.scores).max() > 1e-5
    assert (long.unknown_behaviors, short.unknown_behaviors) == (0, 0)


def test_unknown_behaviors_are_left_out_and_counted(ranker, queries):
    known = list(queries[0].user.behaviors)
    user = dataclasses.replace(queries[0].user, behaviors=["?", *known[:2], "??", *known[2:], "?"])
    found = ranker.rank(user, queries[0].candidates)
    assert found.unknown_behaviors == 3
    assert found.behaviors == tuple(known)
    same = ranker.rank(queries[0].user, queries[0].candidates)
    np.testing.assert_array_equal(found.scores, same.scores)


def test_unknown_behaviors_take_no_place_of_known_ones(ranker):
    most, names = ranker.servable.behaviors, ranker.servable.names
    behaviors = [*names[:most], *["?"] * most]
    assert ranker.rank(User(behaviors=behaviors), ["1"]).behaviors == tuple(names[:most])


def test_a_behavior_counts_as_often_as_it_stands_there(ranker, queries):
    name = queries[0].user.behaviors[-1]
    once, twice = (
        ranker.rank(User(behaviors=[name] * n), queries[0].candidates).scores for n in (1, 2)
    )
    assert np.abs(once - twice).max() > 1e-6


def test_attention_belongs_to_behaviors_and_candidates(ranker, queries):
    query = queries[1]
    weights = ranker.attention(query)
    assert set(weights) == {"image/image", "image/ids"}
    for weight_BL in weights.values():
        assert weight_BL.shape == (len(query.candidates), len(query.user.behaviors))
        assert np.ptp(weight_BL) > 0
    # In another order of candidates and behaviors the same weights come in that order.
    turned = Query(
        dataclasses.replace(query.user, behaviors=query.user.behaviors[::-1]),
        query.candidates[::-1],
    )
    for name, weight_BL in ranker.attention(turned).items():
        np.testing.assert_allclose(weight_BL[::-1, ::-1], weights[name], **CLOSE)
    assert ranker.attention(query, model="baseline") == {}


def test_context_is_the_usual_one_where_none_is_given(ranker, queries):
    query, servable = queries[0], ranker.servable
    places = [servable.names.index(name) + 1 for name in query.candidates]
    fields = servable.fields_of("context")
    given = {
        field.name: (servable.context_NF[places, column] - field.first).tolist()
        for column, field in enumerate(fields)
    }
    usual = ranker.rank(query.user, query.candidates).scores
    np.testing.assert_array_equal(ranker.rank(query.user, query.candidates, given).scores, usual)
    other = given | {"position": [9] * len(places)}
    assert np.abs(ranker.rank(query.user, query.candidates, other).scores - usual).max() > 1e-6


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64, np.uint64])
def test_context_may_be_an_array_of_any_integers(ranker, queries, dtype):
    names = queries[0].candidates
    keys = np.arange(len(names)) % 5
    wanted = ranker.rank(queries[0].user, names, {"item_age": keys.tolist()}).scores
    found = ranker.rank(queries[0].user, names, {"item_age": keys.astype(dtype)}).scores
    np.testing.assert_array_equal(found, wanted)


def test_order_is_that_of_a_stable_sort(ranker, queries):
    names = [*queries[0].candidates, *queries[0].candidates]
    found = ranker.rank(queries[0].user, names)
    wanted = sorted(range(len(names)), key=lambda n: (-found.scores[n], n))
    assert found.order.tolist() == wanted


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        (Query(User(), []), RequestError, "no candidates to rank: name at least one item"),
        (
            Query(User(), ["1", "no", "2", "neither"]),
            UnknownNameError,
            "2 of 4 candidates are not known, such as 'no', 'neither': leave them out, or add them",
        ),
        (
            Query(User({"gendr": 1}), ["1"]),
            UnknownNameError,
            "no user field 'gendr': there are gender, .*; did you mean 'gender'",
        ),
        (
            Query(User({"category": 1}), ["1"]),  # a field of items
            UnknownNameError,
            "no user field 'category': there are",
        ),
        (
            Query(User({"gender": 99}), ["1"]),
            RequestError,
            r"field 'gender' was given key 99: its vocabulary has keys 0 to \d",
        ),
        (Query(User({"gender": -1}), ["1"]), RequestError, "was given key -1"),
        (Query(User({"gender": True}), ["1"]), RequestError, "was given True: give a key"),
        (
            Query(User({"gender": "female"}), ["1"]),
            RequestError,
            "'gender' was given 'female': only keys are known of its vocabulary; give one of 0 to",
        ),
        (
            Query(User(), ["1", "2"], {"position": [1]}),
            RequestError,
            "context field 'position' has 1 values for 2 candidates: give one for each",
        ),
        (
            Query(User(), ["1", "2"], {"position": [1, 10**30]}),
            RequestError,
            "'position' was given key 10{30}: its vocabulary has keys",
        ),
        (Query(User(), ["1"], {"position": [-1]}), RequestError, "was given key -1"),
        (Query(User(), ["1", "2"], {"position": [0, True]}), RequestError, "was given True"),
        (Query(User(), ["1"], {"place": [1]}), UnknownNameError, "no context field 'place'"),
    ],
)
def test_a_query_that_cannot_be_answered_says_why(ranker, queries, query, error, message):
    with pytest.raises(error, match=message):
        ranker.rank_many([queries[0], query])


def test_models_that_are_not_there(ranker, queries):
    with pytest.raises(
        UnknownNameError, match=r"no model 'dcm' that ranks .* it has dicm, baseline"
    ):
        ranker.rank_many(queries, model="dcm")
    with pytest.raises(RequestError, match=r"no model 'prerank' that ranks"):
        ranker.rank_many(queries, model="prerank")
    assert issubclass(TooLargeError, RequestError)


def test_nothing_is_compiled_once_it_is_warm(servable, queries):
    """Calls of all sizes, items, preranks: jax compiles nothing, and would be seen if it did."""
    ranker = Ranker(servable, room=40, buckets=BUCKETS)
    compiled = []
    name = "/jax/core/compile/backend_compile_duration"

    def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == name:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        features = {"image": np.ones(37, np.float32)}
        for size in (1, 16, 31, 32, 33, 64, 65, 128, 129, 500):
            names = _of_size(ranker, size)
            for model in ("dicm", "baseline"):
                ranker.rank_many([Query(queries[0].user, names)] * 3, model=model)
                ranker.rank(queries[0].user, names, model=model, images=False)
            ranker.attention(Query(queries[0].user, names))
            ranker.prerank(queries[0].user, size)
            ranker.add_items([NewItem(f"new {n}", features=features) for n in range(size % 40)])
            ranker.add_items([NewItem("bare")])
        assert not compiled
        jax.jit(lambda x: x * 3 + len(compiled))(np.ones(size + 1))
        assert compiled, "compilations are not seen: nothing was shown"
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
