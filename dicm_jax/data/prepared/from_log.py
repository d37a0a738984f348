"""A log that a reader made, written as a prepared set: read once, then streamed or shared.

Shape legend
    N   items     G   groups
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicm_jax.ams import feature_table
from dicm_jax.ams.feature_table import Storage
from dicm_jax.data.groups import cut
from dicm_jax.data.prepared.assembly import (
    Catalogue,
    Split,
    check_free,
    finish,
)
from dicm_jax.data.prepared.manifest import Prepared, unfinished_folder
from dicm_jax.data.prepared.shards import (
    DATASET_FOLDER,
    group_sizes,
    shard_name,
    write_shard,
)
from dicm_jax.data.schema import ClickLog, Features, GroupedImpressions
from dicm_jax.errors import DataError
from dicm_jax.features import table_writing
from dicm_jax.features.table_files import TableFiles, open_table


def write_log(
    log: ClickLog,
    folder: Path,
    *,
    block_groups: int,
    shard_groups: int,
    storage: Storage,
    settings: dict[str, Any],
    report: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Writes a log as a prepared set, its feature table beside the groups under ``features/``.

    The files of photos, which serve reports alone, are not part of it.

    Args:
      log: checked.
      folder: of the set; must not exist, or be empty.
      block_groups: groups of a record.
      shard_groups: groups of a shard file.
      storage: format of feature rows at rest.
      settings: that the log was read with.
      report: is told what is done.

    Raises:
      DataError: the folder holds something, or cannot be written; the log is streamed, or has
        content that a set cannot hold.
    """
    check_free(folder)
    if log.more_content:
        raise DataError(
            f"log {log.name!r} has {', '.join(log.more_content)} beside its images, which a"
            " prepared set cannot hold: train on the log as it is read, or leave these out"
        )
    try:
        return _written(log, folder, block_groups, shard_groups, storage, settings, report)
    except OSError as error:
        raise DataError(
            f"{folder}: the set cannot be written ({error}); see to room on the disk and to leave"
            " to write, then run the same command again"
        ) from error


def _written(
    log: ClickLog,
    folder: Path,
    block_groups: int,
    shard_groups: int,
    storage: Storage,
    settings: dict[str, Any],
    report: Callable[[str], None],
) -> Prepared:
    unfinished = unfinished_folder(folder)
    if unfinished.exists():
        shutil.rmtree(unfinished)  # reading and writing a log again costs less than trusting it
    (unfinished / DATASET_FOLDER).mkdir(parents=True)
    splits = {}
    for name in ("train", "validation", "test"):
        if getattr(log, name) is not None:
            groups = log.split(name)
            report(f"{name}: {groups.n_groups:,} groups, {groups.n_impressions:,} impressions")
            splits[name] = _write_split(unfinished, name, groups, block_groups, shard_groups)
    catalogue = Catalogue(
        fields=log.fields,
        vocabulary_sizes=log.vocabulary_sizes,
        items=log.items,
        item_ids=pa.table({"item": np.arange(len(log.items.image_N)).astype(np.str_)}),
        vocabularies={},
        features=_tables(log, unfinished / "features", storage),
    )
    prepared = finish(
        unfinished,
        catalogue,
        splits,
        name=log.name,
        block_groups=block_groups,
        notes=log.notes,
        settings=settings,
        source={},
    )
    if folder.exists():
        folder.rmdir()
    os.replace(unfinished, folder)
    return prepared


def _write_split(
    folder: Path, name: str, groups: GroupedImpressions, block_groups: int, shard_groups: int
) -> Split:
    firsts = range(0, groups.n_groups, shard_groups)
    shards = []
    for number, first in enumerate(firsts):
        part = cut(groups, first, min(first + shard_groups, groups.n_groups))
        path = folder / DATASET_FOLDER / shard_name(name, number, len(firsts))
        shards.append(write_shard(path, part, block_groups))
    return Split(shards, group_sizes(groups))


def _tables(log: ClickLog, folder: Path, storage: Storage) -> dict[str, TableFiles]:
    tables = {}
    for name, content in log.contents.items():
        features = content.features
        if isinstance(features, Features):
            stats = feature_table.statistics(features.rows_VD, features.scale_V)
            place = folder / name
            place.parent.mkdir(exist_ok=True)
            encoder = f"log {log.name}"
            table_writing.write(place, features.rows_VD, features.scale_V, stats, storage, encoder)
            tables[name] = open_table(place)
        else:
            tables[name] = open_table(features.folder)
    return tables
