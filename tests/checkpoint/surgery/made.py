"""Small checkpoints as a run saves them, commands run on them, and arrays as Orbax reads them."""

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dicm_jax import surgery
from dicm_jax.ams.feedback import Errors
from dicm_jax.ams.layout import RowLayout
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.training.state import Params, TrainState

SIZES = {"user": 700, "item": 900, "shop": 41}
WIDTH = 3
STEP = 5


def state(seed: int = 0, *, sizes: dict[str, int] = SIZES, errors: bool = False) -> TrainState:
    """A state of small arrays in several formats, scalars and odd values among them."""
    rng = np.random.default_rng(seed)
    n_rows = RowLayout(sum(sizes.values())).n_rows
    net = {
        "kernel": jnp.asarray(rng.normal(size=(7, 5)), jnp.bfloat16),
        "bias": jnp.asarray([np.nan, -0.0, np.inf, 1e-45, 3.4e38], jnp.float32),
        "counts": jnp.asarray(rng.integers(-100, 100, 11), jnp.int32),
    }
    embedders = {"image": {"layer": jnp.asarray(rng.normal(size=(9, 4)), jnp.float32)}}
    ids = {
        name: jnp.asarray(rng.normal(size=(n_rows, WIDTH)), jnp.float32)
        for name in ("row", "mu", "nu")
    }
    owed = {"image": Errors(jnp.arange(6, dtype=jnp.int32), jnp.ones((6, WIDTH), jnp.float32))}
    return TrainState(
        step=jnp.int32(STEP),
        params=Params(embedders, net),
        dense_optimizer=Params({"0": jnp.float32(0.25)}, {"0": {"mu": jnp.zeros((7, 5))}}),
        ids=ids,
        errors=owed if errors else {},
    )


def save(folder: Path, saved: TrainState, sizes: dict[str, int] = SIZES, **more: Any) -> Path:
    """Saves a state as a run does; the folder of its checkpoints."""
    settings = {"model.id_init_scale": 0.5}
    with Checkpoints(folder, keep=2, settings=settings, vocabularies=sizes, **more) as checkpoints:
        checkpoints.save(STEP, saved)
    return folder


def run(*arguments: object) -> int:
    """Runs a command of surgery; its exit code."""
    argv = ["surgery", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), pytest.raises(SystemExit) as ended:
        surgery.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Runs a command that ends well; its last line."""
    code = run(*arguments)
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out.splitlines()[-1])


def step_of(folder: Path) -> Path:
    """The only checkpoint of a folder, be it of a run or of checkpoints."""
    within = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    (step,) = [entry for entry in within.iterdir() if entry.name.isdigit()]
    return step


def arrays(folder: Path, item: str = "state") -> dict[str, np.ndarray]:
    """The arrays of the checkpoint in a folder, read by Orbax itself."""
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        found = reader.restore(step_of(folder).absolute() / item)
    return {name: np.asarray(array) for name, array in found.items()}


def record(folder: Path) -> dict[str, Any]:
    """The record of the checkpoint in a folder."""
    return json.loads((step_of(folder) / "record" / "metadata").read_text())


def assert_same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """The same names, shapes, formats and bytes."""
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert one[name].shape == other[name].shape, name
        assert one[name].tobytes() == other[name].tobytes(), name


def restored(folder: Path, like: TrainState) -> TrainState:
    """The state of the checkpoint in a folder, as a run that goes on reads it."""
    found = record(folder)
    with Checkpoints(
        step_of(folder).parent,
        keep=None,
        settings={"model.id_init_scale": 0.5},
        vocabularies=dict(found["vocabularies"]),
        vocabulary_crcs=found["vocabulary_crcs"],
    ) as checkpoints:
        return checkpoints.restore(STEP, like=like)


def named(tree: Any) -> dict[str, np.ndarray]:
    """Leaves of a state by name."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
