"""How a process ends that cannot end by itself: one message, then out, past every barrier.

A main thread that waits for a lost process cannot be interrupted, and the usual way out waits for
the other processes once more. So a watching thread speaks, and ends the process at once. However
many threads find that it must end, one of them speaks.
"""

import atexit
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from dicm_jax.cli import FAILED

GO_ON = (
    "Run the same command again: training goes on from the last checkpoint, with this or another"
    " number of processes"
)
_spoken = threading.Lock()
_kept: list[object] = []  # what C calls must not be collected


def claim() -> bool:
    """Whether the caller is the first who wants to say why this process ends."""
    return _spoken.acquire(blocking=False)


def exit_now(message: str | None, *, code: int = FAILED) -> NoReturn:
    """Print ``error: message`` on stderr, if there is one, and end the process at once."""
    if message is not None:
        # Past Python's buffers: the main thread may hold their locks. A progress bar has left the
        # cursor at the end of its line.
        os.write(2, f"\nerror: {message}\n".encode())
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def dump_stacks() -> None:
    """Write on stderr what every Python thread is doing."""
    os.write(2, b"\n")
    faulthandler.dump_traceback(file=2, all_threads=True)


def before_abort(explain: Callable[[], str | None], patience_s: float) -> None:
    """Let this process explain itself where C++ code would end it by ``abort()``.

    JAX ends a process so, from a thread of its own, as soon as the coordinator is gone; it offers
    no way to be asked first. So does Gloo, at times, when a process at the other end is gone.

    Args:
      explain: the message to end with, or None for an abort that has another reason; that one goes
        on as it would have.
      patience_s: seconds for another thread that is ending this process already.
    """

    def on_abort(_: int) -> None:
        message = explain()
        if message is None:
            return
        if not claim():
            time.sleep(patience_s)
            exit_now(None)
        exit_now(message)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(on_abort)
    _kept.append(handler)
    set_handler = ctypes.CDLL(None).signal
    set_handler(int(signal.SIGABRT), handler)
    atexit.register(set_handler, int(signal.SIGABRT), None)  # later there is no Python to run it
