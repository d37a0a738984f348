"""The tables of a preparation: their fragments, their files, and what identifies them."""

import dataclasses
from pathlib import Path
from typing import Any

from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.tables import Fragment, files_of, fragments_of

TABLES = ("impressions", "behaviors", "users")


def fragments(config: PrepareConfig) -> list[Fragment]:
    """The fragments of all tables but the items, which are read whole.

    Raises:
      DataError: a table without a file, or a file without a column.
    """
    pieces = []
    for table in TABLES:
        settings = getattr(config, table)
        if settings.path is not None:
            columns = _columns(settings)
            pieces += fragments_of(table, settings.path, columns, config.runner.chunk_rows)
    return pieces


def source_files(config: PrepareConfig) -> dict[str, int]:
    """Length of every file of the tables."""
    return {
        str(file): file.stat().st_size
        for table in (*TABLES, "catalogue")
        if (path := getattr(config, table).path) is not None
        for file in files_of(table, path)
    }


def fingerprint_of(config: PrepareConfig) -> dict[str, Any]:
    """What must not change before a preparation goes on: settings; length and age of files."""
    flat: dict[str, Any] = {}
    for name, value in settings_of(config).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    flat["runner.chunk_rows"] = config.runner.chunk_rows
    flat["runner.partition_rows"] = config.runner.partition_rows
    files = source_files(config)
    return flat | {file: [files[file], Path(file).stat().st_mtime_ns] for file in files}


def settings_of(config: PrepareConfig) -> dict[str, Any]:
    """The settings that shaped a set, as JSON has them."""
    settings = dataclasses.asdict(config)
    settings.pop("runner")
    if config.source == "tables":
        settings.pop("data")
    return {
        name: {key: _plain(inner) for key, inner in value.items()}
        if isinstance(value, dict)
        else _plain(value)
        for name, value in settings.items()
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _columns(settings: Any) -> list[str]:
    """The columns that the settings of a table name."""
    named = {name: value for name, value in dataclasses.asdict(settings).items() if name != "path"}
    named.pop("fields", None)
    fields = settings.column_of.values() if hasattr(settings, "column_of") else ()
    return [*(column for column in named.values() if column is not None), *fields]
