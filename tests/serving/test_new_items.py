"""Items that are added while a servable is served: the same numbers as if it had known them."""

import concurrent.futures
import dataclasses
import itertools

import numpy as np
import pytest

from dicm_jax.checkpoint.run_folder import config_of
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import NO_IMAGE, ClickLog, Features
from dicm_jax.errors import RequestError, TooLargeError, UnknownNameError
from dicm_jax.serving import NewItem, Query, Ranker, User
from tests.serving.made import BUCKETS, ROOM

CLOSE = {"rtol": 0, "atol": 1e-5}
WIDTH = 37


@pytest.fixture(scope="module", name="log")
def _log(runs) -> ClickLog:
    return read_log(config_of(runs.dicm).data)


@pytest.fixture(name="fresh")
def _fresh(servable) -> Ranker:
    return Ranker(servable, room=ROOM, buckets=BUCKETS)


def twin(log: ClickLog, number: int, name: str) -> NewItem:
    """An item of the log under another name."""
    fields = [field.name for field in log.fields_of("item")]
    context = [field.name for field in log.fields_of("context")]
    last = np.flatnonzero(log.train.item_B == number)
    keys_F = log.train.context_ids_BF[last[-1]] if len(last) else np.zeros(len(context), int)
    row = log.items.image_N[number]
    return NewItem(
        name,
        dict(zip(fields, log.items.ids_NF[number].tolist(), strict=True)),
        {} if row == NO_IMAGE else {"image": feature_row(log, row)},
        dict(zip(context, keys_F.tolist(), strict=True)),
    )


def feature_row(log: ClickLog, row: int) -> np.ndarray:
    """As the encoder made it."""
    assert isinstance(log.features, Features)
    scale = 1.0 if log.features.scale_V is None else log.features.scale_V[row]
    return (log.features.rows_VD[row] * scale).astype(np.float32)


def features(value: float = 0.5) -> dict[str, np.ndarray]:
    return {"image": np.full(WIDTH, value, np.float32)}


@pytest.mark.parametrize("model", ["dicm", "baseline"])
def test_a_twin_of_an_item_gets_its_score(fresh, log, queries, model):
    names = fresh.servable.names[:30]
    fresh.add_items([twin(log, number, f"twin {number}") for number in range(30)])
    assert fresh.items == 430
    for query in queries[:3]:
        known = fresh.rank(query.user, names, model=model).scores
        added = fresh.rank(query.user, [f"twin {n}" for n in range(30)], model=model).scores
        np.testing.assert_allclose(added, known, **CLOSE)
        assert np.ptp(known) > 1e-3


def test_a_twin_of_an_item_gets_its_place_before_ranking(fresh, log, queries):
    fresh.add_items([twin(log, number, f"twin {number}") for number in range(30)])
    best = dict(fresh.prerank(queries[0].user, 1000))
    assert len(best) == 430
    for number in range(30):
        assert best[f"twin {number}"] == pytest.approx(best[str(number)], abs=1e-5)


def test_a_twin_counts_as_a_behavior(fresh, log, queries):
    known = list(queries[0].user.behaviors)[:20]
    fresh.add_items([twin(log, int(name), f"twin {name}") for name in set(known)])
    wanted = fresh.rank(User(behaviors=known), queries[0].candidates)
    found = fresh.rank(User(behaviors=[f"twin {n}" for n in known]), queries[0].candidates)
    assert found.unknown_behaviors == 0
    np.testing.assert_allclose(found.scores, wanted.scores, **CLOSE)


def test_items_without_features_are_items_without_a_photo(fresh, log, queries):
    item = twin(log, 3, "bare")
    fresh.add_items([NewItem("bare", item.fields, {}, item.context)])
    bare = fresh.rank(queries[0].user, ["bare"]).scores
    unseen = fresh.rank(queries[0].user, ["3"], images=False)
    # Behaviors keep their photos: only the ad's is missing.
    assert np.abs(bare - fresh.rank(queries[0].user, ["3"]).scores).max() > 1e-6
    nobody = User()
    np.testing.assert_allclose(
        fresh.rank(nobody, ["bare"]).scores, fresh.rank(nobody, ["3"], images=False).scores, **CLOSE
    )
    assert unseen.scores.shape == bare.shape


