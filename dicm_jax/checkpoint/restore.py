"""A run as it lies in its folder: settings, model and trained state."""

import dataclasses
from pathlib import Path

from dicm_jax.ams.mesh import Roles
from dicm_jax.checkpoint.belonging import checkpoints_of
from dicm_jax.checkpoint.locate import BEST, CHECKPOINTS, steps_in, trained
from dicm_jax.checkpoint.run_folder import config_of
from dicm_jax.config import Config
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import ClickLog
from dicm_jax.errors import CheckpointError
from dicm_jax.training import assemble
from dicm_jax.training.assemble import Job
from dicm_jax.training.devices import start_roles
from dicm_jax.training.model import Model
from dicm_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run, put together again.

    Attributes:
      job: settings, log, devices and tables.
      model: what was trained.
      state: of step `step`.
      step: steps taken.
    """

    job: Job
    model: Model
    state: TrainState
    step: int


def _with_step(workdir: Path, step: int) -> Path:
    best = workdir / BEST
    return best if (best / str(step)).is_dir() else workdir / CHECKPOINTS


def restore_run(
    workdir: Path,
    step: int | None = None,
    *,
    config: Config | None = None,
    log: ClickLog | None = None,
    roles: Roles | None = None,
) -> Restored:
    """Rebuild the run of `workdir` and read a checkpoint.

    Args:
      workdir: folder of the run.
      step: the checkpoint; None for the best, where the run looked for it, else the newest.
      config: its settings, if its folder does not have them.
      log: its log, if it has been read; else it is.
      roles: its devices, if they have been set up; else they are.

    Raises:
      CheckpointError: there is no run, or no such checkpoint.
    """
    config = config_of(workdir) if config is None else config
    roles = start_roles(config.mesh, config.train.lanes) if roles is None else roles
    job = assemble.start_job(config, read_log(config.data) if log is None else log, roles)
    source = assemble.train_source(config, job.log)
    model, params = assemble.new_model(job, from_scratch=False)
    moves = assemble.optimizers(config.optimizer, source)
    like = assemble.initial_state(job, model, params, moves, job.connect(source, model))
    folder = trained(workdir) if step is None else _with_step(workdir, step)
    if not steps_in(folder):
        raise CheckpointError(f"no finished checkpoint in {workdir}: train it first")
    with checkpoints_of(job)(folder, keep=None) as checkpoints:
        chosen = checkpoints.steps()[-1] if step is None else step
        return Restored(job, model, checkpoints.restore(chosen, like=like), chosen)
