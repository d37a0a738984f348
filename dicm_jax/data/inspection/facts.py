"""The numbers of an inspection, as they are printed, drawn and given to scripts.

Shape legend
    N   items
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dicm_jax.data.inspection.counting import Spread
from dicm_jax.data.inspection.tally import Tally
from dicm_jax.data.inspection.walk import OpenSet, field_keys, item_keys, seen_keys
from dicm_jax.data.prepared.reader import stored_features
from dicm_jax.data.schema import NO_IMAGE, IdField
from dicm_jax.errors import DataError
from dicm_jax.features.table_files import open_table

_OF_SPLITS = ("groups", "impressions", "behaviors", "clicks", "cold")
_OF_HASHES = ("values", "keys", "expected_collision_share")


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """A split. Of a sample, what is marked * is of the sample; the rest is of the whole split.

    Attributes:
      groups, impressions, behaviors, clicks: how many.
      click_rate: clicks of impressions.
      blocks, blocks_looked_at: records, and those that were counted.
      users: * how many different ones.
      first, last: * times of groups, UTC; None where the log has none.
      behaviors_per_group, impressions_per_group: *.
      cold_impressions: share of impressions of items that the preparation marked as cold.
      cold_clicks: * share of clicks that are on such items.
      impressions_with_image, behaviors_with_image: * shares.
      shards, bytes, bytes_per_group: files, and their lengths on disk.
      blocks_per_shard: least and most.
      uncompressed_bytes: of the records.
    """

    groups: int
    impressions: int
    behaviors: int
    clicks: int
    click_rate: float | None
    blocks: int
    blocks_looked_at: int
    users: int
    first: str | None
    last: str | None
    behaviors_per_group: Spread | None
    impressions_per_group: Spread | None
    cold_impressions: float | None
    cold_clicks: float | None
    impressions_with_image: float | None
    behaviors_with_image: float | None
    shards: int
    blocks_per_shard: tuple[int, int]
    bytes: int
    bytes_per_group: float
    uncompressed_bytes: int


@dataclasses.dataclass(frozen=True)
class FieldFacts:
    """An ID field.

    Attributes:
      name, level, vocabulary: as in `IdField`.
      keys: of its vocabulary.
      keys_in_train: different ones that the field has in train; None without a train split.
      unseen: by split, share of its impressions (of behaviors for a field of these) with a key that
        no field of the vocabulary had in train: its embedding is as it was drawn.
      expected_collisions: share of values that share a hashed key with another; None if not hashed.
    """

    name: str
    level: str
    vocabulary: str
    keys: int
    keys_in_train: int | None
    unseen: dict[str, float | None]
    expected_collisions: float | None


@dataclasses.dataclass(frozen=True)
class ContentFacts:
    """A feature table; all but `path` and `rows` are None where it cannot be opened.

    Attributes:
      path: its folder.
      rows: that the set was prepared with.
      rows_now, width, storage, encoder, bytes: of the table.
      problem: why it cannot be opened.
    """

    path: str
    rows: int
    rows_now: int | None = None
    width: int | None = None
    storage: str | None = None
    encoder: str | None = None
    bytes: int | None = None
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class SetFacts:
    """A prepared set.

    Attributes:
      set, name: its folder, and the name of its log.
      whole: all blocks were looked at.
      items, items_with_image: of the catalogue.
      items_shown_in_train: at least once.
      top_percent_of_impressions: share of train's impressions on the most shown 1 % of the items.
      splits, fields: each of them.
      contents: the feature tables by content.
      hashed: by what is hashed, its values, keys and expected share of collisions.
      notes: the other counts of the preparation, those of what was dropped among them.
      source: files that it was made of, and their lengths.
      block_groups: groups of a block.
      bytes: of all its files, but for feature tables.
    """

    set: str
    name: str
    whole: bool
    items: int
    items_with_image: int
    items_shown_in_train: int | None
    top_percent_of_impressions: float | None
    splits: dict[str, SplitFacts]
    fields: tuple[FieldFacts, ...]
    contents: dict[str, ContentFacts]
    hashed: dict[str, dict[str, float]]
    notes: dict[str, float]
    source: dict[str, int]
    block_groups: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return dataclasses.asdict(self)


def facts_of(opened: OpenSet, tallies: dict[str, Tally], features: str | None) -> SetFacts:
    """What the counts say.

    Args:
      opened: the set.
      tallies: of its splits.
      features: folder of the feature tables; None: where they were at the preparation.

    Raises:
      DataError: no such tables in `features`, or others than the set was prepared with.
    """
    prepared, train = opened.prepared, tallies.get("train")
    notes, hashed = _notes(prepared.notes)
    shards = [shard for of_split in prepared.splits.values() for shard in of_split]
    files = sum(record.n_bytes for record in prepared.files.values())
    return SetFacts(
        set=str(opened.root),
        name=prepared.name,
        whole=all(opened.records_of(name) == tally.blocks for name, tally in tallies.items()),
        items=prepared.items,
        items_with_image=int((opened.items.image_N != NO_IMAGE).sum()),
        items_shown_in_train=None if train is None else int((train.shown_N > 0).sum()),
        top_percent_of_impressions=None if train is None else _top_share(train.shown_N),
        splits={name: _split(opened, name, tally) for name, tally in tallies.items()},
        fields=_fields(opened, tallies, hashed),
        contents={content: _content(opened, content, features) for content in prepared.features},
        hashed=hashed,
        notes=notes,
        source=prepared.source,
        block_groups=prepared.block_groups,
        bytes=files + sum(shard.n_bytes for shard in shards),
    )


def moment(second: int | None) -> str | None:
    """A time in UTC, to the second."""
    return None if second is None else str(np.datetime64(second, "s")).replace("T", " ")


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _split(opened: OpenSet, name: str, tally: Tally) -> SplitFacts:
    shards = opened.prepared.splits[name]
    total = {what: sum(getattr(shard, what) for shard in shards) for what in _OF_SPLITS}
    imaged_N = opened.items.image_N != NO_IMAGE
    n_bytes = sum(shard.n_bytes for shard in shards)
    return SplitFacts(
        groups=total["groups"],
        impressions=total["impressions"],
        behaviors=total["behaviors"],
        clicks=total["clicks"],
        click_rate=_share(total["clicks"], total["impressions"]),
        blocks=opened.records_of(name),
        blocks_looked_at=tally.blocks,
        users=len(tally.users),
        first=moment(tally.first),
        last=moment(tally.last),
        behaviors_per_group=tally.lengths.spread(),
        impressions_per_group=tally.sizes.spread(),
        cold_impressions=_share(total["cold"], total["impressions"]),
        cold_clicks=_share(tally.cold_clicks, tally.clicks),
        impressions_with_image=_share(int(tally.shown_N[imaged_N].sum()), tally.impressions),
        behaviors_with_image=_share(int(tally.behavior_N[imaged_N].sum()), tally.behaviors),
        shards=len(shards),
        blocks_per_shard=(min(s.records for s in shards), max(s.records for s in shards)),
        bytes=n_bytes,
        bytes_per_group=n_bytes / total["groups"],
        uncompressed_bytes=sum(shard.record_bytes for shard in shards),
    )


def _fields(
    opened: OpenSet, tallies: dict[str, Tally], hashed: dict[str, dict[str, float]]
) -> tuple[FieldFacts, ...]:
    train = tallies.get("train")
    held_out = {name: tally for name, tally in tallies.items() if name != "train"}
    unseen_N = {} if train is None else _unseen_items(opened, train)
    found = []
    for field in opened.prepared.fields:
        unseen = {
            name: _unseen(field, tally, unseen_N.get(field.name))
            for name, tally in held_out.items()
            if train is not None
        }
        found.append(
            FieldFacts(
                name=field.name,
                level=field.level,
                vocabulary=field.vocabulary,
                keys=opened.prepared.vocabulary_sizes[field.vocabulary],
                keys_in_train=None if train is None else len(field_keys(opened, train, field)),
                unseen=unseen,
                expected_collisions=hashed.get(field.vocabulary, {}).get(_OF_HASHES[-1]),
            )
        )
    return tuple(found)


def _unseen_items(opened: OpenSet, train: Tally) -> dict[str, np.ndarray]:
    """By field of items or behaviors, the items whose key train never had, bool ``[N]``."""
    seen = seen_keys(opened, train)
    return {
        field.name: ~seen[field.vocabulary].has(item_keys(opened, field))
        for field in opened.prepared.fields
        if field.level in ("item", "behavior")
    }


def _unseen(field: IdField, tally: Tally, unseen_N: np.ndarray | None) -> float | None:
    if unseen_N is None:
        return _share(tally.unseen[field.name], tally.impressions)
    counts_N = tally.shown_N if field.level == "item" else tally.behavior_N
    return _share(int(counts_N[unseen_N].sum()), int(counts_N.sum()))


def _top_share(shown_N: np.ndarray) -> float | None:
    """Share of impressions on the most shown hundredth of all items, at least one item."""
    top = np.sort(shown_N)[::-1][: max(1, len(shown_N) // 100)]
    return _share(int(top.sum()), int(shown_N.sum()))


def _content(opened: OpenSet, content: str, features: str | None) -> ContentFacts:
    record = opened.prepared.features[content]
    folder = opened.root / record.path if features is None else Path(features) / content
    try:
        stored = stored_features(opened.prepared, opened.root, features)[content]
        table = open_table(stored.folder)
    except DataError as error:
        if features is not None:
            raise
        return ContentFacts(str(folder), record.rows, problem=str(error))
    return ContentFacts(
        path=str(folder),
        rows=record.rows,
        rows_now=table.n_keys,
        width=table.width,
        storage=table.storage,
        encoder=table.encoder,
        bytes=table.n_keys * table.metadata.record.itemsize,
    )


def _notes(all_notes: dict[str, float]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The notes of the preparation that are told nowhere else, and those on hashed fields."""
    ending = f"_{_OF_HASHES[-1]}"
    fields = [name.removesuffix(ending) for name in all_notes if name.endswith(ending)]
    hashed = {
        field: {what: all_notes[f"{field}_{what}"] for what in _OF_HASHES} for field in fields
    }
    told = {f"{field}_{what}" for field in fields for what in _OF_HASHES}
    told |= {f"{split}_{what}" for split in ("train", "validation", "test") for what in _OF_SPLITS}
    told.add("items_without_image")
    return {name: value for name, value in all_notes.items() if name not in told}, hashed
