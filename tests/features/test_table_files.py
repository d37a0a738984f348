"""Feature tables on disk: what is read is what was written, and any change of it is found.

Shape legend
    N   rows as the source gives them    D   content width    K   keys asked for
    V   rows of a table (padded)
"""

import json
import os
import resource
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dicm_jax.ams.feature_table import Statistics, build, statistics
from dicm_jax.ams.layout import VIRTUAL_SHARDS, RowLayout
from dicm_jax.ams.mesh import MeshShape, make_mesh
from dicm_jax.errors import DataError
from dicm_jax.features import table_shards, table_writing
from dicm_jax.features.table_files import StoredRows, TableFiles, open_table
from dicm_jax.features.table_writing import append, write

N = 3000  # shards of three rows and of two
MORE = 1700  # rows added later
D = 5
STORAGES = ("float32", "bfloat16", "int8")
FIRST_SHARD = "shard-0000.rows"


@pytest.fixture(scope="module")
def all_rows_ND() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N + MORE, D)) * np.array([1, 30, 0.01, 2, 5]) + np.arange(D) * 10
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def rows_ND(all_rows_ND) -> np.ndarray:
    return all_rows_ND[:N]


@pytest.fixture(scope="module")
def stats(rows_ND) -> Statistics:
    return statistics(rows_ND, None)


@pytest.fixture(scope="module")
def folders(rows_ND, stats, tmp_path_factory) -> dict[str, Path]:
    """A table in each storage; not to be changed."""
    root = tmp_path_factory.mktemp("tables")
    for storage in STORAGES:
        write(root / storage, rows_ND, None, stats, storage, encoder="VGG16 · FC6")
    return {storage: root / storage for storage in STORAGES}


