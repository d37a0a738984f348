"""When a process takes another for lost, and what it says; without real processes."""

import json
import re
import time

import pytest

from dicm_jax.errors import CheckpointError, DataError, LostProcessError
from dicm_jax.training import progress
from dicm_jax.training.signs_of_life import BEATS, Company


class Board:
    """The key-value store of a coordinator, which can be gone."""

    def __init__(self):
        self.texts: dict[str, str] = {}
        self.gone = False

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        if self.gone:
            raise RuntimeError("UNAVAILABLE")
        self.texts[key] = value

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        if self.gone:
            raise RuntimeError("UNAVAILABLE")
        return [(name, text) for name, text in self.texts.items() if name.startswith(key)]


class World:
    """Three processes that share a board and a clock."""

    def __init__(self, silence_s: float = 30.0):
        self.now = 0.0
        self.board = Board()
        self.all = [Company(self.board, p, 3, silence_s, clock=lambda: self.now) for p in range(3)]

    def go_on(self, seconds: float, alive: tuple[int, ...] = (0, 1, 2)) -> dict[int, str]:
        """The first message of each, while those `alive` beat and look."""
        messages = {}
        pause = self.all[0].pause
        for _ in range(round(seconds / pause)):
            self.now += pause
            for p in alive:
                self.all[p].try_to_beat()
            for p in alive:
                if p not in messages and (message := self.all[p].look()):
                    messages[p] = message
        return messages


def test_in_peace_nobody_ends():
    assert World().go_on(600) == {}


def test_a_lost_process_is_named_by_all_others_in_time():
    progress.at("step 17")
    world = World()
    world.go_on(10)
    assert world.go_on(28, alive=(0, 1)) == {}
    messages = world.go_on(6, alive=(0, 1))
    assert messages.keys() == {0, 1}
    for message in messages.values():
        assert message.startswith("process 2 (last seen at step 17) gave no sign of life for 30 s")
        assert "mesh.heartbeat_s=30" in message
        assert message.endswith("with this or another number of processes")


def test_two_lost_processes_are_named():
    world = World()
    world.go_on(10)
    (message,) = world.go_on(40, alive=(0,)).values()
    assert message.startswith("process 1 (last seen at")
    assert "and process 2 (last seen at" in message


def test_where_process_0_is_lost_nothing_is_said_of_the_others():
    world = World()
    world.go_on(10)
    world.board.gone = True
    messages = world.go_on(40, alive=(1, 2))
    assert messages.keys() == {1, 2}
    for process, message in messages.items():
        assert message.startswith("process 0, where all processes meet, has not answered for 30 s")
        assert f"This is process {process}" in message


def test_who_was_stopped_and_goes_on_takes_nobody_for_lost():
    world = World()
    world.go_on(10)
    world.now += 3600  # no process was asked meanwhile
    assert world.go_on(20) == {}


def test_a_failure_is_told_and_leaves_the_others_time_to_save():
    world = World()
    world.go_on(10)
    world.all[1].fail("process 1 failed: rows.npy has no end", patience_s=1e9, in_peace=True)
    grace_s = 5 * 30 / BEATS
    assert world.go_on(grace_s - 2) == {}
    messages = world.go_on(6)
    assert messages == dict.fromkeys((0, 2), "process 1 failed: rows.npy has no end")


def test_who_finds_a_process_lost_ends_all_at_once():
    world = World()
    world.go_on(10)
    world.all[1].depart("process 2 gave no sign of life")
    assert world.go_on(5, alive=(0, 1)) == {0: "process 2 gave no sign of life"}


def test_who_failed_ends_with_its_own_message_if_it_cannot_end_by_itself():
    world = World()
    world.all[1].fail("its own", patience_s=20, in_peace=True)
    assert 1 not in world.go_on(16)
    assert world.go_on(8)[1] == "its own"


def test_who_is_done_is_not_missed():
    world = World()
    world.go_on(10)
    world.all[2].depart("")
    assert world.go_on(600, alive=(0, 1)) == {}


@pytest.mark.parametrize("error_of_type", [ValueError, CheckpointError])
@pytest.mark.parametrize("found", ["lost", "failed", "nothing"])
def test_what_a_broken_collective_operation_means(found, error_of_type):
    """The error that JAX raises, or that quotes it, is replaced by what is behind it, if any is."""
    world = World(silence_s=0.3)
    world.go_on(0.2)
    if found == "failed":
        world.all[2].fail("process 2 failed: no such file", patience_s=1e9, in_peace=True)
        world.go_on(0.04, alive=(0, 1))
    world.go_on(0.2, alive=(0, 1) if found == "lost" else (0, 1, 2))
    error = error_of_type("Gloo AllGather failed: Connection closed by peer")
    cause = world.all[0].why(error)
    if found == "nothing":
        assert cause is error
    else:
        assert isinstance(cause, LostProcessError)
        assert str(cause).startswith("process 2")


def test_what_a_process_finds_itself_is_said_at_once():
    world = World()
    error = DataError("rows.npy has no end")
    started = time.monotonic()
    assert world.all[0].why(error) is error
    assert world.all[0].why(KeyboardInterrupt()).__class__ is KeyboardInterrupt
    assert time.monotonic() - started < 0.5


def test_process_0_stays_until_the_others_have_ended():
    world = World(silence_s=0.6)
    world.go_on(0.1)
    started = time.monotonic()
    world.all[1].go_last()
    assert time.monotonic() - started < 0.02
    for p in (1, 2):
        world.all[p].depart("process 2 is lost")
    world.all[0].try_to_beat()
    world.all[0].go_last()
    assert time.monotonic() - started < 0.3
    assert json.loads(world.board.texts["dicm_jax/company/1"])["end"] == "process 2 is lost"


def test_places_of_the_others_are_told():
    world = World()
    progress.at("step 4")
    world.go_on(10)
    world.go_on(10, alive=(0, 1))
    first, second = world.all[0].places().split(", ")
    assert re.fullmatch(r" The others: process 1 at step 4 for \d s", first)
    assert re.fullmatch(r"process 2 at step 4 for \d+ s \(silent for \d+ s\)\.", second)
