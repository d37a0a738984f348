"""A split of a log cut into batches: every impression once an epoch, at a place known in advance.

A batch is made of `lanes`, cells of a fixed number of impressions and groups. Groups come in an
order drawn for each epoch and fill one lane after another; a group that does not fit is split, and
its user part stands in both lanes. Devices take whole lanes, so what is in a batch, and in which
order, does not depend on how many devices there are. Batch ``n`` can be built without building
those before it, so the position of a run is a single number.

Shape legend
    A   lanes of a batch     G   groups of a lane     B   impressions of a lane
    L   behaviors per group  F   ID fields of a level    N   items
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from dicm_jax.ams.keys import PADDING
from dicm_jax.data.schema import ClickLog, GroupedImpressions, IdField


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Size of a batch.

    Attributes:
      lanes: ``A``, cells of a batch.
      impressions: ``B``, impressions of a lane.
      groups: ``G``, groups of a lane; a lane is closed early where it would need more.
      behaviors: ``L``, newest behaviors kept of each group.
    """

    lanes: int
    impressions: int
    groups: int
    behaviors: int


@dataclasses.dataclass(frozen=True)
class KeyBatch:
    """One batch as keys, before anything is planned or embedded.

    Keys are numbers of the stacked ID table (see `FieldStack`) or of a feature table.

    Attributes:
      user_AGF, impression_ABF, behavior_AGLF: ID keys; `PADDING` where there is nothing.
      ad_AB, behavior_content_AGL: keys of feature tables, by content (``"image"``); `NO_ROW` for
        an item without that content, `PADDING` where there is no item.
      mask_AGL: True where there is a behavior.
      group_AB: group of each impression, counted within its lane.
      label_AB: 1 clicked, 0 not.
      weight_AB: 1 for an impression, 0 for padding.
      impression_AB: number of the impression in its split, -1 for padding.
    """

    user_AGF: np.ndarray
    impression_ABF: np.ndarray
    behavior_AGLF: np.ndarray
    ad_AB: dict[str, np.ndarray]
    behavior_content_AGL: dict[str, np.ndarray]
    mask_AGL: np.ndarray
    group_AB: np.ndarray
    label_AB: np.ndarray
    weight_AB: np.ndarray
    impression_AB: np.ndarray

    def take(self, lanes: np.ndarray) -> "KeyBatch":
        """The lanes of the given numbers."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        taken: dict[str, Any] = {
            name: {content: keys[lanes] for content, keys in value.items()}
            if isinstance(value, dict)
            else value[lanes]
            for name, value in values.items()
        }
        return KeyBatch(**taken)


class FieldStack:
    """All vocabularies of a log stacked into the keys of one ID table."""

    def __init__(self, log: ClickLog):
        sizes = log.vocabulary_sizes
        starts = np.cumsum([0, *sizes.values()])
        self.start = dict(zip(sizes, starts[:-1].tolist(), strict=True))
        self.n_keys = int(starts[-1])
        impression_fields = log.fields_of("item") + log.fields_of("context")
        self.user_F = self._starts(log.fields_of("user"))
        self.item_F = self._starts(log.fields_of("item"))
        self.context_F = self._starts(log.fields_of("context"))
        self.impression_names = tuple(field.name for field in impression_fields)
        self.behavior_targets = tuple(_item_position(log, f) for f in log.fields_of("behavior"))
        targets = list(self.behavior_targets)
        self.behavior_key_NF = log.items.ids_NF[:, targets] + self.item_F[targets]

    def _starts(self, fields: tuple[IdField, ...]) -> np.ndarray:
        return np.array([self.start[field.vocabulary] for field in fields], np.int32)


def _item_position(log: ClickLog, field: IdField) -> int:
    """Where the item field stands that shares the vocabulary of a behavior field."""
    names = [item_field.vocabulary for item_field in log.fields_of("item")]
    return names.index(field.vocabulary)


class BatchSource:
    """The batches of a split as a random-access sequence, epoch after epoch.

    ``source[n]`` is batch ``n``; ``len(source)`` counts the batches of all epochs.

    Args:
      log: where items and fields come from.
      split: the impressions.
      shape: size of a batch.
      epochs: passes over the split.
      seed: of the order of groups, drawn anew each epoch; None keeps the order of the log.
    """

    def __init__(
        self,
        log: ClickLog,
        split: GroupedImpressions,
        shape: BatchShape,
        *,
        epochs: int = 1,
        seed: int | None = None,
    ):
        self.log = log
        self.split = split
        self.shape = shape
        self.stack = FieldStack(log)
        self.seed = seed
        batches = [len(self._cuts(epoch)) for epoch in range(epochs)]
        self.first_batch = np.cumsum([0, *batches])

    def __len__(self) -> int:
        return int(self.first_batch[-1])

    def epoch_of(self, batch: int) -> int:
        """The epoch that a batch belongs to."""
        return int(np.searchsorted(self.first_batch, batch, side="right")) - 1

    def __getitem__(self, batch: int) -> KeyBatch:
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of a source of {len(self)} batches")
        epoch = self.epoch_of(batch)
        order_G, ends_G, bounds = self._epoch(epoch)
        lane = self._cuts(epoch)[batch - int(self.first_batch[epoch])]
        bounds = bounds[lane : lane + self.shape.lanes + 1]
        return self._keys(order_G, ends_G, _places(ends_G, bounds, self.shape))

    def _cuts(self, epoch: int) -> range:
        """The first lane of each batch of an epoch."""
        return range(0, len(self._epoch(epoch)[2]) - 1, self.shape.lanes)

    @functools.lru_cache(maxsize=2)  # noqa: B019  (a source lives as long as its run)
    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An epoch's order of groups, their ends and the bounds of the lanes.

        Ends and bounds are places in the stream of impressions that this order gives.
        """
        order = np.arange(self.split.n_groups)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        ends = np.cumsum(np.diff(self.split.impression_offsets)[order])
        return order, ends, lane_bounds(ends, self.shape)

    def _keys(self, order: np.ndarray, ends: np.ndarray, place: "_Places") -> KeyBatch:
        split, contents = self.split, self.log.contents
        group_of_AB = order[place.rank_AB]
        first_of_AB = split.impression_offsets[group_of_AB + 1] - ends[place.rank_AB]
        impression_AB = np.where(place.real_AB, first_of_AB + place.stream_AB, 0)
        item_AB = split.item_B[impression_AB]
        behavior_AGL, real_AGL = self._behaviors(order[place.rank_AG], place.real_AG)
        return KeyBatch(
            user_AGF=self._user_keys(order[place.rank_AG], place.real_AG),
            impression_ABF=self._impression_keys(impression_AB, item_AB, place.real_AB),
            behavior_AGLF=_or_padding(
                self.stack.behavior_key_NF[behavior_AGL], real_AGL[..., None]
            ),
            ad_AB={
                name: _or_padding(content.key_N[item_AB], place.real_AB)
                for name, content in contents.items()
            },
            behavior_content_AGL={
                name: _or_padding(content.key_N[behavior_AGL], real_AGL)
                for name, content in contents.items()
            },
            mask_AGL=real_AGL,
            group_AB=place.group_AB,
            label_AB=np.where(place.real_AB, split.click_B[impression_AB], 0).astype(np.int32),
            weight_AB=place.real_AB.astype(np.float32),
            impression_AB=np.where(place.real_AB, impression_AB, -1),
        )

    def _user_keys(self, group_AG: np.ndarray, real_AG: np.ndarray) -> np.ndarray:
        keys_AGF = self.split.user_ids_GF[group_AG] + self.stack.user_F
        return _or_padding(keys_AGF, real_AG[..., None])

    def _impression_keys(
        self, impression_AB: np.ndarray, item_AB: np.ndarray, real_AB: np.ndarray
    ) -> np.ndarray:
        of_item_ABF = self.log.items.ids_NF[item_AB] + self.stack.item_F
        of_context_ABF = self.split.context_ids_BF[impression_AB] + self.stack.context_F
        keys_ABF = np.concatenate([of_item_ABF, of_context_ABF], axis=-1)
        return _or_padding(keys_ABF, real_AB[..., None])

    def _behaviors(self, group_AG: np.ndarray, real_AG: np.ndarray) -> tuple[np.ndarray, ...]:
        """The newest behaviors of each group, oldest first, and which places hold one."""
        end_AG = self.split.behavior_offsets[group_AG + 1]
        length_AG = end_AG - self.split.behavior_offsets[group_AG]
        kept_AG1 = np.minimum(length_AG, self.shape.behaviors)[..., None] * real_AG[..., None]
        place_L = np.arange(self.shape.behaviors)
        real_AGL = place_L < kept_AG1
        behavior_AGL = np.where(real_AGL, end_AG[..., None] - kept_AG1 + place_L, 0)
        if len(self.split.behavior_item_H) == 0:
            return behavior_AGL, real_AGL
        return self.split.behavior_item_H[behavior_AGL], real_AGL


