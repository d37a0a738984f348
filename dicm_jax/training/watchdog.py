"""Ends a run that hangs, and says where.

A thread looks at `dicm_jax.training.progress`: if this process stays at one place for too long, the
stacks of all threads and one message are written to stderr, and the process ends with 1.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from dicm_jax.config import TrainConfig
from dicm_jax.training import company, last_words, progress

_LOOKS = 20
"""In the time that a place may take, at least; the message comes at most this share of it late."""
_LONGEST_PAUSE_S = 2.0
"""Between two looks: processes that hang together find it at about the same time."""


class Watchdog:
    """Whether this process has been at one place for too long.

    Only time in which this object is asked counts: a process, or a machine, that was stopped and
    goes on has not been hanging.

    Args:
      usual_s: seconds that a step, or a batch of an evaluation, may take; 0 for no limit.
      seldom_s: the same for places that are entered once or now and then.
      clock: seconds.
    """

    def __init__(
        self, usual_s: float, seldom_s: float, clock: Callable[[], float] = time.monotonic
    ):
        self._limits = {False: usual_s, True: seldom_s}
        self._clock = clock
        finite = [limit for limit in (usual_s, seldom_s) if limit]
        self.pause = min(min(finite, default=0) / _LOOKS, _LONGEST_PAUSE_S)
        self._looked, self._place, self._awake = clock(), progress.place(), 0.0

    def hangs(self) -> str | None:
        """A verdict, if the time is over; to be asked every `pause` seconds."""
        now, place = self._clock(), progress.place()
        slept = min(now - self._looked, 2 * self.pause)
        self._awake = self._awake + slept if place == self._place else 0.0
        self._looked, self._place = now, place
        limit = self._limits[place.seldom]
        if not limit or self._awake < limit:
            return None
        setting = "train.hang_start_after_s" if place.seldom else "train.hang_after_s"
        return (
            f"hangs at {place.what}: nothing has finished for {self._awake:.0f} s,"
            f" {setting}={limit:g} allows no more"
        )


@contextlib.contextmanager
def watching(config: TrainConfig) -> Iterator[None]:
    """A thread that ends this process if it hangs, for as long as the context is open."""
    watchdog = Watchdog(config.hang_after_s, config.hang_start_after_s)
    if not watchdog.pause:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(watchdog.pause):
            if (verdict := watchdog.hangs()) and last_words.claim():
                last_words.dump_stacks()
                company.depart(f"{verdict}. {last_words.GO_ON}")
                last_words.exit_now(
                    f"{verdict}.{company.places()} Above is what every thread is doing."
                    f" {last_words.GO_ON}; if it was only slow, raise that setting"
                )

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
