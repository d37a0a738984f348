"""What a warm start took over and what it did not, array by array."""

import dataclasses
from pathlib import Path
from typing import Literal

from dicm_jax import sealed_json
from dicm_jax.checkpoint.carried_rows import Carried

WARM_REPORT = "warm_start.json"
"""Name of the report in a run's folder."""
TRAINED = ("params.", "moments.", "ids.row")
"""How the names of trained arrays begin; the others are what optimizers keep."""
_FORMAT, _VERSION = "dicm_jax warm start", 1
Fate = Literal["restored", "grown", "shrunk", "remapped", "skipped", "not in this model"]


@dataclasses.dataclass(frozen=True)
class ArrayReport:
    """What became of an array.

    Attributes:
      name: in a checkpoint.
      fate: ``restored`` as it was; ``grown``, ``shrunk`` or ``remapped``: rows found their places
        in a table that is longer, shorter or as long; ``skipped``: the new run's own start; ``not
        in this model``: the source alone has it.
      found: its shape in the source; None where the source has none.
      shape: in this model; None where it has none.
    """

    name: str
    fate: Fate
    found: tuple[int, ...] | None
    shape: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class WarmReport:
    """What a warm start did.

    Attributes:
      source: the checkpoint, ``FOLDER/STEP``.
      parts: what was asked for.
      step: the state's, from which the optimizer of ID rows counts on; 0 where it starts afresh.
      optimizer: parts whose optimizer state was kept: ``net``, ``embedders``, ``ids``.
      arrays: every array of either side.
      rows: how many ID rows were carried over, by vocabulary; empty where none were asked for.
    """

    source: str
    parts: str
    step: int
    optimizer: tuple[str, ...]
    arrays: tuple[ArrayReport, ...]
    rows: dict[str, Carried]

    @property
    def counts(self) -> dict[str, int]:
        """Arrays of each fate."""
        counts: dict[str, int] = {}
        for array in self.arrays:
            counts[array.fate] = counts.get(array.fate, 0) + 1
        return counts

    def save(self, path: Path) -> None:
        """Writes the report as sealed JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        body = {"format": _FORMAT, "version": _VERSION, "counts": self.counts}
        sealed_json.save(path, body | dataclasses.asdict(self))

    def lines(self) -> list[str]:
        """The report in words; of what optimizers keep, the counts alone."""
        fates = ", ".join(f"{count} {fate}" for fate, count in self.counts.items())
        kept = f"; optimizer kept for {', '.join(self.optimizer)}" if self.optimizer else ""
        lines = [f"warm start ({self.parts}) from {self.source}: {fates} arrays{kept}"]
        lines += [
            f"  {array.name}: {array.fate}, {_shape(array.found)} -> {_shape(array.shape)}"
            for array in self.arrays
            if array.fate != "restored" and array.name.startswith(TRAINED)
        ]
        return lines + [
            f"  IDs of {name}: {rows.kept:,} kept, {rows.new:,} new, {rows.gone:,} gone"
            for name, rows in self.rows.items()
        ]


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "scalar"
