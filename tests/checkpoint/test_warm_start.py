"""Warm-up: what is taken over bit for bit, what starts afresh, and what cannot be."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from dicm_jax.ams.mesh import MeshShape, colocated
from dicm_jax.checkpoint.restore import Restored, restore_run
from dicm_jax.checkpoint.warm_start import Parts, warm_start
from dicm_jax.config_file import load_config
from dicm_jax.data.readers import read_log
from dicm_jax.errors import CheckpointError
from dicm_jax.train import train
from dicm_jax.training import assemble
from dicm_jax.training.state import TrainState
from tests.test_train import SMALL

ROOT = Path(__file__).parents[2]
DIN = ("model.basic_net=din", "train.steps=6", "train.seed=5")


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("source")
    assert train(str(ROOT / "configs/dicm.py"), workdir, [*SMALL, *DIN]) == 0
    return workdir


@pytest.fixture(scope="module", name="trained")
def _trained(source) -> Restored:
    return restore_run(source)


def warm(source: Path, parts: Parts, *more: str) -> TrainState:
    """`fresh` with parts of another run."""
    config = load_config(str(ROOT / "configs/dicm.py"), [*SMALL, "model.basic_net=din", *more])
    sizes = read_log(config.data).vocabulary_sizes
    return warm_start(source / "checkpoints", parts, fresh(*more), sizes)


def fresh(*more: str) -> TrainState:
    """A new state with another seed."""
    config = load_config(str(ROOT / "configs/dicm.py"), [*SMALL, "model.basic_net=din", *more])
    job = assemble.start_job(config, read_log(config.data), colocated(MeshShape(1, 2)))
    source = assemble.train_source(config, job.log)
    model, params = assemble.new_model(job)
    moves = assemble.optimizers(config.optimizer, source)
    return assemble.initial_state(job, model, params, moves, job.connect(source, model))


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("parts", ["partial", "full"])
def test_all_but_id_rows_is_taken_over_bit_for_bit(source, trained, parts):
    warmed = warm(source, parts)
    for name in ("params", "moments"):
        for ours, theirs in zip(
            leaves(getattr(warmed, name)), leaves(getattr(trained.state, name)), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    rows, theirs = np.asarray(warmed.ids["row"]), np.asarray(trained.state.ids["row"])
    untouched = np.asarray(fresh().ids["row"])
    np.testing.assert_array_equal(rows, theirs if parts == "full" else untouched)
    assert not np.array_equal(theirs, untouched)


def test_nothing_else_is_taken_over(source):
    warmed, new = warm(source, "full"), fresh()
    assert int(warmed.step) == 0
    for ours, theirs in zip(
        leaves(warmed.dense_optimizer), leaves(new.dense_optimizer), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("mu", "nu"):
        assert not np.asarray(warmed.ids[name]).any()
    shardings = [leaf.sharding for leaf in jax.tree.leaves(warmed)]
    assert shardings == [leaf.sharding for leaf in jax.tree.leaves(new)]


def test_a_run_starts_warm(source, tmp_path):
    settings = [*SMALL, "model.basic_net=din", f"checkpoint.warm_start={source}", "train.steps=1"]
    # The baseline has another net, which starts from nothing.
    settings += ["optimizer.learning_rate=1e-9", "train.baseline=true"]
    assert train(str(ROOT / "configs/dicm.py"), tmp_path, settings) == 0
    assert "baseline_gauc" in json.loads((tmp_path / "result.json").read_text())
    ours, theirs = restore_run(tmp_path).state.params, restore_run(source).state.params
    for one, other in zip(leaves(ours), leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_messages(source, tmp_path):
    with pytest.raises(CheckpointError, match=r"no finished checkpoint in .*name the folder of a"):
        warm(tmp_path, "partial")
    with pytest.raises(
        CheckpointError,
        match=r"params.net.basic_net.head.activations.0.slope .* has shape \(16,\), .*\(9,\)",
    ):
        warm(source, "partial", "model.head_widths=9,8")
    with pytest.raises(CheckpointError, match=r"has no params.embedders.image.* same model"):
        warm(source, "partial", "model.share_compressor=true")


@pytest.mark.parametrize("items", [401, 30000])
def test_id_rows_of_another_log_are_refused(source, items):
    """With one item more, the table is as long as before, and most rows stand for other keys."""
    with pytest.raises(
        CheckpointError, match=rf"other vocabularies \(.*was 400, is {items}.*'partial'"
    ):
        warm(source, "full", f"data.world.items={items}")
