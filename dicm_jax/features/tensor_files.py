"""Tensors by name from safetensors, npz and HDF5 files, each read when it is asked for.

Nothing is ever unpickled: a weights file from somewhere must not be able to run code.
"""

import contextlib
import dataclasses
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors

from dicm_jax.errors import DataError

_PICKLED = (".pth", ".pt", ".pkl", ".pickle", ".bin", ".ckpt", ".npy")
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,  # of a number format that NumPy lacks
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    safetensors.SafetensorError,
)


@dataclasses.dataclass(frozen=True)
class Tensors:
    """An open file.

    Attributes:
      path: of the file.
      names: of all its tensors.
    """

    path: Path
    names: list[str]
    _read: Callable[[str], np.ndarray]

    def read(self, name: str) -> np.ndarray:
        """One tensor.

        Raises:
          DataError: it cannot be read, or is pickled.
        """
        with _readable(self.path, f"tensor {name!r}"):
            return self._read(name)


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[Tensors]:
    """Opens a file by its suffix: ``.safetensors``, ``.npz``, ``.h5`` or ``.hdf5``.

    Names of HDF5 tensors are their paths, ``group/group/name``.

    Raises:
      DataError: no such file, another suffix, a pickle, or a file that cannot be read.
    """
    opened = _OPEN.get(path.suffix.lower())
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the weights file that you have")
    if opened is None:
        raise DataError(f"{path}: {_why_not(path)}")
    with ExitStack() as stack:
        with _readable(path, "the file"):
            tensors = stack.enter_context(opened(path))
        yield tensors


@contextlib.contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(
            f"{path}: {what} cannot be read as {path.suffix} ({error}); it may be cut short or "
            "hold pickled objects: download it again, or save plain arrays"
        ) from error


def _why_not(path: Path) -> str:
    if path.suffix.lower() in _PICKLED:
        return (
            f"{path.suffix} files are pickles, which can run any code and are not read; where you "
            "trust it, convert it, e.g. safetensors.torch.save_file(torch.load(FILE, "
            "weights_only=True), 'vgg16.safetensors')"
        )
    return f"suffix {path.suffix!r} found; weights are read from {', '.join(_OPEN)}"


@contextlib.contextmanager
def _safetensors(path: Path) -> Iterator[Tensors]:
    with safetensors.safe_open(path, framework="numpy") as file:
        yield Tensors(path, list(file.keys()), file.get_tensor)


@contextlib.contextmanager
def _npz(path: Path) -> Iterator[Tensors]:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        yield Tensors(path, list(file), file.__getitem__)


@contextlib.contextmanager
def _hdf5(path: Path) -> Iterator[Tensors]:
    names: list[str] = []

    def note(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            names.append(name)

    with h5py.File(path, "r") as file:
        file.visititems(note)
        yield Tensors(path, names, lambda name: np.asarray(file[name]))


_OPEN: dict[str, Callable[[Path], AbstractContextManager[Tensors]]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
