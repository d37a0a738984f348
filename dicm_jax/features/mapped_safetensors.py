"""Tensors of a safetensors file, mapped into memory instead of read.

The library itself reads a tensor whole; the format is simple enough to map: the length of a JSON
header (8 bytes), the header with type, shape and place of each tensor, then all their bytes.
"""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from dicm_jax.errors import DataError

_TYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}


def map_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors by name, read-only; bfloat16 as `ml_dtypes.bfloat16`.

    Raises:
      DataError: a number format that NumPy lacks.
      SafetensorError: a layout that is not sound, e.g. of a truncated file.
    """
    with safetensors.safe_open(path, framework="numpy"):  # checks the whole layout
        pass
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    unknown = [name for name, entry in header.items() if entry["dtype"] not in _TYPES]
    if unknown:
        raise DataError(
            f"{path}: tensor {unknown[0]!r} is {header[unknown[0]]['dtype']}; expected one of "
            f"{', '.join(_TYPES)}: convert it"
        )
    bytes_ = np.memmap(path, np.uint8, mode="r", offset=0)
    return {
        name: bytes_[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]]
        .view(_TYPES[entry["dtype"]])
        .reshape(entry["shape"])
        for name, entry in header.items()
    }
