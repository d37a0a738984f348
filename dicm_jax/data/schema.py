"""The schema of a click log: what every reader produces and every batch is cut from.

A *reader* (the folders `synthetic`, `hm`, `fuxictr`, `movielens`, `amazon`) turns its source into
one `ClickLog`. Everything in it is a NumPy array, so that a log can be built, looked at and tested
without JAX.

Shape legend
    N   items (ads, articles) of the catalogue        V   rows of the feature table (images)
    G   groups                                        D   content width (4096)
    B   impressions                                   H   behaviors over all groups (CSR)
    F   ID fields of one level                        K   blocks of a split on disk

Every ID is a *key*: an integer in ``[0, vocabulary size)`` of its field's vocabulary. Fields that
name the same vocabulary share their embedding rows. Key 0 is an ordinary key; readers that need
"unknown" reserve one for it.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from dicm_jax.ams.keys import IMAGE
from dicm_jax.errors import DataError

NO_IMAGE = -1
"""Image key of an item that has no feature row; the model serves a learned row for it."""

Level = Literal["user", "item", "context", "behavior"]


@dataclasses.dataclass(frozen=True)
class IdField:
    """One categorical input.

    Attributes:
      name: the field's name, unique in its log, e.g. ``"colour"``.
      vocabulary: the vocabulary its keys are drawn from; equal names share embedding rows.
      level: where its keys stand: ``user`` once per group, ``item`` once per item of the
        catalogue (looked up by the impression's item), ``context`` once per impression
        (statistics that move with time), ``behavior`` once per behavior of a group: the keys that
        the item-level field of the same vocabulary gives the behavior's item.
    """

    name: str
    vocabulary: str
    level: Level


@dataclasses.dataclass(frozen=True)
class Items:
    """The catalogue.

    Attributes:
      ids_NF: int32, keys of the ``item`` level fields, in the order of `ClickLog.fields`.
      image_N: int32, row of each item's image in the feature table, or `NO_IMAGE`.
    """

    ids_NF: np.ndarray
    image_N: np.ndarray


@dataclasses.dataclass(frozen=True)
class Features:
    """Frozen content rows, as the source holds them; standardised later, by `dicm_jax.features`.

    Attributes:
      rows_VD: float32, or an integer type that `scale_V` turns into features.
      scale_V: float32 factor of each row, or None where the rows are the features themselves.
    """

    rows_VD: np.ndarray
    scale_V: np.ndarray | None = None

    @property
    def count(self) -> int:
        """``V``."""
        return len(self.rows_VD)

    @property
    def width(self) -> int:
        """``D``."""
        return self.rows_VD.shape[1]


@dataclasses.dataclass(frozen=True)
class StoredFeatures:
    """Frozen content rows that lie in the files of a feature table, standardised already.

    Attributes:
      folder: of the table (`dicm_jax.features.table_files`).
      count: ``V``, rows that the log may name; the table has at least these.
      width: ``D``.
    """

    folder: Path
    count: int
    width: int


def in_memory(features: Features | StoredFeatures) -> Features:
    """The features of a log that holds them itself.

    Raises:
      DataError: they lie in files.
    """
    if isinstance(features, StoredFeatures):
        raise DataError(
            f"feature rows in memory were asked for; they lie in {features.folder}: read them there"
            " with dicm_jax.features.table_files.open_table"
        )
    return features


@dataclasses.dataclass(frozen=True)
class Content:
    """One kind of frozen content of the items: their images, their texts.

    Attributes:
      features: the rows.
      key_N: int32, row of each item, or `NO_IMAGE` for an item without this content.
    """

    features: Features | StoredFeatures
    key_N: np.ndarray


@dataclasses.dataclass(frozen=True)
class GroupedImpressions:
    """One split of a log as *sample groups*: what impressions of one user share is stored once.

    A group is a set of impressions of one user that have the same user fields and the same
    behaviors (the paper's common-feature technique, section 4.3). Groups are listed in order of
    time. Group ``g`` owns impressions
    ``impression_offsets[g]:impression_offsets[g + 1]`` and behaviors
    ``behavior_offsets[g]:behavior_offsets[g + 1]``, oldest first, newest last.

    Attributes:
      user_G: int32, the user of each group: the unit over which GAUC is taken.
      user_ids_GF: int32, keys of the ``user`` level fields.
      behavior_offsets: int64 ``[G + 1]``, CSR offsets into `behavior_item_H`.
      behavior_item_H: int32, items the user clicked before.
      impression_offsets: int64 ``[G + 1]``, CSR offsets into the ``_B`` arrays.
      item_B: int32, the item shown.
      context_ids_BF: int32, keys of the ``context`` level fields.
      click_B: uint8, 1 clicked, 0 not.
      cold_B: bool, the item was never shown or clicked in the training period.
      probability_B: float32 click probability where it is known (synthetic worlds), else None.
      time_G: int64, seconds since 1970 of each group, where the log has times that are kept.
    """

    user_G: np.ndarray
    user_ids_GF: np.ndarray
    behavior_offsets: np.ndarray
    behavior_item_H: np.ndarray
    impression_offsets: np.ndarray
    item_B: np.ndarray
    context_ids_BF: np.ndarray
    click_B: np.ndarray
    cold_B: np.ndarray
    probability_B: np.ndarray | None = None
    time_G: np.ndarray | None = None

    @property
    def n_groups(self) -> int:
        return len(self.user_G)

    @property
    def n_impressions(self) -> int:
        return len(self.item_B)

    @property
    def user_B(self) -> np.ndarray:
        """The user of each impression, int32 ``[B]``."""
        return np.repeat(self.user_G, np.diff(self.impression_offsets))


@dataclasses.dataclass(frozen=True)
class StreamedGroups:
    """A split that stays on disk, in blocks of groups that are read when they are needed.

    Attributes:
      where: it lies, for messages.
      sizes_G: impressions of each group, in order; may be memory-mapped.
      first_group_K: first group of each block, and the number of groups at the end, ``[K + 1]``.
      read: reads the block of the given number; called from several threads.
    """

    where: str
    sizes_G: np.ndarray
    first_group_K: np.ndarray
    read: Callable[[int], GroupedImpressions]

    @functools.cached_property
    def first_impression_K(self) -> np.ndarray:
        """First impression of each block, and their number at the end, int64 ``[K + 1]``."""
        sums_K = np.add.reduceat(self.sizes_G, self.first_group_K[:-1], dtype=np.int64)
        return np.concatenate([[0], np.cumsum(sums_K)])

    @property
    def n_blocks(self) -> int:
        """``K``."""
        return len(self.first_group_K) - 1

    @property
    def n_groups(self) -> int:
        """``G``."""
        return int(self.first_group_K[-1])

    @property
    def n_impressions(self) -> int:
        """``B``."""
        return int(self.first_impression_K[-1])

    def sizes(self, block: int) -> np.ndarray:
        """Impressions of each group of a block."""
        return self.sizes_G[self.first_group_K[block] : self.first_group_K[block + 1]]


Train = TypeVar("Train", bound=GroupedImpressions | StreamedGroups)


@dataclasses.dataclass(frozen=True)
class ClickLog(Generic[Train]):
    """A whole log: catalogue, content rows, ID fields and the splits.

    The train split is in memory or, in a ``ClickLog[StreamedGroups]``, on disk; who needs its
    arrays asks `split` for them.

    Attributes:
      name: what the log is called in reports.
      fields: every ID field. The ``F`` order of each ids array is the order of the fields of its
        level in this tuple. A ``behavior`` field has no array of its own: its keys are the item
        level keys of the same vocabulary, taken at the behaviors.
      vocabulary_sizes: number of keys of each vocabulary.
      items: the catalogue.
      features: the frozen rows of the images.
      more_content: other frozen content by name, such as ``"text"``, each in a table of its own
        behind compressors of its own.
      train, test: the splits, cut by time.
      validation: the newest part of what was train, if some is held out (`dicm_jax.data.holdout`).
      notes: counts worth printing, such as items without an image.
      ids: the IDs that the keys of a vocabulary stand for, as texts (a pyarrow array) in the order
        of the keys, where the source tells them; of others the keys are all that is known.
      photo: from an image row to the file of its photo, if there is one; for reports only. None
        where the source has no photos.
    """

    name: str
    fields: tuple[IdField, ...]
    vocabulary_sizes: dict[str, int]
    items: Items
    features: Features | StoredFeatures
    train: Train
    test: GroupedImpressions
    more_content: dict[str, Content] = dataclasses.field(default_factory=dict)
    notes: dict[str, float] = dataclasses.field(default_factory=dict)
    validation: GroupedImpressions | None = None
    ids: dict[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)
    photo: Callable[[int], Path | None] | None = None

    @property
    def contents(self) -> dict[str, Content]:
        """All frozen content by name, the images as ``"image"``."""
        return {IMAGE: Content(self.features, self.items.image_N)} | self.more_content

    def fields_of(self, level: Level) -> tuple[IdField, ...]:
        """The fields of one level, in the order of their ids array."""
        return tuple(field for field in self.fields if field.level == level)

    def split(self, name: str) -> GroupedImpressions:
        """The split called `name`.

        Raises:
          DataError: there is no such split, or it is not in memory.
        """
        if name == "validation" and self.validation is None:
            raise DataError(
                f"split 'validation' of log {self.name!r}: nothing is held out of its train split;"
                " set data.validation_share, e.g. to 0.1, or prepare the set with a"
                " validation split"
            )
        if name not in ("train", "validation", "test"):
            raise DataError(
                f"split {name!r} of log {self.name!r}: the splits are 'train', 'validation' and"
                " 'test'"
            )
        split = getattr(self, name)
        if isinstance(split, StreamedGroups):
            raise DataError(
                f"split {name!r} of log {self.name!r} is streamed from {split.where} and cannot be"
                " had whole: set data.stream=false to read it into memory"
            )
        return split
