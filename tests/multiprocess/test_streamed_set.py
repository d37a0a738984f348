"""A streamed set in several real processes: what one gives, whoever goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dicm_jax.config_file import load_config
from dicm_jax.data.prepared.from_log import write_log
from dicm_jax.data.readers import read_log
from tests.multiprocess.processes import ROOT
from tests.multiprocess.test_processes import TINY, ended_well, losses, result, train


@pytest.fixture(scope="module", name="streamed")
def _streamed(tmp_path_factory) -> tuple[str, ...]:
    """Settings of a run on a streamed set; it is made of the world that they draw else."""
    folder = tmp_path_factory.mktemp("sets") / "world"
    config = load_config(
        str(ROOT / "configs/dicm.py"), [text.removeprefix("--config.") for text in TINY]
    )
    log = read_log(config.data)
    write_log(log, folder, block_groups=8, shard_groups=70, storage="float32", settings={})
    return (
        "--config.data.kind=prepared",
        f"--config.data.path={folder}",
        "--config.data.stream=true",
        "--config.data.window_blocks=2",
    )


@pytest.fixture(scope="module", name="alone")
def _alone(tmp_path_factory, streamed) -> Path:
    """A run of one process, 8 steps."""
    workdir = tmp_path_factory.mktemp("runs") / "alone"
    ended_well(train(workdir, 1, *streamed, "--config.train.steps=8"))
    return workdir


def test_what_four_processes_saved_goes_on_in_two(alone, streamed, tmp_path):
    four, two = tmp_path / "four", tmp_path / "two"
    ended_well(train(four, 4, *streamed, "--config.train.steps=4"))
    np.testing.assert_allclose(losses(four), losses(alone)[:4], rtol=1e-5)
    shutil.copytree(four, two)
    ended_well(train(two, 2, *streamed, "--config.train.steps=8"))
    np.testing.assert_allclose(losses(two), losses(alone), rtol=1e-5)
    for metric in ("gauc", "auc", "logloss"):
        assert result(two)[metric] == pytest.approx(result(alone)[metric], abs=2e-5)
    assert json.loads((two / "config.json").read_text())["data"]["stream"] is True
