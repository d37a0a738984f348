"""Windows in memory: each is read once while it is wanted, and few are kept."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dicm_jax.data.lanes import arranged
from dicm_jax.data.streaming.parts import Place
from dicm_jax.data.streaming.windows import Window, WindowCache
from dicm_jax.errors import DataError
from tests import small_world

PLACES = [Place(0, part, window) for part in range(3) for window in range(4)]


class Reader:
    """Makes windows, counts how often each is asked for, and takes its time if told to."""

    def __init__(self):
        self.reads: Counter[Place] = Counter()
        self.free = threading.Event()
        self.free.set()

    def __call__(self, place: Place) -> Window:
        self.reads[place] += 1
        assert self.free.wait(10)
        if place.part == 2:
            raise DataError(f"window {place.window} cannot be read")
        train = small_world.log().train
        arrangement = arranged(np.diff(train.impression_offsets), small_world.SHAPE, None)
        return Window(train, arrangement, np.zeros(1, np.int64), np.zeros(1, np.int64))


@pytest.fixture(name="reader")
def _reader() -> Reader:
    return Reader()


@pytest.fixture(name="cache")
def _cache(reader) -> WindowCache:
    return WindowCache(reader)


def test_only_the_windows_asked_for_last_are_kept(cache, reader):
    a, b, c = PLACES[:3]
    for place in (a, b, a, b, c, b):
        cache.get(place)
    assert reader.reads == {a: 1, b: 1, c: 1}
    cache.get(a)  # forgotten when c came
    assert reader.reads[a] == 2
    cache.room = 3
    for place in (b, a, c, b, a, c):
        cache.get(place)
    assert reader.reads == {a: 2, b: 1, c: 2}


def test_a_window_read_ahead_is_not_read_again(cache, reader):
    cache.read_ahead(PLACES[0])
    cache.read_ahead(PLACES[0])
    assert cache.get(PLACES[0]) is cache.get(PLACES[0])
    assert reader.reads == {PLACES[0]: 1}


def test_reading_ahead_keeps_nobody_waiting(cache, reader):
    reader.free.clear()
    cache.read_ahead(PLACES[0])  # returns, though the reader is held up
    reader.free.set()
    cache.get(PLACES[0])
    assert reader.reads == {PLACES[0]: 1}


def test_threads_that_want_the_same_window_get_one(cache, reader):
    reader.free.clear()
    with ThreadPoolExecutor(6) as threads:
        wanted = [threads.submit(cache.get, PLACES[0]) for _ in range(6)]
        reader.free.set()
        windows = [window.result() for window in wanted]
    assert all(window is windows[0] for window in windows)
    assert reader.reads == {PLACES[0]: 1}


def test_what_goes_wrong_is_told_to_everyone_who_gets_the_window(cache, reader):
    bad = PLACES[9]
    cache.read_ahead(bad)
    for _ in range(2):
        with pytest.raises(DataError, match="window 1 cannot be read"):
            cache.get(bad)
    cache.get(PLACES[0])
    assert reader.reads == {bad: 1, PLACES[0]: 1}