def test_one_that_does_not_fit_keeps_all_out(fresh, queries):
    good = NewItem("good", features=features())
    before = fresh.rank_many(queries)
    for bad, message in (
        (
            NewItem("bad", features={"image": np.full(WIDTH, np.nan)}),
            "'image' hold nan at number 0",
        ),
        (NewItem("bad", features={"image": np.full(WIDTH, -np.inf)}), "hold -inf at number 0"),
        (NewItem("bad", features={"image": np.full(WIDTH, 1e300)}), "hold inf at number 0"),
        (
            NewItem("bad", features={"image": np.zeros(WIDTH + 1)}),
            r"shape \(38,\); give 37 numbers",
        ),
        (NewItem("bad", features={"image": np.zeros((1, WIDTH))}), r"shape \(1, 37\); give 37"),
        (NewItem("bad", features={"text": np.zeros(WIDTH)}), "features of 'text': .* knows image"),
        (NewItem("bad", features=features(1e30)), r"of up to 1e\+30 make a vector of up to"),
        (NewItem("bad", features=features(3e38)), r"of up to 3e\+38 make a vector of up to"),
        (NewItem("bad", {"colour": 1}), "no item field 'colour': there are image, category"),
        (NewItem("bad", {"category": 10**9}), "given key 1000000000: its vocabulary has keys 0 to"),
        (NewItem("bad", context={"place": 1}), "no context field 'place'"),
        (NewItem("bad", context={"position": -1}), "'position' was given key -1"),
    ):
        # Not among the first that are embedded together.
        many = [NewItem(f"many {n}", features=features()) for n in range(20)]
        with pytest.raises(RequestError, match=message):
            fresh.add_items([good, *many, bad])
    assert fresh.items == 400
    with pytest.raises(UnknownNameError, match="'good'"):
        fresh.rank(User(), ["good"])
    for one, other in zip(before, fresh.rank_many(queries), strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)


def test_features_that_are_no_numbers_are_refused(fresh):
    item = NewItem("bad", features={"image": np.array(["x"] * WIDTH)})
    with pytest.raises(RequestError, match="item 'bad': features of 'image' are no row of numbers"):
        fresh.add_items([item])


def test_scores_stay_finite_whatever_is_accepted(fresh, queries):
    """The largest features that are let in: no NaN for anybody, nor in the index."""
    for value in 10.0 ** np.arange(0, 38):
        for sign in (1, -1):
            try:
                fresh.add_items([NewItem("wild", features=features(sign * value))])
            except RequestError:
                continue
            user = User(queries[0].user.fields, [*queries[0].user.behaviors, "wild"])
            for model in ("dicm", "baseline"):
                assert np.isfinite(fresh.rank(user, ["wild", "1"], model=model).scores).all()
            assert np.isfinite([score for _, score in fresh.prerank(user, 1000)]).all()


def test_an_item_is_replaced_by_its_name_and_eats_no_room(fresh, queries):
    seen = []
    for value in (0.0, 0.5, 1.0, 0.0):
        for _ in range(2 * ROOM):
            fresh.add_items([NewItem("again", features=features(value))])
        seen.append(float(fresh.rank(queries[0].user, ["again"]).scores[0]))
    assert seen[0] == seen[3]
    assert len(set(seen)) == 3
    assert fresh.items == 401
    # All the other places are still there.
    fresh.add_items([NewItem(f"more {n}", features=features()) for n in range(ROOM - 1)])
    assert np.ptp(fresh.rank(queries[0].user, [f"more {n}" for n in range(ROOM - 1)]).scores) == 0


