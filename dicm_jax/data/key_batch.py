"""From lanes of impressions to keys: what a batch looks up in the tables.

Shape legend
    A   lanes of a batch     G   groups of a lane     B   impressions of a lane
    L   behaviors per group  F   ID fields of a level    N   items
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dicm_jax.ams.keys import PADDING
from dicm_jax.data.lanes import Arrangement, BatchShape, places
from dicm_jax.data.schema import ClickLog, GroupedImpressions, IdField


@dataclasses.dataclass(frozen=True)
class KeyBatch:
    """One batch, or some lanes of it, as keys, before anything is planned or embedded.

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

    def take(self, lanes: np.ndarray | slice) -> "KeyBatch":
        """The lanes of the given numbers."""
        return _each_array(lambda arrays: arrays[0][lanes], [self])


def side_by_side(parts: Sequence[KeyBatch]) -> KeyBatch:
    """The lanes of all parts, one part after the other; at least one part."""
    return _each_array(np.concatenate, parts)


def _each_array(make: Callable[[list[np.ndarray]], np.ndarray], of: Sequence[KeyBatch]) -> KeyBatch:
    made: dict[str, Any] = {}
    for field in dataclasses.fields(KeyBatch):
        values = [getattr(keys, field.name) for keys in of]
        if isinstance(values[0], dict):
            made[field.name] = {key: make([value[key] for value in values]) for key in values[0]}
        else:
            made[field.name] = make(values)
    return KeyBatch(**made)


class FieldStack:
    """All vocabularies of a log stacked into the keys of one ID table.

    Attributes:
      start: first key of each vocabulary.
      n_keys: of all of them.
      user_F, item_F, context_F: first key of each field's vocabulary, by level.
      impression_names: the fields of an impression: of its item, then of its context.
      behavior_targets: which item field shares the vocabulary of each behavior field.
      behavior_key_NF: keys of the behavior fields by item; the last row, behind all items, is
        `PADDING`.
    """

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
        of_behavior_NF = log.items.ids_NF[:, targets] + self.item_F[targets]
        self.behavior_key_NF = _with_padding(of_behavior_NF)

    def _starts(self, fields: tuple[IdField, ...]) -> np.ndarray:
        return np.array([self.start[field.vocabulary] for field in fields], np.int32)


def _item_position(log: ClickLog, field: IdField) -> int:
    """Where the item field stands that shares the vocabulary of a behavior field."""
    names = [item_field.vocabulary for item_field in log.fields_of("item")]
    return names.index(field.vocabulary)


