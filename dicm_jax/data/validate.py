"""Checks of a `ClickLog`, whoever made it: what holds here, batches and tables may rely on.

Shape legend: see `dicm_jax.data.schema`.
"""

from collections.abc import Sequence

import numpy as np

from dicm_jax.data.schema import (
    NO_IMAGE,
    ClickLog,
    GroupedImpressions,
    IdField,
    StoredFeatures,
    StreamedGroups,
)
from dicm_jax.errors import DataError
from dicm_jax.features.non_finite import first_non_finite_row


def validate(log: ClickLog) -> None:
    """Checks every invariant that the schema states; returns nothing when all hold.

    Fields and vocabularies, the range and dtype of every key, image rows, finite content rows
    (read in chunks), CSR offsets, labels, and that no split is empty. Blocks of a streamed split
    are checked when they are read (`check_train`).

    Raises:
      DataError: the first invariant that does not hold, with the value found.
    """
    _check_fields(log)
    _check_items(log)
    _check_features(log)
    where = f"log {log.name!r}"
    for name, held_out in {"test": log.test, "validation": log.validation}.items():
        if held_out is not None:
            _check_not_empty(held_out, f"{where}, {name}")
            _check_groups(log, held_out, f"{where}, {name}")
    _check_not_empty(log.train, f"{where}, train")
    if isinstance(log.train, GroupedImpressions):
        check_train(log, log.train, f"{where}, train")


def _check_groups(log: ClickLog, split: GroupedImpressions, where: str) -> None:
    n_groups, n_impressions, n_items = split.n_groups, split.n_impressions, len(log.items.image_N)
    _check_array(split.user_G, f"{where}.user_G", 1, np.int32)
    _check_keys(log, split.user_ids_GF, f"{where}.user_ids_GF", log.fields_of("user"), n_groups)
    _check_items_of(split.behavior_item_H, f"{where}.behavior_item_H", n_items)
    _check_items_of(split.item_B, f"{where}.item_B", n_items)
    n_behaviors = len(split.behavior_item_H)
    _check_offsets(split.behavior_offsets, f"{where}.behavior_offsets", n_groups, n_behaviors)
    _check_offsets(split.impression_offsets, f"{where}.impression_offsets", n_groups, n_impressions)
    context = log.fields_of("context")
    _check_keys(log, split.context_ids_BF, f"{where}.context_ids_BF", context, n_impressions)
    _check_labels(split, where)


def check_train(log: ClickLog, split: GroupedImpressions, where: str) -> None:
    """Checks groups of a train split, all or some, against the log's catalogue and fields.

    Raises:
      DataError: the first invariant that does not hold, with the value found.
    """
    _check_groups(log, split, where)
    if split.cold_B.any():
        raise DataError(
            f"{where}: cold_B marks {int(split.cold_B.sum())} impressions; an "
            "item of the training period is not cold: clear them"
        )


def _check_fields(log: ClickLog) -> None:
    names = [field.name for field in log.fields]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"log {log.name!r}: field names {repeated} occur twice; rename one of each")
    item_vocabularies = [field.vocabulary for field in log.fields_of("item")]
    for field in log.fields:
        size = log.vocabulary_sizes.get(field.vocabulary)
        if size is None or size < 1:
            raise DataError(
                f"log {log.name!r}: field {field.name!r} wants vocabulary {field.vocabulary!r}, "
                f"whose size is {size}; vocabulary_sizes must give it at least 1 "
                f"(it has {sorted(log.vocabulary_sizes)})"
            )
        sharing = item_vocabularies.count(field.vocabulary)
        if field.level == "behavior" and sharing != 1:
            raise DataError(
                f"log {log.name!r}: behavior field {field.name!r} takes the item keys of "
                f"vocabulary {field.vocabulary!r}, which "
                f"{sharing} item fields have; exactly one must (item vocabularies: "
                f"{item_vocabularies})"
            )


def _check_items(log: ClickLog) -> None:
    where = f"log {log.name!r}, items"
    _check_array(log.items.image_N, f"{where}.image_N", 1, np.int32)
    n_items = len(log.items.image_N)
    _check_range(log.items.image_N, f"{where}.image_N", NO_IMAGE, log.features.count)
    _check_keys(log, log.items.ids_NF, f"{where}.ids_NF", log.fields_of("item"), n_items)


