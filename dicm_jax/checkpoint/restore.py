"""A run as it lies in its folder: settings, model and trained state."""

import dataclasses
import json
from pathlib import Path

from dicm_jax.ams.mesh import Roles
from dicm_jax.checkpoint.fingerprint import fingerprint
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.config import Config
from dicm_jax.config_file import from_json_dict, to_json_dict
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import ClickLog
from dicm_jax.errors import CheckpointError
from dicm_jax.training import assemble
from dicm_jax.training.assemble import Job
from dicm_jax.training.devices import start_roles
from dicm_jax.training.model import Model
from dicm_jax.training.state import TrainState

CHECKPOINTS, BEST = "checkpoints", "best"
"""Folders of a run: its newest checkpoints, and that of its best step where it stops early."""


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


def config_of(workdir: Path) -> Config:
    """The settings of the run in `workdir`.

    Raises:
      CheckpointError: there is no run.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise CheckpointError(
            f"no run in {workdir}: it has no config.json. Name the --workdir of a run of"
            " python -m dicm_jax.train"
        )
    return from_json_dict(json.loads(path.read_text()), str(path))


def trained(workdir: Path) -> Path:
    """Where the checkpoint lies that a run ends with.

    Its best, where it looked for one and has found it; else its newest.
    """
    best = workdir / BEST
    found = any(entry.name.isdigit() for entry in best.glob("*"))
    return best if found else workdir / CHECKPOINTS


def _with_step(workdir: Path, step: int) -> Path:
    best = workdir / BEST
    return best if (best / str(step)).is_dir() else workdir / CHECKPOINTS


def restore_run(
    workdir: Path,
    step: int | None = None,
    *,
    log: ClickLog | None = None,
    roles: Roles | None = None,
) -> Restored:
    """Rebuild the run of `workdir` and read a checkpoint.

    Args:
      workdir: folder of the run.
      step: the checkpoint; None for the best, where the run looked for it, else the newest.
      log: its log, if it has been read; else it is.
      roles: its devices, if they have been set up; else they are.

    Raises:
      CheckpointError: there is no run, or no such checkpoint.
    """
    config = config_of(workdir)
    roles = start_roles(config.mesh, config.train.lanes) if roles is None else roles
    job = assemble.start_job(config, read_log(config.data) if log is None else log, roles)
    source = assemble.train_source(config, job.log)
    model, params = assemble.new_model(job, from_scratch=False)
    moves = assemble.optimizers(config.optimizer, source)
    like = assemble.initial_state(job, model, params, moves, job.connect(source, model))
    folder = trained(workdir) if step is None else _with_step(workdir, step)
    settings = fingerprint(to_json_dict(config))
    keep = config.checkpoint.keep
    with Checkpoints(folder, keep=keep, settings=settings) as checkpoints:
        chosen = checkpoints.latest() if step is None else step
        if chosen is None:
            raise CheckpointError(f"no finished checkpoint in {workdir}: train it first")
        return Restored(job, model, checkpoints.restore(chosen, like=like), chosen)
