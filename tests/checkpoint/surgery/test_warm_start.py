"""What was cut, as a run takes it: dropped IDs are a partial warm-up, leaf by leaf."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from dicm_jax.ams.mesh import MeshShape, colocated
from dicm_jax.checkpoint.belonging import checkpoints_of
from dicm_jax.checkpoint.known_ids import keys_of
from dicm_jax.checkpoint.restore import restore_run
from dicm_jax.checkpoint.warm_start import WarmUp, warm_start
from dicm_jax.config_file import load_config, to_json_dict
from dicm_jax.data.readers import read_log
from dicm_jax.errors import CheckpointError
from dicm_jax.train import train
from dicm_jax.training import assemble
from tests.checkpoint.surgery import made
from tests.checkpoint.surgery.made import assert_same_bits, told
from tests.test_train import SMALL

CONFIG = str(Path(__file__).parents[3] / "configs/dicm.py")


@pytest.fixture(scope="module", name="job")
def _job() -> assemble.Job:
    config = load_config(CONFIG, list(SMALL))
    return assemble.start_job(config, read_log(config.data), colocated(MeshShape(1, 2)))


@pytest.fixture(scope="module", name="fresh")
def _fresh(job):
    """Makes the state of a new run."""
    source = assemble.train_source(job.config, job.log)
    model, params = assemble.new_model(job)
    moves = assemble.optimizers(job.config.optimizer, source)
    connection = job.connect(source, model)
    return lambda: assemble.initial_state(job, model, params, moves, connection)


@pytest.fixture(scope="module", name="keys")
def _keys(job):
    return keys_of(job.log)


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory, job, fresh) -> Path:
    """A run's folder with other numbers than a new run's, the optimizers' among them."""
    workdir = tmp_path_factory.mktemp("runs") / "source"
    rng = np.random.default_rng(3)

    def other(leaf: jax.Array) -> jax.Array:
        values = np.asarray(leaf) + rng.random(leaf.shape).astype(leaf.dtype)
        return jax.device_put(values.astype(leaf.dtype), leaf.sharding)

    with checkpoints_of(job)(workdir / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(6, jax.tree.map(other, fresh()))
    (workdir / "config.json").write_text(json.dumps(to_json_dict(job.config)))
    return workdir


@pytest.fixture(scope="module", name="dropped")
def _dropped(source) -> Path:
    output = source.with_name("dropped")
    assert made.run("drop", source, "ids.*", "dense_optimizer.*", f"--output={output}") == 0
    return output


def test_drop_then_warm_start_is_a_partial_warm_up(source, dropped, fresh, keys):
    partial, _ = warm_start(WarmUp(source, "partial"), fresh(), keys)
    cut, report = warm_start(WarmUp(dropped, "partial"), fresh(), keys)
    assert_same_bits(made.named(cut), made.named(partial))
    taken = {each.name for each in report.arrays if each.fate == "restored"}
    assert taken == {name for name in made.named(fresh()) if name.startswith("params.")}
    with pytest.raises(CheckpointError, match=r"dropped/checkpoints/6 has no ids.row"):
        warm_start(WarmUp(dropped, "full"), fresh(), keys)


def test_a_run_starts_from_what_was_cut(source, dropped, tmp_path):
    more = [f"checkpoint.warm_start={dropped}", "train.steps=1", "optimizer.learning_rate=1e-9"]
    assert train(CONFIG, tmp_path, [*SMALL, *more]) == 0
    ours, theirs = made.arrays(tmp_path), made.arrays(source)
    for name in ours:
        if name.startswith("params."):
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6, err_msg=name)


def test_pieces_put_together_are_the_run_again(source, dropped, tmp_path, capsys):
    told(capsys, "extract", source, "ids", "dense_optimizer", f"--output={tmp_path / 'rest'}")
    whole = tmp_path / "whole"
    told(capsys, "merge", dropped, tmp_path / "rest", f"--output={whole}")
    assert_same_bits(made.named(restore_run(whole).state), made.named(restore_run(source).state))
    assert made.run("diff", source, whole) == 0


def test_a_vocabulary_grown_and_shrunk_again(source, fresh, keys, tmp_path, capsys):
    """And there and back nothing is lost that belongs to a key."""
    name = next(name for name, size in keys.sizes.items() if size == 400)
    out = tmp_path / "out"
    told(capsys, "resize", source, f"--vocabulary={name}=3000", f"--output={out}")
    found = dict(made.record(out)["vocabularies"])
    assert found == {**keys.sizes, name: 3000}
    told(capsys, "resize", out, f"--vocabulary={name}=400", f"--output={tmp_path / 'back'}")
    back, _ = warm_start(WarmUp(tmp_path / "back", "full"), fresh(), keys)
    full, _ = warm_start(WarmUp(source, "full"), fresh(), keys)
    ours, theirs = (np.asarray(state.ids["row"]) for state in (back, full))
    rows = keys.layout.row(np.arange(sum(keys.sizes.values())))
    np.testing.assert_array_equal(ours[rows], theirs[rows])


def test_the_ids_of_a_run_come_along(source, tmp_path, capsys):
    """Rows find their IDs again in a folder beside the checkpoint, see `known_ids`."""
    workdir = tmp_path / "run"
    shutil.copytree(source, workdir)
    shutil.rmtree(workdir / "checkpoints")
    made.save(workdir / "checkpoints", made.state(), vocabulary_crcs={"item": 3, "shop": 4})
    (workdir / "vocabularies").mkdir()
    for name in ("item", "shop"):
        (workdir / "vocabularies" / f"{name}.parquet").write_bytes(name.encode())
    files = tmp_path / "files"
    told(capsys, "to-safetensors", workdir, f"--output={files}")
    told(capsys, "from-safetensors", files, f"--output={tmp_path / 'back'}")
    told(capsys, "resize", workdir, "--vocabulary=item=5", f"--output={tmp_path / 'less'}")
    for output, kept in (("back", {"item", "shop"}), ("less", {"shop"})):
        found = {path.stem for path in (tmp_path / output / "vocabularies").iterdir()}
        assert found == kept
        config = (tmp_path / output / "config.json").read_bytes()
        assert config == (source / "config.json").read_bytes()
