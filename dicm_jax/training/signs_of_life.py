"""What a process knows of the others of its run: who is alive, where each is, who fails.

Every process writes into the key-value store of JAX's coordinator, which lives in process 0, that
it is alive, where it is (`dicm_jax.training.progress`), and why it ends if it does; and it reads
what the others have written. A process that writes nothing for some time is lost: killed, stopped,
or its host is cut off.
"""

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from dicm_jax.errors import DicmError, LostProcessError
from dicm_jax.training import progress
from dicm_jax.training.last_words import GO_ON

_FOLDER = "dicm_jax/company"
BEATS = 15
"""Signs of life in the time after which a process without one is lost, at least."""
_LONGEST_PAUSE_S = 3.0
"""Between two of them."""
_LONGEST_LOOK = 5
"""Beats that the time between two looks counts for at most: on a busy machine it is long."""
_SUSPECT = 3
"""Beats that a process must have left out to be named, once a collective operation has failed."""
_FINDING_OUT = 6
"""Beats to wait for such a process."""
_OF_MANY = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "barrier")
"""Words of JAX that an error of ours may quote, where something common has broken."""
GRACE = 5
"""Beats between hearing that another process failed and ending: time to finish a save."""
_LAST_TO_GO = 8
"""Beats that process 0 waits for the others at most: with it goes what they meet at."""


@runtime_checkable
class Store(Protocol):
    """What is needed of JAX's coordination client."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Write."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Read all keys that begin so."""
        ...


@dataclasses.dataclass
class Seen:
    """What is known of another process.

    Attributes:
      text: what it wrote last.
      new: whether that came since the last look.
      silent_s: seconds since it wrote something new.
      heard_end_s: seconds since it said why it ends.
    """

    text: str = ""
    new: bool = False
    silent_s: float = 0.0
    heard_end_s: float = 0.0

    @property
    def at(self) -> str:
        """Where it was."""
        return json.loads(self.text)["at"] if self.text else "its start"

    @property
    def end(self) -> str | None:
        """Why it ends, for the others to say; "" if it is simply done; None if it goes on."""
        return json.loads(self.text)["end"] if self.text else None

    @property
    def in_peace(self) -> bool:
        """Whether it ends so that a save under way can still be finished."""
        return bool(self.text) and json.loads(self.text)["in_peace"]

    @property
    def for_s(self) -> float:
        """How long it has been where it was, as far as is known."""
        return self.silent_s + (json.loads(self.text)["for_s"] if self.text else 0.0)


