"""When a run counts as hanging, and what is said of it."""

import subprocess
import sys
import textwrap
import time

import pytest

from dicm_jax.config import TrainConfig
from dicm_jax.training import progress, watchdog
from dicm_jax.training.watchdog import Watchdog
from tests.multiprocess.processes import ROOT


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _asked_for(watch: Watchdog, clock: Clock, seconds: float) -> str | None:
    """The first message while the clock goes on and the watchdog is asked as often as it wants."""
    for _ in range(round(seconds / watch.pause)):
        clock.now += watch.pause
        if message := watch.hangs():
            return message
    return None


def _made(usual_s: float, seldom_s: float) -> tuple[Watchdog, Clock]:
    clock = Clock()
    return Watchdog(usual_s, seldom_s, clock), clock


def test_a_step_that_takes_too_long_is_named():
    progress.at("step 17")
    watch, clock = _made(10, 100)
    assert _asked_for(watch, clock, 9) is None
    message = _asked_for(watch, clock, 2)
    assert message is not None
    assert message.startswith("hangs at step 17: nothing has finished for 10 s")
    assert "train.hang_after_s=10 allows no more" in message


def test_progress_begins_the_time_anew():
    watch, clock = _made(10, 100)
    for step in range(30):
        progress.at(f"step {step}")
        assert _asked_for(watch, clock, 8) is None


def test_a_long_compilation_is_no_false_alarm_but_not_endless():
    progress.at("step 1", seldom=True)
    watch, clock = _made(10, 100)
    assert _asked_for(watch, clock, 95) is None
    message = _asked_for(watch, clock, 10)
    assert message is not None
    assert "train.hang_start_after_s=100" in message


@pytest.mark.parametrize(("usual_s", "seldom_s"), [(0, 0), (0, 5)])
def test_zero_is_never(usual_s, seldom_s):
    progress.at("step 3")
    watch, clock = _made(usual_s, seldom_s)
    clock.now += 1e6
    assert watch.hangs() is None
    assert seldom_s == 0 or _asked_for(watch, clock, 100) is None


def test_time_in_which_the_process_was_stopped_does_not_count():
    """SIGSTOP and SIGCONT, or a machine that slept."""
    progress.at("step 3")
    watch, clock = _made(10, 100)
    assert _asked_for(watch, clock, 5) is None
    clock.now += 3600
    assert watch.hangs() is None
    assert _asked_for(watch, clock, 3) is None
    assert _asked_for(watch, clock, 3) is not None


def test_a_run_in_peace_is_left_alone():
    config = TrainConfig(hang_after_s=0.2, hang_start_after_s=0.2)
    with watchdog.watching(config):
        for step in range(20):
            progress.at(f"step {step}")
            time.sleep(0.02)
    progress.at("nothing that is watched")
    time.sleep(0.3)


def test_a_process_that_hangs_says_where_and_ends_with_1():
    """With the stacks of its threads, whatever its main thread is waiting for."""
    script = """
        import threading
        from dicm_jax.config import TrainConfig
        from dicm_jax.training import progress, watchdog

        def wait_for_nobody():
            threading.Lock().acquire() and threading.Event().wait()

        with watchdog.watching(TrainConfig(hang_after_s=0.5, hang_start_after_s=60)):
            progress.at("step 5")
            wait_for_nobody()
        """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "wait_for_nobody" in ended.stderr
    assert ended.stderr.count("error: hangs at step 5: nothing has finished for") == 1
    last = ended.stderr.rstrip().splitlines()[-1]
    assert last.startswith("error: hangs at step 5")
    assert "Run the same command again" in last
