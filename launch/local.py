"""Start the processes of one run on this machine, and end them together.

    python launch/local.py --processes=4 --devices=2 -- \\
        python -m dicm_jax.train --config=configs/dicm.py --workdir=runs/local

Every line that process 2 prints comes with ``[2]`` before it. The first process that fails ends the
others: SIGTERM, and SIGKILL after a grace; what it said last is said again at the end. SIGTERM and
SIGINT go on to all of them. Exit code: 0 if all ended with 0; 75 if the others ended with 75, saved
and to be started again; else that of the first that failed.
"""

import argparse
import collections
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

DONE, PREEMPTED = 0, 75
_POLL_S = 0.05
_LAST_LINES = 20
_printing = threading.Lock()


class Child:
    """One process of the run.

    Args:
      number: its number in the run.
      command: what it runs.
      environment: variables that it gets beside those of this process.
    """

    def __init__(self, number: int, command: Sequence[str], environment: dict[str, str]):
        self.number = number
        self.last: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        # In a session of its own: a terminal's Ctrl-C reaches it through this process, once.
        self.process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        streams = ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr))
        self._readers = [threading.Thread(target=self._copy, args=pair) for pair in streams]
        for reader in self._readers:
            reader.start()

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def code(self) -> int | None:
        """Exit code as shells have it, 128 and the signal if one ended it; None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def how_it_ended(self) -> str:
        """In words, with the last lines that it printed on stderr."""
        for reader in self._readers:
            reader.join()
        code = self.process.returncode
        how = f"failed with exit code {code}"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        said = "".join(f"\n    {line}" for line in self.last)
        return f"process {self.number} {how}, the first to fail.{said and ' It said last:'}{said}"

    def _copy(self, stream: IO[str], to: IO[str]) -> None:
        for line in stream:
            text = line.rstrip("\n")
            if to is sys.stderr and text:
                self.last.append(text)
            with _printing:
                print(f"[{self.number}] {text}", file=to, flush=True)


def start(processes: int, devices: int | None, command: Sequence[str]) -> list[Child]:
    """Start the processes; they find each other by JAX's own variables."""
    shared = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}",
        "JAX_NUM_PROCESSES": str(processes),
        "PYTHONUNBUFFERED": "1",
    }
    if devices is not None:
        shared["JAX_NUM_CPU_DEVICES"] = str(devices)
    return [
        Child(number, command, shared | {"JAX_PROCESS_ID": str(number)})
        for number in range(processes)
    ]


def wait(children: Sequence[Child], grace_s: float) -> int:
    """Wait for all of them, end all if one fails, and return the exit code of the run."""
    failed: Child | None = None
    since, killed = 0.0, False
    while any(child.code() is None for child in children):
        if failed is None:
            failed = _first_failed(children)
            if failed is not None:
                since = time.monotonic()
                for child in children:
                    child.send(signal.SIGTERM)
        elif not killed and time.monotonic() - since > grace_s:
            killed = True
            for child in children:
                child.send(signal.SIGKILL)
        time.sleep(_POLL_S)
    failed = failed or _first_failed(children)
    if failed is not None:
        print(failed.how_it_ended(), file=sys.stderr, flush=True)
        return failed.code() or 0
    return max(child.code() or DONE for child in children)


def _first_failed(children: Sequence[Child]) -> Child | None:
    """Of those that failed, one that a signal ended, if any: then the others end because of it."""
    failed = [child for child in children if child.code() not in (None, DONE, PREEMPTED)]
    return max(failed, key=lambda child: child.code() or 0, default=None)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    description, _, example = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python launch/local.py",
        usage="python launch/local.py --processes=N [--devices=N] [--grace=S] -- COMMAND ...",
        description=description,
        epilog="example:\n" + example.partition("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="how many")
    parser.add_argument("--devices", type=int, metavar="N", help="virtual CPU devices of each")
    parser.add_argument(
        "--grace",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds between SIGTERM and SIGKILL for those that remain (default: %(default)g)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what each of them runs")
    arguments = parser.parse_args(argv)
    if arguments.command[:1] == ["--"]:
        del arguments.command[0]
    if arguments.processes < 1:
        parser.error(f"--processes={arguments.processes}: there must be at least one")
    if not arguments.command:
        parser.error("no command: name it after --, as in -- python -m dicm_jax.train ...")
    return arguments


def main(argv: Sequence[str]) -> int:
    """The command line."""
    arguments = _arguments(argv)
    children: list[Child] = []
    came: list[int] = []

    def forward(number: int, _: object) -> None:
        came.append(number)
        for child in children:
            child.send(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    try:
        children += start(arguments.processes, arguments.devices, arguments.command)
    except OSError as error:
        print(f"error: cannot start {arguments.command[0]}: {error}", file=sys.stderr)
        return 1
    for number in tuple(came):  # while they were being started
        forward(number, None)
    return wait(children, arguments.grace)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