@dataclasses.dataclass(frozen=True)
class KeyMaker:
    """Looks up the keys of lanes.

    Attributes:
      log: where items and fields come from.
      stack: its fields.
      shape: of the lanes.
    """

    log: ClickLog
    stack: FieldStack
    shape: BatchShape

    def lanes(
        self, groups: GroupedImpressions, arrangement: Arrangement, lane_A: np.ndarray
    ) -> KeyBatch:
        """The lanes `lane_A` of `groups` as they are arranged; those beyond the end are empty."""
        place = places(arrangement, lane_A, self.shape)
        order = arrangement.order_G
        group_of_AB = order[place.rank_AB]
        first_of_AB = groups.impression_offsets[group_of_AB + 1] - arrangement.ends_G[place.rank_AB]
        impression_AB = np.where(place.real_AB, first_of_AB + place.stream_AB, 0)
        item_AB = np.where(place.real_AB, groups.item_B[impression_AB], self._no_item)
        group_AG = order[place.rank_AG]
        behavior_AGL, real_AGL = self._behaviors(groups, group_AG, place.real_AG)
        return KeyBatch(
            user_AGF=_or_padding(
                groups.user_ids_GF[group_AG] + self.stack.user_F, place.real_AG[..., None]
            ),
            impression_ABF=self._impression_keys(groups, impression_AB, item_AB, place.real_AB),
            behavior_AGLF=self.stack.behavior_key_NF.take(behavior_AGL, axis=0),
            ad_AB={name: key_N.take(item_AB) for name, key_N in self._content_N.items()},
            behavior_content_AGL={
                name: key_N.take(behavior_AGL) for name, key_N in self._content_N.items()
            },
            mask_AGL=real_AGL,
            group_AB=place.group_AB,
            label_AB=np.where(place.real_AB, groups.click_B[impression_AB], 0).astype(np.int32),
            weight_AB=place.real_AB.astype(np.float32),
            impression_AB=np.where(place.real_AB, impression_AB, -1),
        )

    def empty(self, lanes: int) -> KeyBatch:
        """Lanes that hold nothing."""
        of_groups, of_impressions = (lanes, self.shape.groups), (lanes, self.shape.impressions)
        of_behaviors = (*of_groups, self.shape.behaviors)
        padding = lambda *dims: np.full(dims, PADDING, np.int32)  # noqa: E731
        contents = self.log.contents
        return KeyBatch(
            user_AGF=padding(*of_groups, len(self.stack.user_F)),
            impression_ABF=padding(*of_impressions, len(self.stack.impression_names)),
            behavior_AGLF=padding(*of_behaviors, len(self.stack.behavior_targets)),
            ad_AB={name: padding(*of_impressions) for name in contents},
            behavior_content_AGL={name: padding(*of_behaviors) for name in contents},
            mask_AGL=np.zeros(of_behaviors, bool),
            group_AB=np.zeros(of_impressions, np.int32),
            label_AB=np.zeros(of_impressions, np.int32),
            weight_AB=np.zeros(of_impressions, np.float32),
            impression_AB=np.full(of_impressions, -1),
        )

    @functools.cached_property
    def _content_N(self) -> dict[str, np.ndarray]:
        """The keys of each feature table by item, and last that of no item."""
        return {name: _with_padding(made.key_N) for name, made in self.log.contents.items()}

    @property
    def _no_item(self) -> np.int32:
        """The number behind the last item: what stands there is looked up as `PADDING`."""
        return np.int32(len(self.log.items.image_N))

    def _impression_keys(
        self,
        groups: GroupedImpressions,
        impression_AB: np.ndarray,
        item_AB: np.ndarray,
        real_AB: np.ndarray,
    ) -> np.ndarray:
        of_item_ABF = self.log.items.ids_NF.take(item_AB, axis=0, mode="clip") + self.stack.item_F
        of_context_ABF = groups.context_ids_BF[impression_AB] + self.stack.context_F
        keys_ABF = np.concatenate([of_item_ABF, of_context_ABF], axis=-1)
        return _or_padding(keys_ABF, real_AB[..., None])

    def _behaviors(
        self, groups: GroupedImpressions, group_AG: np.ndarray, real_AG: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The items of each group's newest behaviors, oldest first; which places hold one."""
        end_AG = groups.behavior_offsets[group_AG + 1]
        length_AG = end_AG - groups.behavior_offsets[group_AG]
        kept_AG = np.minimum(length_AG, self.shape.behaviors) * real_AG
        place_L = np.arange(self.shape.behaviors)
        real_AGL = place_L < kept_AG[..., None]
        if len(groups.behavior_item_H) == 0:
            return np.full(real_AGL.shape, self._no_item), real_AGL
        behavior_AGL = (end_AG - kept_AG)[..., None] + place_L
        # Places without a behavior may lie beyond the last one.
        item_AGL = groups.behavior_item_H.take(behavior_AGL, mode="clip")
        return np.where(real_AGL, item_AGL, self._no_item), real_AGL


def _or_padding(keys: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.where(real, keys, np.int32(PADDING)).astype(np.int32, copy=False)


def _with_padding(key_N: np.ndarray) -> np.ndarray:
    """Keys by item, and behind them those of no item."""
    padding = np.full((1, *key_N.shape[1:]), PADDING)
    # Rows side by side: of another layout, `take` copies the whole table at each call.
    return np.concatenate([key_N, padding]).astype(np.int32, order="C")
