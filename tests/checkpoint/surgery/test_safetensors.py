"""To safetensors and back: not a bit is lost, and the library itself reads what lies between."""

import json
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from dicm_jax.checkpoint.surgery import blocks
from tests.checkpoint.surgery import made
from tests.checkpoint.surgery.made import arrays, assert_same_bits, record, run, told


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory):
    return made.save(tmp_path_factory.mktemp("source"), made.state(errors=True))


@pytest.mark.parametrize("block_bytes", [blocks.BLOCK_BYTES, 100])
@pytest.mark.parametrize("size", ["5GiB", "20KiB", "1B"])
def test_there_and_back(source, tmp_path, capsys, monkeypatch, size, block_bytes):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    files, back = tmp_path / "files", tmp_path / "back"
    said = told(capsys, "to-safetensors", source, f"--output={files}", f"--max-file-size={size}")
    told(capsys, "from-safetensors", files, f"--output={back}")
    for item in ("state", "errors"):
        assert_same_bits(arrays(back, item), arrays(source, item))
    after = record(back)
    assert after.pop("surgery")[0]["command"] == "from-safetensors"
    assert after == record(source)
    assert run("diff", source, back) == 0
    assert said["files"] == {"5GiB": 1, "20KiB": 5, "1B": 12}[size]


def test_the_library_reads_every_tensor(source, tmp_path, capsys):
    told(capsys, "to-safetensors", source, f"--output={tmp_path}/files", "--max-file-size=20KiB")
    found = {}
    for path in (tmp_path / "files").glob("*.safetensors"):
        with safetensors.safe_open(path, framework="numpy") as file:
            assert json.loads(file.metadata()["record"]) == record(source)
        found |= dict(safetensors.deserialize(path.read_bytes()))
    owed = {f"errors.{name}": array for name, array in arrays(source, "errors").items()}
    expected = arrays(source) | owed
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert bytes(found[name]["data"]) == array.tobytes(), name
        assert tuple(found[name]["shape"]) == array.shape
    index = json.loads((tmp_path / "files" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == expected.keys()
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in expected.values())


def test_tensors_lie_at_multiples_of_their_elements(source, tmp_path, capsys):
    told(capsys, "cast", source, "params.net.counts=int8", f"--output={tmp_path / 'cast'}")
    told(capsys, "to-safetensors", tmp_path / "cast", f"--output={tmp_path / 'files'}")
    data = (tmp_path / "files" / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    sizes = {"F32": 4, "I32": 4, "BF16": 2, "I8": 1}
    for name, entry in entries.items():
        if name != "__metadata__":
            assert (8 + length + entry["data_offsets"][0]) % sizes[entry["dtype"]] == 0, name


def test_an_empty_tensor_and_a_whole_folder_of_files_by_others(source, tmp_path, capsys):
    """Orbax saves no empty arrays, but files of others may hold them."""
    told(capsys, "to-safetensors", source, f"--output={tmp_path / 'files'}")
    with safetensors.safe_open(tmp_path / "files" / "model.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    tensors = {
        "a": np.zeros((0, 4), np.float32),
        "b": np.arange(6.0).reshape(2, 3),
        "c": np.int8(3),
    }
    tensors = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(tensors, tmp_path / "by-others.safetensors", metadata)
    told(capsys, "from-safetensors", tmp_path / "by-others.safetensors", f"--output={tmp_path}/out")
    told(capsys, "to-safetensors", tmp_path / "out", f"--output={tmp_path / 'again'}")
    found = safetensors.numpy.load_file(tmp_path / "again" / "model.safetensors")
    assert_same_bits(found, tensors)
    told(capsys, "verify", tmp_path / "out")


def test_what_is_no_such_file(source, tmp_path, capsys):
    files = tmp_path / "files"
    told(capsys, "to-safetensors", source, f"--output={files}", "--max-file-size=20KiB")
    first, second, *_ = sorted(files.glob("*.safetensors"))
    out = f"--output={tmp_path / 'out'}"

    def error(*arguments: object) -> str:
        assert run("from-safetensors", *arguments, out) == 1
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    data = bytearray(second.read_bytes())
    data[-1] ^= 1
    second.write_bytes(data)
    assert "altered since it was written" in error(files)
    second.write_bytes(data[:-100])
    assert "has 24" in error(files)
    assert "not a whole safetensors file" in error(files, "--no-verify")
    second.unlink()
    assert "model-00002-of-00005.safetensors is missing" in error(files)
    assert "are in none of its files (the first is" in error(files, "--no-verify")
    first.with_name("copy.safetensors").write_bytes(first.read_bytes())
    assert "of more than one checkpoint" in error(files, "--no-verify")
    assert "no such folder or file; name what" in error(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "no .safetensors file in it" in error(tmp_path / "empty", "--no-verify")
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "foreign.safetensors")
    assert "no record of a checkpoint in its metadata (empty)" in error(
        tmp_path / "foreign.safetensors"
    )
    assert run("to-safetensors", source, "--max-file-size=5GB", out) == 2
    assert "'5GB' is no size; write it as 5GiB" in capsys.readouterr().err
