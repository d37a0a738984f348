"""Reader of sets that FuxiCTR reads: CSV, Parquet or NPZ with a feature map.

A folder with ``train`` and ``test`` in one of these formats, ``feature_map.json`` (encoded) or
``dataset_config.yaml`` (raw) beside them (`columns.py`), and an array of content rows. The
protocol:

- Impression: a row. The splits are the files; a ``valid`` file is not used, with a note
  (``test_file="valid.csv"`` evaluates on it).
- Roles and levels of columns: `layout.py`.
- Behaviors of an impression: the history of its row, padding dropped, the newest `behaviors`.
- Group: rows of one user with the same keys of the user's fields and the same behaviors. Groups
  stand in the order of the file, which is taken for that of time: what is held out of train for
  validation are its last rows.
- Vocabularies of a raw set, and the quantiles that numeric columns are cut at (train quantiles, not
  fixed edges: the unit of the numbers is not known), are counted in train alone (`keys.py`).
- Content: ``item_id`` and ``rows``, or ``key`` and ``value`` as in FuxiCTR's embedding files. The
  IDs are those of the raw files; of an encoded set they are translated by ``feature_vocab.json``
  where it is there, else they are its keys.

Only the files' columns become fields: no statistic is added, so that what is compared is the model.

Shape legend
    N   items            B   impressions (one split)        E   rows of a file
    G   groups           F   ID fields of one level
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.data.features_array import ArrayNames, read_features
from dicm_jax.data.fuxictr.arrow import equals, places_in
from dicm_jax.data.fuxictr.catalogue import catalogue_of, index_of, item_texts
from dicm_jax.data.fuxictr.columns import Column, read_columns
from dicm_jax.data.fuxictr.config import FuxiCTRConfig
from dicm_jax.data.fuxictr.files import Table, read_table, source_of
from dicm_jax.data.fuxictr.groups import grouped, newest
from dicm_jax.data.fuxictr.keys import Keys, keys_of
from dicm_jax.data.fuxictr.layout import Layout, layout_of
from dicm_jax.data.permute import permuted_images
from dicm_jax.data.schema import NO_IMAGE, ClickLog, GroupedImpressions, IdField, Items, Level
from dicm_jax.errors import DataError

FEATURE_VOCAB = "feature_vocab.json"
_SPLITS = ("train", "valid", "test")
_PADDING = 0


def load(
    path: str,
    *,
    behaviors: int = 50,
    permute_images: bool = False,
    seed: int = 0,
    config: FuxiCTRConfig | None = None,
) -> ClickLog:
    """Reads the set in folder `path` as a click log.

    ``cold_B`` of the test split marks items that no row and no history of train holds.

    Args:
      path: the folder.
      behaviors: the most behaviors of a group; older ones are left out, with a note.
      permute_images: give the items each other's content, shuffled by `seed`; IDs stay.
      seed: of the shuffling.
      config: the roles of the columns; None takes what the feature map says.

    Raises:
      DataError: a missing file or column, a feature map that does not fit, a key outside its
        vocabulary, an item with two values of a field, a split without a click, bad content rows.

    Example:
      >>> load("data/AmazonElectronics_x1").fields_of("item")[0].name
      'item_id'
    """
    root, settings = Path(path), config or FuxiCTRConfig()
    layout = layout_of(read_columns(root, settings.dataset), settings)
    files = {"train": settings.train_file, "test": settings.test_file}
    tables = {
        split: read_table(source_of(root, split, given), layout) for split, given in files.items()
    }
    for table in tables.values():
        _check_clicks(table)
    keys = keys_of(layout, tables["train"], settings.numeric_buckets)
    both = [tables["train"], tables["test"]]
    items = item_texts(layout, keys, both)
    catalogue = catalogue_of(layout, keys, both, items)
    features, image_N = read_features(
        root, settings.content, _content_ids(root, layout, items), _names(layout), not_these=_SPLITS
    )

    train, test, notes = _splits(layout, keys, items, tables, behaviors, settings.newest)
    pictured = int((image_N != NO_IMAGE).sum())
    notes |= {
        "items": len(items),
        "items_without_image": len(items) - pictured,
        "features_without_item": len(features.rows_VD) - pictured,
        **catalogue.notes,
        **{f"column_left_out_{name}": 1 for name in layout.left_out},
        **_unused(root, tables["test"]),
    }
    if permute_images:
        image_N = permuted_images(image_N, seed)
    fields, sizes = _fields(layout, keys)
    return ClickLog(
        name=root.resolve().name,
        fields=fields,
        vocabulary_sizes=sizes,
        items=Items(ids_NF=catalogue.ids_NF, image_N=image_N),
        features=features,
        train=train,
        test=test,
        notes={name: float(value) for name, value in notes.items()},
    )


def _check_clicks(table: Table) -> None:
    clicks, rows = int(table.click_E.sum()), len(table.click_E)
    if clicks in (0, rows):
        raise DataError(
            f"{table.path}: {clicks} of {rows} rows are clicks; a split needs clicks and others"
        )


def _content_ids(root: Path, layout: Layout, items: pa.Array) -> pa.Array:
    """What the array of content rows calls each item."""
    path = root / FEATURE_VOCAB
    if not layout.columns.encoded or not path.is_file():
        return items.cast(pa.large_string())
    try:
        vocabulary = json.loads(path.read_text(encoding="utf-8"))[layout.item.vocabulary]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}); write it again with FuxiCTR") from error
    except KeyError:
        raise DataError(
            f"{path}: no vocabulary of {layout.item.vocabulary!r}; write it again with FuxiCTR, or "
            "take it away if the content rows are numbered by key"
        ) from None
    texts = {key: text for text, key in vocabulary.items()}
    return pa.array([texts.get(key) for key in range(len(items))], pa.large_string())


def _names(layout: Layout) -> ArrayNames:
    in_order = layout.columns.encoded
    catalogue = f"the vocabulary of {layout.item.name!r}" if in_order else None
    return ArrayNames(id="item_id", item="item", catalogue=catalogue)


def _splits(
    layout: Layout,
    keys: Keys,
    items: pa.Array,
    tables: dict[str, Table],
    most: int,
    newest_at: str,
) -> tuple[GroupedImpressions, GroupedImpressions, dict[str, int | float]]:
    """Train, test, and notes on both."""
    users = pa.concat_arrays([table.user_E for table in tables.values()]).unique()
    splits: dict[str, GroupedImpressions] = {}
    notes: dict[str, int | float] = {"users": len(users)}
    for split, table in tables.items():
        behaviors_E, left_out = _behaviors(layout, items, table, most, newest_at)
        splits[split] = _grouped(layout, keys, items, users, table, behaviors_E)
        notes |= _split_notes(split, splits[split], left_out)
        notes[f"{split}_rows_of_nameless_users"] = _nameless(layout, table)
    train, test = splits["train"], splits["test"]
    unseen_N = np.ones(len(items), bool)
    unseen_N[train.item_B] = unseen_N[train.behavior_item_H] = False
    return train, dataclasses.replace(test, cold_B=unseen_N[test.item_B]), notes


def _nameless(layout: Layout, table: Table) -> int:
    """Rows whose user the files do not tell from others: together they count as one user."""
    user, texts = layout.user, [layout.user.missing]
    if layout.columns.encoded and user.kind == "categorical":
        texts += [str(_PADDING), str(user.unknown)]
    return sum(int(equals(table.user_E, text).sum()) for text in dict.fromkeys(texts))


def _behaviors(
    layout: Layout, items: pa.Array, table: Table, most: int, newest_at: str
) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    history = table.sequences[layout.history.name]
    offsets, item_H, left_out = newest(
        history.offsets,
        index_of(items, history.values_Q),
        most,
        newest_first=newest_at == "first",
    )
    return (offsets, item_H), left_out


def _grouped(
    layout: Layout,
    keys: Keys,
    items: pa.Array,
    users: pa.Array,
    table: Table,
    behaviors_E: tuple[np.ndarray, np.ndarray],
) -> GroupedImpressions:
    item_E = index_of(items, table.texts[layout.item.name])
    if (item_E < 0).any():
        raise DataError(
            f"{table.path}: row {int(np.argmin(item_E))} has the padding key 0 as its "
            f"{layout.item.name}; every row must name its item"
        )
    return grouped(
        user_E=places_in(users, table.user_E),
        user_ids_EF=_columns(layout.user_fields, keys, table),
        behaviors=behaviors_E,
        item_E=item_E,
        context_ids_EF=_columns(layout.context_fields, keys, table),
        click_E=table.click_E,
    )


def _columns(fields: tuple[Column, ...], keys: Keys, table: Table) -> np.ndarray:
    """The keys of several columns, int32 ``[E, F]``."""
    columns = [keys.of(column, table) for column in fields]
    empty = np.zeros((len(table.click_E), 0), np.int32)
    return np.column_stack(columns) if columns else empty


def _fields(layout: Layout, keys: Keys) -> tuple[tuple[IdField, ...], dict[str, int]]:
    levels: dict[Level, tuple[Column, ...]] = {
        "user": layout.user_fields,
        "item": layout.item_fields,
        "context": layout.context_fields,
    }
    fields = [IdField(c.name, c.vocabulary, level) for level, cs in levels.items() for c in cs]
    along = (layout.history, *(sequence for sequence, _ in layout.along))
    fields += [IdField(column.name, column.vocabulary, "behavior") for column in along]
    columns = (column for of_level in levels.values() for column in of_level)
    return tuple(fields), {column.vocabulary: keys.size(column) for column in columns}


def _unused(root: Path, test: Table) -> dict[str, int]:
    """A note for a valid file that is there and is not what the model is tested on."""
    paths = [root / f"valid{suffix}" for suffix in (".parquet", ".csv", ".npz", "")]
    return {
        f"file_not_used_{path.name}": 1 for path in paths if path.exists() and path != test.path
    }


def _split_notes(name: str, split: GroupedImpressions, left_out: int) -> dict[str, int | float]:
    lengths_G = np.diff(split.behavior_offsets)
    return {
        f"{name}_impressions": split.n_impressions,
        f"{name}_groups": split.n_groups,
        f"{name}_users": len(np.unique(split.user_G)),
        f"{name}_mean_behaviors": float(lengths_G.mean()),
        f"{name}_groups_without_behaviors": int((lengths_G == 0).sum()),
        f"{name}_older_behaviors_left_out": left_out,
    }
