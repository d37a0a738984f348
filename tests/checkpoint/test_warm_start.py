"""Warm-up: what is taken over bit for bit, what starts afresh, and what cannot be."""

from pathlib import Path

import jax
import numpy as np
import pytest

from dicm_jax.ams.mesh import MeshShape, colocated
from dicm_jax.checkpoint.warm_start import warm_start
from dicm_jax.config_file import load_config
from dicm_jax.data.readers import read_log
from dicm_jax.errors import CheckpointError
from dicm_jax.train import train
from dicm_jax.training import assemble
from dicm_jax.training.restore import Restored, restore_run
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
    new = fresh()
    warm = warm_start(source / "checkpoints", parts, new)
    for name in ("params", "moments"):
        for ours, theirs in zip(
            leaves(getattr(warm, name)), leaves(getattr(trained.state, name)), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    rows, theirs = np.asarray(warm.ids["row"]), np.asarray(trained.state.ids["row"])
    untouched = np.asarray(fresh().ids["row"])
    np.testing.assert_array_equal(rows, theirs if parts == "full" else untouched)
    assert not np.array_equal(theirs, untouched)


def test_nothing_else_is_taken_over(source):
    warm, new = warm_start(source / "checkpoints", "full", fresh()), fresh()
    assert int(warm.step) == 0
    for ours, theirs in zip(leaves(warm.dense_optimizer), leaves(new.dense_optimizer), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("mu", "nu"):
        assert not np.asarray(warm.ids[name]).any()
    shardings = [leaf.sharding for leaf in jax.tree.leaves(warm)]
    assert shardings == [leaf.sharding for leaf in jax.tree.leaves(new)]


def test_a_run_starts_warm(source, tmp_path):
    settings = [*SMALL, "model.basic_net=din", f"checkpoint.warm_start={source}", "train.steps=1"]
    settings += ["optimizer.learning_rate=1e-9"]
    assert train(str(ROOT / "configs/dicm.py"), tmp_path, settings) == 0
    ours, theirs = restore_run(tmp_path).state.params, restore_run(source).state.params
    for one, other in zip(leaves(ours), leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_messages(source, tmp_path):
    with pytest.raises(CheckpointError, match=r"no finished checkpoint in .*name the folder of a"):
        warm_start(tmp_path, "partial", fresh())
    with pytest.raises(
        CheckpointError,
        match=r"params.net.basic_net.head.activations.0.slope .* has shape \(16,\), .*\(9,\)",
    ):
        warm_start(source / "checkpoints", "partial", fresh("model.head_widths=9,8"))
    with pytest.raises(CheckpointError, match=r"has no params.embedders.image.* same model"):
        warm_start(source / "checkpoints", "partial", fresh("model.share_compressor=true"))
    with pytest.raises(CheckpointError, match=r"ids.row .*other vocabularies: use .*'partial'"):
        warm_start(source / "checkpoints", "full", fresh("data.world.items=30000"))
