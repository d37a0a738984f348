"""A checkpoint whose folder got another step's name is refused: its position would be wrong."""

import jax.numpy as jnp
import pytest

from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.errors import CheckpointError
from dicm_jax.training.state import Params, TrainState


def test_a_renamed_folder_is_refused_and_its_true_step_named(tmp_path):
    net = {"head": jnp.arange(3.0)}
    state = TrainState(jnp.array(4, jnp.int32), Params({}, net), Params({}, {}), {}, {})
    with Checkpoints(tmp_path, keep=2, settings={}) as checkpoints:
        checkpoints.save(4, state)
    (tmp_path / "4").rename(tmp_path / "20")
    message = "folder 20 holds the checkpoint of step 4: it was renamed; call it 4 again"
    with (
        Checkpoints(tmp_path, keep=2, settings={}) as checkpoints,
        pytest.raises(CheckpointError, match=message),
    ):
        checkpoints.restore(20, like=state)
    (tmp_path / "20").rename(tmp_path / "4")
    with Checkpoints(tmp_path, keep=2, settings={}) as checkpoints:
        assert int(checkpoints.restore(4, like=state).step) == 4
