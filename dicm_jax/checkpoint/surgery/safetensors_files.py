"""Checkpoints as safetensors files, and back.

The layout is the one of large models elsewhere: ``model.safetensors``, or numbered files with
``model.safetensors.index.json``, which says in which of them each tensor lies. The metadata of each
file holds the step and the record, so that nothing is lost on the way there and back; a sealed
manifest lies beside them. Files are written and read a block at a time, which the library does not
do (https://github.com/huggingface/safetensors: eight bytes with the length of a JSON header, the
header, the tensors' bytes).
"""

import dataclasses
import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from dicm_jax.checkpoint import manifest
from dicm_jax.checkpoint.surgery.blocks import (
    BlockArray,
    Region,
    Shape,
    block_shape,
    n_bytes,
    regions,
)
from dicm_jax.checkpoint.surgery.output import Cut, copy_files
from dicm_jax.checkpoint.surgery.progress import byte_bar
from dicm_jax.checkpoint.surgery.source import Source, check_files, kept_files
from dicm_jax.checkpoint.surgery.unfinished import new_folder
from dicm_jax.errors import CheckpointError

_NAME_OF = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
_TYPE_OF = {name: np.dtype(getattr(ml_dtypes, t, t)) for t, name in _NAME_OF.items()}
_INDEX = "model.safetensors.index.json"
_KIND = "dicm_jax checkpoint"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A `BlockArray` of a safetensors file.

    Attributes:
      path: of the file.
      offset: of its first byte.
      shape, dtype: see `BlockArray`.
    """

    path: Path
    offset: int
    shape: Shape
    dtype: np.dtype

    @property
    def chunk(self) -> Shape:
        """See `BlockArray`: one run of bytes."""
        return self.shape

    def read(self, region: Region) -> np.ndarray:
        """See `BlockArray`. The region must be one of `block_shape`'s, a run of bytes.

        Raises:
          CheckpointError: the file cannot be read.
        """
        shape = [part.stop - part.start for part in region]
        first = np.ravel_multi_index([part.start for part in region], self.shape) if shape else 0
        start, count = self.offset + int(first) * self.dtype.itemsize, math.prod(shape)
        try:
            flat = np.fromfile(self.path, self.dtype, count, offset=start)
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: cannot be read ({error}); see to leave to read it"
            ) from error
        return flat.reshape(shape)


def write_safetensors(output: Path, source: Source, most_bytes: int) -> dict[str, Any]:
    """Writes a checkpoint as safetensors files; until all are there, there is no `output`.

    Args:
      output: folder, which is made.
      source: a checkpoint.
      most_bytes: of tensors in a file; a larger tensor has a file of its own.

    Returns:
      What was written, for the command's last line.

    Raises:
      CheckpointError: the output exists or cannot be written, or an array cannot be read or has a
        format that these files lack.
    """
    _check_types(source.arrays)
    files = _files(source.arrays, most_bytes)
    metadata = {"kind": _KIND, "step": str(source.step), "record": json.dumps(source.record)}
    total = sum(map(n_bytes, source.arrays.values()))
    with new_folder(output) as work, byte_bar(total, output.name) as bar:
        copy_files(source.files, work)
        for name, arrays in files.items():
            with (work / name).open("wb") as file:
                file.write(_header(arrays, metadata))
                for array in arrays.values():
                    for region in regions(array.shape, block_shape(array)):
                        block = np.ascontiguousarray(array.read(region))
                        file.write(block.reshape(-1).view(np.uint8).data)
                        bar.update(block.nbytes)
                file.flush()
                os.fsync(file.fileno())
        if len(files) > 1:
            place = {tensor: name for name, arrays in files.items() for tensor in arrays}
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))}
            (work / _INDEX).write_text(json.dumps(index, indent=1) + "\n")
        manifest.write(work)
    return {"safetensors": str(output.absolute()), "files": len(files), "bytes": total}


def read_safetensors(path: Path, *, verify: bool = True) -> Cut:
    """The checkpoint in safetensors files, none of whose tensors has been read.

    Args:
      path: folder that `write_safetensors` made, or a single file.
      verify: first compare every file with the manifest, where there is one.

    Raises:
      CheckpointError: there is none, it was altered, it cannot be read, or it has no record.
    """
    if verify and path.is_dir():
        check_files(path)
    paths = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not paths:
        what = "no .safetensors file in it" if path.is_dir() else "no such folder or file"
        raise CheckpointError(
            f"{path}: {what}; name what python -m dicm_jax.surgery to-safetensors has written"
        )
    tensors: dict[str, Tensor] = {}
    records = set()
    for each in paths:
        of_file, metadata = _open(each)
        records.add((metadata["step"], metadata["record"]))
        twice = sorted(tensors.keys() & of_file.keys())
        if twice or len(records) > 1:
            what = f"{twice[0]} is in several files" if twice else "files have different records"
            raise CheckpointError(
                f"{path}: of more than one checkpoint: {what}, {paths[0].name} or another and"
                f" {each.name}; leave the files of one checkpoint in the folder"
            )
        tensors |= of_file
    _check_complete(path, tensors)
    ((step, record),) = records
    done = {"command": "from-safetensors", "from": [{"folder": str(path.absolute())}]}
    files = kept_files(path, json.loads(record)) if path.is_dir() else {}
    return Cut(int(step), json.loads(record), dict(sorted(tensors.items())), done, files)


def _check_types(arrays: Mapping[str, BlockArray]) -> None:
    for name, array in arrays.items():
        if array.dtype.name not in _NAME_OF:
            raise CheckpointError(
                f"{name} is {array.dtype.name}, which safetensors files do not have here; cast it"
                f" before, to one of {', '.join(_NAME_OF)}"
            )


def _files(arrays: Mapping[str, BlockArray], most_bytes: int) -> dict[str, dict[str, BlockArray]]:
    """Arrays by file. Wide elements come first, so that all lie at multiples of their size."""
    ordered = sorted(arrays.items(), key=lambda pair: (-pair[1].dtype.itemsize, pair[0]))
    groups: list[dict[str, BlockArray]] = [{}]
    room = most_bytes
    for name, array in ordered:
        if groups[-1] and n_bytes(array) > room:
            groups.append({})
            room = most_bytes
        groups[-1][name] = array
        room -= n_bytes(array)
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    count = len(groups)
    return {f"model-{i:05}-of-{count:05}.safetensors": g for i, g in enumerate(groups, 1)}


def _header(arrays: Mapping[str, BlockArray], metadata: dict[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + n_bytes(array)
        entries[name] = {
            "dtype": _NAME_OF[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and its metadata."""
    try:
        with safetensors.safe_open(path, framework="numpy"):  # checks the whole layout
            pass
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entries = json.loads(file.read(length))
    except (OSError, ValueError, struct.error, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); bring it back from a copy"
        ) from error
    metadata = entries.pop("__metadata__", {})
    if metadata.get("kind") != _KIND:
        raise CheckpointError(
            f"{path}: no record of a checkpoint in its metadata ({sorted(metadata) or 'empty'});"
            " give files of python -m dicm_jax.surgery to-safetensors, and keep their metadata"
            " where another program writes them anew"
        )
    unknown = [name for name, entry in entries.items() if entry["dtype"] not in _TYPE_OF]
    if unknown:
        raise CheckpointError(
            f"{path}: {unknown[0]} is {entries[unknown[0]]['dtype']}; known are"
            f" {', '.join(_TYPE_OF)}: cast it"
        )
    return {
        name: Tensor(
            path,
            8 + length + entry["data_offsets"][0],
            tuple(entry["shape"]),
            _TYPE_OF[entry["dtype"]],
        )
        for name, entry in entries.items()
    }, metadata


def _check_complete(path: Path, tensors: Mapping[str, Tensor]) -> None:
    index = path / _INDEX
    if not index.exists():
        return
    missing = sorted(json.loads(index.read_text())["weight_map"].keys() - tensors.keys())
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} tensors of {_INDEX} are in none of its files (the first is"
            f" {missing[0]}); bring the missing files back from a copy"
        )
