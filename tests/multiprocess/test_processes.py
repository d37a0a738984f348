"""Several real processes give what one process gives, each feeding its own share of the batch."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.multiprocess import steps
from tests.multiprocess.processes import Ended, start

TINY = [
    "--config.data.world.users=120",
    "--config.data.world.items=1300",
    "--config.data.world.scenes=2",
    "--config.model.compressor_widths=(16,8,12)",
    "--config.model.attention_widths=(8,)",
    "--config.model.head_widths=(16,)",
    "--config.model.compute_dtype=float32",
    "--config.features.storage=float32",
    "--config.train.batch_size=256",
    "--config.train.baseline=false",
    "--config.train.log_every=1",
    "--config.evaluate.batch_size=1024",
]


def ended_well(ended: list[Ended]) -> None:
    for process in ended:
        assert process.code == 0, process.err[-3000:]


@pytest.mark.parametrize(("processes", "devices"), [(2, 2), (4, 2)])
def test_processes_give_the_losses_of_one(processes, devices, tmp_path):
    out = tmp_path / "out.json"
    total = processes * devices
    command = ["-m", "tests.multiprocess.steps", str(out), str(total)]
    ended_well(start([command] * processes, devices))
    together = json.loads(out.read_text())
    alone = steps.outcomes(total)
    assert together.keys() == alone.keys()
    for name, expected in alone.items():
        found = together[name]
        np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-5, err_msg=name)
        for key, value in expected["squares"].items():
            assert found["squares"][key] == pytest.approx(value, rel=1e-3), (name, key)
        for counted in ("rounds", "listed", "handled"):
            assert found[counted] == expected[counted], name
    if "overflown" in together:
        assert together["overflown"]["rounds"] > 1


def train(workdir: Path, processes: int, *arguments: str, devices: int = 1) -> list[Ended]:
    command = [
        "-m",
        "dicm_jax.train",
        "--config=configs/dicm.py",
        f"--workdir={workdir}",
        *TINY,
        *arguments,
    ]
    return start([command] * processes, devices)


def result(workdir: Path) -> dict:
    return json.loads((workdir / "result.json").read_text())


def losses(workdir: Path) -> list[float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> Path:
    """A run of two processes, stopped after 4 of 8 steps."""
    workdir = tmp_path_factory.mktemp("runs") / "two"
    ended_well(train(workdir, 2, "--config.train.steps=4"))
    return workdir


@pytest.mark.parametrize("processes", [1, 4])
def test_a_checkpoint_of_two_processes_goes_on_in_others(of_two, processes, tmp_path):
    import shutil

    whole, copy = tmp_path / "whole", tmp_path / "copy"
    shutil.copytree(of_two, copy)
    ended_well(train(copy, processes, "--config.train.steps=8"))
    ended_well(train(whole, 1, "--config.train.steps=8"))
    np.testing.assert_allclose(losses(copy), losses(whole), rtol=1e-5)
    assert result(copy)["steps"] == 8
    for metric in ("gauc", "auc", "logloss"):
        assert result(copy)[metric] == pytest.approx(result(whole)[metric], abs=2e-5)


def test_a_process_with_another_configuration_is_refused_by_all(tmp_path):
    command = ["-m", "dicm_jax.train", "--config=configs/dicm.py", f"--workdir={tmp_path}/run"]
    ended = start([command, [*command, "--config.optimizer.b1=0.8"]], devices=1)
    for process in ended:
        assert process.code == 1, process.err[-3000:]
        assert re.search(
            r"process 1 has optimizer.b1=0.8, process 0 has 0.9: start all processes of a run with"
            r" the same configuration",
            process.err,
        )
    assert not (tmp_path / "run").exists()


def test_a_process_without_its_number_is_told(tmp_path, monkeypatch):
    from dicm_jax.config import MeshConfig
    from dicm_jax.errors import MeshError
    from dicm_jax.training.devices import join_processes

    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    with pytest.raises(MeshError, match="JAX_PROCESS_ID=unset: every process"):
        join_processes(MeshConfig())
    assert jax.process_count() == 1