class Company:
    """What a process knows of the others of its run.

    Time in which this object is not asked does not count: a process that was stopped and goes on
    does not take the others for lost.

    Args:
      store: what all processes can write to and read.
      process, count: number of this one, and of all.
      silence_s: seconds without a sign of life after which a process is lost.
      address: host:port that process 0 listens at.
      clock: seconds.

    Attributes:
      pause: seconds between two beats, and between two looks.
      failure: why this process fails, once it does.
      code: exit code, once all is written.
    """

    def __init__(
        self,
        store: Store,
        process: int,
        count: int,
        silence_s: float,
        address: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.process, self.silence_s, self._address = process, silence_s, address
        self.pause = min(silence_s / BEATS, _LONGEST_PAUSE_S)
        self.code: int | None = None
        self.seen = {other: Seen() for other in range(count) if other != process}
        self._store, self._clock, self._lock = store, clock, threading.Lock()
        self._looked, self._beats = clock(), 0
        self._store_seen = Seen()
        self._end: str | None = None
        self._in_peace = False
        self.failure: str | None = None
        self._patience_s = 0.0

    def beat(self) -> None:
        """Tell the others, and hear what they tell."""
        place = progress.place()
        self._beats += 1
        for_s = round(time.monotonic() - place.since, 1)
        mine = {"beat": self._beats, "at": place.what, "for_s": for_s}
        mine |= {"end": self._end, "in_peace": self._in_peace}
        key = f"{_FOLDER}/{self.process}"
        self._store.key_value_set(key, json.dumps(mine), allow_overwrite=True)
        texts = self._store.key_value_dir_get(_FOLDER)
        with self._lock:
            self._store_seen.new = True
            for key, text in texts:
                other = self.seen.get(int(key.rsplit("/", 1)[-1]))
                if other is not None and other.text != text:
                    other.text, other.new = text, True

    def look(self) -> str | None:
        """Why this process must end, if it must; to be asked every `pause` seconds."""
        now = self._clock()
        passed_s, self._looked = min(now - self._looked, _LONGEST_LOOK * self.pause), now
        with self._lock:
            for seen in (self._store_seen, *self.seen.values()):
                seen.silent_s = 0.0 if seen.new else seen.silent_s + passed_s
                seen.new = False
            for other in self.seen.values():
                other.heard_end_s += passed_s if other.end else 0.0
        if self.failure is not None:
            self._patience_s -= passed_s
            return self.failure if self._patience_s <= 0 else None
        return self._failed() or self._lost(self.silence_s) or self._cut_off()

    def why(self, error: BaseException) -> BaseException:
        """What really happened where `error` was raised: perhaps another process is lost."""
        own = isinstance(error, DicmError | OSError | KeyboardInterrupt)
        if own and not any(word in str(error) for word in _OF_MANY):
            return error
        found = self.who()
        return error if found is None else LostProcessError(found)

    def who(self) -> str | None:
        """Which process is lost or has failed, now that something common has broken."""
        for _ in range(_FINDING_OUT):
            found = self._gone() or self._failed(at_once=True) or self._lost(_SUSPECT * self.pause)
            if found is not None:
                return found
            time.sleep(self.pause)
        return None

    def fail(self, message: str, *, patience_s: float, in_peace: bool) -> None:
        """This process fails: the others are told, and it ends soon even if it cannot by itself.

        Args:
          message: why.
          patience_s: seconds that it has to end by itself.
          in_peace: no process is lost; a save under way can still be finished.
        """
        self._patience_s, self.failure = patience_s, message
        self.depart(message, in_peace=in_peace)

    def depart(self, reason: str, *, in_peace: bool = False) -> None:
        """Tell the others that this process ends."""
        if self._end is None:
            self._end, self._in_peace = reason, in_peace
            # In a thread: where process 0 is lost, nobody answers.
            telling = threading.Thread(target=self.try_to_beat, daemon=True)
            telling.start()
            telling.join(self.pause)

    def go_last(self) -> None:
        """Process 0 waits until the others have said that they end."""
        for _ in range(_LAST_TO_GO if self.process == 0 else 0):
            if all(s.end is not None or self._suspect(s) for s in self.seen.values()):
                time.sleep(self.pause)  # until they have
                return
            time.sleep(self.pause)

    def places(self) -> str:
        """Where the others are, as a sentence."""
        others = [
            f"process {p} at {s.at} for {s.for_s:.0f} s{self._quiet(s)}"
            for p, s in self.seen.items()
        ]
        return f" The others: {', '.join(others)}."

    def _quiet(self, seen: Seen) -> str:
        return f" (silent for {seen.silent_s:.0f} s)" if self._suspect(seen) else ""

    def try_to_beat(self) -> None:
        """`beat`, if process 0 answers."""
        with contextlib.suppress(Exception):  # JAX raises several types
            self.beat()

    def _suspect(self, seen: Seen) -> bool:
        return seen.silent_s >= _SUSPECT * self.pause

    def _failed(self, *, at_once: bool = False) -> str | None:
        for seen in self.seen.values():
            grace_s = GRACE * self.pause if seen.in_peace and not at_once else 0.0
            if seen.end and seen.heard_end_s >= grace_s:
                return seen.end
        return None

    def _lost(self, silence_s: float) -> str | None:
        if self._store_seen.silent_s >= silence_s:
            return None  # of nobody anything is known
        lost = {p: s for p, s in self.seen.items() if s.end is None and s.silent_s >= silence_s}
        if not lost:
            return None
        names = " and ".join(f"process {p} (last seen at {s.at})" for p, s in lost.items())
        return (
            f"{names} gave no sign of life for {max(s.silent_s for s in lost.values()):.0f} s"
            f" (mesh.heartbeat_s={self.silence_s:g}): it was killed or stopped, or its host is down"
            f" or cut off. {GO_ON}"
        )

    def _gone(self) -> str | None:
        """Whether nobody listens any more where all processes meet."""
        if self._address is None:
            return None
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=self.pause).close()
        except OSError:
            return (
                f"process 0 is gone, where all processes meet ({self._address}). This is process"
                f" {self.process}, at {progress.place().what}. {GO_ON}"
            )
        return None

    def _cut_off(self) -> str | None:
        if self._store_seen.silent_s < self.silence_s:
            return None
        return (
            f"process 0, where all processes meet, has not answered for"
            f" {self._store_seen.silent_s:.0f} s (mesh.heartbeat_s={self.silence_s:g}): it was"
            f" killed or stopped, or its host is down or cut off. This is process {self.process},"
            f" at {progress.place().what}. {GO_ON}"
        )
