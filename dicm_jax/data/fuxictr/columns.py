"""What FuxiCTR says of its columns: ``feature_map.json``, or ``dataset_config.yaml``.

FuxiCTR, https://github.com/reczoo/FuxiCTR, keeps a data set in one of two states. *Encoded*: the
files hold integers, and ``feature_map.json`` beside them lists the columns with their vocabulary
sizes; key 0 is padding, the last key stands for what is unknown. *Raw*: the files hold what they
were published with, and the ``feature_cols`` of ``dataset_config.yaml`` say how to read them.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dicm_jax.errors import DataError

FEATURE_MAP = "feature_map.json"
DATASET_CONFIG = "dataset_config.yaml"
TYPES = ("categorical", "sequence", "numeric", "meta")


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a set.

    Attributes:
      name: of the feature.
      kind: one of `TYPES`.
      source: ``user``, ``item``, ``context`` or empty, where nothing is said.
      vocabulary: the feature whose keys it has; its own name unless it shares an embedding.
      size: number of keys, of an encoded set; None: counted in the train file.
      unknown: the key of what is not in the vocabulary, of an encoded set.
      reads: the column of the files; differs from `name` in a copy.
      splitter: between the parts of a sequence that is written as text.
      missing: the text that stands for an empty value.
      least: how often a text must occur in the train file to have a key of its own.
      pretrained: the column stands for rows of content and is no ID.
    """

    name: str
    kind: str
    source: str
    vocabulary: str
    size: int | None
    unknown: int | None
    reads: str
    splitter: str = "^"
    missing: str = ""
    least: int = 1
    pretrained: bool = False


@dataclasses.dataclass(frozen=True)
class Columns:
    """All columns of a set, by name, in the order of the file that lists them."""

    path: Path
    encoded: bool
    by_name: dict[str, Column]
    labels: tuple[str, ...]
    group_id: str | None


def read_columns(root: Path, dataset: str | None) -> Columns:
    """Reads ``feature_map.json`` of `root`, or ``dataset_config.yaml`` where it has none.

    Args:
      root: the folder of the set.
      dataset: its name in ``dataset_config.yaml``; None takes the only one.

    Raises:
      DataError: neither file, not JSON or YAML, a missing key, a type or preparation that is not
        known, a shared embedding of no column.
    """
    if not root.is_dir():
        raise DataError(
            f"FuxiCTR data at {root}: no such folder; give the folder that holds {FEATURE_MAP} or "
            f"{DATASET_CONFIG} and the files of the splits"
        )
    if (root / FEATURE_MAP).is_file():
        columns = _encoded(root / FEATURE_MAP)
    elif (root / DATASET_CONFIG).is_file():
        columns = _raw(root / DATASET_CONFIG, dataset)
    else:
        found = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
        raise DataError(
            f"FuxiCTR data at {root}: neither {FEATURE_MAP} (encoded) nor {DATASET_CONFIG} (raw) "
            f"found among {found}; put one of them there"
        )
    _check_shared(columns)
    return columns


def _encoded(path: Path) -> Columns:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}); write it again with FuxiCTR") from error
    listed = _need(path, "the feature map", tree, "features")
    labels = _need(path, "the feature map", tree, "labels")
    specs = {name: spec for entry in listed for name, spec in entry.items()}
    by_name = {name: _encoded_column(path, name, spec) for name, spec in specs.items()}
    return Columns(path, True, by_name, tuple(labels), tree.get("group_id"))


def _encoded_column(path: Path, name: str, spec: Mapping[str, Any]) -> Column:
    kind = _kind(path, name, spec)
    size = None
    if kind in ("categorical", "sequence"):
        size = int(_need(path, f"feature {name!r}", spec, "vocab_size"))
    return Column(
        name=name,
        kind=kind,
        source=spec.get("source", ""),
        vocabulary=spec.get("share_embedding", name),
        size=size,
        unknown=None if size is None else int(spec.get("oov_idx", size - 1)),
        reads=name,
        pretrained="pretrained_emb" in spec,
    )


def _raw(path: Path, dataset: str | None) -> Columns:
    try:
        datasets = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML ({error}); repair it") from error
    if not isinstance(datasets, Mapping) or not datasets:
        raise DataError(f"{path}: no dataset in it; it must map a dataset's name to its settings")
    if dataset is None and len(datasets) > 1:
        raise DataError(
            f"{path}: {len(datasets)} datasets, {sorted(datasets)}; choose one with "
            "data.fuxictr.dataset"
        )
    chosen = next(iter(datasets)) if dataset is None else dataset
    settings = _need(path, "the file", datasets, chosen)
    where = f"dataset {chosen!r}"
    label = _need(path, where, settings, "label_col")
    labels = tuple(entry["name"] for entry in (label if isinstance(label, list) else [label]))
    least = int(settings.get("min_categr_count", 1))
    by_name = {}
    for spec in _need(path, where, settings, "feature_cols"):
        name = _need(path, where, spec, "name")
        if spec.get("active", True):
            for one in name if isinstance(name, list) else [name]:
                by_name[one] = _raw_column(path, one, spec, least)
    return Columns(path, False, by_name, labels, settings.get("group_id"))


def _raw_column(path: Path, name: str, spec: Mapping[str, Any], least: int) -> Column:
    kind = _kind(path, name, spec)
    if "category_processor" in spec:
        raise DataError(_not_prepared(path, name, "category_processor", spec))
    copied = re.fullmatch(r"copy_from\((\w+)\)", spec.get("preprocess", f"copy_from({name})"))
    if copied is None:
        raise DataError(_not_prepared(path, name, "preprocess", spec))
    return Column(
        name=name,
        kind=kind,
        source=spec.get("source", ""),
        vocabulary=spec.get("share_embedding", name),
        size=None,
        unknown=None,
        reads=copied[1],
        splitter=spec.get("splitter", "^"),
        missing=str(spec.get("fill_na", "")),
        least=int(spec.get("min_categr_count", least)),
        pretrained="pretrained_emb" in spec,
    )


def _not_prepared(path: Path, name: str, key: str, spec: Mapping[str, Any]) -> str:
    return (
        f"{path}: feature {name!r} has {key}={spec[key]!r}, which is not known here (only "
        "preprocess=copy_from(COLUMN) is); let FuxiCTR build the set and give its "
        f"{FEATURE_MAP}, or set active: false"
    )


def _kind(path: Path, name: str, spec: Mapping[str, Any]) -> str:
    kind = _need(path, f"feature {name!r}", spec, "type")
    if kind not in TYPES:
        raise DataError(
            f"{path}: feature {name!r} is of type {kind!r}; known types are {', '.join(TYPES)} "
            "(vectors go into the array of content rows): take it out of the list"
        )
    return kind


def _need(path: Path, where: str, tree: Mapping[str, Any], key: str) -> Any:
    if not isinstance(tree, Mapping) or key not in tree:
        found = sorted(map(str, tree)) if isinstance(tree, Mapping) else type(tree).__name__
        raise DataError(f"{path}: {where} has no {key!r}; found {found}; add it")
    return tree[key]


def _check_shared(columns: Columns) -> None:
    for column in columns.by_name.values():
        root = columns.by_name.get(column.vocabulary)
        if root is None:
            raise DataError(
                f"{columns.path}: feature {column.name!r} shares the embedding of "
                f"{column.vocabulary!r}, which is not listed; features: {list(columns.by_name)}"
            )
        if root.size != column.size:
            raise DataError(
                f"{columns.path}: feature {column.name!r} has vocab_size {column.size}, but shares "
                f"the embedding of {root.name!r}, which has {root.size}; they must be equal"
            )
