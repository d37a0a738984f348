"""Arrays as Orbax lays them down: zarr arrays in an OCDBT key-value store, with a list of names.

What several processes wrote lies in folders of their own, to which the store's manifest points.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from dicm_jax.checkpoint.surgery.blocks import Region, Shape
from dicm_jax.errors import CheckpointError

_CACHE_BYTES = 140 * 2**20
"""For chunks that are read in parts: two of those that runs and surgery write."""
_NODES_BYTES = 10 * 2**20
_ARRAYS = ("jax.Array", "np.ndarray", "scalar")


@dataclasses.dataclass(frozen=True)
class Stored:
    """A `BlockArray` of a checkpoint.

    Attributes:
      name: in the checkpoint.
      shape, dtype, chunk: see `BlockArray`.
      place: where it lies, for messages.
    """

    name: str
    shape: Shape
    dtype: np.dtype
    chunk: Shape
    place: Path
    _store: Any

    def read(self, region: Region) -> np.ndarray:
        """See `BlockArray`.

        Raises:
          CheckpointError: its bytes are damaged or missing.
        """
        try:
            return np.asarray(self._store[region].read().result())
        except (ValueError, OSError) as error:
            raise CheckpointError(
                f"{self.place}: array {self.name} cannot be read ({_first_line(error)}); bring the"
                " checkpoint back from a copy, or take another step"
            ) from error


def open_arrays(folder: Path) -> dict[str, Stored]:
    """All arrays below an item of a checkpoint (its ``state``, say), none of them read.

    Args:
      folder: of the item.

    Raises:
      CheckpointError: there is none, it cannot be read, or it holds what is no array.
    """
    try:
        names = _names(folder)
        stores = {name: _open(folder, name, _CACHE_BYTES) for name in names}
        largest = max((_chunk_bytes(store) for store in stores.values()), default=0)
        if 2 * largest > _CACHE_BYTES:  # it is unpacked whole anyway, but only once then
            stores = {name: _open(folder, name, 2 * largest) for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: not the arrays of a checkpoint ({_first_line(error)}); name the folder of a"
            " run, of its checkpoints or of one step"
        ) from error
    return {
        name: Stored(
            name,
            tuple(store.shape),
            store.dtype.numpy_dtype,
            _chunk(store),
            folder,
            store,
        )
        for name, store in stores.items()
    }


def _names(folder: Path) -> list[str]:
    tree = json.loads((folder / "_METADATA").read_text())["tree_metadata"]
    names = []
    for leaf in tree.values():
        name = ".".join(str(key["key"]) for key in leaf["key_metadata"])
        kind = leaf["value_metadata"]["value_type"]
        if kind not in _ARRAYS:
            raise CheckpointError(
                f"{folder}: {name} is a {kind!r}, and only arrays can be worked on; name a"
                " checkpoint of python -m dicm_jax.train"
            )
        names.append(name)
    return sorted(names)


def _open(folder: Path, name: str, cache_bytes: int) -> Any:
    context = _context(cache_bytes)
    store = {"driver": "ocdbt", "base": _file_spec(folder), "path": f"{name}/"}
    spec = {
        "driver": "zarr",
        "kvstore": store | {"cache_pool": "cache_pool#nodes"},
        "fill_missing_data_reads": False,  # a missing chunk is an error, not zeros
        "recheck_cached_data": False,
        "recheck_cached_metadata": False,
    }
    return ts.open(spec, read=True, open=True, context=context).result()


_contexts: dict[int, Any] = {}


def _context(cache_bytes: int) -> Any:
    """One cache for all arrays; a cache for each would multiply."""
    if cache_bytes not in _contexts:
        _contexts[cache_bytes] = ts.Context(
            {
                "cache_pool": {"total_bytes_limit": cache_bytes},
                "cache_pool#nodes": {"total_bytes_limit": _NODES_BYTES},
            }
        )
    return _contexts[cache_bytes]


def _file_spec(folder: Path) -> dict[str, str]:
    return {"driver": "file", "path": f"{folder.absolute()}/"}


def _chunk_bytes(store: Any) -> int:
    return math.prod(_chunk(store)) * store.dtype.numpy_dtype.itemsize


def _chunk(store: Any) -> Shape:
    return tuple(store.chunk_layout.read_chunk.shape or ())  # None of a scalar


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
