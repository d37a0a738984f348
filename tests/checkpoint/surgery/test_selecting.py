"""Extract, drop, merge and rename: which arrays, and not a bit of them changed."""

import json

import pytest

from tests.checkpoint.surgery import made
from tests.checkpoint.surgery.made import arrays, assert_same_bits, record, run, told


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory):
    return made.save(tmp_path_factory.mktemp("source"), made.state())


def test_drop_leaves_out_what_is_named_and_keeps_every_bit_of_the_rest(source, tmp_path, capsys):
    said = told(capsys, "drop", source, "ids.*", f"--output={tmp_path / 'out'}")
    expected = {n: a for n, a in arrays(source).items() if not n.startswith("ids.")}
    assert_same_bits(arrays(tmp_path / "out"), expected)
    assert said["dropped"] == ["ids.mu", "ids.nu", "ids.row"]
    assert said["arrays"] == len(expected)
    assert said["checkpoint"] == str(tmp_path / "out" / "checkpoints" / "5")


def test_extract_is_the_rest_of_drop(source, tmp_path, capsys):
    said = told(capsys, "extract", source, "ids", "*.bias", f"--output={tmp_path / 'kept'}")
    told(capsys, "drop", source, "ids", "*.bias", f"--output={tmp_path / 'rest'}")
    kept, rest = arrays(tmp_path / "kept"), arrays(tmp_path / "rest")
    assert said["kept"] == ["ids.mu", "ids.nu", "ids.row", "params.net.bias"] == sorted(kept)
    assert said["left_out"] == len(rest) == 6
    assert_same_bits(kept | rest, arrays(source))


def test_the_record_says_what_was_done_from_which_checkpoint(source, tmp_path, capsys):
    told(capsys, "drop", source, "ids.*", f"--output={tmp_path / 'a'}")
    told(capsys, "extract", tmp_path / "a", "params", f"--output={tmp_path / 'b'}")
    before, after = record(source), record(tmp_path / "b")
    first, second = after.pop("surgery")
    assert after == before
    assert [first["command"], second["command"]] == ["drop", "extract"]
    (origin,) = first["from"]
    sealed = json.loads((source / "5" / "manifest.json").read_text())
    assert sealed  # what the checksum is of
    assert origin["folder"] == str(source / "5")
    assert origin["step"] == 5
    assert len(origin["manifest_crc32"]) == 8
    assert second["from"][0]["manifest_crc32"] != origin["manifest_crc32"]


def test_pieces_merge_into_the_whole(source, tmp_path, capsys):
    told(capsys, "extract", source, "ids.*", f"--output={tmp_path / 'ids'}")
    told(capsys, "drop", source, "ids.*", f"--output={tmp_path / 'rest'}")
    pieces = (tmp_path / "rest", tmp_path / "ids")
    told(capsys, "merge", *pieces, f"--output={tmp_path / 'whole'}")
    assert_same_bits(arrays(tmp_path / "whole"), arrays(source))
    like = made.state(9)
    assert_same_bits(
        made.named(made.restored(tmp_path / "whole", like)), made.named(made.restored(source, like))
    )


def test_a_conflict_is_an_error_unless_somebody_is_preferred(source, tmp_path, capsys):
    other = made.save(tmp_path / "other", made.state(1))
    assert run("merge", source, other, f"--output={tmp_path / 'out'}") == 1
    error = capsys.readouterr().err
    assert "10 arrays are in several of the checkpoints (dense_optimizer.embedders.0 is in" in error
    assert "say with --prefer=first or --prefer=last" in error
    assert not (tmp_path / "out").exists()
    for prefer, winner in (("first", source), ("last", other)):
        out = tmp_path / prefer
        said = told(capsys, "merge", source, other, f"--prefer={prefer}", f"--output={out}")
        assert_same_bits(arrays(out), arrays(winner))
        assert len(said["conflicts"]) == 10


def test_vocabularies_follow_the_rows(source, tmp_path, capsys):
    sizes = {"user": 11, "item": 12}
    other = made.save(tmp_path / "other", made.state(1, sizes=sizes), sizes)
    told(capsys, "drop", source, "ids", f"--output={tmp_path / 'net'}")
    out = tmp_path / "out"
    told(capsys, "merge", tmp_path / "net", other, "--prefer=first", f"--output={out}")
    assert record(out)["vocabularies"] == [["user", 11], ["item", 12]]
    told(capsys, "extract", source, "ids.mu", f"--output={tmp_path / 'mu'}")
    assert run("merge", other, tmp_path / "mu", "--prefer=last", f"--output={tmp_path / 'x'}") == 1
    error = capsys.readouterr().err
    assert "ids.mu would come from" in error
    assert "drop the ids.* of one of them before" in error


def test_rename_of_one_array_and_of_a_group(source, tmp_path, capsys):
    pairs = ("params.net.*=params.tower.*", "step=steps")
    said = told(capsys, "rename", source, *pairs, f"--output={tmp_path / 'out'}")
    expected = {
        name.replace("params.net.", "params.tower.").replace("step", "steps"): array
        for name, array in arrays(source).items()
    }
    assert_same_bits(arrays(tmp_path / "out"), expected)
    assert said["renamed"]["step"] == "steps"
    back = ("params.tower.*=params.net.*", "steps=step")
    told(capsys, "rename", tmp_path / "out", *back, f"--output={tmp_path / 'back'}")
    assert_same_bits(arrays(tmp_path / "back"), arrays(source))
    # Two names may change places: nothing is overwritten on the way.
    swap = ("ids.mu=ids.nu", "ids.nu=ids.mu")
    told(capsys, "rename", source, *swap, f"--output={tmp_path / 'swapped'}")
    swapped, plain = arrays(tmp_path / "swapped"), arrays(source)
    assert swapped["ids.mu"].tobytes() == plain["ids.nu"].tobytes()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("ids.mu=ids.nu", "both ids.mu and ids.nu would be called ids.nu"),
        ("ids=tables", "'ids=tables': ids is a group of arrays, not one; write 'ids.*=tables.*'"),
        ("ids.*=tables", "OLD and NEW are two names, or have one * each"),
        ("ids.mu", "'ids.mu' is not of the form OLD=NEW"),
        ("idz.mu=x", "'idz.mu' means none of the 10 arrays: the nearest are ids.mu"),
    ],
)
def test_names_that_cannot_be(source, tmp_path, capsys, pair, message):
    assert run("rename", source, pair, f"--output={tmp_path / 'out'}") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_errors_of_devices_come_along_while_they_are_whole(tmp_path, capsys):
    saved = made.state(errors=True)
    source = made.save(tmp_path / "source", saved)
    told(capsys, "cast", source, "dense_optimizer.*=float64", f"--output={tmp_path / 'all'}")
    assert record(tmp_path / "all")["lists"] == {"image": 6}
    assert_same_bits(arrays(tmp_path / "all", "errors"), arrays(source, "errors"))
    again = made.restored(tmp_path / "all", made.state(3, errors=True))
    assert_same_bits(made.named(again.errors), made.named(saved.errors))
    told(capsys, "drop", source, "errors.image.error_RE", f"--output={tmp_path / 'half'}")
    assert record(tmp_path / "half")["lists"] == {}
    fresh = made.state(3, errors=True)
    went_on = made.restored(tmp_path / "half", fresh)
    assert_same_bits(made.named(went_on.errors), made.named(fresh.errors))
