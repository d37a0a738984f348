"""The table of items as the catalogue of a log: numbers, ID keys, and where their images lie.

Shape legend
    N   items     F   ID fields of an item
"""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicm_jax.ams.keys import IMAGE
from dicm_jax.data.schema import NO_IMAGE
from dicm_jax.errors import DataError
from dicm_jax.features.keyed_table import KeyedTable, open_keyed_table
from dicm_jax.preparation.columns import as_text, missing
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.tables import chunks, fragments_of
from dicm_jax.preparation.vocabularies import Encoding, Hashed, Vocabulary, encoded, merged

ITEM = "item"


@dataclasses.dataclass(frozen=True)
class ItemCatalogue:
    """All items, in the order of their table; the number of an item is its place.

    Attributes:
      numbers: the IDs; the key of an ID is the item's number.
      image_ids: the ID of each item's image, null where there is none.
      ids_NF: int32, keys of the field ``item`` and of the fields of the table.
      encodings: of these fields, in that order.
      distinct: values of each of them.
      image_N: int32, row of each item's image in the feature table, or `NO_IMAGE`.
      table: the feature table.
    """

    numbers: Vocabulary
    image_ids: pa.Array
    ids_NF: np.ndarray
    encodings: dict[str, Encoding]
    distinct: dict[str, int]
    image_N: np.ndarray
    table: KeyedTable

    def ids(self) -> pa.Table:
        """IDs of items and images in the source, a row for each item."""
        return pa.table({"item": self.numbers.values, "image": self.image_ids})


def read_items(config: PrepareConfig) -> ItemCatalogue:
    """Reads the table of items whole; it is the one table that must fit in memory.

    Raises:
      DataError: a file that cannot be read, an item without an ID or listed twice, no item, no
        feature table.
    """
    settings = config.catalogue
    assert settings.path is not None  # checked by PrepareConfig
    assert config.features is not None
    image_column = settings.image or settings.item
    columns = [settings.item, image_column, *settings.column_of.values()]
    parts: dict[str, list[pa.Array]] = {column: [] for column in columns}
    fragments = fragments_of("catalogue", settings.path, columns, config.runner.chunk_rows)
    for fragment in fragments:
        for chunk in chunks(fragment, columns, config.runner.chunk_rows):
            for column in parts:
                parts[column].append(as_text(fragment.path, column, chunk[column]))
    if not parts[settings.item]:
        raise DataError(f"catalogue.path={settings.path}: no item in it; give the whole catalogue")
    texts = {column: pa.concat_arrays(arrays) for column, arrays in parts.items()}
    ids = texts[settings.item]
    _check_ids(settings.path, ids)
    encodings: dict[str, Encoding] = {
        ITEM: Hashed(config.ids.buckets) if ITEM in config.ids.hashed else Vocabulary(ids)
    }
    keys, distinct = [encoded(ids, encodings[ITEM])], {ITEM: len(ids)}
    for name, column in settings.column_of.items():
        values = pc.fill_null(texts[column], "")
        found = merged([values])
        hashes = name in config.ids.hashed
        encodings[name] = Hashed(config.ids.buckets) if hashes else Vocabulary(found)
        distinct[name] = len(found)
        keys.append(encoded(values, encodings[name]))
    table = open_keyed_table(Path(config.features), IMAGE)
    image_N = Vocabulary(table.ids.cast(pa.large_string())).keys(texts[image_column])
    return ItemCatalogue(
        numbers=Vocabulary(ids),
        image_ids=texts[image_column],
        ids_NF=np.stack(keys, axis=1),
        encodings=encodings,
        distinct=distinct,
        image_N=np.where(image_N < 0, NO_IMAGE, image_N).astype(np.int32),
        table=table,
    )


def _check_ids(path: str, ids: pa.Array) -> None:
    empty_N = missing(ids)
    if empty_N.any():
        raise DataError(
            f"catalogue.path={path}: {int(empty_N.sum())} rows without an item ID, first row"
            f" {int(np.argmax(empty_N))}; fill them in"
        )
    counts = ids.value_counts()
    repeated = np.flatnonzero(counts.field("counts").to_numpy() > 1)
    if len(repeated):
        first = counts.field("values")[int(repeated[0])].as_py()
        raise DataError(
            f"catalogue.path={path}: {len(repeated)} items are listed twice, first {first!r}: keep"
            " one row for each"
        )
