"""A split of a prepared set that stays on disk.

Shape legend
    K   records (blocks of groups) of the split
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dicm_jax.data.prepared import manifest
from dicm_jax.data.prepared.manifest import Prepared
from dicm_jax.data.prepared.reader import open_records, read_block
from dicm_jax.data.prepared.shards import DATASET_FOLDER, Shard
from dicm_jax.data.schema import StreamedGroups
from dicm_jax.errors import DataError


def streamed_split(prepared: Prepared, root: Path, split: str) -> StreamedGroups:
    """A split whose blocks are read when they are needed.

    Raises:
      DataError: the sizes of the groups are not those of the shards.
    """
    shards = prepared.splits[split]
    sizes_path = root / manifest.sizes_name(split)
    sizes_G = np.load(sizes_path, mmap_mode="r")
    groups = sum(shard.groups for shard in shards)
    if len(sizes_G) != groups:
        raise DataError(
            f"{sizes_path}: sizes of {len(sizes_G)} groups, where the records of the split hold"
            f" {groups}: bring the set's files back from one copy, or prepare it again"
        )
    lengths_K = itertools.chain.from_iterable(
        _block_lengths(shard, prepared.block_groups) for shard in shards
    )
    records = open_records(root, split)
    return StreamedGroups(
        where=f"{root / DATASET_FOLDER}, split {split!r}",
        sizes_G=sizes_G,
        first_group_K=np.cumsum([0, *lengths_K]),
        read=lambda number: read_block(records, root, split, number),
    )


def _block_lengths(shard: Shard, block_groups: int) -> Iterator[int]:
    """Groups of each record of a shard: all have as many as fit, but the last."""
    for first in range(0, shard.groups, block_groups):
        yield min(block_groups, shard.groups - first)
