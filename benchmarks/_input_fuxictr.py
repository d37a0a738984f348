"""FuxiCTR's loader of blocks: impressions as rows of ``.npz`` files, behaviors padded in each.

Shape legend
    B   impressions     L   behaviors kept of one
"""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader

from benchmarks._input_log import COLUMNS, MOST_BEHAVIORS, Rows
from benchmarks._input_turns import Batches

_BLOCK_ROWS = 50_000
_BEHAVIORS, _LABEL = "behaviors", "click"


def write_blocks(rows: Rows, folder: Path) -> None:
    """Files of 50,000 impressions, keys counted from 1 as FuxiCTR does, 0 being padding."""
    folder.mkdir()
    for number, first in enumerate(range(0, len(rows.click_B), _BLOCK_ROWS)):
        some = slice(first, first + _BLOCK_ROWS)
        columns = {name: rows.ids_BF[some, place] + 1 for place, name in enumerate(COLUMNS)}
        columns[_BEHAVIORS] = _padded(rows, rows.group_B[some])
        columns[_LABEL] = rows.click_B[some]
        np.savez(folder / f"part_{number:04d}.npz", allow_pickle=False, **columns)


def _padded(rows: Rows, group_B: np.ndarray) -> np.ndarray:
    end_B1 = rows.behavior_offsets[group_B + 1, None]
    length_B1 = np.minimum(end_B1 - rows.behavior_offsets[group_B, None], MOST_BEHAVIORS)
    place_L = np.arange(MOST_BEHAVIORS)
    real_BL = place_L < length_B1
    place_BL = np.where(real_BL, end_B1 - length_B1 + place_L, 0)
    return np.where(real_BL, rows.behavior_item_H[place_BL] + 1, 0).astype(np.int32)


def feature_map(folder: Path) -> FeatureMap:
    """What FuxiCTR knows of the columns."""
    columns = FeatureMap("random", str(folder))
    ids = {name: {"type": "categorical"} for name in COLUMNS}
    sequence = {_BEHAVIORS: {"type": "sequence", "max_len": MOST_BEHAVIORS}}
    columns.features = OrderedDict(ids | sequence)
    columns.labels = [_LABEL]
    columns.set_column_index()
    return columns


def batches(folder: Path, batch_size: int, workers: int) -> Iterator[dict[str, torch.Tensor]]:
    """Shuffled batches without end."""
    made: Any = RankDataLoader(
        feature_map(folder),
        stage="train",
        train_data=str(folder),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
    )
    loader, _ = made  # of training and of validation
    while True:
        yield from loader


def read(folder: Path, batch_size: int, workers: int) -> Batches:
    """The impressions of one batch after another."""
    return (len(batch[_LABEL]) for batch in batches(folder, batch_size, workers))
