"""The parent's model on today's log: what a day must not fall behind."""

import dataclasses

import numpy as np

from dicm_jax.ams.mesh import Roles
from dicm_jax.checkpoint.known_ids import keys_of
from dicm_jax.checkpoint.run_folder import config_of
from dicm_jax.checkpoint.warm_start import WarmUp, warm_start
from dicm_jax.config import Config
from dicm_jax.data.schema import ClickLog
from dicm_jax.training import assemble
from dicm_jax.training.evaluation import predictor
from dicm_jax.updates.lineage import Parent


def predictions_of_parent(
    config: Config, log: ClickLog, roles: Roles, parent: Parent
) -> np.ndarray:
    """Click probability of every impression of ``evaluate.split``, float32 ``[B]``.

    The parent's net, compressors and ID rows are all carried over, the rows to the places that
    their IDs have in today's log. IDs that the parent did not know have rows of a random start, as
    they would have if the parent were served today.

    Args:
      config: today's settings; those of the model are the parent's.
      log: today's.
      roles: the devices.
      parent: the run that today starts from.

    Raises:
      CheckpointError: the checkpoint is damaged, or its rows stand for IDs that are not known.
    """
    served = dataclasses.replace(config, model=config_of(parent.workdir).model)
    split = config.evaluate.split
    job = assemble.start_job(served, log, roles)
    source = assemble.evaluation_source(served, log, log.split(split))
    model, params = assemble.new_model(job, from_scratch=False)
    moves = assemble.optimizers(served.optimizer, source)
    state = assemble.initial_state(job, model, params, moves, job.connect(source, model))
    everything = WarmUp(parent.checkpoint, "full", verify=config.checkpoint.verify)
    state, _ = warm_start(everything, state, keys_of(log))
    return predictor(job, split, model)(state)


def starting_from(parent: Parent | None, config: Config) -> Config:
    """Today's settings for a run that starts from the parent, or from nothing."""
    start = None if parent is None else str(parent.checkpoint)
    checkpoint = dataclasses.replace(config.checkpoint, warm_start=start)
    return dataclasses.replace(config, checkpoint=checkpoint)
