"""What a run of several processes does when one of them is killed, stopped, fails or hangs.

The times are those that docs/hosts.md states, for shorter limits.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.multiprocess import faulty
from tests.multiprocess.processes import ROOT, free_port

SLOW_MACHINE_S = 20
"""Beyond what is stated, for a machine that has more to do."""
IN_TIME = 1.4
"""Times mesh.heartbeat_s: within this, all processes have ended after one was lost."""
HEARTBEAT_S = 15
SMALL = [
    "--config=configs/dicm.py",
    "--config.data.world.users=60",
    "--config.data.world.items=400",
    "--config.data.world.scenes=2",
    "--config.data.world.content_width=37",
    "--config.data.world.train_days=3",
    "--config.data.world.test_days=1",
    "--config.model.images=none",
    "--config.model.basic_net=lr",
    "--config.train.batch_size=64",
    "--config.train.epochs=400",
    "--config.train.log_every=1",
    "--config.train.baseline=false",
    "--config.evaluate.batch_size=256",
    "--config.checkpoint.every=5",
    f"--config.mesh.heartbeat_s={HEARTBEAT_S}",
]


@dataclasses.dataclass
class Running:
    """Processes of one run; what each prints goes to files ``out.N`` and ``err.N`` of `folder`."""

    processes: list[subprocess.Popen]
    folder: Path

    def err(self, number: int) -> str:
        return (self.folder / f"err.{number}").read_text()

    def out(self, number: int) -> str:
        return (self.folder / f"out.{number}").read_text()

    def codes(self, numbers: range | list[int], within_s: float) -> list[int]:
        """Exit codes of some, which end in time."""
        end = time.monotonic() + within_s
        return [self.processes[n].wait(timeout=max(end - time.monotonic(), 0.01)) for n in numbers]


@contextlib.contextmanager
def running(folder: Path, count: int, command: list[str], started: int | None = None):
    """`count` processes, or the first `started` of them; none is left behind."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": str(count),
    }
    processes = []
    for number in range(started or count):
        with (
            (folder / f"out.{number}").open("w") as out,
            (folder / f"err.{number}").open("w") as err,
        ):
            environment = os.environ | shared | {"JAX_PROCESS_ID": str(number)}
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    cwd=ROOT,
                    env=environment,
                    stdout=out,
                    stderr=err,
                )
            )
    try:
        yield Running(processes, folder)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def train(workdir: Path, count: int, *more: str) -> contextlib.AbstractContextManager[Running]:
    logs = workdir.parent / f"logs-{time.monotonic_ns()}"
    return running(logs, count, ["dicm_jax.train", f"--workdir={workdir}", *SMALL, *more])


def steps_logged(workdir: Path) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        lines = (workdir / "metrics.jsonl").read_text().split("\n")[:-1]
        return [json.loads(line)["step"] for line in lines]
    return []


def wait_for_step(run: Running, workdir: Path, step: int) -> None:
    end = time.monotonic() + 300
    while max(steps_logged(workdir), default=0) < step:
        assert time.monotonic() < end, "no step was taken"
        assert all(process.poll() is None for process in run.processes), run.err(0)[-2000:]
        time.sleep(0.05)


def saved_steps(workdir: Path) -> list[int]:
    folders = (workdir / "checkpoints").glob("*")
    return sorted(int(folder.name) for folder in folders if folder.name.isdigit())


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module", name="workdir")
def _workdir(tmp_path_factory) -> Path:
    """One run, in which the tests of this file, in their order, go on where the last one ended."""
    return tmp_path_factory.mktemp("faults") / "run"


def test_sigterm_to_one_of_four_saves_one_step_in_all(workdir):
    with train(workdir, 4) as run:
        wait_for_step(run, workdir, 7)
        run.processes[2].send_signal(signal.SIGTERM)
        assert run.codes(range(4), 60) == [75] * 4
        for number in range(4):
            assert run.err(number).count("preempted: saved; run the same command again") == 1
            assert not errors(run.err(number))
    assert saved_steps(workdir)[-1] >= 7
    assert saved_steps(workdir)[-1] == steps_logged(workdir)[-1], "work was lost"


