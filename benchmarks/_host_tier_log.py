"""A log with a large image table: rows in a file that nobody holds, items shown by a Zipf law.

Shape legend
    N   items, one image each    V   rows of the table    D   content width
    G   groups                   B   impressions          H   behaviors over all groups
"""

import dataclasses
from pathlib import Path

import numpy as np

from dicm_jax.data.schema import ClickLog, Features, GroupedImpressions, IdField, Items

CATEGORIES = 200
_PER_GROUP = 10  # impressions
_BLOCK = 8192  # rows written at a time


@dataclasses.dataclass(frozen=True)
class LogSize:
    """What a log is drawn from.

    Attributes:
      images: rows of the table, and items.
      width: numbers of a row.
      impressions: of the train split, about.
      zipf: the item of rank ``r`` is shown in proportion to ``r ** -zipf``.
      seed: of everything.
    """

    images: int
    width: int
    impressions: int
    zipf: float
    seed: int


def write_rows(path: Path, size: LogSize) -> None:
    """Draws the table a block at a time into a ``.npy`` file: int8, as features at rest are."""
    rng = np.random.default_rng((size.seed, 0))
    shape = (size.images, size.width)
    rows_VD = np.lib.format.open_memmap(path, "w+", np.int8, shape)
    for first in range(0, size.images, _BLOCK):
        count = min(_BLOCK, size.images - first)
        # Random bytes are drawn faster than any law; the clock does not care what a row says.
        drawn = np.frombuffer(rng.bytes(count * size.width), np.int8)
        rows_VD[first : first + count] = drawn.reshape(count, size.width)
    rows_VD.flush()


def read_log(path: Path, size: LogSize) -> ClickLog:
    """The log, its rows mapped from the file at `path`; the same for the same size."""
    rng = np.random.default_rng((size.seed, 1))
    weight_N = np.arange(1, size.images + 1) ** -size.zipf
    upto_N = np.cumsum(weight_N / weight_N.sum())
    item_of_rank_N = rng.permutation(size.images).astype(np.int32)
    image_N = rng.permutation(size.images).astype(np.int32)
    rows_VD = np.load(path, mmap_mode="r")

    def shown(count: int) -> np.ndarray:
        rank = np.searchsorted(upto_N, rng.random(count))
        return item_of_rank_N[np.minimum(rank, size.images - 1)]

    def split(groups: int) -> GroupedImpressions:
        lengths_G = rng.integers(5, 51, groups)
        count = groups * _PER_GROUP
        return GroupedImpressions(
            user_G=np.arange(groups, dtype=np.int32),
            user_ids_GF=rng.integers(0, 10, (groups, 1)).astype(np.int32),
            behavior_offsets=np.concatenate([[0], np.cumsum(lengths_G)]),
            behavior_item_H=shown(int(lengths_G.sum())),
            impression_offsets=np.arange(groups + 1, dtype=np.int64) * _PER_GROUP,
            item_B=shown(count),
            context_ids_BF=rng.integers(0, 10, (count, 1)).astype(np.int32),
            click_B=rng.integers(0, 2, count).astype(np.uint8),
            cold_B=np.zeros(count, bool),
        )

    category_N = rng.integers(0, CATEGORIES, size.images)
    return ClickLog(
        name=f"zipf-{size.seed}",
        fields=(
            IdField("age", "age", "user"),
            IdField("image", "image", "item"),
            IdField("category", "category", "item"),
            IdField("position", "position", "context"),
            IdField("behavior_image", "image", "behavior"),
        ),
        vocabulary_sizes={
            "age": 10,
            "image": size.images,
            "category": CATEGORIES,
            "position": 10,
        },
        items=Items(np.stack([image_N, category_N], axis=1).astype(np.int32), image_N),
        features=Features(rows_VD, np.full(size.images, 1 / 64, np.float32)),
        train=split(-(-size.impressions // _PER_GROUP)),
        test=split(10),
    )
