"""``lineage.json``: the days of a line, each with its parent, its scores and what became of it.

The file is sealed (`dicm_jax.sealed_json`) and replaced in one step. A day gets its entry once,
when it has been decided; ``current`` is the run that the next day starts from.

    {"format": "dicm_jax lineage", "version": 1, "current": "2026-11-21", "days": [{
        "day": "2026-11-21",                    also the name of its folder
        "parent": "2026-11-20",                 null on the first day
        "checkpoint": {"folder": "checkpoints", "step": 116, "manifest_crc32": "0f3a..."},
        "settings": {...},                      that change what a day gives, by dotted name
        "changed": {"train.epochs": {"was": 2, "is": 1}},       against the parent
        "log": {...}, "warm_up": {...},         sizes; what was taken over
        "before": {...}, "after": {...},        scores of the parent and of the day
        "decision": {"promoted": true, "words": "...", "checks": [...]},
        "started": "...", "ended": "...", "seconds": 81.2}]}
"""

import contextlib
import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dicm_jax import sealed_json
from dicm_jax.checkpoint import manifest
from dicm_jax.errors import CheckpointError, ConfigError
from dicm_jax.locked import locked

NAME = "lineage.json"
_LOCK = ".lock"
_FORMAT, _VERSION = "dicm_jax lineage", 1


@dataclasses.dataclass(frozen=True)
class Parent:
    """The run that a day starts from.

    Attributes:
      day: its name.
      workdir: its folder.
      checkpoint: what it came to, in that folder.
    """

    day: str
    workdir: Path
    checkpoint: Path


@dataclasses.dataclass(frozen=True)
class Lineage:
    """The days of a line that have been decided.

    Attributes:
      folder: of the line; each day has one of its own in it.
      current: the day that was promoted last; None before the first.
      days: entries, in the order in which they were decided.
    """

    folder: Path
    current: str | None = None
    days: tuple[dict[str, Any], ...] = ()

    def entry(self, day: str) -> dict[str, Any] | None:
        """The entry of a day; None if it has not been decided."""
        return next((entry for entry in self.days if entry["day"] == day), None)

    def parent(self) -> Parent | None:
        """The current run, after a look at its checkpoint; None before the first.

        Raises:
          CheckpointError: it is gone, or another one lies there.
        """
        if self.current is None:
            return None
        entry = self.entry(self.current)
        assert entry is not None  # `save` writes no other
        of = entry["checkpoint"]
        workdir = self.folder / entry["day"]
        checkpoint = workdir / of["folder"] / str(of["step"])
        if not (checkpoint / manifest.NAME).is_file():
            raise CheckpointError(
                f"{self.folder}: the current run of the line is {self.current!r}, and"
                f" its checkpoint {checkpoint} is gone; bring it back from a copy, or begin another"
                " line"
            )
        if (found := manifest_crc32(checkpoint)) != of["manifest_crc32"]:
            raise CheckpointError(
                f"{checkpoint}: not the checkpoint that was promoted: the CRC-32 of its manifest is"
                f" {found}, in {NAME} it is {of['manifest_crc32']}; bring it back from a copy, or"
                " begin another line"
            )
        return Parent(entry["day"], workdir, checkpoint)

    def with_day(self, entry: Mapping[str, Any]) -> "Lineage":
        """The lineage with one more day, which is current if it was promoted."""
        current = entry["day"] if entry["decision"]["promoted"] else self.current
        return dataclasses.replace(self, current=current, days=(*self.days, dict(entry)))

    def save(self) -> None:
        """Replace the file."""
        body = {
            "format": _FORMAT,
            "version": _VERSION,
            "current": self.current,
            "days": list(self.days),
        }
        sealed_json.save(self.folder / NAME, body)


def load(folder: Path) -> Lineage:
    """The lineage in a folder; an empty one where there is no file.

    Raises:
      DataError: the file was altered, or a later version wrote it.
    """
    if not (folder / NAME).exists():
        return Lineage(folder)
    body = sealed_json.load(
        folder / NAME, format=_FORMAT, version=_VERSION, what="a line of daily runs"
    )
    return Lineage(folder, body["current"], tuple(body["days"]))


def manifest_crc32(checkpoint: Path) -> str:
    """What a checkpoint is known again by: the checksum of the list of its files' checksums."""
    return f"{zlib.crc32((checkpoint / manifest.NAME).read_bytes()):08x}"


@contextlib.contextmanager
def alone(line: Path) -> Iterator[None]:
    """Keeps other commands from updating a line at the same time.

    Raises:
      ConfigError: another one is.
    """
    busy = ConfigError(
        f"--line={line}: another command is updating this line; let it end, or end it and run the"
        " same command again"
    )
    line.mkdir(parents=True, exist_ok=True)
    with locked(line / _LOCK, busy):
        yield
