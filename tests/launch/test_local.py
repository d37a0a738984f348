"""launch/local.py with small commands in place of a training run."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.multiprocess.processes import ROOT

LAUNCH = [sys.executable, str(ROOT / "launch/local.py")]


def _launch(*arguments: str, code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*LAUNCH, *arguments, "--", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WHO = "import os, sys, time, signal; me = int(os.environ['JAX_PROCESS_ID']);"


def test_every_process_is_told_who_it_is_and_its_lines_are_marked():
    names = "'JAX_NUM_PROCESSES', 'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_CPU_DEVICES'"
    ended = _launch(
        "--processes=3", "--devices=2", code=f"{WHO} print(me, *map(os.environ.get, [{names}]))"
    )
    assert ended.returncode == 0, ended.stderr
    lines = sorted(ended.stdout.splitlines())
    assert [line[:6] for line in lines] == ["[0] 0 ", "[1] 1 ", "[2] 2 "]
    addresses = {line.split()[3] for line in lines}
    assert len(addresses) == 1
    assert re.fullmatch(r"127\.0\.0\.1:\d+", addresses.pop())
    assert all(line.split()[2::2] == ["3", "2"] for line in lines)


def test_lines_come_when_they_are_printed():
    with subprocess.Popen(
        [*LAUNCH, "--processes=1", "--", sys.executable, "-c", "print('now'); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[0] now\n"
        assert process.poll() is None
        process.communicate("\n", timeout=30)
    assert process.returncode == 0


def test_one_that_fails_ends_the_others_and_has_the_last_word():
    code = f"{WHO} me == 1 and sys.exit('error: no such file'); time.sleep(60)"
    started = time.monotonic()
    ended = _launch("--processes=3", code=code)
    assert time.monotonic() - started < 30
    assert ended.returncode == 1
    assert ended.stderr.endswith(
        "process 1 failed with exit code 1, the first to fail. It said last:\n"
        "    error: no such file\n"
    )


def test_one_that_is_killed_is_the_cause_and_not_those_that_end_because_of_it():
    code = (
        f"{WHO} signal.signal(signal.SIGTERM, lambda *_: sys.exit(75));"
        " me == 0 and os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"
    )
    ended = _launch("--processes=3", code=code)
    assert ended.returncode == 128 + signal.SIGKILL
    assert ended.stderr.endswith("process 0 was ended by SIGKILL, the first to fail.\n")


def test_one_that_does_not_heed_sigterm_is_killed_after_the_grace():
    code = (
        f"{WHO} signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(0.5);"
        " me == 1 and sys.exit(3); time.sleep(60)"
    )
    started = time.monotonic()
    ended = _launch("--processes=2", "--grace=0.5", code=code)
    assert time.monotonic() - started < 30
    assert ended.returncode == 3


def test_the_last_word_is_that_of_the_process_that_failed_in_a_real_run():
    command = [sys.executable, "-m", "tests.multiprocess.faulty", "fails", "1"]
    ended = subprocess.run(
        [*LAUNCH, "--processes=2", "--devices=1", "--", *command],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    last = ended.stderr.partition("process 1 failed with exit code 1, the first to fail.")[2]
    assert last.endswith("    error: rows.npy: 7 rows asked for, found 5; write it anew\n")


@pytest.mark.parametrize(("codes", "expected"), [("0", 0), ("75", 75), ("75 * (me == 1)", 75)])
def test_the_exit_code_is_that_of_the_run(codes, expected):
    assert _launch("--processes=2", code=f"{WHO} sys.exit({codes})").returncode == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_go_on_to_all(number):
    code = (
        f"{WHO} signal.signal({int(number)}, lambda *_: sys.exit(75));"
        " print('ready'); time.sleep(60)"
    )
    with subprocess.Popen(
        [*LAUNCH, "--processes=2", "--", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert {process.stdout.readline() for _ in range(2)} == {"[0] ready\n", "[1] ready\n"}
        os.kill(process.pid, number)
        assert process.wait(timeout=30) == 75


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes=2"], "no command: name it after --"),
        (["--processes=0", "--", "true"], "--processes=0: there must be at least one"),
        (["--", "true"], "required: --processes"),
    ],
)
def test_wrong_usage_is_told(arguments, message):
    ended = subprocess.run([*LAUNCH, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_command_that_is_not_there_is_named():
    ended = subprocess.run(
        [*LAUNCH, "--processes=2", "--", "no-such-command"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: cannot start no-such-command")


def test_help_has_the_example():
    ended = subprocess.run([*LAUNCH, "--help"], capture_output=True, text=True, check=True)
    assert "python launch/local.py --processes=4 --devices=2 --" in ended.stdout
