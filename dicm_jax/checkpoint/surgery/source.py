"""Where a checkpoint lies that a command was given, and what it holds."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicm_jax.checkpoint import manifest
from dicm_jax.checkpoint.locate import BEST, CHECKPOINTS, step_folder
from dicm_jax.checkpoint.surgery.stored import Stored, open_arrays
from dicm_jax.errors import CheckpointError
from dicm_jax.features.file_crc import file_crc

STATE, ERRORS, RECORD = "state", "errors", "record"
"""Parts of a checkpoint: arrays of the run, arrays of its devices (which may be missing), JSON."""
_PREFIX = f"{ERRORS}."
_CONFIG, _IDS = "config.json", "vocabularies"
"""What lies beside checkpoints in a run's folder."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint, none of whose arrays has been read.

    Attributes:
      folder: of the step.
      record: what is written beside the arrays.
      arrays: by name; those of the part `ERRORS` are called ``errors.NAME``.
      files: of its run, that belong to it: see `kept_files`.
    """

    folder: Path
    record: dict[str, Any]
    arrays: dict[str, Stored]
    files: dict[str, Path]

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.record["next_batch"])

    def as_json(self) -> dict[str, Any]:
        """What says for good which checkpoint it was."""
        listing = self.folder / manifest.NAME
        crc = f"{file_crc(listing):08x}" if listing.exists() else None
        return {"folder": str(self.folder), "step": self.step, "manifest_crc32": crc}


def open_source(path: Path, *, verify: bool = True) -> Source:
    """Opens the checkpoint at `path`.

    Args:
      path: a run's folder (its best step, else its newest), a folder of checkpoints (the newest) or
        of one step.
      verify: first compare every file with the manifest.

    Raises:
      CheckpointError: there is none, a file of it was altered, or it cannot be read.
    """
    folder = step_folder(path, "CHECKPOINT")
    if verify:
        check_files(folder)
    arrays: dict[str, Stored] = dict(open_arrays(folder / STATE))
    if (folder / ERRORS).is_dir():
        arrays |= {_PREFIX + name: array for name, array in open_arrays(folder / ERRORS).items()}
    record = _record(folder / RECORD / "metadata")
    of_run = folder.parent.name in (BEST, CHECKPOINTS)
    files = kept_files(folder.parent.parent, record) if of_run else {}
    return Source(folder, record, arrays, files)


def check_files(folder: Path) -> None:
    """Compares a folder with its manifest, and says how to do without.

    Raises:
      CheckpointError: they differ, or there is no manifest.
    """
    try:
        manifest.check(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}. --no-verify leaves this check out") from error


def part_of(name: str) -> tuple[str, str]:
    """The part of a checkpoint in which the array `name` lies, and what it is called there.

    >>> part_of("ids.row"), part_of("errors.image.row_R")
    (('state', 'ids.row'), ('errors', 'image.row_R'))
    """
    return (ERRORS, name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else (STATE, name)


def kept_files(workdir: Path, record: Mapping[str, Any]) -> dict[str, Path]:
    """What lies beside the checkpoints of a run and belongs to them, by its name there.

    The run's settings, and the IDs that rows stand for where its log tells them.
    """
    names = [f"{_IDS}/{name}.parquet" for name in record.get("vocabulary_crcs", {})]
    return {name: workdir / name for name in [_CONFIG, *names] if (workdir / name).is_file()}


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the record of the checkpoint cannot be read ({error}); bring the checkpoint"
            " back from a copy, or take another step"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("next_batch"), int):
        raise CheckpointError(
            f"{path}: the record of the checkpoint does not say its step (next_batch); name a"
            " checkpoint of python -m dicm_jax.train"
        )
    return record
