"""Feature tables of a run: in device memory, or in files that batches bring their rows from.

Shape legend
    V   rows of a table (padded)     D   content width
"""

import zlib
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from dicm_jax.ams import feature_table
from dicm_jax.ams.feature_table import FeatureTable, Statistics
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import Device, Roles, table_sharding
from dicm_jax.config import Config
from dicm_jax.data.schema import ClickLog, Features, StoredFeatures
from dicm_jax.errors import DataError
from dicm_jax.features import table_writing
from dicm_jax.features.directions import MOST_ROWS
from dicm_jax.features.table_files import TableFiles, open_table
from dicm_jax.features.table_metadata import METADATA_FILE
from dicm_jax.training.servers import Tables

_COMPARED = 64
"""Rows that stand for a table where it is compared with another."""


def layouts_of(log: ClickLog, files: Mapping[str, TableFiles]) -> dict[str, RowLayout]:
    """Where the rows of every content lie."""
    return {
        name: files[name].layout if name in files else RowLayout(content.features.count)
        for name, content in log.contents.items()
    }


def table_files(config: Config, log: ClickLog, contents: tuple[str, ...]) -> dict[str, TableFiles]:
    """The table files of a run, by content; none if it has no folder for them.

    Content that the log has in files already is read from there. Other content without a table in
    ``features.path`` gets one, written from the log. Where the log has more rows than a table, the
    new ones are appended; those that are there stay untouched.

    Raises:
      DataError: a table that does not fit the log or the configuration, or is damaged.
    """
    files = {}
    for name in contents:
        features = log.contents[name].features
        if isinstance(features, StoredFeatures):
            files[name] = open_table(features.folder)
            _check_shape(files[name], features, config, name)
        elif config.features.path is not None:
            files[name] = _written(Path(config.features.path) / name, log, name, features, config)
        if name in files and config.features.verify:
            files[name].verify()
    return files


def _written(
    folder: Path, log: ClickLog, name: str, features: Features, config: Config
) -> TableFiles:
    if jax.process_index() == 0:
        _write_what_is_missing(folder, log, name, features, config)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"table {name} is written")
    files = open_table(folder)
    _check_fits(files, features, config, name)
    return files


def _write_what_is_missing(
    folder: Path, log: ClickLog, name: str, features: Features, config: Config
) -> None:
    rows_VD, scale_V = _arrays(features)
    if not (folder / METADATA_FILE).exists():
        stats = feature_table.statistics(rows_VD, scale_V)
        encoder = f"log {log.name}"
        table_writing.write(folder, rows_VD, scale_V, stats, config.features.storage, encoder)
        return
    files = open_table(folder)
    known = files.n_keys
    if known < len(rows_VD):
        of_known = Features(rows_VD[:known], None if scale_V is None else scale_V[:known])
        _check_fits(files, of_known, config, name)
        new_scale_V = None if scale_V is None else scale_V[known:]
        table_writing.append(folder, rows_VD[known:], new_scale_V)


def device_tables(
    config: Config,
    log: ClickLog,
    contents: tuple[str, ...],
    files: Mapping[str, TableFiles],
    roles: Roles,
) -> Tables:
    """The tables in device memory, from files where there are any."""
    tables = {}
    for name in contents:
        if name in files:
            tables[name] = from_files(files[name], roles)
        else:
            features = log.contents[name].features
            assert isinstance(features, Features)  # what lies in files is among `files`
            rows_VD, scale_V = _arrays(features)
            stats = feature_table.statistics(rows_VD, scale_V)
            tables[name] = feature_table.build(
                rows_VD, scale_V, stats, config.features.storage, roles.servers
            )
    return tables


