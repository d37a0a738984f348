"""A PyTorch DataLoader over Parquet: a row for each impression with the list of its behaviors.

Shape legend
    B   impressions     H   behaviors over all impressions     L   behaviors kept of one
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks._input_log import COLUMNS, MOST_BEHAVIORS, Rows
from benchmarks._input_turns import Batches
from dicm_jax.data.groups import places


def write_parquet(rows: Rows, path: Path) -> None:
    """A file with a column for each ID field, the list of behaviors and the label."""
    offsets_B, place_H = places(rows.behavior_offsets, rows.group_B)
    behaviors = pa.ListArray.from_arrays(
        offsets_B.astype(np.int32), rows.behavior_item_H[place_H].astype(np.int32)
    )
    ids = {name: rows.ids_BF[:, number] for number, name in enumerate(COLUMNS)}
    table = pa.table(ids | {"behaviors": behaviors, "click": rows.click_B})
    pyarrow.parquet.write_table(table, path)


class Impressions(Dataset):
    """A Parquet file, its columns in memory as NumPy arrays; a sample is made a row at a time."""

    def __init__(self, path: Path):
        table = pyarrow.parquet.read_table(path).combine_chunks()
        behaviors = table["behaviors"].chunk(0)
        self.ids_BF = np.stack([table[name].to_numpy() for name in COLUMNS], axis=1)
        self.offsets_B = behaviors.offsets.to_numpy()
        self.behavior_H = behaviors.values.to_numpy()
        self.click_B = table["click"].to_numpy()

    def __len__(self) -> int:
        return len(self.click_B)

    def __getitem__(self, number: int) -> dict[str, np.ndarray | int]:
        newest = self.behavior_H[self.offsets_B[number] : self.offsets_B[number + 1]]
        behavior_L = np.full(MOST_BEHAVIORS, -1, np.int32)
        behavior_L[: len(newest)] = newest[-MOST_BEHAVIORS:]
        return {
            "ids": self.ids_BF[number],
            "behaviors": behavior_L,
            "click": int(self.click_B[number]),
        }


def batches(data: Impressions, batch_size: int, workers: int) -> Iterator[dict[str, torch.Tensor]]:
    """Shuffled batches without end, put together by PyTorch's own `default_collate`."""
    loader = DataLoader(
        data,
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


def read(data: Impressions, batch_size: int, workers: int) -> Batches:
    """The impressions of one batch after another."""
    return (len(batch["click"]) for batch in batches(data, batch_size, workers))
