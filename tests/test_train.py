"""The train command from its arguments to its files: results, going on, kills, mistakes."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.cli import run_command
from dicm_jax.errors import CheckpointError, ConfigError
from dicm_jax.train import train
from dicm_jax.training.state import Params, TrainState

ROOT = Path(__file__).parents[1]
SMALL = (
    "data.world.items=400",
    "data.world.users=150",
    "data.world.content_width=37",
    "data.world.train_days=4",
    "data.world.test_days=2",
    "model.compressor_widths=16,8,12",
    "model.attention_widths=8,4",
    "model.head_widths=16,8",
    "train.batch_size=64",
    "train.epochs=3",
    "train.log_every=2",
    "train.baseline=false",
    "evaluate.batch_size=256",
)
"""A run of seconds: tiny layers, a small world."""


def _run(workdir: Path, *more: str) -> dict:
    assert train(str(ROOT / "configs/dicm.py"), workdir, [*SMALL, *more]) == 0
    return json.loads((workdir / "result.json").read_text())


def _arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, as it lies on disk."""
    folder = workdir.absolute() / "checkpoints"
    with ocp.CheckpointManager(folder, item_names=("state", "record")) as manager:
        step = manager.latest_step()
        restored = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))
    return {name: np.asarray(array) for name, array in restored["state"].items()}


def _assert_equal_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module", name="straight")
def _straight(tmp_path_factory) -> Path:
    """A run without interruption: 12 steps on 8 devices, evaluated on the way."""
    workdir = tmp_path_factory.mktemp("straight")
    _run(workdir, "train.steps=12", "evaluate.every=5", "checkpoint.every=5")
    return workdir


def test_a_run_leaves_its_files(straight):
    result = json.loads((straight / "result.json").read_text())
    assert result["steps"] == 12
    assert {"gauc", "auc", "logloss", "samples_per_s", "oracle_gauc"} <= result.keys()
    assert 0.5 < result["oracle_gauc"] < 1
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in lines if line["kind"] == "eval"] == [5, 10, 12]
    assert all("loss" in line and "samples_per_s" in line for line in lines if "loss" in line)
    assert json.loads((straight / "config.json").read_text())["train"]["steps"] == 12
    assert list((straight / "tensorboard").iterdir())


def test_a_run_that_goes_on_equals_the_straight_run(straight, tmp_path):
    _run(tmp_path, "train.steps=7")
    _run(tmp_path, "train.steps=12")
    _assert_equal_bits(_arrays(straight), _arrays(tmp_path))


def test_a_finished_run_is_scored_again_and_not_trained_again(straight):
    before = _arrays(straight)
    first = json.loads((straight / "result.json").read_text())
    again = _run(straight, "train.steps=12", "evaluate.every=5", "checkpoint.every=5")
    assert again["gauc"] == first["gauc"]
    _assert_equal_bits(before, _arrays(straight))


def test_the_baseline_is_trained_beside_the_model(tmp_path, capsys):
    result = _run(tmp_path, "train.steps=3", "train.baseline=true")
    assert 0 <= result["baseline_gauc"] <= 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result
    assert not any(name.startswith("params.embedders") for name in _arrays(tmp_path / "baseline"))