def _check_features(log: ClickLog) -> None:
    if isinstance(log.features, StoredFeatures):
        return  # checked when they were written
    where = f"log {log.name!r}, features"
    rows_VD, scale_V = log.features.rows_VD, log.features.scale_V
    _check_array(rows_VD, f"{where}.rows_VD", 2)
    integer = rows_VD.dtype.kind in "iu"
    if not integer and rows_VD.dtype != np.float32:
        raise DataError(
            f"{where}.rows_VD: {rows_VD.dtype} found; must be float32, or integers with scale_V"
        )
    if integer and scale_V is None:
        raise DataError(
            f"{where}.rows_VD: {rows_VD.dtype} without scale_V; give a factor for each row"
        )
    if rows_VD.shape[1] < 1:
        raise DataError(f"{where}.rows_VD: shape {rows_VD.shape}; a row needs at least one value")
    row = first_non_finite_row(rows_VD)
    if scale_V is not None:
        _check_array(scale_V, f"{where}.scale_V", 1, np.float32)
        _check_length(scale_V, f"{where}.scale_V", len(rows_VD), "rows")
        row = first_non_finite_row(scale_V) if row is None else row
    if row is not None:
        raise DataError(f"{where}: NaN or infinity in row {row}; repair that row or leave it out")


def _check_not_empty(split: GroupedImpressions | StreamedGroups, where: str) -> None:
    if not split.n_groups or not split.n_impressions:
        raise DataError(
            f"{where}: {split.n_groups} groups, {split.n_impressions} impressions; a split must "
            "not be empty: move the cut or give more data"
        )


def _check_labels(split: GroupedImpressions, where: str) -> None:
    for name, dtype in (("click_B", np.uint8), ("cold_B", np.bool_)):
        array_B = getattr(split, name)
        _check_array(array_B, f"{where}.{name}", 1, dtype)
        _check_length(array_B, f"{where}.{name}", split.n_impressions, "impressions")
    _check_range(split.click_B, f"{where}.click_B", 0, 2)
    if split.probability_B is None:
        return
    _check_array(split.probability_B, f"{where}.probability_B", 1, np.float32)
    _check_length(split.probability_B, f"{where}.probability_B", split.n_impressions, "impressions")
    inside_B = (split.probability_B >= 0) & (split.probability_B <= 1)
    if not inside_B.all():
        at = int(np.argmin(inside_B))
        raise DataError(
            f"{where}.probability_B: {split.probability_B[at]} at {at}; must lie in [0, 1]"
        )


def _check_keys(
    log: ClickLog, ids: np.ndarray, where: str, fields: Sequence[IdField], length: int
) -> None:
    """`ids` is int32 ``[length, len(fields)]`` with each column inside its vocabulary."""
    _check_array(ids, where, 2, np.int32)
    if ids.shape != (length, len(fields)):
        raise DataError(
            f"{where}: shape {ids.shape}; expected {(length, len(fields))}, a column for each of "
            f"{[field.name for field in fields]}"
        )
    for column, field in enumerate(fields):
        size = log.vocabulary_sizes[field.vocabulary]
        _check_range(ids[:, column], f"{where}, field {field.name!r}", 0, size)


def _check_items_of(items: np.ndarray, where: str, n_items: int) -> None:
    _check_array(items, where, 1, np.int32)
    _check_range(items, where, 0, n_items)


def _check_offsets(offsets: np.ndarray, where: str, n_groups: int, total: int) -> None:
    _check_array(offsets, where, 1, np.int64)
    _check_length(offsets, where, n_groups + 1, "groups + 1")
    steps_G = np.diff(offsets)
    if (steps_G < 0).any():
        at = int(np.argmax(steps_G < 0))
        raise DataError(
            f"{where}: falls from {offsets[at]} to {offsets[at + 1]} at group {at}; offsets must "
            "not decrease"
        )
    if offsets[0] != 0 or offsets[-1] != total:
        raise DataError(
            f"{where}: runs from {offsets[0]} to {offsets[-1]}; must run from 0 to {total}"
        )


def _check_array(array: np.ndarray, where: str, ndim: int, dtype: type | None = None) -> None:
    if not isinstance(array, np.ndarray):
        raise DataError(f"{where}: {type(array).__name__} found; must be a NumPy array")
    if array.ndim != ndim or (dtype is not None and array.dtype != dtype):
        wanted = np.dtype(dtype).name if dtype is not None else "any dtype"
        raise DataError(
            f"{where}: {array.dtype} of shape {array.shape}; must be {wanted} with {ndim} dims"
        )


def _check_length(array: np.ndarray, where: str, length: int, of_what: str) -> None:
    if len(array) != length:
        raise DataError(f"{where}: length {len(array)}; must be {length}, the number of {of_what}")


def _check_range(values: np.ndarray, where: str, low: int, high: int) -> None:
    """Every value lies in ``[low, high)``."""
    if not len(values):
        return
    smallest, largest = int(values.min()), int(values.max())
    if smallest < low or largest >= high:
        wrong = smallest if smallest < low else largest
        at = int(np.argmax(values == wrong))
        raise DataError(f"{where}: {wrong} at {at}; every value must lie in [{low}, {high})")
