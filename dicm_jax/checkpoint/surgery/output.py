"""The new checkpoint that a command writes: the folder of a run, as `dicm_jax.train` leaves one.

``OUTPUT/checkpoints/<step>`` is the checkpoint, in the form of `dicm_jax.checkpoint.manager`'s;
beside it lie the run's settings and the IDs of its rows, so that all who read a run can read it.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicm_jax.checkpoint import manifest
from dicm_jax.checkpoint.locate import CHECKPOINTS
from dicm_jax.checkpoint.surgery.blocks import BlockArray, n_bytes
from dicm_jax.checkpoint.surgery.progress import byte_bar
from dicm_jax.checkpoint.surgery.source import ERRORS, RECORD, STATE, part_of
from dicm_jax.checkpoint.surgery.unfinished import new_folder
from dicm_jax.checkpoint.surgery.writing import write_arrays
from dicm_jax.errors import CheckpointError

_HANDLERS = "orbax.checkpoint._src.handlers"
_HANDLER_OF = {
    STATE: f"{_HANDLERS}.standard_checkpoint_handler.StandardCheckpointHandler",
    ERRORS: f"{_HANDLERS}.standard_checkpoint_handler.StandardCheckpointHandler",
    RECORD: f"{_HANDLERS}.json_checkpoint_handler.JsonCheckpointHandler",
}


@dataclasses.dataclass(frozen=True)
class Cut:
    """A checkpoint to be written.

    Attributes:
      step: steps taken.
      record: of the checkpoint it comes from, with what the command changes of it.
      arrays: by name, as a `Source` has them.
      done: what the command did, from what: the entry that is added to the record.
      files: to be copied, by their names in the run's folder; see `Source`.
    """

    step: int
    record: Mapping[str, Any]
    arrays: Mapping[str, BlockArray]
    done: dict[str, Any]
    files: Mapping[str, Path]


def write_checkpoint(output: Path, cut: Cut) -> dict[str, Any]:
    """Writes a checkpoint; until all of it is there, there is no `output`.

    Returns:
      What was written, for the command's last line.

    Raises:
      CheckpointError: no array is left, the output exists or cannot be written, or an array cannot
        be read.
    """
    parts: dict[str, dict[str, BlockArray]] = {STATE: {}}
    for name, array in cut.arrays.items():
        part, own_name = part_of(name)
        parts.setdefault(part, {})[own_name] = array
    if not parts[STATE]:
        raise CheckpointError(
            f"nothing to write to --output={output}: no array of the run is left; choose fewer"
        )
    total = sum(map(n_bytes, cut.arrays.values()))
    with new_folder(output) as work, byte_bar(total, output.name) as bar:
        copy_files(cut.files, work)
        folder = work / CHECKPOINTS / str(cut.step)
        folder.mkdir(parents=True)
        for part, arrays in parts.items():
            write_arrays(folder / part, arrays, bar.update)
        # Only now: what was found out in passing is in it.
        (folder / RECORD).mkdir()
        (folder / RECORD / "metadata").write_text(json.dumps(_record(cut)))
        _write_item_list(folder, [*parts, RECORD])
        manifest.write(folder)
    return {
        "checkpoint": str(output.absolute() / CHECKPOINTS / str(cut.step)),
        "arrays": len(cut.arrays),
        "bytes": total,
        **{name: value for name, value in cut.done.items() if name != "from"},
    }


def copy_files(files: Mapping[str, Path], into: Path) -> None:
    """Copies files to their names below a folder."""
    for name, path in files.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / name)


def _record(cut: Cut) -> dict[str, Any]:
    return {
        **cut.record,
        "lists": _lists(cut.arrays),
        "surgery": [*cut.record.get("surgery", []), cut.done],
    }


def _lists(arrays: Mapping[str, BlockArray]) -> dict[str, int]:
    """The length of each list of errors that is still whole; of others a run goes on without."""
    found = {}
    for name, array in arrays.items():
        part, own_name = part_of(name)
        list_name, _, leaf = own_name.rpartition(".")
        whole = f"{ERRORS}.{list_name}.error_RE" in arrays
        if part == ERRORS and leaf == "row_R" and whole:
            found[list_name] = array.shape[0]
    return found


def _write_item_list(folder: Path, items: list[str]) -> None:
    now = time.time_ns()
    body = {
        "item_handlers": {item: _HANDLER_OF[item] for item in items},
        "metrics": {},
        "performance_metrics": {},
        "init_timestamp_nsecs": now,
        "commit_timestamp_nsecs": now,
        "custom_metadata": {},
    }
    (folder / "_CHECKPOINT_METADATA").write_text(json.dumps(body))
