"""The checkpoints of a run, known by its settings and its data."""

import functools
from collections.abc import Callable

from dicm_jax.checkpoint.fingerprint import fingerprint
from dicm_jax.checkpoint.known_ids import keys_of
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.config_file import to_json_dict
from dicm_jax.training.assemble import Job
from dicm_jax.training.tables import data_marks


def checkpoints_of(job: Job) -> Callable[..., Checkpoints]:
    """`Checkpoints` that belong to a run; a folder and what to keep remain to be given.

    Example:
      with checkpoints_of(job)(workdir / "checkpoints", keep=2) as checkpoints: ...
    """
    keys = keys_of(job.log)
    return functools.partial(
        Checkpoints,
        settings=fingerprint(to_json_dict(job.config)),
        vocabularies=keys.sizes,
        vocabulary_crcs=keys.crcs,
        data=data_marks(job.log, job.files),
        verify=job.config.checkpoint.verify,
    )
