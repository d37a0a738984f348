"""The shard files of a prepared set, written one at a time: each is whole, or not there.

Shards lie where TFDS looks for them, ``dicm_log/1.0.0/dicm_log-SPLIT.array_record-00000-of-00004``.

Shape legend
    G   groups of a shard
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import (
    array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
)

from dicm_jax.data.groups import cut
from dicm_jax.data.prepared.record import encode, features
from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.features.file_crc import file_crc
from dicm_jax.sealed_json import sync

DATASET, VERSION = "dicm_log", "1.0.0"
DATASET_FOLDER = Path(DATASET) / VERSION


@dataclasses.dataclass(frozen=True)
class Shard:
    """What is known of a shard file.

    Attributes:
      records, groups, impressions, behaviors, clicks, cold: how many it holds; `cold` counts
        impressions of cold items.
      n_bytes, crc32: of the file.
      record_bytes: of its records, uncompressed.
    """

    records: int
    groups: int
    impressions: int
    behaviors: int
    clicks: int
    cold: int
    n_bytes: int
    crc32: int
    record_bytes: int


def shard_name(split: str, shard: int, shards: int) -> str:
    """The name of a shard file."""
    return f"{DATASET}-{split}.array_record-{shard:05d}-of-{shards:05d}"


def write_shard(path: Path, groups: GroupedImpressions, block_groups: int) -> Shard:
    """Writes groups as blocks of `block_groups`, the last one what is left, to a new file.

    Until all is on disk the file has another name.

    Raises:
      OSError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    records = record_bytes = 0
    try:
        writer = array_record_module.ArrayRecordWriter(str(unfinished), "group_size:1")
        for first in range(0, groups.n_groups, block_groups):
            record = encode(cut(groups, first, min(first + block_groups, groups.n_groups)))
            writer.write(record)
            records, record_bytes = records + 1, record_bytes + len(record)
        writer.close()
    except RuntimeError as error:  # array_record's word for a full disk
        raise OSError(" ".join(str(error).split())) from error
    sync(unfinished)
    os.replace(unfinished, path)
    return Shard(
        records=records,
        groups=groups.n_groups,
        impressions=groups.n_impressions,
        behaviors=len(groups.behavior_item_H),
        clicks=int(groups.click_B.sum()),
        cold=int(groups.cold_B.sum()),
        n_bytes=path.stat().st_size,
        crc32=file_crc(path),
        record_bytes=record_bytes,
    )


def group_sizes(groups: GroupedImpressions) -> np.ndarray:
    """Impressions of each group, uint32 ``[G]``."""
    return np.diff(groups.impression_offsets).astype(np.uint32)


def write_dataset_info(folder: Path, splits: dict[str, list[Shard]]) -> None:
    """Writes what TFDS wants to know of the shards in `folder`."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,  # pyright: ignore[reportArgumentType]
        dataset_name=DATASET,
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    infos = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[shard.records for shard in shards],
            num_bytes=sum(shard.record_bytes for shard in shards),
            filename_template=template,
        )
        for name, shards in splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features(),
        split_infos=infos,
        filename_template=template,
        check_data=False,  # it would read the shards through TensorFlow
        description="Sample groups of a click log: one record is a block of groups in CSR form.",
    )
