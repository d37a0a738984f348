"""What rounding owes to gradients is saved with a run, and left behind on other devices."""

import jax
import numpy as np

from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.config import ExchangeConfig
from tests import small_world

INEXACT = ExchangeConfig(wire="int8", id_wire="bfloat16", chunk=64)


def saved(folder, run):
    with Checkpoints(folder, keep=1, settings={}) as checkpoints:
        checkpoints.save(3, run.state)


def restored(folder, like):
    with Checkpoints(folder, keep=1, settings={}) as checkpoints:
        return checkpoints.restore(3, like=like)


def test_errors_come_back_on_the_same_devices_and_start_anew_on_others(tmp_path):
    run = small_world.run(1, 2, settings=INEXACT)
    run.go(3)
    saved(tmp_path, run)
    assert any(np.abs(np.asarray(e.error_RE)).max() > 0 for e in run.state.errors.values())
    same = restored(tmp_path, run.fresh())
    jax.tree.map(np.testing.assert_array_equal, same, run.state)
    other = small_world.run(1, 4, settings=INEXACT)
    moved = restored(tmp_path, other.fresh())
    jax.tree.map(np.testing.assert_array_equal, moved.ids, run.state.ids)
    jax.tree.map(np.testing.assert_array_equal, moved.params, run.state.params)
    jax.tree.map(np.testing.assert_array_equal, moved.errors, other.fresh().errors)
