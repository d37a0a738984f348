"""Warm-up: what is taken over bit for bit, what starts afresh, and what cannot be."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from dicm_jax.ams.mesh import MeshShape, colocated
from dicm_jax.checkpoint.known_ids import keys_of
from dicm_jax.checkpoint.manager import named_leaves
from dicm_jax.checkpoint.restore import Restored, restore_run
from dicm_jax.checkpoint.warm_report import WarmReport
from dicm_jax.checkpoint.warm_start import Parts, WarmUp, warm_start
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


def warm(source: Path, parts: Parts, *more: str, **asked) -> TrainState:
    """`fresh` with parts of another run."""
    return warm_and_told(source, parts, *more, **asked)[0]


def warm_and_told(source: Path, parts: Parts, *more: str, **asked) -> tuple[TrainState, WarmReport]:
    """`warm`, and its report."""
    config = load_config(str(ROOT / "configs/dicm.py"), [*SMALL, "model.basic_net=din", *more])
    keys = keys_of(read_log(config.data))
    return warm_start(WarmUp(source, parts, **asked), fresh(*more), keys)


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


def test_none_takes_nothing_over_and_says_so(source):
    warmed, report = warm_and_told(source, "none")
    for ours, theirs in zip(leaves(warmed), leaves(fresh()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert report.counts.keys() == {"skipped"}


def test_arrays_by_name(source, trained):
    patterns = ("params.embedders.*", "params.net.basic_net.*")
    warmed, report = warm_and_told(source, "pattern", patterns=patterns)
    fates = {array.name: array.fate for array in report.arrays}
    theirs = dict(named_leaves(trained.state.params))
    untouched = dict(named_leaves(fresh().params))
    for name, leaf in named_leaves(warmed.params):
        by_name = name.startswith(("embedders.", "net.basic_net."))
        assert fates[f"params.{name}"] == ("restored" if by_name else "skipped")
        expected = theirs[name] if by_name else untouched[name]
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected))
    with pytest.raises(CheckpointError, match=r"'params.nte.\*' is the name of no trained array"):
        warm(source, "pattern", patterns=("params.nte.*",))


def test_optimizers_go_on_and_schedules_start_afresh(source, trained):
    """All but the schedules' counts is the source's, so its next step is taken."""
    warmed, report = warm_and_told(source, "full", optimizer=True)
    assert (report.step, report.optimizer) == (6, ("embedders", "net", "ids"))
    theirs = dict(named_leaves(trained.state))
    for name, leaf in named_leaves(warmed):
        if name.startswith(("dense_optimizer.net.1.", "dense_optimizer.embedders.1.")):
            assert int(leaf) == 0
        else:
            np.testing.assert_array_equal(np.asarray(leaf), np.asarray(theirs[name]), name)
    assert int(warmed.step) == 6


def test_rates_of_id_rows_start_afresh_too(source):
    """The count of their optimizer is the state's step, which goes on."""
    config = load_config(str(ROOT / "configs/dicm.py"), [*SMALL])
    moves = assemble.optimizers(
        config.optimizer, assemble.train_source(config, read_log(config.data))
    )
    first, later = np.asarray(moves.row_schedule(0)), np.asarray(moves.row_schedule(6))
    assert later < first
    assert np.asarray(moves.after(6).row_schedule(6)) == first


def test_a_partial_warm_up_keeps_no_count_of_rows(source):
    warmed, report = warm_and_told(source, "partial", optimizer=True)
    assert (report.step, report.optimizer) == (0, ("embedders", "net"))
    assert int(warmed.step) == 0
    assert int(dict(named_leaves(warmed))["dense_optimizer.net.0.count"]) == 6
    assert not np.asarray(warmed.ids["mu"]).any()


def test_the_report_tells_every_array(source):
    _, report = warm_and_told(source, "partial")
    shapes = {array.name: (array.fate, array.found, array.shape) for array in report.arrays}
    rows = tuple(fresh().ids["row"].shape)
    assert shapes["ids.row"] == ("skipped", rows, rows)
    assert {name for name, _ in named_leaves(fresh())} == {*shapes}
    lines = report.lines()
    assert re.search(r"warm start \(partial\) from .*/checkpoints/6: \d+ skipped, ", lines[0])
    size = "x".join(map(str, rows))
    assert f"  ids.row: skipped, {size} -> {size}" in lines


def test_a_damaged_source_is_refused(source, tmp_path):
    shutil.copytree(source, tmp_path / "run")
    state = tmp_path / "run" / "checkpoints" / "6" / "state"
    file = max((p for p in state.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"altered since it was written"):
        warm(tmp_path / "run", "partial")


def test_a_run_starts_warm(source, tmp_path):
    settings = [*SMALL, "model.basic_net=din", f"checkpoint.warm_start={source}", "train.steps=1"]
    # The baseline has another net, which starts from nothing.
    settings += ["optimizer.learning_rate=1e-9", "train.baseline=true"]
    assert train(str(ROOT / "configs/dicm.py"), tmp_path, settings) == 0
    told = json.loads((tmp_path / "warm_start.json").read_text())
    assert told["parts"] == "partial"
    assert told["counts"]["restored"] > 10
    assert not (tmp_path / "baseline" / "warm_start.json").exists()
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
