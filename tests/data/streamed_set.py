"""The small log as a prepared set on disk, its train split streamed."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from dicm_jax.data.prepared import reader
from dicm_jax.data.prepared.from_log import write_log
from dicm_jax.data.prepared.stream import streamed_split
from dicm_jax.data.schema import ClickLog, GroupedImpressions, StreamedGroups
from tests import small_world

BLOCK_GROUPS, SHARD_GROUPS = 5, 33
"""Groups of a block, and of a shard: the last block of a shard is a smaller one."""


def write(folder: Path) -> Path:
    """Write the small log as a set."""
    write_log(
        small_world.log(),
        folder,
        block_groups=BLOCK_GROUPS,
        shard_groups=SHARD_GROUPS,
        storage="float32",
        settings={},
    )
    return folder


def load(folder: Path, **options) -> ClickLog[StreamedGroups]:
    return reader.load(str(folder), read_train=streamed_split, **options)


def reading(
    split: StreamedGroups, change: Callable[[int, GroupedImpressions], GroupedImpressions]
) -> StreamedGroups:
    """The split, every block changed as it is read."""
    return dataclasses.replace(split, read=lambda number: change(number, split.read(number)))


def counted(split: StreamedGroups) -> tuple[StreamedGroups, Counter[int]]:
    """The split, and how often each of its blocks was read."""
    reads: Counter[int] = Counter()

    def count(number: int, block: GroupedImpressions) -> GroupedImpressions:
        reads[number] += 1
        return block

    return reading(split, count), reads
