"""Arrays of any encoder, in every kind of file, become the same table.

Shape legend
    V   rows of the array      D   content width
"""

import itertools
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from dicm_jax.features import amazon_file, array_file
from dicm_jax.features.__main__ import main
from dicm_jax.features.keyed_table import open_keyed_table

V, D = 70, 6
IDS = np.array([f"A{number:03d}" for number in range(V)])


@pytest.fixture(scope="module")
def rows_VD() -> np.ndarray:
    return np.random.default_rng(0).normal(1, 2, (V, D)).astype(np.float32)


@pytest.fixture
def command(tmp_path, capsys):
    """Makes a table of an array; gives the exit code and stderr."""

    def run(array, *more: str) -> tuple[int, str]:
        arguments = [f"--array={array}", f"--output={tmp_path / 'out'}", "--storage=float32"]
        code = main([*arguments, *map(str, more)])
        return code, capsys.readouterr().err

    return run


def saved(folder: Path, kind: str, rows_VD, ids=IDS) -> list:
    """An array file of a kind, and arguments that say where its IDs are."""
    path = folder / f"array.{kind.partition(' ')[0]}"
    if path.suffix == ".npy":
        np.save(path, rows_VD)
    elif path.suffix == ".npz":
        save = np.savez_compressed if "compressed" in kind else np.savez
        save(path, **({"key": ids, "value": rows_VD} if "key" in kind else
                      {"id": ids, "rows": rows_VD}))  # fmt: skip
    elif path.suffix == ".safetensors":
        odd = {"a": np.zeros(3, np.uint8), "embeddings": np.ascontiguousarray(rows_VD)}
        save_file(odd, path, metadata={"made": "for a test"})
    elif path.suffix == ".parquet":
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rows_VD.ravel()), rows_VD.shape[1])
        lists = lists if "fixed" in kind else lists.cast(pa.list_(lists.type.value_type))
        table = pa.table({"rows": lists, "id": pa.array(ids)})
        pyarrow.parquet.write_table(table, path, row_group_size=16)
    if path.suffix in (".npy", ".safetensors"):
        (folder / "ids.txt").write_text("".join(f"{id_}\n" for id_ in ids))
        return [path, f"--ids={folder / 'ids.txt'}"]
    return [path]


KINDS = (
    "npy",
    "npz",
    "npz compressed key",
    "safetensors",
    "parquet",
    "parquet fixed",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_table(kind, command, rows_VD, tmp_path, monkeypatch):
    monkeypatch.setattr(array_file, "_LINES", 32)
    code, error = command(*saved(tmp_path, kind, rows_VD))
    assert code == 0, error
    check_table(tmp_path, rows_VD)


def check_table(folder, rows_VD, atol: float = 1e-5) -> None:
    table = open_keyed_table(folder / "out")
    assert table.ids.to_pylist() == list(IDS)
    found_VD = table.files.values(np.arange(V))
    wide_VD = rows_VD.astype(np.float64)
    np.testing.assert_allclose(
        found_VD, (wide_VD - wide_VD.mean(axis=0)) / wide_VD.std(axis=0), atol=atol
    )
    assert not (folder / "out" / ".image.unfinished").exists()


NUMBERS = [
    *itertools.product(("npy", "npz", "parquet"), (np.float64, np.float16, np.int32)),
    ("safetensors", np.float16),
    ("safetensors", ml_dtypes.bfloat16),
]


@pytest.mark.parametrize(("kind", "dtype"), NUMBERS)
def test_other_number_formats(kind, dtype, command, rows_VD, tmp_path):
    given_VD = (rows_VD * 100).astype(dtype)
    code, error = command(*saved(tmp_path, kind, given_VD))
    assert code == 0, error
    check_table(tmp_path, given_VD, atol=1e-4)


def test_integers_with_a_scale(command, tmp_path):
    rng = np.random.default_rng(0)
    rows_VD = rng.integers(0, 256, (V, D), np.uint8)
    scale_V = rng.uniform(1, 2, V).astype(np.float32)
    np.savez(tmp_path / "a.npz", article_id=IDS, rows=rows_VD, scale=scale_V)
    code, error = command(tmp_path / "a.npz", "--id-name=article_id", "--encoder=SqueezeNet")
    assert code == 0, error
    check_table(tmp_path, rows_VD * scale_V[:, None])
    assert open_keyed_table(tmp_path / "out").files.encoder == "SqueezeNet"


def test_amazon_records(command, tmp_path, monkeypatch):
    """The published format: an ASIN of 10 bytes and 4096 float32, again and again."""
    rows_VD = np.random.default_rng(0).normal(size=(3, 4096)).astype("<f4")
    asins = ("B000000001", "0439893577", "B00ZZZZZZ9")
    path = tmp_path / "image_features_Test.b"
    path.write_bytes(
        b"".join(
            asin.encode() + row_D.tobytes() for asin, row_D in zip(asins, rows_VD, strict=True)
        )
    )
    assert path.stat().st_size == 3 * (10 + 4 * 4096)
    code, error = command(path)
    assert code == 0, error
    table = open_keyed_table(tmp_path / "out")
    assert table.ids.to_pylist() == list(asins)
    expected_VD = (rows_VD - rows_VD.mean(axis=0)) / rows_VD.std(axis=0)
    np.testing.assert_allclose(table.files.values(np.arange(3)), expected_VD, atol=1e-3)

    path.write_bytes(path.read_bytes()[:-1])
    code, error = command(path, "--content=again")
    assert code == 1
    assert "are 2 records of 16394 and 16393 bytes more" in error
    assert amazon_file.RECORD.itemsize == 16394


@pytest.mark.parametrize("suffix", [".txt", ".npy", ".csv", ".parquet"])
def test_ids_from_every_kind_of_file(suffix, command, rows_VD, tmp_path):
    path, _ = saved(tmp_path, "npy", rows_VD)
    ids = tmp_path / f"names{suffix}"
    if suffix == ".npy":
        np.save(ids, IDS)
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table({"id": IDS}), ids)
    else:
        ids.write_text("id\n" * (suffix == ".csv") + "\n".join(IDS) + "\n")
    code, error = command(path, f"--ids={ids}")
    assert code == 0, error
    check_table(tmp_path, rows_VD)


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(kind, command, rows_VD, tmp_path):
    path, *more = saved(tmp_path, kind, rows_VD)
    truncated(path)
    code, error = command(path, *more)
    assert code == 1
    assert f"array.{kind.split()[0]}: cannot be read as" in error
    assert "it may be cut short: make or download it again" in error
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("kind", ["npz", "npz compressed"])
def test_damaged_archives(kind, command, rows_VD, tmp_path):
    (path,) = saved(tmp_path, kind, rows_VD)
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("rows.npy").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 300] ^= 1
    path.write_bytes(data)
    code, error = command(path)
    assert code == 1
    assert "cannot be read as a NumPy array file" in error


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_rows_that_are_not_finite(bad, kind, command, rows_VD, tmp_path):
    spoiled_VD = rows_VD.copy()
    spoiled_VD[41, 2] = bad
    code, error = command(*saved(tmp_path, kind, spoiled_VD))
    assert code == 1
    assert "NaN or infinity in the features of 'A041' (row 41); make that row again" in error
    assert not list((tmp_path / "out").iterdir())


