"""No bit of a checkpoint changes unnoticed, and no file comes or goes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dicm_jax import sealed_json
from dicm_jax.checkpoint import manifest
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.errors import CheckpointError
from tests import small_world


@pytest.fixture(scope="module", name="saved")
def _saved(tmp_path_factory) -> Path:
    """A checkpoint as a run writes it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with Checkpoints(folder, keep=1, settings={}) as checkpoints:
        checkpoints.save(3, small_world.run(1, 2).state)
    return folder / "3"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_checkpoint_is_whole_as_it_was_written(saved):
    manifest.check(saved)
    listed = manifest.read(saved)["files"]
    assert {*listed} == {p.relative_to(saved).as_posix() for p in files_of(saved)} - {manifest.NAME}
    assert any(name.startswith("state/") for name in listed)
    assert "_CHECKPOINT_METADATA" in listed


def test_one_flipped_bit_in_any_file_is_found(saved):
    rng = np.random.default_rng(0)
    for path in files_of(saved):
        before = path.read_bytes()
        for bit in rng.integers(0, 8 * len(before), 3) if before else ():
            flip(path, int(bit))
            with pytest.raises(
                CheckpointError, match=rf"{path.name}.*(altered since|not the meta)"
            ):
                manifest.check(saved)
            path.write_bytes(before)
    manifest.check(saved)


def test_every_bit_of_a_small_checkpoint(tmp_path):
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "empty").touch()
    manifest.write(tmp_path)
    for path in (tmp_path / "a", tmp_path / manifest.NAME):
        for bit in range(8 * path.stat().st_size):
            flip(path, bit)
            with pytest.raises(CheckpointError):
                manifest.check(tmp_path)
            flip(path, bit)
    manifest.check(tmp_path)


@pytest.mark.parametrize("name", ["state/_METADATA", "record/metadata", "state/manifest.ocdbt"])
def test_a_file_that_is_gone_or_cut_or_added_is_named(saved, tmp_path, name):
    folder = tmp_path / "3"
    shutil.copytree(saved, folder)
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is missing: bring .* older one"):
        manifest.check(folder)
    (folder / name).write_bytes(content[:-1])
    message = rf"{name} has {len(content) - 1:,} bytes, its manifest says {len(content):,}"
    with pytest.raises(CheckpointError, match=message):
        manifest.check(folder)
    (folder / name).write_bytes(content)
    (folder / "state" / "more").touch()
    with pytest.raises(CheckpointError, match="state/more is not in its manifest"):
        manifest.check(folder)


def test_processes_that_share_the_reading_read_everything(saved, tmp_path):
    folder = tmp_path / "3"
    shutil.copytree(saved, folder)
    for path in files_of(folder):
        if path.name == manifest.NAME or not path.stat().st_size:
            continue
        flip(path, 0)
        found = 0
        for part in range(3):
            try:
                manifest.check(folder, part=part, parts=3)
            except CheckpointError:
                found += 1
        assert found == 1, path
        flip(path, 0)


def test_no_manifest_and_a_later_one(saved, tmp_path):
    folder = tmp_path / "3"
    shutil.copytree(saved, folder)
    (folder / manifest.NAME).unlink()
    with pytest.raises(CheckpointError, match=r"not a whole checkpoint: no manifest.json in it"):
        manifest.check(folder)
    with pytest.raises(CheckpointError, match="no such folder"):
        manifest.check(tmp_path / "4")
    body = {"format": "dicm_jax checkpoint", "version": 99, "files": {}}
    sealed_json.save(folder / manifest.NAME, body)
    with pytest.raises(CheckpointError, match=r"version 99 .* up to 1: install a later one"):
        manifest.check(folder)


def test_a_damaged_checkpoint_is_not_restored_and_the_older_one_is(tmp_path):
    run = small_world.run(1, 2)
    with Checkpoints(tmp_path, keep=2, settings={}) as checkpoints:
        checkpoints.save(1, run.state)
        run.go(1)
        checkpoints.save(2, run.state)
    flip(max(files_of(tmp_path / "2" / "state"), key=lambda path: path.stat().st_size), 1000)
    with Checkpoints(tmp_path, keep=2, settings={}) as checkpoints:
        with pytest.raises(CheckpointError, match=r"2: state/.* was altered .* older one"):
            checkpoints.restore(2, like=run.fresh())
        assert int(checkpoints.restore(1, like=run.fresh()).step) == 0
    shutil.rmtree(tmp_path / "2")
    with Checkpoints(tmp_path, keep=2, settings={}) as checkpoints:
        assert checkpoints.latest() == 1


def test_tables_are_written_in_pieces(saved):
    """Else a table that one device saves could only be read whole."""
    rows = json.loads((saved / "record" / "metadata").read_text())
    assert rows["next_batch"] == 3
