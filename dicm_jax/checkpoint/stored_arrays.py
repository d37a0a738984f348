"""The arrays of a checkpoint's state where they lie, to be read in pieces."""

from pathlib import Path
from typing import Any

import tensorstore as ts


def open_array(state: Path, name: str) -> Any:
    """An array of a saved state, without its numbers: slices of it are read by ``.read()``.

    Args:
      state: folder of the state, ``<step>/state``, as Orbax writes it (zarr in an OCDBT store).
      name: of the array.

    Raises:
      ValueError: there is none of this name, or it cannot be read.
    """
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{state.absolute()}/"}}
    spec = {"driver": "zarr", "kvstore": store | {"path": f"{name}/"}}
    return ts.open(spec, read=True, open=True).result()