@dataclasses.dataclass(frozen=True)
class _Places:
    """Which group and which place of the epoch's stream each cell of a batch holds.

    Attributes:
      stream_AB: place in the stream of impressions; real_AB: whether there is an impression.
      rank_AB: its group, counted in the epoch's order; group_AB: counted in its lane.
      rank_AG: the groups of each lane, in the epoch's order; real_AG: whether there is a group.
    """

    stream_AB: np.ndarray
    real_AB: np.ndarray
    rank_AB: np.ndarray
    group_AB: np.ndarray
    rank_AG: np.ndarray
    real_AG: np.ndarray


def _places(ends: np.ndarray, bounds: np.ndarray, shape: BatchShape) -> _Places:
    # A last batch may have fewer lanes than the others: the rest of its lanes are empty.
    bounds = np.concatenate([bounds, np.repeat(bounds[-1:], shape.lanes + 1 - len(bounds))])
    start_A1, end_A1 = bounds[:-1, None], bounds[1:, None]
    stream_AB = start_A1 + np.arange(shape.impressions)
    real_AB = stream_AB < end_A1
    first_A1 = np.searchsorted(ends, start_A1, side="right")
    last_A1 = np.searchsorted(ends, end_A1 - 1, side="right")
    rank_AB = np.where(real_AB, np.searchsorted(ends, stream_AB, side="right"), 0)
    rank_AG = first_A1 + np.arange(shape.groups)
    real_AG = (rank_AG <= last_A1) & (start_A1 < end_A1)
    return _Places(
        stream_AB=stream_AB,
        real_AB=real_AB,
        rank_AB=rank_AB,
        group_AB=np.where(real_AB, rank_AB - first_A1, 0).astype(np.int32),
        rank_AG=np.where(real_AG, rank_AG, 0),
        real_AG=real_AG,
    )


def lane_bounds(ends: np.ndarray, shape: BatchShape) -> np.ndarray:
    """Cut a stream of impressions into lanes.

    Args:
      ends: where each group ends in the stream, ascending.
      shape: a lane holds at most ``shape.impressions`` impressions of at most ``shape.groups``
        groups.

    Returns:
      Bounds of the lanes, ``[lanes + 1]``, from 0 to the end of the stream.

    >>> lane_bounds(np.array([3, 4, 5, 9]), BatchShape(1, impressions=4, groups=2, behaviors=1))
    array([0, 4, 8, 9])
    """
    total = int(ends[-1])
    bounds = [0]
    while bounds[-1] < total:
        first = int(np.searchsorted(ends, bounds[-1], side="right"))
        last = min(first + shape.groups, len(ends)) - 1
        bounds.append(min(bounds[-1] + shape.impressions, int(ends[last])))
    return np.array(bounds)


def _or_padding(keys: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.where(real, keys, np.int32(PADDING)).astype(np.int32)
