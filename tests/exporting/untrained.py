"""Runs that were never trained, with lively parameters: any model, in a second."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType

from dicm_jax.ams.mesh import BOTH, Roles
from dicm_jax.checkpoint.restore import Restored
from dicm_jax.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    FeaturesConfig,
    ModelConfig,
    TrainConfig,
)
from dicm_jax.data.schema import ClickLog
from dicm_jax.training import assemble


def one_device() -> Roles:
    """One device with both roles: quickly compiled."""
    axes = (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh((1, 1), BOTH, axis_types=axes, devices=jax.devices()[:1])
    return Roles(mesh, mesh)


def run_of(
    log: ClickLog, *, storage: str = "float32", behaviors: int = 4, **model: Any
) -> Restored:
    """A run on `log` with settings of its model; users have up to 6 behaviors in the small log."""
    small = {
        "embedding_width": 5,
        "compressor_widths": (11, 6, 5),
        "attention_widths": (6, 4),
        "head_widths": (9, 7),
        "din_widths": (6,),
        "id_init_scale": 1.0,
        "attention_chunk": 32,
    }
    config = Config(
        data=DataConfig(behaviors=behaviors),
        features=FeaturesConfig(storage=storage),  # type: ignore[arg-type]
        model=ModelConfig(**(small | model)),
        train=TrainConfig(batch_size=64, lanes=1),
        evaluate=EvaluateConfig(batch_size=256),
    )
    job = assemble.start_job(config, log, one_device())
    source = assemble.train_source(config, log)
    built, params = assemble.new_model(job)
    # First parameters are meant to be learned from: they say little yet.
    params = jax.tree.map(lambda array: np.asarray(array) * np.float32(1.5), params)
    moves = assemble.optimizers(config.optimizer, source)
    state = assemble.initial_state(job, built, params, moves, job.connect(source, built))
    return Restored(job, built, state, step=0)