@pytest.fixture
def table_copy(folders, tmp_path) -> Path:
    """An int8 table to be changed."""
    return shutil.copytree(folders["int8"], tmp_path / "table")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip_bit(path: Path, byte: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def fails_to_open(folder: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        open_table(folder)


def fails_to_write(folder: Path, match: str, rows_ND, scale_N, stats) -> None:
    with pytest.raises(DataError, match=match):
        write(folder, rows_ND, scale_N, stats, "int8", "none")


def assert_same(found, expected) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[0].dtype == expected[0].dtype
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        np.testing.assert_array_equal(found[1], expected[1])


def arranged(table: TableFiles, layout: RowLayout) -> StoredRows:
    """All rows as `layout` says they lie on devices."""
    stored_KD, scale_K = table.empty(layout.n_keys)
    n_keys = table.n_keys
    stored_KD[n_keys:] = 0
    stored_KD[:n_keys], scale_of_rows = table.gather(np.arange(n_keys))
    if scale_K is None:
        return layout.arrange(stored_KD), None
    scale_K[n_keys:] = 0
    scale_K[:n_keys] = scale_of_rows
    return layout.arrange(stored_KD), layout.arrange(scale_K)


def part_of(rows: StoredRows, first: int, end: int) -> StoredRows:
    return rows[0][first:end], None if rows[1] is None else rows[1][first:end]


@contextmanager
def at_most_open(files: int):
    """The limit that a process may raise again by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# What is read


def test_a_table_knows_what_was_written(folders, stats):
    for storage, folder in folders.items():
        table = open_table(folder)
        assert (table.n_keys, table.width, table.storage) == (N, D, storage)
        assert table.encoder == "VGG16 · FC6"
        assert table.layout == RowLayout(N)
        np.testing.assert_array_equal(table.statistics.mean_D, stats.mean_D)
        np.testing.assert_array_equal(table.statistics.deviation_D, stats.deviation_D)


@pytest.mark.parametrize("storage", STORAGES)
def test_gathered_rows_are_those_of_the_table_on_devices(folders, rows_ND, stats, storage):
    on_devices = build(rows_ND, None, stats, storage, make_mesh(MeshShape(1, 1)))
    keys_K = np.random.default_rng(1).integers(0, N, 5000)
    row_K = RowLayout(N).row(keys_K)
    scale_V = on_devices.scale_V
    expected = (
        np.asarray(on_devices.stored_VD)[row_K],
        None if scale_V is None else np.asarray(scale_V)[row_K],
    )
    table = open_table(folders[storage])
    assert_same(table.gather(keys_K), expected)
    assert_same(table.gather(keys_K.astype(np.int16)), expected)
    assert_same(table.gather(keys_K[:0]), table.empty(0))


@pytest.mark.parametrize("storage", STORAGES)
def test_the_run_of_each_server_is_its_part_of_the_arranged_rows(folders, storage):
    table = open_table(folders[storage])
    for layout in (RowLayout(N), RowLayout(N + 5000)):  # the latter has room for more keys
        expected = arranged(table, layout)
        for servers in (1, 8):
            size = layout.rows_per_server(servers)
            for first in range(0, layout.n_rows, size):
                run = table.read_run(first, first + size, layout)
                assert_same(run, part_of(expected, first, first + size))
        within_shards = (301, layout.n_rows - 2)
        assert_same(table.read_run(*within_shards, layout), part_of(expected, *within_shards))
    assert_same(table.read_run(7, 7), table.empty(0))


def test_the_files_are_as_documented(folders):
    body = json.loads((folders["int8"] / "table.json").read_text())
    assert (body["n_keys"], body["width"], body["version"]) == (N, D, 1)
    stored_KD, scale_K = open_table(folders["int8"]).gather(np.arange(N))
    assert scale_K is not None
    for key in (0, 1, 951, 952, 1023, 1024, N - 1):
        data = (folders["int8"] / f"shard-{key % 1024:04d}.rows").read_bytes()
        record = data[(key // 1024) * (D + 4) :][: D + 4]
        assert record == stored_KD[key].tobytes() + scale_K[key].astype("<f4").tobytes()
        assert body["shard_crc32"][key % 1024] == f"{zlib.crc32(data):08x}"
        assert body["shard_rows"][key % 1024] * (D + 4) == len(data)
    assert len(list(folders["int8"].iterdir())) == VIRTUAL_SHARDS + 1


def test_integer_rows_with_factors_are_the_features_they_stand_for(tmp_path):
    rng = np.random.default_rng(2)
    integers_ND = rng.integers(0, 256, (40, D), dtype=np.uint8)
    scale_N = rng.uniform(0.01, 3.0, 40).astype(np.float32)
    wide_ND = integers_ND.astype(np.float64) * scale_N[:, None]
    expected_ND = (wide_ND - wide_ND.mean(axis=0)) / wide_ND.std(axis=0)
    stats = statistics(integers_ND, scale_N)
    write(tmp_path / "table", integers_ND, scale_N, stats, "float32", "none")
    stored_KD, _ = open_table(tmp_path / "table").gather(np.arange(40))
    np.testing.assert_allclose(stored_KD, expected_ND, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_threads_gather_into_parts_of_one_array(folders, storage):
    keys_K = np.random.default_rng(3).integers(0, N, 8000)
    expected = open_table(folders[storage]).gather(keys_K)
    table = open_table(folders[storage])
    stored_KD, scale_K = table.empty(len(keys_K))

    def gather_part(first: int) -> None:
        part = slice(first, first + 1000)
        table.gather(keys_K[part], (stored_KD[part], None if scale_K is None else scale_K[part]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(gather_part, range(0, 8000, 1000)))
    assert_same((stored_KD, scale_K), expected)


def test_room_that_does_not_fit_is_refused(folders):
    table = open_table(folders["int8"])
    stored_KD, scale_K = table.empty(3)
    for out in [
        (stored_KD[:2], scale_K),
        (stored_KD.astype(np.float32), scale_K),
        (stored_KD, None),
    ]:
        with pytest.raises(ValueError, match=r"out does not fit 3 (rows|scale) of the table"):
            table.gather(np.arange(3), out)


def test_released_memory_is_given_back_and_rows_stay_the_same(folders):
    def mapped_kib() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssFile:")[1].split()[0])

    table = open_table(folders["float32"])
    before = table.gather(np.arange(N))
    full = mapped_kib()
    table.release()
    assert full - mapped_kib() > 0.8 * VIRTUAL_SHARDS * resource.getpagesize() / 1024
    assert_same(table.gather(np.arange(N)), before)


def test_a_table_opens_its_files_where_few_may_be_open(folders):
    keys_K = np.arange(N)
    expected = open_table(folders["int8"]).gather(keys_K)
    with at_most_open(300):
        found = open_table(folders["int8"]).gather(keys_K)
    assert_same(found, expected)


def test_too_few_open_files_is_said(folders, monkeypatch):
    monkeypatch.setattr(table_shards, "_allow_more_files", lambda count: None)
    table = open_table(folders["int8"])
    match = r"this process may open 3 files \(at most .*table takes 1024; allow more with `ulimit"
    with pytest.raises(DataError, match=match), at_most_open(3):
        table.gather(np.arange(N))


# What is written


@pytest.mark.parametrize("storage", STORAGES)
def test_rows_added_later_are_as_if_written_at_once(
    folders, all_rows_ND, stats, storage, tmp_path, monkeypatch
):
    write(tmp_path / "at_once", all_rows_ND, None, stats, storage, "VGG16 · FC6")
    added = shutil.copytree(folders[storage], tmp_path / "added")
    monkeypatch.setattr(table_writing, "_BLOCK_BYTES", 1)  # blocks of 1,024 rows
    assert append(added, all_rows_ND[N : N + 10], None) == N
    assert append(added, all_rows_ND[N + 10 :], None) == N + 10
    assert contents(added) == contents(tmp_path / "at_once")
    open_table(added).verify()


def test_rows_added_are_found_under_their_keys(table_copy, folders, all_rows_ND, stats):
    before = open_table(table_copy)
    first = append(table_copy, all_rows_ND[N:], None)
    table = open_table(table_copy)
    stored_KD, scale_K = table.gather(np.arange(first, table.n_keys))
    assert scale_K is not None
    exact_KD = (all_rows_ND[N:] - stats.mean_D) / stats.deviation_D
    error_KD = np.abs(stored_KD * scale_K[:, None] - exact_KD)
    assert (error_KD <= 0.5001 * np.abs(exact_KD).max(axis=1, keepdims=True) / 127).all()
    old = open_table(folders["int8"]).gather(np.arange(N))
    assert_same(table.gather(np.arange(N)), old)
    assert_same(before.gather(np.arange(N)), old)  # opened earlier
    assert before.n_keys == N


def test_a_table_of_fewer_rows_than_shards_grows(tmp_path, all_rows_ND, stats):
    folder = tmp_path / "made" / "table"
    write(folder, all_rows_ND[:10], None, stats, "int8", "none")
    table = open_table(folder)
    table.verify()
    by_key = table.gather(np.arange(10))
    assert_same(table.read_run(0, 1024), arranged(table, table.layout))
    assert append(folder, all_rows_ND[10:1500], None) == 10
    table = open_table(folder)
    table.verify()
    assert_same(table.gather(np.arange(10)), by_key)
    assert table.n_keys == 1500


def test_an_interrupted_addition_leaves_the_old_table(
    table_copy, folders, all_rows_ND, tmp_path, monkeypatch
):
    clean = shutil.copytree(table_copy, tmp_path / "clean")
    append(clean, all_rows_ND[N:], None)

    def cut_short(source, target):
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_short)
        with pytest.raises(DataError, match=r"cannot be written \(power cut\)"):
            append(table_copy, all_rows_ND[:50], None)
    spoiled = all_rows_ND[N:].copy()
    spoiled[-1, 2] = np.nan
    monkeypatch.setattr(table_writing, "_BLOCK_BYTES", 1)  # the first block is written
    match = rf"rows to write: the feature of key {N + MORE - 1} in dim 2 is, or .*, nan; make"
    with pytest.raises(DataError, match=match):
        append(table_copy, spoiled, None)
    grown = sum(path.stat().st_size for path in table_copy.glob("*.rows"))
    assert grown > N * (D + 4)
    table = open_table(table_copy)
    assert table.n_keys == N
    table.verify()
    assert_same(table.gather(np.arange(N)), open_table(folders["int8"]).gather(np.arange(N)))
    assert_same(table.read_run(0, 3072), open_table(folders["int8"]).read_run(0, 3072))
    append(table_copy, all_rows_ND[N:], None)
    assert contents(table_copy) == contents(clean)


def test_an_interrupted_write_is_no_table(tmp_path, rows_ND, stats, folders, monkeypatch):
    replace = os.replace

    def cut_short(source, target):
        if Path(source).is_dir():
            raise OSError("power cut")
        replace(source, target)

    folder = tmp_path / "table"
    monkeypatch.setattr(os, "replace", cut_short)
    match = r"table: the table cannot be written \(power cut\); see to room on the disk"
    fails_to_write(folder, match, rows_ND, None, stats)
    assert len(list(tmp_path.iterdir())) == 1  # what was written, under another name
    fails_to_open(folder, r"not a feature table: no such folder; give the folder")
    monkeypatch.undo()
    folder.mkdir()  # an empty folder is as good as none
    write(folder, rows_ND, None, stats, "int8", "VGG16 · FC6")
    assert contents(folder) == contents(folders["int8"])
    assert list(tmp_path.iterdir()) == [folder]


def test_rows_that_cannot_be_written(tmp_path, folders, rows_ND, stats):
    folder = tmp_path / "table"
    empty = r"float32 of shape \(0, 5\); expected numbers \[rows, content width\], at least one row"
    fails_to_write(folder, empty, rows_ND[:0], None, stats)
    fails_to_write(folder, r"bool of shape \(3000, 5\); expected", rows_ND > 0, None, stats)
    match = "rows to write have width 4, the table's statistics have width 5; take the features"
    fails_to_write(folder, match, rows_ND[:, 1:], None, stats)
    match = r"scale has shape \(2999,\), rows to write have shape \(3000, 5\); expected one factor"
    fails_to_write(folder, match, rows_ND, np.ones(N - 1, np.float32), stats)
    match = "int8: already holds a feature table; append to it, or name another folder"
    fails_to_write(folders["int8"], match, rows_ND, None, stats)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter").touch()
    match = "exists and is not an empty folder; name another folder"
    fails_to_write(tmp_path / "other", match, rows_ND, None, stats)
    fails_to_write(tmp_path / "other" / "letter", match, rows_ND, None, stats)
    match = "the table cannot be written .*Not a directory.*see to room"
    fails_to_write(tmp_path / "other" / "letter" / "table", match, rows_ND, None, stats)
    assert not folder.exists()


@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_features_that_are_not_finite_are_named(tmp_path, rows_ND, stats, value, said):
    spoiled_ND = rows_ND.copy()
    spoiled_ND[1234, 3] = value
    spoiled_ND[2000, 1] = value
    match = f"the feature of key 1234 in dim 3 is, or becomes when standardised, {said}; make that"
    fails_to_write(tmp_path / "table", match, spoiled_ND, None, stats)
    # Also where the statistics were spoiled by the same feature.
    mean_D = np.where(np.arange(D) == 3, np.float32(np.nan), stats.mean_D)
    of_spoiled = Statistics(mean_D, stats.deviation_D)
    fails_to_write(tmp_path / "table", match, spoiled_ND, None, of_spoiled)
    scale_N = np.ones(N, np.float32)
    scale_N[77] = value
    fails_to_write(tmp_path / "table", "key 77 in dim 0 is", rows_ND, scale_N, stats)


def test_statistics_that_cannot_be_used(tmp_path, rows_ND, stats):
    deviation_D = stats.deviation_D.copy()
    deviation_D[2] = 0
    match = r"statistics of dim 2 are mean 20.*, deviation 0.0; expected finite .* compute them"
    zero = Statistics(stats.mean_D, deviation_D)
    fails_to_write(tmp_path / "table", match, rows_ND, None, zero)
    deviation_D[2] = 1e-44
    match = "key 0 in dim 2 is, or becomes when standardised, -?inf"
    fails_to_write(tmp_path / "table", match, rows_ND, None, Statistics(stats.mean_D, deviation_D))


def test_rows_that_cannot_be_added(table_copy, rows_ND):
    with pytest.raises(DataError, match="have width 4, the table's statistics have width 5"):
        append(table_copy, rows_ND[:, 1:], None)
    with pytest.raises(DataError, match=r"of shape \(0, 5\); expected numbers"):
        append(table_copy, rows_ND[:0], None)
    with pytest.raises(DataError, match=r"scale has shape \(1,\)"):
        append(table_copy, rows_ND, np.ones(1, np.float32))
    with pytest.raises(DataError, match=r"not a feature table: no such folder"):
        append(table_copy / "nowhere", rows_ND, None)
    (table_copy / "shard-1023.rows").write_bytes(b"")
    with pytest.raises(DataError, match=r"shard-1023.rows: truncated: 0 bytes found, 18 wanted"):
        append(table_copy, rows_ND, None)
    open_table(table_copy).verify(0, 1023)  # nothing was added


# What is found


def test_any_flipped_bit_of_the_metadata_is_found(table_copy):
    path = table_copy / "table.json"
    size = path.stat().st_size
    rng = np.random.default_rng(4)
    last, first = range(size - 30, size), range(60)
    for byte in [*first, *last, *rng.integers(0, size, 200).tolist()]:
        bit = int(rng.integers(8))
        flip_bit(path, byte, bit)
        fails_to_open(
            table_copy,
            r"table.json: altered since it was written: the CRC-32 at its end .*; bring the f",
        )
        flip_bit(path, byte, bit)
    open_table(table_copy).verify()


def test_any_flipped_bit_of_a_shard_is_found(folders, tmp_path):
    rng = np.random.default_rng(5)
    for storage in STORAGES:
        folder = shutil.copytree(folders[storage], tmp_path / storage)
        table = open_table(folder)
        for shard in [0, 1023, *rng.integers(0, 1024, 3).tolist()]:
            path = folder / f"shard-{shard:04d}.rows"
            byte, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
            flip_bit(path, byte, bit)
            match = (
                rf"shard-{shard:04d}.rows: damaged: \w{{8}} is the CRC-32 of its rows, \w{{8}} is "
                r"recorded; bring this file back from a copy, or write the table again"
            )
            with pytest.raises(DataError, match=match):
                table.verify()
            with pytest.raises(DataError, match="damaged"):
                table.verify(shard, shard + 1)
            table.verify(0, shard)
            table.verify(shard + 1)
            flip_bit(path, byte, bit)
        table.verify()


def test_a_missing_shard_is_found_wherever_it_is_read(table_copy):
    (table_copy / FIRST_SHARD).unlink()
    table = open_table(table_copy)
    match = rf"{FIRST_SHARD}: shard file with 3 rows of the table cannot be opened \(No such file"
    for read in (
        table.verify,
        lambda: table.gather(np.array([5, 0])),
        lambda: table.read_run(0, 9),
    ):
        with pytest.raises(DataError, match=match):
            read()
    table.gather(np.arange(1, 1024))


def test_a_truncated_shard_is_found_wherever_it_is_read(table_copy):
    os.truncate(table_copy / FIRST_SHARD, 3 * (D + 4) - 1)
    table = open_table(table_copy)
    match = (
        f"{FIRST_SHARD}: truncated: 26 bytes found, 27 wanted for the 3 rows that are recorded; "
        "bring this file back"
    )
    for read in (
        table.verify,
        lambda: table.gather(np.array([5, 0])),
        lambda: table.read_run(0, 9),
    ):
        with pytest.raises(DataError, match=match):
            read()


def test_what_is_not_a_table_is_said(tmp_path, folders):
    fails_to_open(tmp_path / "nowhere", "nowhere: not a feature table: no such folder; give the")
    fails_to_open(tmp_path, r"not a feature table: no table.json in it; give the folder that")
    path = tmp_path / "table.json"
    path.write_text('{"legs": 4}')
    match = r"not the metadata of a feature table \(11 bytes without its marks\); give the folder"
    fails_to_open(tmp_path, match)
    path.unlink()
    path.mkdir()
    fails_to_open(tmp_path, r"table.json: cannot be read \(Is a directory\); give the folder")
    path.rmdir()
    text = (folders["int8"] / "table.json").read_text()
    path.write_text(text[:-100])
    fails_to_open(
        tmp_path, "altered since it was written: the CRC-32 at its end is not that of the 0 bytes"
    )


def test_a_later_format_is_not_guessed_at(table_copy):
    path = table_copy / "table.json"
    text = path.read_text().replace('"version": 1', '"version": 2')
    head, mark, tail = text.rpartition(',\n "crc32": "')
    path.write_text(f"{head}{mark}{zlib.crc32(head.encode()):08x}{tail[8:]}")
    fails_to_open(
        table_copy, r"version 2 of the format; this dicm_jax reads versions up to 1: inst"
    )


@pytest.mark.parametrize("key", [-1, N, 2**40])
def test_a_key_out_of_range_is_named(folders, key):
    table = open_table(folders["int8"])
    match = rf"key {key} asked for; the table has n_keys=3000, keys 0 to 2999: take the table"
    with pytest.raises(DataError, match=match):
        table.gather(np.array([0, key, 5]))


def test_a_run_outside_the_layout_is_refused(folders):
    table = open_table(folders["int8"])
    with pytest.raises(
        DataError, match="a layout of 2999 keys was asked for; the table has n_keys"
    ):
        table.read_run(0, 1, RowLayout(N - 1))
    for first, end in [(-1, 5), (5, 4), (0, 3073)]:
        match = f"rows {first} to {end} asked for; the layout has 3072 rows: give a run within"
        with pytest.raises(DataError, match=match):
            table.read_run(first, end)
