"""Preparations that are killed, or run out of room, at given moments: a program for a test.

    python -m tests.preparation.stopped LOG FEATURES OUTPUT kill 0 3 9
    python -m tests.preparation.stopped LOG FEATURES OUTPUT room 400 5000

Each moment is a process of its own, which goes on where those before it stopped: ``kill N`` ends it
by SIGKILL when it is about to make the N-th file safe on disk, ``room N`` lets no file grow beyond
N bytes. Prints a line for each.
"""

import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from dicm_jax import sealed_json
from dicm_jax.data.prepared.reader import load
from dicm_jax.errors import DataError
from dicm_jax.preparation import local
from tests.preparation import small_log

SETTINGS = {"runner__chunk_rows": 80, "runner__partition_rows": 120, "runner__workers": 1}


def _in_a_process(work: Callable[[], None]) -> int:
    """Runs work in a child of this process; returns how it ended, as `os.waitpid` says it."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            work()
        except DataError as error:
            print(f"error: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def _kill_at(moment: int) -> None:
    seen = iter(range(moment))
    sync = sealed_json.sync

    def killing(path: Path) -> None:
        if next(seen, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    sealed_json.sync = killing


def _room_of(n_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def main() -> None:
    """The program."""
    warnings.simplefilter("ignore")
    log, features, output, how, *moments = sys.argv[1:]
    config = small_log.config(Path(log), Path(features), **SETTINGS)
    for moment in map(int, moments):

        def work(moment: int = moment) -> None:
            {"kill": _kill_at, "room": _room_of}[how](moment)
            local.prepare(config, Path(output))

        ended = _in_a_process(work)
        if os.WIFSIGNALED(ended):
            print(f"killed by {os.WTERMSIG(ended)}")
        try:
            load(output)
            print("a set")
        except DataError as error:
            print(f"no set: {error}")


if __name__ == "__main__":
    main()
