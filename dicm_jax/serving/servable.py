"""A servable, read and checked: what `python -m dicm_jax.export` wrote (`dicm_jax.serving.format`).

Shape legend
    N   places of items     F   ID fields of a level
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from dicm_jax import sealed_json
from dicm_jax.errors import DataError, ServableError
from dicm_jax.serving import format as files

_VERSION = re.compile("[1-9][0-9]*")


@dataclasses.dataclass(frozen=True)
class Field:
    """An ID field of requests.

    Attributes:
      name: of the field.
      level: ``"user"``, ``"item"``, ``"context"`` or ``"behavior"``.
      vocabulary: that its keys are drawn from.
      size: keys of the vocabulary.
      first: place of key 0 among the ID rows.
    """

    name: str
    level: str
    vocabulary: str
    size: int
    first: int


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """One model of a servable.

    Attributes:
      stage: ``"rank"`` or ``"prerank"``.
      inputs: where it sees content: ``side``, ``content`` and ``model`` each.
      signature: all that is known of it, as in ``servable.json``.
      tables: arrays by name, without those of the catalogue.
      compressors: parameters and statistics of each embedding model, by name.
      programs: serialized StableHLO by name.
      index_NP: Pre-rank's vectors of all items, float32; None of a model that ranks.
    """

    stage: str
    inputs: tuple[dict[str, str], ...]
    signature: dict[str, Any]
    tables: dict[str, np.ndarray]
    compressors: dict[str, dict[str, np.ndarray]]
    programs: dict[str, bytes]
    index_NP: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Servable:
    """A whole servable.

    Attributes:
      folder: where it lies.
      signature: ``servable.json``.
      fields: all ID fields.
      names: of the items, in the order of the catalogue.
      items_NF, rows_N, context_NF: the catalogue by place (`dicm_jax.serving.format`).
      keys: from the IDs of a vocabulary to its keys, where they are known.
      models: by name, ``"dicm"`` first.
    """

    folder: Path
    signature: dict[str, Any]
    fields: tuple[Field, ...]
    names: list[str]
    items_NF: np.ndarray
    rows_N: dict[str, np.ndarray]
    context_NF: np.ndarray
    keys: dict[str, dict[str, int]]
    models: dict[str, ServedModel]

    @property
    def version(self) -> str:
        """What tells it from others: the name of its folder of versions, and its number."""
        return self.signature["version_name"]

    @property
    def behaviors(self) -> int:
        """The newest behaviors that a model sees of a user, at most."""
        return self.signature["behaviors"]

    def fields_of(self, level: str) -> tuple[Field, ...]:
        """The fields of one level, in the order of their keys."""
        return tuple(field for field in self.fields if field.level == level)


def newest(folder: Path) -> Path:
    """The servable of the highest number in a folder, or the folder itself if it is one.

    Raises:
      ServableError: there is none.
    """
    if (folder / files.NAME).is_file():
        return folder
    versions = versions_in(folder)
    if not versions:
        found = "no servable in it" if folder.is_dir() else "no such folder"
        raise ServableError(
            f"{folder}: {found}: give the folder that python -m dicm_jax.export --output names"
        )
    return folder / str(versions[-1])


def versions_in(folder: Path) -> list[int]:
    """Numbers of the finished servables in a folder, ascending."""
    names = (path.name for path in folder.glob("*"))
    return sorted(int(name) for name in names if _VERSION.fullmatch(name))


def read(folder: Path, *, verify: bool = True) -> Servable:
    """Reads a servable.

    Args:
      folder: of the servable, or of its versions, of which the newest is taken.
      verify: compare every file with its checksum first.

    Raises:
      ServableError: there is none, it was cut short or altered, or a later version wrote it.
    """
    folder = newest(folder)
    if verify:
        files.MANIFEST.check(folder)
    try:
        signature = sealed_json.load(
            folder / files.NAME, format=files.FORMAT, version=files.VERSION, what="a servable"
        )
    except DataError as error:
        raise ServableError(str(error)) from error
    try:
        return _read(folder, signature)
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise ServableError(
            f"{folder}: cannot be read ({str(error) or type(error).__name__}):"
            f" {files.MANIFEST.remedy}"
        ) from error


def _read(folder: Path, signature: dict[str, Any]) -> Servable:
    catalogue = safetensors.numpy.load_file(folder / files.CATALOGUE)
    rows_N = {
        name.removesuffix("_rows"): array
        for name, array in catalogue.items()
        if name.endswith("_rows")
    }
    return Servable(
        folder=folder,
        signature=signature,
        fields=_fields(signature),
        names=read_lines(folder / files.ITEMS),
        items_NF=catalogue["items"],
        rows_N=rows_N,
        context_NF=catalogue["context"],
        keys={
            path.stem: {text: key for key, text in enumerate(read_lines(path))}
            for path in sorted((folder / files.VOCABULARIES).glob("*.jsonl"))
        },
        models={
            name: _model(folder / files.MODELS / name, model)
            for name, model in signature["models"].items()
        },
    )


def _fields(signature: dict[str, Any]) -> tuple[Field, ...]:
    first, at = {}, files.ID_ROWS
    for vocabulary, size in signature["vocabularies"]:
        first[vocabulary] = at
        at += size
    sizes = dict(signature["vocabularies"])
    return tuple(
        Field(name, level, vocabulary, sizes[vocabulary], first[vocabulary])
        for name, level, vocabulary in signature["fields"]
    )


def _model(folder: Path, signature: dict[str, Any]) -> ServedModel:
    tables = safetensors.numpy.load_file(folder / files.TABLES)
    compressors: dict[str, dict[str, np.ndarray]] = {}
    if (folder / files.COMPRESSORS).is_file():
        for name, array in safetensors.numpy.load_file(folder / files.COMPRESSORS).items():
            of, _, part = name.partition("/")
            compressors.setdefault(of, {})[part] = array
    return ServedModel(
        stage=signature["stage"],
        inputs=tuple(signature["inputs"]),
        signature=signature,
        tables={n: _unpacked(array) for n, array in tables.items() if n != files.INDEX},
        compressors=compressors,
        programs={
            name: (folder / f"{name}{files.PROGRAM}").read_bytes() for name in signature["programs"]
        },
        index_NP=tables.get(files.INDEX),
    )


def examples_of(servable: Servable) -> dict[str, Any]:
    """Users to look at, as they were exported; none for a servable without."""
    path = servable.folder / files.EXAMPLES
    return json.loads(path.read_text()) if path.is_file() else {"users": [], "photos": {}}


def packed(array: np.ndarray) -> np.ndarray:
    """An array as it is written: a bfloat16 as its bits, which NumPy has no name for."""
    return array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array


def _unpacked(array: np.ndarray) -> np.ndarray:
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.uint16 else array


def read_lines(path: Path) -> list[str]:
    """The texts of a file, one JSON string a line, whatever they hold."""
    return json.loads("[" + path.read_text(encoding="utf-8").replace("\n", ",")[:-1] + "]")


def write_lines(path: Path, texts: list[str]) -> None:
    """Writes texts for `read_lines`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(text)}\n" for text in texts)
    path.write_text(lines, encoding="utf-8")
