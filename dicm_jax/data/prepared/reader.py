"""Reader of prepared sets: `ClickLog` from the blocks that `python -m dicm_jax.prepare` wrote.

Shape legend
    N   items     G   groups     B   impressions
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tensorflow_datasets as tfds

from dicm_jax.ams.keys import IMAGE
from dicm_jax.data.groups import joined
from dicm_jax.data.permute import permuted_images
from dicm_jax.data.prepared import manifest
from dicm_jax.data.prepared.assembly import statistics_crc
from dicm_jax.data.prepared.manifest import Prepared
from dicm_jax.data.prepared.record import decode
from dicm_jax.data.prepared.shards import DATASET_FOLDER
from dicm_jax.data.schema import (
    ClickLog,
    GroupedImpressions,
    Items,
    StoredFeatures,
    StreamedGroups,
)
from dicm_jax.errors import DataError
from dicm_jax.features.table_files import TableFiles, open_table


def load(
    path: str,
    *,
    features_path: str | None = None,
    verify: bool = True,
    permute_images: bool = False,
    seed: int = 0,
    read_train: Callable[[Prepared, Path, str], GroupedImpressions | StreamedGroups] | None = None,
) -> ClickLog:
    """Reads a prepared set as a click log, its groups in memory, its features where they lie.

    Args:
      path: folder of the set.
      features_path: folder of the feature tables; None takes the one that it was prepared with.
      verify: read every file once and compare checksums, not lengths alone.
      permute_images: give the items each other's images, shuffled by `seed`; IDs stay.
      seed: of the shuffling.
      read_train: how the train split is read, if not like the others, by `read_split`: by
        `dicm_jax.data.prepared.stream.streamed_split` it stays on disk.

    Raises:
      DataError: no set, an unfinished or a damaged one; no such table, or another one.
    """
    root = Path(path)
    prepared = manifest.load(root)
    manifest.check_files(prepared, root, read=verify)
    for split in ("train", "test"):
        if split not in prepared.splits:
            raise DataError(
                f"{root}: the prepared set has no {split} split, only"
                f" {', '.join(prepared.splits)}: prepare it with cuts that leave one"
            )
    features = stored_features(prepared, root, features_path)
    with np.load(root / manifest.ITEMS) as arrays:
        ids_NF, image_N = arrays["ids_NF"], arrays["image_N"]
    if permute_images:
        image_N = permuted_images(image_N, seed)
    held_out = {
        name: read_split(prepared, root, name) for name in prepared.splits.keys() - {"train"}
    }
    return ClickLog(
        name=prepared.name,
        fields=prepared.fields,
        vocabulary_sizes=prepared.vocabulary_sizes,
        items=Items(ids_NF, image_N),
        features=features.pop(IMAGE),
        train=(read_train or read_split)(prepared, root, "train"),
        test=held_out["test"],
        validation=held_out.get("validation"),
        notes=prepared.notes,
        ids={
            name: functools.partial(values_of, root, name)
            for name in prepared.vocabulary_sizes
            if manifest.vocabulary_file(name) in prepared.files
        },
    )


def values_of(root: Path, vocabulary: str) -> pa.Array:
    """The values of a vocabulary of the set in `root`, texts in the order of their keys."""
    table = pyarrow.parquet.read_table(root / manifest.vocabulary_file(vocabulary))
    return table.column("value").combine_chunks()


def stored_features(
    prepared: Prepared, root: Path, features_path: str | None
) -> dict[str, StoredFeatures]:
    """The feature tables of a set, by content.

    Raises:
      DataError: no table there, or another one than the set was prepared with.
    """
    features = {}
    for content, record in prepared.features.items():
        own = root / record.path
        table = _opened(own if features_path is None else Path(features_path) / content, root)
        if statistics_crc(table.statistics) != record.statistics_crc32:
            raise DataError(
                f"{table.folder}: not the table that {root} was prepared with: it is standardised"
                " differently; name that table's folder in data.feature_tables, or prepare the set"
                " again"
            )
        if table.n_keys < record.rows:
            raise DataError(
                f"{table.folder}: {table.n_keys} rows; {root} was prepared with {record.rows}:"
                " name the whole table's folder in data.feature_tables"
            )
        features[content] = StoredFeatures(table.folder, record.rows, table.width)
    return features


def _opened(folder: Path, root: Path) -> TableFiles:
    try:
        return open_table(folder)
    except DataError as error:
        raise DataError(
            f"{error}; where the table that {root} was prepared with has been moved, name the"
            " folder that it lies in, in data.feature_tables"
        ) from error


def read_split(prepared: Prepared, root: Path, split: str) -> GroupedImpressions:
    """All groups of a split, in order.

    Raises:
      DataError: a record that cannot be read.
    """
    source = open_records(root, split)
    return joined([read_block(source, root, split, n) for n in range(len(source))])


def open_records(root: Path, split: str) -> Any:
    """The records of a split, by number."""
    builder = tfds.builder_from_directory(root / DATASET_FOLDER)
    return builder.as_data_source(split=split)  # pyright: ignore[reportCallIssue]


def read_block(source: Any, root: Path, split: str, number: int) -> GroupedImpressions:
    """One record as a block of groups.

    Raises:
      DataError: it cannot be read.
    """
    try:
        return decode(source[number])
    except (ValueError, RuntimeError, OSError) as error:
        raise DataError(
            f"{root / DATASET_FOLDER}: record {number} of split {split!r} cannot be read"
            f" ({' '.join(str(error).split())[:200]}); bring the file back from a copy, or prepare"
            " the set again"
        ) from error
