"""Where this process is in its run: what it waits for, and since when.

A process is at one place at a time, so there is one for the whole process. Whoever enters a place
says so by `at`; whoever watches (`dicm_jax.training.watchdog`, `dicm_jax.training.company`) reads
`place`. Entering a place is what counts as progress.
"""

import dataclasses
import time


@dataclasses.dataclass(frozen=True)
class Place:
    """A place.

    Attributes:
      what: in words that go on after "is at", e.g. ``step 17``.
      seldom: entered once or now and then (starting, compiling, saving), and allowed more time.
      since: when it was entered, in seconds of ``time.monotonic``.
    """

    what: str
    seldom: bool
    since: float


_place = Place("its start", True, time.monotonic())


def at(what: str, *, seldom: bool = False) -> None:
    """Enter a place (see `Place`)."""
    global _place
    _place = Place(what, seldom, time.monotonic())


def place() -> Place:
    """Where this process is."""
    return _place