def test_repeated_ids(command, rows_VD, tmp_path):
    ids = IDS.copy()
    ids[40] = ids[3]
    for kind in ("npy", "npz", "parquet"):
        code, error = command(*saved(tmp_path, kind, rows_VD, ids))
        assert code == 1
        assert "1 IDs come more than once, the first is 'A003' (rows 3 and 40)" in error


def test_what_does_not_fit(command, rows_VD, tmp_path):
    path, ids = saved(tmp_path, "npy", rows_VD)
    (tmp_path / "few.txt").write_text("a\nb\n")
    (archive,) = saved(tmp_path, "npz", rows_VD)
    np.savez(tmp_path / "flat.npz", id=IDS, rows=rows_VD[:, 0])
    np.savez(tmp_path / "words.npz", id=IDS, rows=rows_VD.astype(np.str_))
    np.savez(tmp_path / "named.npz", name=IDS, rows=rows_VD)
    np.savez(tmp_path / "scale.npz", id=IDS, rows=rows_VD, scale=np.ones(3, np.float32))
    np.savez(tmp_path / "objects.npz", id=IDS, rows=np.array([{}] * V, object))
    save_file({"a": rows_VD, "b": rows_VD}, tmp_path / "two.safetensors")
    (tmp_path / "rows.csv").touch()
    for arguments, match in (
        ((path,), "array.npy: no IDs in it; give a file of them with --ids"),
        ((archive, ids), "array.npz: IDs in it, and also in "),
        ((path, f"--ids={tmp_path}/few.txt"), "few.txt names 2 rows; there must be one row for ea"),
        ((path, f"--ids={tmp_path}/none.txt"), "none.txt: no such file; give a file with the ID"),
        ((path, f"--ids={tmp_path}/rows.json"), "rows.json: no such file"),
        ((tmp_path / "none.npy",), "none.npy: no such file; give the array that you have"),
        ((tmp_path / "flat.npz",), "rows are float32 of shape (70,); expected numbers [rows, feat"),
        ((tmp_path / "words.npz",), "rows are <U"),
        ((tmp_path / "named.npz",), "or name its array of IDs with --id-name"),
        ((tmp_path / "scale.npz",), "scale is float32 of shape (3,), rows has shape (70, 6)"),
        ((tmp_path / "objects.npz",), "cannot be read as a NumPy array file"),
        ((tmp_path / "two.safetensors", ids), "no array 'rows'; arrays found: ['a', 'b']"),
        ((tmp_path / "rows.csv",), "a feature array is one of .npy, .npz, .parquet, .safetensors"),
    ):
        code, error = command(*arguments)
        assert code == 1, arguments
        assert match in error


def test_parquet_rows_of_two_widths(command, tmp_path, monkeypatch):
    monkeypatch.setattr(array_file, "_LINES", 2)
    table = pa.table({"id": ["a", "b", "c"], "rows": [[1.0, 2.0], [3.0, 4.0], [5.0]]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    code, error = command(tmp_path / "a.parquet")
    assert code == 1
    assert "row 2 has 1 values, row 0 has 2; every row must have the same width" in error


def test_full_disk_is_told_from_a_bad_file(command, rows_VD, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (path,) = saved(tmp_path, "npz", rows_VD)
    monkeypatch.setattr(array_file.shutil, "copyfileobj", full)
    code, error = command(path)
    assert code == 1
    assert "cannot be copied there" in error
    assert "make room on that disk" in error


def test_finished_table_stays_and_other_settings_are_told(command, rows_VD, tmp_path):
    (path,) = saved(tmp_path, "npz", rows_VD)
    assert command(path)[0] == command(path)[0] == 0
    code, error = command(path, "--encoder=CLIP")
    assert code == 1
    assert "encoder was 'array.npz' and is now 'CLIP'" in error
    assert command(path, "--encoder=CLIP", "--content=clip")[0] == 0
