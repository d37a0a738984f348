"""A servable that is not whole, altered, or of another format is refused with what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from dicm_jax import sealed_json
from dicm_jax.errors import ServableError
from dicm_jax.serving import Ranker
from dicm_jax.serving import format as files
from dicm_jax.serving import servable as servables

REMEDY = "export it again with python -m dicm_jax.export, or serve an older version"


@pytest.fixture(name="copy")
def _copy(servable, tmp_path) -> Path:
    return shutil.copytree(servable, tmp_path / "copy")


def test_it_is_read_whole(servable):
    read = servables.read(servable)
    assert read.folder == servable / "1"
    assert read.version == "servable/1"
    assert list(read.models) == ["dicm", "baseline", "prerank"]
    assert len(read.items_NF) == len(read.context_NF) == len(read.names) + 1
    assert not read.items_NF[0].any()
    assert not read.context_NF[0].any()
    # Fields of a level stand one after the other among ID rows, and all rows are there.
    last = max(read.fields, key=lambda field: field.first)
    assert len(read.models["dicm"].tables["ids"]) == last.first + last.size
    assert not read.models["dicm"].tables["ids"][0].any()
    index_NP = read.models["prerank"].index_NP
    assert index_NP is not None
    assert index_NP.shape == (len(read.names), 6)


@pytest.mark.parametrize(
    "name", ["models/dicm/tables.safetensors", "servable.json", "models/dicm/rank.stablehlo"]
)
def test_a_file_cut_short_is_named(copy, name):
    path = copy / "1" / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(
        ServableError, match=rf"{name} has [\d,]+ bytes, its manifest says.*{REMEDY}"
    ):
        servables.read(copy)


@pytest.mark.parametrize(
    "name", ["models/dicm/tables.safetensors", "servable.json", "catalogue.safetensors"]
)
def test_one_bit_is_noticed(copy, name):
    path = copy / "1" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ServableError, match=rf"{name} was altered since it was written: its CRC-32"
    ):
        servables.read(copy)


def test_a_file_that_is_missing_is_named(copy):
    (copy / "1" / "items.jsonl").unlink()
    with pytest.raises(ServableError, match=rf"items.jsonl is missing: {REMEDY}"):
        servables.read(copy)
    # Unverified too it is no servable.
    with pytest.raises(ServableError, match=r"cannot be read \(.*items.jsonl.*\)"):
        servables.read(copy, verify=False)


def test_a_file_too_many_is_named(copy):
    (copy / "1" / "more.txt").write_text("more")
    with pytest.raises(ServableError, match=r"more.txt is not in its manifest"):
        servables.read(copy)


def test_without_a_manifest_it_is_not_whole(copy):
    (copy / "1" / "manifest.json").unlink()
    with pytest.raises(ServableError, match=r"not a whole servable: no manifest.json in it"):
        servables.read(copy)


def test_a_newer_format_asks_for_a_newer_reader(copy):
    path = copy / "1" / files.NAME
    body = json.loads(path.read_text())
    body.pop("crc32")
    sealed_json.save(path, body | {"version": files.VERSION + 1})
    files.MANIFEST.write(copy / "1")
    message = rf"version {files.VERSION + 1} of the format; this dicm_jax reads versions up to"
    with pytest.raises(ServableError, match=message):
        servables.read(copy)


def test_a_program_that_is_no_program(copy):
    (copy / "1/models/dicm/rank.stablehlo").write_bytes(b"no program")
    files.MANIFEST.write(copy / "1")
    with pytest.raises(ServableError, match=r"1: dicm/rank: no program that JAX .* can read"):
        Ranker(copy, room=0)


def test_a_table_without_its_numbers(copy):
    (copy / "1/models/dicm/tables.safetensors").write_bytes(b"")
    files.MANIFEST.write(copy / "1")
    with pytest.raises(ServableError, match=rf"cannot be read \(.*\): {REMEDY}"):
        servables.read(copy)


def test_no_servable(tmp_path):
    with pytest.raises(
        ServableError, match=r"nowhere: no such folder: give the folder that python"
    ):
        servables.read(tmp_path / "nowhere")
    with pytest.raises(ServableError, match=r"no servable in it: give the folder that python -m"):
        servables.read(tmp_path)


def test_the_newest_version_is_that_of_the_highest_number(tmp_path):
    for name in ("9", "10", "2", "11.unfinished", "x", "²", "007"):
        (tmp_path / name).mkdir()
    assert servables.newest(tmp_path) == tmp_path / "10"
    assert servables.versions_in(tmp_path) == [2, 9, 10]


@pytest.mark.parametrize("texts", [[], [""], ["a", 'ü,\n"]', "\u2028", "\ud800", "[", "\\"]])
def test_lines_come_back_as_they_were(tmp_path, texts):
    servables.write_lines(tmp_path / "lines", texts)
    assert servables.read_lines(tmp_path / "lines") == texts