def from_files(files: TableFiles, roles: Roles) -> FeatureTable:
    """A table on the servers; a process reads the rows of its own servers only."""
    by_rows, n_rows = table_sharding(roles.servers), files.layout.n_rows
    stored, scale = {}, {}
    for device, index in by_rows.addressable_devices_indices_map((n_rows,)).items():
        assert index is not None  # every own device has its rows
        first, end, _ = index[0].indices(n_rows)
        stored_VD, scale_V = files.read_run(first, end)
        stored[device] = jax.device_put(stored_VD, device)
        if scale_V is not None:
            scale[device] = jax.device_put(scale_V, device)

    def whole(parts: dict[Device, jax.Array], *dims: int) -> jax.Array:
        return jax.make_array_from_single_device_arrays(
            (n_rows, *dims), by_rows, list(parts.values())
        )

    return FeatureTable(whole(stored, files.width), whole(scale) if scale else None)


def some_rows(
    features: Features | StoredFeatures, files: TableFiles | None
) -> tuple[np.ndarray, np.ndarray | None, Statistics]:
    """Rows that stand for a table: all of a log's own, or evenly chosen ones of stored features.

    Returns:
      Rows, the factor of each or None, and what they have to be standardised with.
    """
    if isinstance(features, Features):
        rows_VD, scale_V = _arrays(features)
        known = None if files is None else files.statistics
        return rows_VD, scale_V, known or feature_table.statistics(rows_VD, scale_V)
    assert files is not None  # opened with the run
    keys = np.arange(0, features.count, -(-features.count // MOST_ROWS))
    as_they_are = Statistics(np.zeros(files.width, np.float32), np.ones(files.width, np.float32))
    return files.values(keys), None, as_they_are


def data_marks(log: ClickLog, files: Mapping[str, TableFiles]) -> dict[str, dict[str, int]]:
    """What the data of a run are known again by: sizes, and the CRC-32 of some frozen rows.

    Args:
      log: the data.
      files: tables in files, by content.
    """
    split = log.train
    marks = {"train": {"groups": split.n_groups, "impressions": split.n_impressions}}
    for name, content in log.contents.items():
        features = content.features
        keys = _compared_keys(features.count)
        if isinstance(features, Features):
            rows_VD = features.rows_VD[keys]
        elif name in files:
            rows_VD, _ = files[name].gather(keys)
        else:
            continue  # a model that does not see this content
        crc = zlib.crc32(rows_VD.tobytes())
        marks[name] = {"rows": features.count, "width": features.width, "crc32": crc}
    return marks


def _compared_keys(count: int) -> np.ndarray:
    """Evenly chosen keys, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, _COMPARED).astype(np.int64))


def _arrays(features: Features) -> tuple[np.ndarray, np.ndarray | None]:
    return features.rows_VD, features.scale_V


def _check_shape(files: TableFiles, features: StoredFeatures, config: Config, name: str) -> None:
    if files.n_keys < features.count or files.width != features.width:
        raise DataError(
            f"the table in {files.folder} has {files.n_keys} rows of width {files.width}, the log's"
            f" content {name!r} wants {features.count} of width {features.width}: take the table"
            " that the log was prepared with"
        )
    if files.storage != config.features.storage:
        raise DataError(
            f"the table in {files.folder} has its rows in {files.storage}, features.storage asks"
            f" for {config.features.storage}: set features.storage={files.storage!r}, or make the"
            " table anew in the other format"
        )


def _check_fits(files: TableFiles, features: Features, config: Config, name: str) -> None:
    count, width = features.count, features.width
    found = {"rows": files.n_keys, "width": files.width, "storage": files.storage}
    wanted = {"rows": count, "width": width, "storage": config.features.storage}
    for what, value in wanted.items():
        if found[what] != value:
            raise DataError(
                f"the table in {files.folder} has {what} {found[what]}, the log's content {name!r}"
                f" and features.storage want {value}: name another --config.features.path, or"
                " remove the folder to have it written anew"
            )
    keys = _compared_keys(count)
    rows_VD, scale_V = features.rows_VD[keys], None
    if features.scale_V is not None:
        scale_V = features.scale_V[keys]
    (standard_VD,) = feature_table.standardized_chunks(rows_VD, scale_V, files.statistics)
    expected, _ = feature_table.to_rest(standard_VD, config.features.storage)
    if not np.array_equal(files.gather(keys)[0], expected):
        raise DataError(
            f"the table in {files.folder} holds other rows than the log's content {name!r}: name"
            " another --config.features.path, or remove the folder to have it written anew"
        )
