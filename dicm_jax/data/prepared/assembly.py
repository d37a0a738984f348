"""The parts of a prepared set put in their places; the record of the whole is written last.

A set that is being made stands in a folder of another name, which gets the set's name when all is
on disk. Whenever a preparation is cut short, there is no set, and what is done is kept.

Shape legend
    N   items     F   ID fields of an item     G   groups of a split
"""

import dataclasses
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from dicm_jax import sealed_json
from dicm_jax.ams.feature_table import Statistics
from dicm_jax.data.prepared import manifest
from dicm_jax.data.prepared.manifest import FeatureRecord, Prepared
from dicm_jax.data.prepared.shards import DATASET_FOLDER, Shard, write_dataset_info
from dicm_jax.data.schema import IdField, Items
from dicm_jax.errors import DataError
from dicm_jax.features.table_files import TableFiles


@dataclasses.dataclass(frozen=True)
class Split:
    """The shards of a split, in order, and the impressions of each of its groups."""

    shards: list[Shard]
    sizes_G: np.ndarray


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """What all splits share.

    Attributes:
      fields, vocabulary_sizes, items: as in `ClickLog`.
      item_ids: columns ``item`` and, where there are images, ``image``: their IDs in the source.
      vocabularies: the values of each vocabulary that is not hashed, in the order of their keys.
      features: the feature table of each content.
    """

    fields: tuple[IdField, ...]
    vocabulary_sizes: dict[str, int]
    items: Items
    item_ids: pa.Table
    vocabularies: Mapping[str, pa.Array]
    features: Mapping[str, TableFiles]


def check_free(folder: Path) -> None:
    """Refuses a folder that holds something.

    Raises:
      DataError: it does.
    """
    if (folder / manifest.MANIFEST).exists():
        raise DataError(
            f"{folder}: already holds a prepared set; name another --output, or remove it to"
            " prepare it anew"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: exists and is not an empty folder; name another --output")


def finish(
    folder: Path,
    catalogue: Catalogue,
    splits: Mapping[str, Split],
    *,
    name: str,
    block_groups: int,
    notes: dict[str, float],
    settings: dict[str, Any],
    source: dict[str, int],
) -> Prepared:
    """Writes what stands beside the shards, then the record; `folder` then is a prepared set.

    Args:
      folder: that the shards were written to, under `DATASET_FOLDER`.
      catalogue: what all splits share.
      splits: by name; one without a group is left out.
      name: of the log.
      block_groups: groups of a record.
      notes: counts worth knowing.
      settings: that the set was prepared with.
      source: the files it was made from, with their lengths.
    """
    kept = {split: made for split, made in splits.items() if len(made.sizes_G)}
    shards = {split: made.shards for split, made in kept.items()}
    write_dataset_info(folder / DATASET_FOLDER, shards)
    files = {}
    for split, made in kept.items():
        files[manifest.sizes_name(split)] = lambda path, made=made: np.save(path, made.sizes_G)
    files[manifest.ITEMS] = lambda path: np.savez(
        path, ids_NF=catalogue.items.ids_NF, image_N=catalogue.items.image_N
    )
    files[manifest.ITEM_IDS] = lambda path: pyarrow.parquet.write_table(catalogue.item_ids, path)
    for vocabulary, values in catalogue.vocabularies.items():
        table = pa.table({"value": values})
        files[manifest.vocabulary_file(vocabulary)] = lambda path, table=table: (
            pyarrow.parquet.write_table(table, path)
        )
    for file, write in files.items():
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        write(path)
        sealed_json.sync(path)
    of_data_set = [DATASET_FOLDER / "dataset_info.json", DATASET_FOLDER / "features.json"]
    recorded = [*files, *map(str, of_data_set)]
    prepared = Prepared(
        name=name,
        fields=catalogue.fields,
        vocabulary_sizes=catalogue.vocabulary_sizes,
        items=len(catalogue.items.image_N),
        block_groups=block_groups,
        splits=shards,
        files={file: manifest.record_of(folder / file) for file in recorded},
        features={
            content: FeatureRecord(
                os.path.relpath(table.folder.resolve(), folder.resolve()),
                table.n_keys,
                statistics_crc(table.statistics),
            )
            for content, table in catalogue.features.items()
        },
        notes=notes,
        settings=settings,
        source=source,
    )
    manifest.save(prepared, folder)
    return prepared


def statistics_crc(statistics: Statistics) -> int:
    """CRC-32 of a table's statistics: no other table has the same, and new rows keep them."""
    mean_crc = zlib.crc32(statistics.mean_D.astype("<f4").tobytes())
    return zlib.crc32(statistics.deviation_D.astype("<f4").tobytes(), mean_crc)
