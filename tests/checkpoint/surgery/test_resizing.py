"""Grown and shrunk vocabularies, against a reference that goes key by key."""

import re

import numpy as np
import pytest

from dicm_jax.ams.layout import VIRTUAL_SHARDS
from dicm_jax.checkpoint.surgery import blocks, resizing
from tests.checkpoint.surgery import made
from tests.checkpoint.surgery.made import SIZES, arrays, assert_same_bits, record, run, told

TABLES = ("ids.row", "ids.mu", "ids.nu")


def row_of(sizes: dict[str, int], name: str, number: int) -> int:
    """Where the row of a key lies, by the words of `dicm_jax.ams.layout` and not by its code."""
    names = list(sizes)
    key = sum(sizes[before] for before in names[: names.index(name)]) + number
    rows_of_shard = -(-sum(sizes.values()) // VIRTUAL_SHARDS)
    return key % VIRTUAL_SHARDS * rows_of_shard + key // VIRTUAL_SHARDS


def moved(table: np.ndarray, before: dict[str, int], after: dict[str, int]) -> np.ndarray:
    """The rows of surviving keys, one by one; zero elsewhere."""
    rows = VIRTUAL_SHARDS * -(-sum(after.values()) // VIRTUAL_SHARDS)
    made_of = np.zeros((rows, *table.shape[1:]), table.dtype)
    for name, size in after.items():
        for number in range(min(size, before[name])):
            made_of[row_of(after, name, number)] = table[row_of(before, name, number)]
    return made_of


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory):
    crcs = {"item": 17, "shop": 18}
    folder = tmp_path_factory.mktemp("source")
    return made.save(folder, made.state(errors=True), vocabulary_crcs=crcs)


@pytest.mark.parametrize(
    "changes",
    [
        {"user": 1900},  # the first: all others move, and the table grows
        {"shop": 20},  # the last shrinks: nobody moves
        {"user": 1, "item": 3000, "shop": 42},
        {"user": 100, "item": 100, "shop": 1},  # one row a shard is left
    ],
)
@pytest.mark.parametrize("block_bytes", [blocks.BLOCK_BYTES, 1000])
def test_rows_land_where_their_keys_are(
    source, tmp_path, capsys, monkeypatch, changes, block_bytes
):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    if block_bytes < 2000:
        monkeypatch.setattr(resizing, "_ROWS_AT_ONCE", 37)
    after = SIZES | changes
    asked = [f"--vocabulary={name}={size}" for name, size in changes.items()]
    said = told(capsys, "resize", source, *asked, "--scale=0", f"--output={tmp_path / 'out'}")
    before, found = arrays(source), arrays(tmp_path / "out")
    expected = before | {name: moved(before[name], SIZES, after) for name in TABLES}
    assert_same_bits(found, expected)
    assert said["vocabularies"] == {name: [SIZES[name], size] for name, size in changes.items()}
    assert record(tmp_path / "out")["vocabularies"] == [list(pair) for pair in after.items()]


def test_there_and_back_is_the_same(source, tmp_path, capsys):
    told(capsys, "resize", source, "--vocabulary=item=5000", f"--output={tmp_path / 'more'}")
    back = tmp_path / "back"
    told(capsys, "resize", tmp_path / "more", "--vocabulary=item=900", f"--output={back}")
    before = arrays(source)
    # Rows that pad the table hold nothing: they come back as zeros.
    expected = before | {name: moved(before[name], SIZES, SIZES) for name in TABLES}
    assert_same_bits(arrays(back), expected)


def test_new_rows_are_drawn_and_what_the_optimizer_keeps_is_zero(source, tmp_path, capsys):
    outputs = [tmp_path / name for name in ("a", "b", "c")]
    for output, seed in zip(outputs, (0, 0, 1), strict=True):
        asked = ("--vocabulary=item=9000", f"--seed={seed}")
        said = told(capsys, "resize", source, *asked, f"--output={output}")
        assert said["scale"] == 0.5  # of the run's settings
    found, again, other = map(arrays, outputs)
    after = SIZES | {"item": 9000}
    new = [row_of(after, "item", number) for number in range(900, 9000)]
    drawn = found["ids.row"][new]
    assert abs(drawn.std() - 0.5) < 0.01
    assert abs(drawn.mean()) < 0.02
    assert len(np.unique(drawn)) > drawn.size * 0.999
    assert not found["ids.mu"][new].any()
    assert not found["ids.nu"][new].any()
    assert_same_bits(found, again)
    assert (other["ids.row"][new] != drawn).mean() > 0.99


@pytest.mark.parametrize("block_bytes", [blocks.BLOCK_BYTES, 3000])
def test_drawn_rows_do_not_depend_on_blocks(source, tmp_path, capsys, monkeypatch, block_bytes):
    told(capsys, "resize", source, "--vocabulary=user=9000", f"--output={tmp_path / 'whole'}")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    told(capsys, "resize", source, "--vocabulary=user=9000", f"--output={tmp_path / 'parts'}")
    assert_same_bits(arrays(tmp_path / "whole"), arrays(tmp_path / "parts"))


def test_what_no_longer_holds_is_left_out_and_told(source, tmp_path, capsys):
    said = told(capsys, "resize", source, "--vocabulary=item=901", f"--output={tmp_path / 'out'}")
    assert said["dropped"] == ["errors.image.error_RE", "errors.image.row_R"]  # rows by number
    assert said["ids_no_longer_known"] == ["item"]
    assert record(tmp_path / "out")["vocabulary_crcs"] == {"shop": 18}
    assert record(tmp_path / "out")["lists"] == {}
    fresh = made.state(4, sizes=SIZES | {"item": 901}, errors=True)
    went_on = made.restored(tmp_path / "out", fresh)
    assert_same_bits(made.named(went_on.errors), made.named(fresh.errors))


def test_rows_of_other_arrays(source, tmp_path, capsys):
    asked = ("--rows=params.net.kernel=12", "--rows=params.embedders=4", "--scale=2")
    said = told(capsys, "resize", source, *asked, f"--output={tmp_path / 'out'}")
    before, found = arrays(source), arrays(tmp_path / "out")
    assert said["rows"] == {"params.net.kernel": [7, 12], "params.embedders.image.layer": [9, 4]}
    name = "params.embedders.image.layer"
    assert found[name].tobytes() == before[name][:4].tobytes()
    assert found["params.net.kernel"][:7].tobytes() == before["params.net.kernel"].tobytes()
    assert found["params.net.kernel"][7:].astype(np.float32).std() > 0.5


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--vocabulary=itme=5"], "'itme' is none of the 3 vocabularies: the nearest are item"),
        (["--vocabulary=item=0"], "'item=0': '0' is no size; give a whole number of at least 1"),
        (["--vocabulary=item=many"], "'many' is no size"),
        (["--vocabulary=item"], "'item' is not of the form NAME=SIZE"),
        (["--rows=ids.row=5"], "ids.row is of the ID table .* --vocabulary=NAME=SIZE"),
        (["--rows=step=5"], "step is a single number and has no rows to add"),
        ([], "resize: nothing to do; say which with --vocabulary=NAME=SIZE or --rows="),
    ],
)
def test_sizes_that_cannot_be(source, tmp_path, capsys, asked, message):
    assert run("resize", source, *asked, f"--output={tmp_path / 'out'}") == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_table_of_other_vocabularies_is_not_resized(source, tmp_path, capsys):
    wrong = made.save(tmp_path / "wrong", made.state(), {"user": 7000})
    assert run("resize", wrong, "--vocabulary=user=5", f"--output={tmp_path / 'out'}") == 1
    error = capsys.readouterr().err
    assert "ids.mu has shape (2048, 3), but the table of the record's vocabularies" in error
    assert "of 7000 keys in all, has 7168 rows" in error
    told(capsys, "drop", source, "ids.row", f"--output={tmp_path / 'none'}")
    assert run("resize", tmp_path / "none", "--vocabulary=user=5", f"--output={tmp_path}/x") == 1
    assert "has no ids.row, or does not say of which vocabularies" in capsys.readouterr().err
