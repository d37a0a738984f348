"""Feature tables of a run: from files as from the log, and files of another run refused."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dicm_jax.ams.keys import IMAGE
from dicm_jax.config import Config, FeaturesConfig
from dicm_jax.data.schema import ClickLog, Features, in_memory
from dicm_jax.errors import DataError
from dicm_jax.training.tables import device_tables, layouts_of, table_files
from tests import small_world

BOTH = (IMAGE, small_world.TEXT)


def config(path: Path | None, **changes: Any) -> Config:
    options: dict[str, Any] = {"storage": "int8"} | changes
    return Config(features=FeaturesConfig(path=None if path is None else str(path), **options))


def with_images(rows_VD: np.ndarray) -> ClickLog:
    return dataclasses.replace(small_world.log_with_texts(), features=Features(rows_VD))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Table files of the small log."""
    table_files(config(tmp_path), small_world.log_with_texts(), BOTH)
    return tmp_path


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("mesh", [(1, 1), (2, 4)])
def test_tables_from_files_are_those_made_of_the_log(tmp_path, storage, mesh):
    log, roles = small_world.log_with_texts(), small_world.roles_of(*mesh, placement="colocated")
    settings = config(tmp_path, storage=storage)
    files = table_files(settings, log, BOTH)
    from_files = device_tables(settings, log, BOTH, files, roles)
    from_log = device_tables(settings, log, BOTH, {}, roles)
    assert from_files.keys() == from_log.keys() == set(BOTH)
    jax.tree.map(np.testing.assert_array_equal, from_files, from_log)
    for one, other in zip(jax.tree.leaves(from_files), jax.tree.leaves(from_log), strict=True):
        assert one.sharding == other.sharding
    assert layouts_of(log, files) == layouts_of(log, {})


def test_files_are_written_once_and_found_again(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    files = table_files(config(folder), small_world.log_with_texts(), BOTH)
    assert files.keys() == set(BOTH)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_without_a_folder_there_are_no_files():
    assert table_files(config(None), small_world.log_with_texts(), BOTH) == {}


ROWS = in_memory(small_world.log().features).rows_VD


@pytest.mark.parametrize(
    ("rows_VD", "storage", "message"),
    [
        (ROWS[:-1], "int8", r"has rows 2300, the log's content 'image' .* want 2299"),
        (ROWS[:, :-1], "int8", r"has width 37, the log's content 'image' .* want 36"),
        (ROWS, "bfloat16", r"has storage int8, .* features.storage want bfloat16: name another"),
        (ROWS[::-1].copy(), "int8", r"holds other rows than the log's content 'image': name ano"),
    ],
    ids=["rows", "width", "storage", "other rows"],
)
def test_files_of_another_log_are_refused(folder, rows_VD, storage, message):
    with pytest.raises(DataError, match=message) as caught:
        table_files(config(folder, storage=storage), with_images(rows_VD), BOTH)
    assert str(folder / IMAGE) in str(caught.value)
    assert "remove the folder to have it written anew" in str(caught.value)


def test_damaged_files_are_found_before_anything_is_trained(folder):
    shard = max((folder / IMAGE).rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2 + 1] ^= 255
    shard.write_bytes(bytes(data))
    log = small_world.log_with_texts()
    with pytest.raises(DataError, match=shard.name):
        table_files(config(folder), log, BOTH)
