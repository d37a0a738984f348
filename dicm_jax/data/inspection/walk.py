"""Goes through the blocks of a prepared set one at a time, all of them or an even sample.

Memory holds a block, the catalogue and counts, whatever the size of the log.

Shape legend
    N   items      B   impressions      H   behaviors      F   ID fields of a level
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dicm_jax.data.inspection.counting import KeySet
from dicm_jax.data.inspection.tally import Tally
from dicm_jax.data.prepared import manifest
from dicm_jax.data.prepared.manifest import Prepared
from dicm_jax.data.prepared.reader import open_records, read_block
from dicm_jax.data.prepared.shards import DATASET_FOLDER
from dicm_jax.data.schema import GroupedImpressions, IdField, Items, Level
from dicm_jax.errors import DataError
from dicm_jax.features.progress import progress_bar

_IN_ORDER = ("train", "validation", "test")  # the others are compared with train


@dataclasses.dataclass(frozen=True)
class OpenSet:
    """A prepared set whose files are there.

    Attributes:
      root: its folder.
      prepared: its record.
      items: its catalogue.
    """

    root: Path
    prepared: Prepared
    items: Items

    @property
    def splits(self) -> list[str]:
        """The splits that it has, in order of time."""
        return [name for name in _IN_ORDER if name in self.prepared.splits]

    def fields_of(self, level: Level) -> list[tuple[int, IdField]]:
        """The fields of one level, each with its column."""
        return list(enumerate(f for f in self.prepared.fields if f.level == level))

    def records_of(self, split: str) -> int:
        """Blocks of a split."""
        return sum(shard.records for shard in self.prepared.splits[split])

    def open(self, split: str) -> Any:
        """The records of a split, for `block`."""
        return open_records(self.root, split)

    def block(self, records: Any, split: str, number: int) -> GroupedImpressions:
        """One block, its numbers within the catalogue and the vocabularies.

        Raises:
          DataError: it cannot be read, or has a number that is not of this set.
        """
        block = read_block(records, self.root, split, number)
        where = f"{self.root / DATASET_FOLDER}: record {number} of split {split!r}"
        n_items = self.prepared.items
        _check_range(where, "item", block.item_B, n_items)
        _check_range(where, "behavior", block.behavior_item_H, n_items)
        _check_range(where, "user", block.user_G, 2**31)
        sizes = self.prepared.vocabulary_sizes
        ids_of: dict[Level, np.ndarray] = {
            "user": block.user_ids_GF,
            "context": block.context_ids_BF,
        }
        for level, ids in ids_of.items():
            for column, field in self.fields_of(level):
                _check_range(where, field.name, ids[:, column], sizes[field.vocabulary])
        return block


def open_set(root: Path, *, verify: bool) -> OpenSet:
    """Opens a prepared set.

    Args:
      root: its folder.
      verify: read every file and compare its CRC-32, not the length alone, which does for groups.

    Raises:
      DataError: no set, an unfinished one, a file that is missing or damaged.
    """
    root = root if root.name not in ("", "..") else root.resolve()  # what is beside needs a name
    prepared = manifest.load(root)
    manifest.check_files(prepared, root, read=verify)
    read_anyway = [manifest.ITEMS, manifest.ITEM_IDS]
    read_anyway += [name for name in prepared.files if Path(name).is_relative_to(DATASET_FOLDER)]
    few = {name: prepared.files[name] for name in read_anyway}
    manifest.check_files(dataclasses.replace(prepared, files=few, splits={}), root, read=True)
    return OpenSet(root, prepared, _read_items(prepared, root))


def _read_items(prepared: Prepared, root: Path) -> Items:
    path = root / manifest.ITEMS
    with np.load(path) as arrays:
        items = Items(arrays["ids_NF"], arrays["image_N"])
    if len(items.image_N) != prepared.items or len(items.ids_NF) != prepared.items:
        raise DataError(
            f"{path}: {len(items.image_N)} items, {prepared.items} are recorded; bring the set's"
            " files back from one copy, or prepare it again"
        )
    return items


def evenly(records: int, most: int | None) -> Sequence[int]:
    """At most `most` of the numbers ``0 .. records - 1``, evenly spread; all of them for None.

    >>> evenly(10, 4)
    [0, 3, 6, 9]
    """
    if most is None or most >= records:
        return range(records)
    return np.unique(np.linspace(0, records - 1, most).round().astype(int)).tolist()


def walk(opened: OpenSet, most_blocks: int | None = None) -> dict[str, Tally]:
    """Counts what is in the blocks of each split, with a progress bar.

    Args:
      opened: the set.
      most_blocks: of each split to look at; None: all.

    Raises:
      DataError: a block cannot be read; all blocks together are not what is recorded.
    """
    chosen = {split: evenly(opened.records_of(split), most_blocks) for split in opened.splits}
    tallies: dict[str, Tally] = {}
    seen: dict[str, KeySet] = {}
    with progress_bar(sum(map(len, chosen.values())), "inspect", "block") as bar:
        for split, numbers in chosen.items():
            tally, records = Tally.empty(opened.prepared.items), opened.open(split)
            for number in numbers:
                block = opened.block(records, split, number)
                tally.add(block)
                _add_keys(opened, tally, block, seen)
                bar.update()
            if len(numbers) == opened.records_of(split):
                _check_totals(opened, split, tally)
            tallies[split] = tally
            if split == "train":
                seen = seen_keys(opened, tally)
    return tallies


def _add_keys(
    opened: OpenSet, tally: Tally, block: GroupedImpressions, seen: dict[str, KeySet]
) -> None:
    one_B = np.ones(block.n_impressions, np.int64)
    of_levels: dict[Level, tuple[np.ndarray, np.ndarray]] = {
        "user": (block.user_ids_GF, np.diff(block.impression_offsets)),
        "context": (block.context_ids_BF, one_B),
    }
    for level, (ids, weight) in of_levels.items():
        for column, field in opened.fields_of(level):
            tally.add_keys(field.name, ids[:, column], weight, seen.get(field.vocabulary))


def seen_keys(opened: OpenSet, train: Tally) -> dict[str, KeySet]:
    """The keys of each vocabulary that any of its fields has in train: training moves their rows.

    A field of the items has the keys of those that were shown; a field of the behaviors, of those
    that were a behavior.
    """
    seen = {field.vocabulary: KeySet() for field in opened.prepared.fields}
    for field in opened.prepared.fields:
        seen[field.vocabulary].update(field_keys(opened, train, field))
    return seen


def field_keys(opened: OpenSet, tally: Tally, field: IdField) -> KeySet:
    """The keys that one field has in a split."""
    if field.level in ("user", "context"):
        return tally.keys[field.name]
    counts_N = tally.shown_N if field.level == "item" else tally.behavior_N
    keys = KeySet()
    keys.add(item_keys(opened, field)[counts_N > 0])
    return keys


def item_keys(opened: OpenSet, field: IdField) -> np.ndarray:
    """The key of every item for a field of the items or of the behaviors, ``[N]``."""
    column = next(c for c, f in opened.fields_of("item") if f.vocabulary == field.vocabulary)
    if field.level == "item":
        column = next(c for c, f in opened.fields_of("item") if f.name == field.name)
    return opened.items.ids_NF[:, column]


def _check_totals(opened: OpenSet, split: str, tally: Tally) -> None:
    for what in ("groups", "impressions", "behaviors", "clicks", "cold"):
        recorded = sum(getattr(shard, what) for shard in opened.prepared.splits[split])
        found = getattr(tally, what)
        if found != recorded:
            raise DataError(
                f"{opened.root}: {found:,} {what} found in the blocks of split {split!r},"
                f" {recorded:,} are recorded; bring the set's files back from one copy, or prepare"
                " it again"
            )


def _check_range(where: str, what: str, numbers: np.ndarray, end: int) -> None:
    if not numbers.size:
        return
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= end:
        raise DataError(
            f"{where}: {what} {low if low < 0 else high} is not of this set, whose numbers are 0 to"
            f" {end - 1}; bring its files back from one copy, or prepare it again"
        )
