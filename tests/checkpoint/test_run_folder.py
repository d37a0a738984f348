"""One run at a time in a folder, and one model."""

import fcntl
import json
from pathlib import Path

import pytest

from dicm_jax.checkpoint.fingerprint import check_same, fingerprint
from dicm_jax.checkpoint.run_folder import claimed, config_of
from dicm_jax.config import Config
from dicm_jax.config_file import load_config, to_json_dict
from dicm_jax.errors import CheckpointError

ROOT = Path(__file__).parents[2]


def config(*settings: str) -> Config:
    return load_config(str(ROOT / "configs/dicm.py"), settings)


def test_two_runs_in_one_folder(tmp_path):
    with (
        claimed(tmp_path / "run", config()),
        pytest.raises(CheckpointError, match=r"another run is at work there; let it end"),
        claimed(tmp_path / "run", config("train.epochs=1")),
    ):
        pass
    with claimed(tmp_path / "run", config("train.epochs=1")):  # the first has ended
        assert config_of(tmp_path / "run").train.epochs == 1


def test_a_lock_ends_with_its_process(tmp_path):
    with claimed(tmp_path, config()):
        pass
    with (tmp_path / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_settings_of_another_model_leave_the_run_as_it_is(tmp_path):
    """Else the run could be evaluated no more."""
    with claimed(tmp_path, config()):
        (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    before = (tmp_path / "config.json").read_bytes()
    with (
        pytest.raises(CheckpointError, match=r"another model \(model.head_widths was"),
        claimed(tmp_path, config("model.head_widths=7")),
    ):
        pass
    assert (tmp_path / "config.json").read_bytes() == before
    with claimed(tmp_path, config("train.steps=5")):  # may change
        pass
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 5


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(CheckpointError, match=r"file/run cannot be written \(.*leave to write"),
        claimed(tmp_path / "file" / "run", config()),
    ):
        pass


def test_settings_that_are_no_json(tmp_path):
    (tmp_path / "config.json").write_text('{"train": ')
    with pytest.raises(CheckpointError, match=r"config.json: no JSON \(.*bring the file back"):
        config_of(tmp_path)
    with pytest.raises(CheckpointError, match=r"no run in .*it has no config.json"):
        config_of(tmp_path / "none")


def test_a_setting_newer_than_a_checkpoint_had_its_default():
    wanted = fingerprint(to_json_dict(config()))
    older = {name: value for name, value in wanted.items() if name != "model.normalizer"}
    check_same(older, wanted, "there")
    with pytest.raises(CheckpointError, match=r"model.normalizer was .none., is .softmax."):
        check_same(older, wanted | {"model.normalizer": "softmax"}, "there")
