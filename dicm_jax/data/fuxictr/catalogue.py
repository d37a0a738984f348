"""The items of a FuxiCTR set, which keeps no list of them: gathered from the rows.

An encoded set's items are the keys of its vocabulary. A raw set's items are the texts of both
splits: an item that train lacks has the *unknown* key as its ID, like all of its kind, but a
content row of its own. Like any list of articles, the catalogue knows the values of an item's
fields, never a click.

Shape legend
    N   items        E   rows of a file        P   pairs of an item and a value of its field
"""

import dataclasses

import numpy as np
import pyarrow as pa

from dicm_jax.data.fuxictr.arrow import equals, places_in
from dicm_jax.data.fuxictr.columns import Column
from dicm_jax.data.fuxictr.files import Sequences, Table
from dicm_jax.data.fuxictr.keys import Keys
from dicm_jax.data.fuxictr.layout import Layout
from dicm_jax.errors import DataError

_PADDING = 0


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The items in order.

    Attributes:
      texts_N: what the files call each item: text, or the key of an encoded set.
      ids_NF: int32 keys of the item's fields, the item itself first.
      notes: counts of what could not be known.
    """

    texts_N: pa.Array
    ids_NF: np.ndarray
    notes: dict[str, int]


def item_texts(layout: Layout, keys: Keys, tables: list[Table]) -> pa.Array:
    """The items, int64 keys of an encoded set or texts of a raw one, in the order of their index.

    Raises:
      DataError: a row without an item.
    """
    if layout.columns.encoded:
        return pa.array(np.arange(keys.size(layout.item)))
    for table in tables:
        missing_E = equals(table.texts[layout.item.name], layout.item.missing)
        if missing_E.any():
            raise DataError(
                f"{table.path}: no {layout.item.name} in row {int(np.argmax(missing_E))}; every "
                "row must name its item"
            )
    found = [table.texts[layout.item.name] for table in tables]
    found += [table.sequences[layout.history.name].values_Q for table in tables]
    texts = pa.concat_arrays(found).unique().sort()
    return texts.filter(pa.array(~equals(texts, layout.history.missing)))


def index_of(items: pa.Array, values: pa.Array) -> np.ndarray:
    """Index of each value among the items, int32; -1 for padding, which is none."""
    if pa.types.is_integer(items.type):
        index = values.to_numpy(zero_copy_only=False).astype(np.int32)
        return np.where(index == _PADDING, -1, index).astype(np.int32)
    return places_in(items, values)


def catalogue_of(layout: Layout, keys: Keys, tables: list[Table], items: pa.Array) -> Catalogue:
    """Every item with the keys of its fields, from the rows and from sequences along the history.

    An item met only in histories that no sequence runs along has the unknown key. So has, in an
    encoded set, the unknown item where it stands for several.

    Raises:
      DataError: an item with two values of one field; a sequence not as long as the history.
    """
    columns, notes = [], {}
    along = {field.name: sequence for sequence, field in layout.along}
    for field in layout.item_fields:
        if field is layout.item:
            columns.append(_item_keys(layout, keys, items))
            continue
        pairs = [
            _pairs(layout, keys, table, items, field, along.get(field.name)) for table in tables
        ]
        item_P, key_P = (np.concatenate(part) for part in zip(*pairs, strict=True))
        column_N, unknown = _one_each(layout, keys, items, field, item_P, key_P)
        columns.append(column_N)
        notes[f"items_of_unknown_{field.name}"] = unknown
    return Catalogue(items, np.column_stack(columns).astype(np.int32), notes)


def _item_keys(layout: Layout, keys: Keys, items: pa.Array) -> np.ndarray:
    return keys.vocabularies[layout.item.vocabulary].keys(items)


def _pairs(
    layout: Layout, keys: Keys, table: Table, items: pa.Array, field: Column, along: Column | None
) -> tuple[np.ndarray, np.ndarray]:
    """Items and the keys of their values that one file shows, padding left out."""
    item_P = index_of(items, table.texts[layout.item.name])
    key_P = keys.of(field, table)
    if along is not None:
        history, values = table.sequences[layout.history.name], table.sequences[along.name]
        _check_along(table, layout.history, along, history, values)
        item_P = np.append(item_P, index_of(items, history.values_Q))
        key_P = np.append(key_P, keys.vocabularies[along.vocabulary].keys(values.values_Q))
    return item_P[item_P >= 0], key_P[item_P >= 0]


def _check_along(
    table: Table, history: Column, along: Column, one: Sequences, other: Sequences
) -> None:
    length_E, other_E = np.diff(one.offsets), np.diff(other.offsets)
    if not np.array_equal(length_E, other_E):
        row = int(np.argmax(length_E != other_E))
        raise DataError(
            f"{table.path}: in row {row} {along.name!r} has {other_E[row]} values and the history "
            f"{history.name!r} has {length_E[row]}; it must hold one for each behavior: leave it "
            "out with data.fuxictr.ignore if it is another history"
        )


def _one_each(
    layout: Layout,
    keys: Keys,
    items: pa.Array,
    field: Column,
    item_P: np.ndarray,
    key_P: np.ndarray,
) -> tuple[np.ndarray, int]:
    """The one key of each item, int32 ``[N]``, and how many items have the unknown one."""
    unknown = keys.unknown(field)
    pair_P = np.unique(item_P.astype(np.int64) * keys.size(field) + key_P)
    item_P, key_P = np.divmod(pair_P, keys.size(field))
    several_N = np.bincount(item_P, minlength=len(items)) > 1
    if layout.columns.encoded:
        several_N[keys.unknown(layout.item)] = False
    if several_N.any():
        item = int(np.argmax(several_N))
        raise DataError(
            f"{layout.columns.path}: {field.name!r} is to be a field of the item, but "
            f"{int(several_N.sum())} items have several values, first item {items[item].as_py()!r} "
            f"with the keys {key_P[item_P == item].tolist()}; name {field.name!r} in "
            "data.fuxictr.context_fields"
        )
    keys_N = np.full(len(items), unknown, np.int32)
    keys_N[item_P] = key_P
    if layout.columns.encoded and (item_P == keys.unknown(layout.item)).sum() > 1:
        keys_N[keys.unknown(layout.item)] = unknown
    return keys_N, int((keys_N == unknown).sum())