def test_of_one_name_in_a_request_the_last_one_stays(fresh, queries):
    """However often: it takes one place."""
    user = queries[0].user
    fresh.add_items([NewItem("wanted", features=features(1.0))])
    wanted = fresh.rank(user, ["wanted"]).scores
    for _ in range(ROOM):
        fresh.add_items([NewItem("same", features=features(v)) for v in (0.0, 0.3, 0.6, 1.0)])
    np.testing.assert_allclose(fresh.rank(user, ["same"]).scores, wanted, **CLOSE)
    best = dict(fresh.prerank(user, 1000))
    assert best["same"] == pytest.approx(best["wanted"], abs=1e-6)
    assert (fresh.items, len(best)) == (402, 402)
    rest = [f"rest {n}" for n in range(ROOM - 2)]
    fresh.add_items([NewItem(name, features=features(1.0)) for name in rest])
    np.testing.assert_allclose(fresh.rank(user, rest).scores, wanted[0], **CLOSE)


def test_an_item_of_the_catalogue_is_replaced_and_others_stay(fresh, log, queries):
    user, others = queries[0].user, fresh.servable.names[1:]
    before = fresh.rank(user, others).scores
    fresh.add_items([twin(log, 7, "0")])
    np.testing.assert_array_equal(fresh.rank(user, others).scores, before)
    pair = fresh.rank(user, ["0", "7"]).scores
    assert pair[0] == pytest.approx(pair[1], abs=1e-5)
    best = dict(fresh.prerank(user, 1000))
    assert best["0"] == pytest.approx(best["7"], abs=1e-5)
    assert fresh.items == len(best) == 400


def test_the_room_ends_with_a_message(fresh):
    fresh.add_items([NewItem(f"n {n}", features=features()) for n in range(ROOM - 1)])
    message = rf"no room for 2 new items: {ROOM - 1} of {ROOM} places are taken; start .* --room"
    with pytest.raises(TooLargeError, match=message):
        fresh.add_items([NewItem("a"), NewItem("b"), NewItem("n 0")])
    fresh.add_items([NewItem("a"), NewItem("n 0")])
    with pytest.raises(TooLargeError, match="no room for 1 new items"):
        fresh.add_items([NewItem("b")])
    assert fresh.items == 400 + ROOM


def test_no_room_at_all(servable, queries):
    ranker = Ranker(servable, room=0, buckets=BUCKETS)
    with pytest.raises(TooLargeError, match="0 of 0 places"):
        ranker.add_items([NewItem("a")])
    ranker.add_items([])
    assert ranker.rank_many(queries)[0].scores.shape == (len(queries[0].candidates),)


def test_each_item_keeps_its_own_vector(fresh, queries):
    """Added one by one, in any order and at once: the same."""
    values = np.linspace(-1, 1, ROOM // 2)
    one_by_one = [NewItem(f"one {n}", features=features(v)) for n, v in enumerate(values)]
    at_once = [NewItem(f"all {n}", features=features(v)) for n, v in enumerate(values)]
    for item in reversed(one_by_one):
        fresh.add_items([item])
    fresh.add_items(at_once)
    scores = [
        fresh.rank(queries[0].user, [item.name for item in items]).scores
        for items in (one_by_one, at_once)
    ]
    np.testing.assert_allclose(*scores, **CLOSE)
    assert len({round(float(score), 7) for score in scores[0]}) == len(values)


def test_texts_without_a_key_count_as_nothing_only_where_texts_are_known(fresh):
    with pytest.raises(RequestError, match="only keys are known of its vocabulary"):
        fresh.add_items([NewItem("text", {"category": "shoes"})])


def test_queries_of_several_threads_meet_new_items_whole(fresh, log, queries):
    """While one thread adds, others rank: every answer is that of before or of after."""
    query = Query(queries[0].user, ["0", "1", "2"])
    before = fresh.rank_many([query])[0].scores
    # In its context: a query that has looked it up already takes the new row with it.
    items = [dataclasses.replace(twin(log, 0, "0"), features=features(v)) for v in (0.0, 1.0)]
    allowed = [before]
    probe = Ranker(fresh.servable.folder, room=ROOM, buckets=BUCKETS)
    for item in items:
        probe.add_items([item])
        allowed.append(probe.rank_many([query])[0].scores)

    def rank(_: int) -> bool:
        found = fresh.rank_many([query])[0].scores
        return any(np.allclose(found, scores, **CLOSE) for scores in allowed)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(rank, n) for n in range(150)]
        for item in itertools.islice(itertools.cycle(items), 20):
            fresh.add_items([item])
        assert all(answer.result() for answer in asked)