def test_kill_9_at_random_moments_loses_nothing(tmp_path):
    """Killed, started again, killed again: the parameters are those of a run in peace."""
    command = [sys.executable, "-m", "dicm_jax.train", f"--config={ROOT / 'configs/dicm.py'}"]
    command += [f"--config.{setting}" for setting in (*SMALL, "checkpoint.every=3")]
    command += ["--config.train.steps=60", "--config.mesh.virtual_devices=2"]
    subprocess.run(
        [*command, f"--workdir={tmp_path / 'peace'}"], check=True, cwd=ROOT, capture_output=True
    )
    moments, kills = random.Random(0), 0
    for _ in range(20):
        with subprocess.Popen(
            [*command, f"--workdir={tmp_path / 'killed'}"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            if kills < 2 and _wait_for_a_checkpoint(tmp_path / "killed", process):
                time.sleep(moments.uniform(0, 0.4))
                process.kill()
            if process.wait() == 0:
                break
            kills += 1
    assert kills == 2, "the run ended before it could be killed: nothing was shown"
    _assert_equal_bits(_arrays(tmp_path / "peace"), _arrays(tmp_path / "killed"))


def _wait_for_a_checkpoint(workdir: Path, process: subprocess.Popen) -> bool:
    """Whether a checkpoint newer than those at the start appears while `process` runs."""

    def newest() -> int:
        folder = workdir / "checkpoints"
        steps = [int(p.name) for p in folder.glob("*") if p.name.isdigit()]
        return max(steps, default=0)

    start = newest()
    while process.poll() is None:
        if newest() > start:
            return True
        time.sleep(0.02)
    return False


def test_sigterm_saves_and_exits_with_75(tmp_path):
    command = [sys.executable, "-m", "dicm_jax.train", f"--config={ROOT / 'configs/dicm.py'}"]
    command += [f"--config.{setting}" for setting in (*SMALL, "checkpoint.every=2")]
    command += ["--config.train.epochs=50", "--config.mesh.virtual_devices=1"]
    with subprocess.Popen(
        [*command, f"--workdir={tmp_path}"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert _wait_for_a_checkpoint(tmp_path, process)
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run the same command again to go on" in stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.lanes=12"], "train.lanes=12 cannot be dealt out evenly to 8 devices"),
        (["mesh.worker=3", "train.lanes=24"], "mesh.worker=3 does not divide the 8 devices"),
        (["mesh.server=4"], r"mesh \(worker=1, server=4\) wants 4 devices, 8 are at hand"),
        (["train.batch_size=100"], "100 impressions cannot be cut into train.lanes=8 equal"),
        (["model.query_fields=colour"], "names 'colour', which is no field of log"),
        (["model.compressor_widths=16,8"], "ends in 8, but model.embedding_width is 12"),
        (
            ["model.images=behavior", "model.query_fields=()"],
            r"model.query_fields=\(\): attention over behaviors has no query",
        ),
        (["optimizer.learning_rat=1"], "did you mean"),
        (["model.compressor_init=pca", "model.compressor_widths=64,8,12"], "span 37 directions"),
    ],
)
def test_a_mistake_ends_with_one_message(tmp_path, capsys, overrides, message):
    def command() -> int:
        return train(str(ROOT / "configs/dicm.py"), tmp_path, [*SMALL, *overrides])

    assert run_command(command, debug=False) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error), error


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")

    def command() -> int:
        return train(str(ROOT / "configs/dicm.py"), tmp_path / "file" / "run", SMALL)

    assert run_command(command, debug=False) == 1
    assert re.search(r"error: .*Not a directory.*file", capsys.readouterr().err)


def test_nan_stops_with_the_step_and_the_tensor(tmp_path, capsys):
    def command() -> int:
        more = ["optimizer.learning_rate=1e30", "train.steps=12"]
        return train(str(ROOT / "configs/dicm.py"), tmp_path, [*SMALL, *more])

    assert run_command(command, debug=False) == 1
    assert "has NaN or infinity" in (error := capsys.readouterr().err)
    assert "error: step " in error
    assert not list((tmp_path / "checkpoints").glob("[0-9]*")), "a broken state was saved"


def test_a_checkpoint_of_another_model_is_refused(straight, capsys):
    def command() -> int:
        more = ["train.steps=12", "model.head_widths=20,8"]
        return train(str(ROOT / "configs/dicm.py"), straight, [*SMALL, *more])

    assert run_command(command, debug=False) == 1
    error = capsys.readouterr().err
    assert "it is of another model (model.head_widths was [16, 8], is [20, 8])" in error
    assert "Use another --workdir" in error


def test_a_step_that_was_not_saved_is_named(straight):
    nothing = TrainState(jnp.zeros((), jnp.int32), Params({}, {}), Params({}, {}), {}, {})
    with (
        Checkpoints(straight / "checkpoints", keep=2, settings={}) as checkpoints,
        pytest.raises(CheckpointError, match=r"no checkpoint of step 4 .* found steps \[10, 12\]"),
    ):
        checkpoints.restore(4, like=nothing)


def test_a_damaged_checkpoint_is_named(straight, tmp_path, capsys):
    shutil.copytree(straight, tmp_path / "run")
    for file in (tmp_path / "run/checkpoints/12/state").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(file.read_bytes()[:500])

    def command() -> int:
        more = ["train.steps=12"]
        return train(str(ROOT / "configs/dicm.py"), tmp_path / "run", [*SMALL, *more])

    assert run_command(command, debug=False) == 1
    message = (
        r"checkpoints/12: state/.* has 500 bytes, its manifest says .*nothing has been changed"
    )
    assert re.search(message, capsys.readouterr().err)


def test_fewer_steps_than_were_taken(straight, tmp_path):
    with pytest.raises(ConfigError, match=r"train.steps=6: the run in .* has taken 12 steps"):
        _run(shutil.copytree(straight, tmp_path / "run"), "train.steps=6")
