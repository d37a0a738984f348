"""Arrays written as Orbax writes them, a block at a time.

The same files but two: there is one store, since one process writes, and no list of shardings,
since these arrays come from no device (Orbax gives NumPy arrays back where no sharding is asked
for).
"""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from dicm_jax.checkpoint.surgery.blocks import (
    BLOCK_BYTES,
    BlockArray,
    Shape,
    block_shape,
    regions,
)
from dicm_jax.errors import CheckpointError

_DICT_KEY = 2
"""Orbax's number for the key of a dict."""
_CONFIG = {
    "max_inline_value_bytes": 1024,  # what every array says of itself lies in the tree of names
    "max_decoded_node_bytes": 10**8,
    "manifest_kind": "single",
}


def write_arrays(
    folder: Path, arrays: Mapping[str, BlockArray], moved: Callable[[int], object]
) -> None:
    """Writes an item of a checkpoint.

    Args:
      folder: of the item, which is made.
      arrays: by name.
      moved: told of bytes as they are written.

    Raises:
      CheckpointError: the disk is full, or an array cannot be read.
    """
    folder.mkdir()
    blocks = {name: block_shape(array) for name, array in sorted(arrays.items())}
    with _told(folder):
        stores = _create_all(folder, arrays, blocks)
    with contextlib.closing(_Pending(folder)) as pending:
        for name, block in blocks.items():
            for region in regions(arrays[name].shape, block):
                values = arrays[name].read(region)
                pending.add(stores[name][region], values)
                moved(values.nbytes)
        pending.wait()
    (folder / "_METADATA").write_text(json.dumps(_tree(blocks)))
    (folder / "array_metadatas").mkdir()
    (folder / "array_metadatas" / "process_0").write_text(json.dumps(_chunk_list(blocks)))


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Says what to do where the system cannot write."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{folder}: cannot be written ({str(error)[:300]}); see to room on the disk and to"
            " leave to write, and run the same command again: nothing was left behind"
        ) from error


class _Pending:
    """Writes under way: of one block, or of many small arrays, which then share a file."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._futures: deque[tuple[int, Any]] = deque()
        self._bytes = 0

    def add(self, part: Any, values: np.ndarray) -> None:
        """Begins a write, once there is room for it."""
        while self._futures and self._bytes + values.nbytes > BLOCK_BYTES:
            self._wait_for_first()
        future = part.write(values, can_reference_source_data_indefinitely=True)
        self._futures.append((values.nbytes, future))
        self._bytes += values.nbytes

    def wait(self) -> None:
        """Waits until everything is on disk."""
        while self._futures:
            self._wait_for_first()

    def close(self) -> None:
        """Waits for what is still being written after an error, which is the one to be told."""
        for _, future in self._futures:
            future.exception()

    def _wait_for_first(self) -> None:
        size, future = self._futures.popleft()
        with _told(self._folder):
            future.result()
        self._bytes -= size


def _create_all(
    folder: Path, arrays: Mapping[str, BlockArray], blocks: Mapping[str, Shape]
) -> dict[str, Any]:
    """Empty arrays, made in one step: each alone would be written, and waited for, by itself."""
    step = ts.Transaction()
    stores = {name: _create(folder, name, arrays[name], blocks[name], step) for name in blocks}
    step.commit_sync()
    return {name: store.with_transaction(None) for name, store in stores.items()}


def _create(folder: Path, name: str, array: BlockArray, chunk: Shape, step: Any) -> Any:
    place = {"driver": "file", "path": f"{folder.absolute()}/"}
    spec = {
        "driver": "zarr",
        "kvstore": {
            "driver": "ocdbt",
            # Data files have names of their own and need no second step; the manifest does.
            "base": place | {"file_io_locking": {"mode": "non_atomic"}},
            "manifest": place,
            "config": _CONFIG,
            "assume_config": True,
            "path": f"{name}/",
            "cache_pool": "cache_pool#nodes",
        },
        "metadata": {
            "shape": list(array.shape),
            "chunks": list(chunk),
            "compressor": {"id": "zstd", "level": 1},
        },
        "dtype": array.dtype.name,
        "store_data_equal_to_fill_value": True,
        "recheck_cached_data": False,
        "recheck_cached_metadata": False,
    }
    return ts.open(spec, create=True, context=_CONTEXT, transaction=step).result()


_CONTEXT: Any = ts.Context({"cache_pool#nodes": {"total_bytes_limit": 10 * 2**20}})


def _tree(blocks: Mapping[str, Shape]) -> dict[str, Any]:
    """``_METADATA``: the names, and that each is an array."""

    def leaf(name: str) -> dict[str, Any]:
        return {
            "key_metadata": [{"key": name, "key_type": _DICT_KEY}],
            "value_metadata": {
                "value_type": "np.ndarray",
                "skip_deserialize": False,
                "write_shape": list(blocks[name]),
            },
        }

    return {
        "tree_metadata": {str((name,)): leaf(name) for name in blocks},
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }


def _chunk_list(blocks: Mapping[str, Shape]) -> dict[str, Any]:
    return {
        "array_metadatas": [
            {
                "array_metadata": {
                    "param_name": name,
                    "write_shape": list(chunk),
                    "chunk_shape": list(chunk),
                    "ext_metadata": None,
                }
            }
            for name, chunk in blocks.items()
        ]
    }
