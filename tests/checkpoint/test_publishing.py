"""Whatever moment a save is cut short at, no half checkpoint has a checkpoint's name."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dicm_jax.checkpoint import manifest, publishing
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.errors import CheckpointError
from tests import small_world

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="run")
def _run() -> small_world.Run:
    return small_world.run(1, 2)


def test_what_a_kill_leaves_is_no_checkpoint_and_is_removed(run, tmp_path):
    """A kill before the manifest, after it, and in the midst of Orbax's own work."""
    with Checkpoints(tmp_path, keep=2, settings={}) as checkpoints:
        checkpoints.save(1, run.state)
    for left in ("2.unlisted", "2.unlisted.orbax-checkpoint-tmp", "3.orbax-checkpoint-tmp"):
        (tmp_path / left / "state").mkdir(parents=True)
    manifest.write(tmp_path / "2.unlisted")
    with Checkpoints(tmp_path, keep=2, settings={}) as checkpoints:
        assert checkpoints.steps() == [1]
        checkpoints.save(2, run.state)
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]
    manifest.check(tmp_path / "2")


def test_a_reader_leaves_a_save_under_way_alone(run, tmp_path):
    """Evaluation beside training must not clean up behind it."""
    with Checkpoints(tmp_path, keep=2, settings={}) as checkpoints:
        checkpoints.save(1, run.state)
    for left in ("2.unlisted", "2.unlisted.orbax-checkpoint-tmp"):
        (tmp_path / left).mkdir()
    with Checkpoints(tmp_path, keep=None, settings={}) as checkpoints:
        restored = checkpoints.restore(1, like=run.fresh())
    jax.tree.map(np.testing.assert_array_equal, restored, run.state)
    assert sorted(os.listdir(tmp_path)) == ["1", "2.unlisted", "2.unlisted.orbax-checkpoint-tmp"]


def test_older_ones_go_only_when_the_new_one_is_whole(run, tmp_path, monkeypatch):
    seen = []
    write = manifest.write

    def watched(folder: Path) -> None:
        seen.append(sorted(entry.name for entry in tmp_path.iterdir()))
        write(folder)

    monkeypatch.setattr(publishing.manifest, "write", watched)
    with Checkpoints(tmp_path, keep=1, settings={}) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, run.state)
    assert seen == [["1.unlisted"], ["1", "2.unlisted"]]
    assert sorted(os.listdir(tmp_path)) == ["2"]


def test_multiples_are_kept_for_good(run, tmp_path):
    with Checkpoints(tmp_path, keep=1, keep_every=2, settings={}) as checkpoints:
        for step in (1, 2, 3, 4, 5):
            checkpoints.save(step, run.state)
    with Checkpoints(tmp_path, keep=None, settings={}) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]


def test_other_data_are_refused(run, tmp_path):
    marks = {"train": {"groups": 5}, "image": {"crc32": 7}}
    with Checkpoints(tmp_path, keep=1, settings={}, data=marks) as checkpoints:
        checkpoints.save(1, run.state)
    other = marks | {"image": {"crc32": 8}}
    with (
        Checkpoints(tmp_path, keep=None, settings={}, data=other) as checkpoints,
        pytest.raises(CheckpointError, match=r"other data \(image.crc32 was 7, is 8\): give the"),
    ):
        checkpoints.restore(1, like=run.fresh())


_SAVES = """
import resource, sys
from pathlib import Path
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.cli import run_command
from tests import small_world

def command():
    run = small_world.run(1, 1)
    with Checkpoints(Path(sys.argv[1]), keep=1, settings={}) as checkpoints:
        checkpoints.save(1, run.state)
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        checkpoints.save(2, run.state)
    return 0

sys.exit(run_command(command, debug=False))
"""


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path):
    """A limit on the size of files stands for the disk: the system refuses to write on."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN){_SAVES}",
            str(tmp_path),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1, done.stderr
    message = r"error: the checkpoints in .* cannot be written: .*room on the disk .* untouched"
    assert re.search(message, done.stderr), done.stderr
    assert [name for name in os.listdir(tmp_path) if name.isdigit()] == ["1"]
    manifest.check(tmp_path / "1")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000


def test_no_leave_to_write(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot be opened: .*leave to write"):
        Checkpoints(tmp_path / "file" / "checkpoints", keep=1, settings={})