def test_sigkill_of_one_of_four_ends_all_and_others_go_on(workdir):
    before = saved_steps(workdir)[-1]
    with train(workdir, 4) as run:
        wait_for_step(run, workdir, before + 7)
        assert f"going on from step {before}" in run.out(0)
        run.processes[2].kill()
        assert run.codes([0, 1, 3], IN_TIME * HEARTBEAT_S + SLOW_MACHINE_S) == [1] * 3
        for number in (0, 1, 3):
            (error,) = errors(run.err(number))
            assert re.match(r"error: process 2 \(last seen at .*step \d+\) gave no sign", error)
            assert "with this or another number of processes" in error
    saved = saved_steps(workdir)[-1]
    assert saved > before

    more = [f"--config.train.steps={saved + 3}"]
    with train(workdir, 2, *more) as run:
        assert run.codes(range(2), 300) == [0, 0], run.err(0)[-2000:]
        assert f"going on from step {saved} of {saved + 3}" in run.out(0)
    assert json.loads((workdir / "result.json").read_text())["steps"] == saved + 3
    assert saved_steps(workdir)[-1] == saved + 3


def test_sigstop_of_one_of_four_ends_all(workdir):
    before = saved_steps(workdir)[-1]
    with train(workdir, 4) as run:
        wait_for_step(run, workdir, before + 3)
        run.processes[3].send_signal(signal.SIGSTOP)
        started = time.monotonic()
        assert run.codes(range(3), IN_TIME * HEARTBEAT_S + SLOW_MACHINE_S) == [1] * 3
        assert time.monotonic() - started > HEARTBEAT_S / 2, "a pause was taken for a loss"
        for number in range(3):
            (error,) = errors(run.err(number))
            assert re.match(r"error: process 3 \(last seen at .*\) gave no sign of life", error)
            assert f"mesh.heartbeat_s={HEARTBEAT_S}" in error
        run.processes[3].send_signal(signal.SIGCONT)
        assert run.codes([3], HEARTBEAT_S + SLOW_MACHINE_S) == [1]
        assert len(errors(run.err(3))) == 1
    assert saved_steps(workdir)[-1] >= before


def faulty_run(folder: Path, what: str, who: int, count: int = 3, started: int | None = None):
    return running(folder, count, ["tests.multiprocess.faulty", what, str(who)], started)


@pytest.mark.parametrize("who", [0, 1])
def test_a_process_that_fails_ends_the_others_with_its_message(who, tmp_path):
    with faulty_run(tmp_path, "fails", who) as run:
        codes = run.codes(range(3), 60 + IN_TIME * faulty.HEARTBEAT_S)
    assert codes == [1] * 3
    message = "rows.npy: 7 rows asked for, found 5; write it anew"
    for number in range(3):
        others = f"process {who} failed: " if number != who else ""
        assert errors(run.err(number)) == [f"error: {others}{message}"], run.err(number)[-2000:]
    assert "Traceback" not in run.err(who)


def test_a_mistake_of_ours_shows_its_traceback_once(tmp_path):
    with faulty_run(tmp_path, "crashes", 1) as run:
        assert run.codes(range(3), 60 + IN_TIME * faulty.HEARTBEAT_S) == [1] * 3
    assert run.err(1).count("ZeroDivisionError: a mistake of ours") == 1
    assert "Traceback" in run.err(1)
    for number in (0, 2):
        assert errors(run.err(number)) == ["error: process 1 failed: a mistake of ours"]


def test_where_process_0_is_killed_the_others_say_so(tmp_path):
    with faulty_run(tmp_path, "killed", 0) as run:
        assert run.codes([1, 2], 60 + IN_TIME * faulty.HEARTBEAT_S) == [1, 1]
    for number in (1, 2):
        (error,) = errors(run.err(number))
        assert re.match(r"error: process 0 is gone, where all processes meet \(127.0.0.1:", error)
        assert f"This is process {number}, at step 1" in error
        assert run.err(number).rstrip().endswith(error), "C++ had the last word"


def test_a_process_that_hangs_is_named_with_what_it_does(tmp_path):
    with faulty_run(tmp_path, "hangs", 2) as run:
        assert run.codes(range(3), 60 + 2 * faulty.HANG_S) == [1] * 3
    texts = [run.err(number) for number in range(3)]
    assert any("process 2 at reading block 3" in text or "hangs at reading block 3" in text
               for text in texts)  # fmt: skip
    for text in texts:
        assert len(errors(text)) == 1
    assert any("in work" in text and "faulty.py" in text for text in texts), "no stacks"


def test_a_process_that_does_not_come_is_not_waited_for_for_ever(tmp_path):
    with faulty_run(tmp_path, "absent", 0, count=3, started=2) as run:
        assert run.codes(range(2), 60 + faulty.JOIN_S) == [1, 1]
    for number in range(2):
        (error,) = errors(run.err(number))
        assert f"not all 3 processes have come together within {faulty.JOIN_S} s" in error
        assert f"this is process {number})" in error


def test_a_run_in_peace_ends_in_peace(tmp_path):
    with faulty_run(tmp_path, "nothing", 0) as run:
        assert run.codes(range(3), 120) == [0] * 3
    for number in range(3):
        assert not errors(run.err(number))
