"""Saves a checkpoint of a given size as a run does, in a process of its own for its memory.

    python -m benchmarks._surgery_checkpoint FOLDER ROWS

Shape legend
    V   rows of the ID table    E   embedding width
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.training.state import Params, TrainState

WIDTH = 12
STEP = 7
ARRAYS = ("row", "mu", "nu")


def save(folder: Path, n_keys: int, n_rows: int) -> None:
    """A state with an ID table of `n_rows` rows for `n_keys` keys of two vocabularies.

    The arrays of the table are the same random numbers, which no compression makes smaller.
    """
    row_VE = jax.random.normal(jax.random.key(0), (n_rows, WIDTH), jnp.float32)
    net = {"kernel": jnp.ones((WIDTH, 8)), "bias": jnp.zeros(8)}
    state = TrainState(
        jnp.int32(STEP), Params({}, net), Params({}, {}), dict.fromkeys(ARRAYS, row_VE), {}
    )
    vocabularies = {"user": n_keys // 2, "item": n_keys - n_keys // 2}
    with Checkpoints(folder, keep=1, settings={}, vocabularies=vocabularies) as checkpoints:
        checkpoints.save(STEP, state)


if __name__ == "__main__":
    save(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
