"""The clock of a run: how fast it goes, and what of its time it waits for input."""

import io
from collections import OrderedDict
from collections.abc import Iterator

import jax.numpy as jnp
import pytest
from tqdm import tqdm

from dicm_jax.errors import DataError
from dicm_jax.training import recorder as recorder_module
from dicm_jax.training.recorder import Recorder
from dicm_jax.training.servers import Traffic
from dicm_jax.training.step import StepReport
from dicm_jax.training.workers import WorkerReport


class Clock:
    """A clock that stands still but for `pass_`."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class Lines:
    """Keeps the lines of a run."""

    def __init__(self):
        self.lines: list[dict] = []

    def write(self, kind: str, step: int, values: dict) -> None:
        self.lines.append({"kind": kind, "step": step} | values)


def report() -> StepReport:
    workers = WorkerReport(jnp.float32(1), OrderedDict(), jnp.float32(64), jnp.int32(0))
    return StepReport(workers, {}, Traffic({}, {}, {}), jnp.int32(1))


@pytest.fixture(name="clock")
def _clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recorder_module, "time", clock)
    return clock


@pytest.fixture(name="lines")
def _lines() -> Lines:
    return Lines()


@pytest.fixture(name="recorder")
def _recorder(clock, lines) -> Recorder:
    return Recorder(lines, tqdm(file=io.StringIO()), log_every=1)


def input_of(clock: Clock, waits: list[float]) -> Iterator[str]:
    for n, wait in enumerate(waits):
        clock.pass_(wait)
        yield f"batch {n}"


def test_the_share_is_what_the_loop_waited_of_its_time(recorder, clock, lines):
    waits = [9.0, 9.0, 1.0, 2.0, 1.0, 0.0]
    taken = []
    for step, batch in enumerate(recorder.awaited(input_of(clock, waits), first=1), 1):
        taken.append(batch)
        clock.pass_(4.0)
        recorder.add(step, report())
    recorder.settle()
    assert taken == [f"batch {n}" for n in range(6)]
    # A report is taken when the next step is on its way; the first two are left out.
    assert recorder.input_wait_share == pytest.approx(3 / 15)
    assert recorder.samples_per_s == pytest.approx(4 * 64 / 15)
    assert [line["step"] for line in lines.lines] == [1, 2, 3, 4, 5, 6]
    assert lines.lines[1]["input_wait_share"] == 0
    assert lines.lines[2]["input_wait_share"] > 0
    assert lines.lines[-1]["input_wait_share"] == round(recorder.input_wait_share, 5)


def test_what_was_waited_before_a_restart_of_the_clock_is_left_out(recorder, clock):
    for step, _ in enumerate(
        recorder.awaited(input_of(clock, [0.0] * 3 + [50.0, 0.0]), first=1), 1
    ):
        if step == 4:
            recorder.restart_clock()
        clock.pass_(1.0)
        recorder.add(step, report())
    recorder.settle()
    assert recorder.input_wait_share == 0
    assert recorder.samples_per_s > 0


def test_input_that_fails_ends_the_batches_and_is_kept(recorder, clock):
    def failing() -> Iterator[str]:
        yield from input_of(clock, [1.0, 1.0])
        raise DataError("record 5 cannot be read")

    assert len(list(recorder.awaited(failing(), first=1))) == 2
    assert isinstance(recorder.failure, DataError)


def test_in_one_of_several_processes_it_is_raised_at_once(recorder, monkeypatch):
    def failing() -> Iterator[str]:
        raise DataError("record 5 cannot be read")
        yield ""

    monkeypatch.setattr(recorder_module.jax, "process_count", lambda: 2)
    with pytest.raises(DataError, match="record 5 cannot be read"):
        next(recorder.awaited(failing(), first=1))
    assert recorder.failure is None
