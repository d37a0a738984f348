"""A table and its IDs stay together, or are found not to be.

Shape legend
    N   rows      D   content width
"""

import shutil

import numpy as np
import pyarrow as pa
import pytest

from dicm_jax.ams.feature_table import statistics
from dicm_jax.errors import DataError
from dicm_jax.features import keyed_table
from dicm_jax.features.keyed_table import check_ids, open_keyed_table, write_keyed_table

N, D = 1500, 3


@pytest.fixture(scope="module")
def rows_ND() -> np.ndarray:
    return np.random.default_rng(0).normal(2, 3, (N, D)).astype(np.float32)


def ids(prefix: str = "") -> pa.Array:
    return pa.array([f"{prefix}{number:04d}" for number in range(N)])


def write(folder, rows_ND, content="image", prefix="") -> None:
    write_keyed_table(
        folder,
        content,
        rows_ND,
        None,
        ids(prefix),
        stats=statistics(rows_ND, None),
        storage="float32",
        encoder="random",
        about={"source": "nowhere"},
    )


@pytest.fixture(scope="module")
def written(rows_ND, tmp_path_factory):
    """Two contents in one folder; not to be changed."""
    folder = tmp_path_factory.mktemp("features")
    write(folder, rows_ND)
    write(folder, rows_ND[::-1], "text", prefix="t")
    return folder


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written, tmp_path / "features")


def fails(folder, match: str) -> None:
    with pytest.raises(DataError, match=match):
        open_keyed_table(folder, "image")


def test_rows_are_found_by_id(written, rows_ND):
    table = open_keyed_table(written)
    assert table.ids.equals(ids())
    assert table.record["source"] == "nowhere"
    key = table.ids.to_pylist().index("0712")
    values_KD, _ = table.files.gather(np.array([key]))
    expected_D = (rows_ND[712] - rows_ND.mean(axis=0)) / rows_ND.std(axis=0)
    np.testing.assert_allclose(values_KD[0], expected_D, atol=1e-5)
    text = open_keyed_table(written, "text")
    assert text.ids[0].as_py() == "t0000"
    np.testing.assert_array_equal(
        text.files.gather(np.array([N - 1 - 712]))[0], values_KD
    )  # fmt: skip


def test_parts_of_another_table_are_refused(copy):
    (copy / "text.keys.parquet").replace(copy / "image.keys.parquet")
    fails(copy, r"image.keys.parquet: changed since the features were made: \w{8} is its CRC-32")


def test_table_of_another_content_is_refused(copy):
    shutil.rmtree(copy / "image")
    (copy / "text").rename(copy / "image")
    fails(copy, r"image/table.json: changed since the features were made")


def test_missing_parts(copy):
    fails(copy / "image", "not a feature table with IDs: no image.json in it")
    (copy / "image.keys.parquet").unlink()
    fails(copy, "image.keys.parquet: missing; the record beside it names it")


def test_record_comes_last(rows_ND, tmp_path, monkeypatch):
    """Wherever the moves into place are cut short, there is no table, then the whole table."""
    for cut in range(3):
        folder, moved = tmp_path / str(cut), []

        def replace(source, target, moved=moved, cut=cut):
            if len(moved) == cut:
                raise KeyboardInterrupt
            moved.append(source)
            source.rename(target)

        with monkeypatch.context() as patched:
            patched.setattr(keyed_table.os, "replace", _only_into(folder, replace))
            with pytest.raises(KeyboardInterrupt):
                write(folder, rows_ND)
        fails(folder, "no image.json in it")
        assert keyed_table.publish(folder, "image")
        assert open_keyed_table(folder).ids.equals(ids())
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def _only_into(folder, replace):
    real = keyed_table.os.replace

    def chosen(source, target):
        (replace if target.parent == folder else real)(source, target)

    return chosen


def test_nothing_is_written_over(copy, rows_ND):
    with pytest.raises(DataError, match=r"image.json: is there already; remove it, or give anothe"):
        write(copy, rows_ND)
    (copy / "image.json").unlink()
    with pytest.raises(DataError, match=r"image: is there already"):
        write(copy, rows_ND)


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (["a", "b"], "2 IDs for 3 rows; there must be one ID for each row"),
        (["a", None, "b"], "row 1 has no ID; give each row one"),
        (["a", "b", ""], "row 2 has no ID"),
        (
            ["a", "b", "a"],
            r"1 IDs come more than once, the first is 'a' \(rows 0 and 2\); keep one",
        ),
    ],
)
def test_ids_that_tell_no_rows_apart(ids, match):
    with pytest.raises(DataError, match=f"here: {match}"):
        check_ids("here", pa.array(ids, pa.string()), 3)
