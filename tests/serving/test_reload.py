"""A newer servable is taken up while others ask; a broken one changes nothing."""

import concurrent.futures
import gc
import shutil
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from dicm_jax.errors import ServableError, TooLargeError
from dicm_jax.serving import NewItem, Ranker, User
from dicm_jax.serving import format as files
from tests.serving.made import BUCKETS, ROOM
from tests.serving.versions import publish


@pytest.fixture(name="versions")
def _versions(servable, tmp_path) -> Path:
    return shutil.copytree(servable, tmp_path / "servable")


@pytest.fixture(name="reloading")
def _reloading(versions) -> Ranker:
    return Ranker(versions, room=ROOM, buckets=BUCKETS)


def features(value: float = 0.5) -> dict[str, np.ndarray]:
    return {"image": np.full(37, value, np.float32)}


def test_calls_during_reloads_come_whole_from_one_version(reloading, versions, queries):
    publish(versions, 2, scale=3.0)
    of_version = {}
    for number in (2, 1):
        reloading.reload(versions / str(number))
        of_version[f"servable/{number}"] = reloading.rank_many(queries)
    over = threading.Event()

    def ask() -> int:
        answers = 0
        while not over.is_set():
            for query, found in zip(queries, reloading.rank_many(queries), strict=True):
                wanted = of_version[found.version][queries.index(query)]
                np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-6)
                answers += 1
            reloading.prerank(queries[0].user, 5)
            reloading.attention(queries[0])
        return answers

    one, two = (of_version[name][0].scores for name in ("servable/1", "servable/2"))
    assert np.abs(one - two).max() > 1e-3
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for number in (2, 1, 2):
                reloading.reload(versions / str(number))
        finally:
            over.set()
        assert min(answers.result() for answers in asking) > 0
    assert reloading.version == "servable/2"


def test_a_frozen_ranker_stays_with_its_servable(reloading, versions, queries):
    frozen, before = reloading.frozen(), reloading.rank_many(queries)
    reloading.reload(publish(versions, 2, scale=3.0))
    after = frozen.rank_many(queries)
    assert (frozen.version, reloading.version) == ("servable/1", "servable/2")
    for one, other in zip(before, after, strict=True):
        assert one.version == other.version == "servable/1"
        np.testing.assert_array_equal(one.scores, other.scores)
    assert np.abs(reloading.rank_many(queries)[0].scores - after[0].scores).max() > 1e-3


def test_a_broken_servable_changes_nothing(reloading, versions, queries):
    reloading.add_items([NewItem("new", features=features())])
    before = reloading.rank(queries[0].user, [*queries[0].candidates, "new"])
    broken = publish(versions, 2)
    (broken / files.ITEMS).write_text("")
    with pytest.raises(ServableError, match=r"items.jsonl has 0 bytes"):
        reloading.reload(versions)
    after = reloading.rank(queries[0].user, [*queries[0].candidates, "new"])
    assert after.version == before.version == "servable/1"
    np.testing.assert_array_equal(after.scores, before.scores)
    # One that is whole is taken up as if nothing had been.
    publish(versions, 3)
    reloading.reload(versions)
    assert reloading.version == "servable/3"


def test_new_items_stay_until_a_servable_knows_them(reloading, versions, queries):
    user = queries[0].user
    reloading.add_items(
        [NewItem("kept", features=features(1.0)), NewItem("known", features=features())]
    )
    scores = reloading.rank(user, ["kept", "known", "0"]).scores
    before = dict(reloading.prerank(user, 1000))
    reloading.reload(publish(versions, 2))
    np.testing.assert_allclose(
        reloading.rank(user, ["kept", "known", "0"]).scores, scores, rtol=0, atol=1e-6
    )
    assert dict(reloading.prerank(user, 1000)) == pytest.approx(before, abs=1e-5)
    reloading.reload(publish(versions, 3, more=("known",)))
    assert reloading.items == 402
    found = reloading.rank(user, ["kept", "known", "0"]).scores
    np.testing.assert_allclose(found[[0, 2]], scores[[0, 2]], rtol=0, atol=1e-6)
    assert found[1] == pytest.approx(found[2], abs=1e-6)  # the servable's own now, like the first
    best = dict(reloading.prerank(user, 1000))
    assert len(best) == 402
    assert best["known"] == pytest.approx(best["0"], abs=1e-5)
    # What has been dropped takes no room any more.
    reloading.add_items([NewItem(f"n {n}", features=features()) for n in range(ROOM - 1)])
    with pytest.raises(TooLargeError, match="no room for 1"):
        reloading.add_items([NewItem("one too many")])


def test_items_that_come_during_a_reload_are_not_lost(reloading, versions, queries, monkeypatch):
    """Nor do they wait for it: another servable takes seconds to load."""
    publish(versions, 2)
    begun, added = threading.Event(), threading.Event()
    load = reloading._loaded

    def slowly(*arguments: object) -> object:
        loaded = load(*arguments)
        begun.set()
        assert added.wait(60)
        return loaded

    monkeypatch.setattr(reloading, "_loaded", slowly)
    reloading.add_items([NewItem("early", features=features(0.0))])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reload = pool.submit(reloading.reload, versions)
        assert begun.wait(60)
        reloading.add_items(
            [NewItem("late", features=features(1.0)), NewItem("early", features=features(2.0))]
        )
        wanted = reloading.rank(queries[0].user, ["early", "late"])
        added.set()
        reload.result()
    found = reloading.rank(queries[0].user, ["early", "late"])
    assert (wanted.version, found.version) == ("servable/1", "servable/2")
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-6)


def test_an_old_servable_leaves_memory(reloading, versions):
    publish(versions, 2)
    old = [weakref.ref(part) for part in (reloading._now.engine, reloading._now.index)]
    tables = [weakref.ref(table) for table in reloading._now.engine.tables["dicm"].values()]
    reloading.add_items([NewItem("new", features=features())])
    reloading.rank(User(), ["new"])
    reloading.reload(versions)
    gc.collect()
    assert [ref() for ref in old] == [None, None]
    assert not [ref for ref in tables if ref() is not None]


def test_a_reload_to_the_same_version_changes_nothing(reloading, queries):
    wanted = reloading.rank_many(queries)[0].scores
    reloading.reload(reloading.servable.folder)
    np.testing.assert_array_equal(reloading.rank_many(queries)[0].scores, wanted)
