"""The loop of a training run whose ID table is as large as one likes, and which saves when told.

Shape legend
    V   rows of the ID table    E   embedding width
"""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from dicm_jax.ams import mesh
from dicm_jax.ams.mesh import MeshShape
from dicm_jax.checkpoint.fingerprint import fingerprint
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.config import Config
from dicm_jax.config_file import to_json_dict
from dicm_jax.data.schema import ClickLog
from dicm_jax.training import assemble
from dicm_jax.training.events import NoEvents
from dicm_jax.training.feed import feed
from dicm_jax.training.recorder import Recorder
from dicm_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Turn:
    """Steps taken one after the other, and a save at their start if there was one.

    Attributes:
      steps: taken.
      seconds: of the whole turn.
      held_s: of them, those in `Checkpoints.save`, in which no step is taken.
      first_step_s: of them, those of the first step. What is being saved cannot be donated to it,
        so it copies the table if `Checkpoints.save` has not.
    """

    steps: int
    seconds: float
    held_s: float = 0.0
    first_step_s: float = 0.0


class SavingRun:
    """A run on one device.

    Args:
      config: of the run.
      log: its data; see `with_keys`.
      folder: of its checkpoints.
    """

    def __init__(self, config: Config, log: ClickLog, folder: Path):
        roles = mesh.colocated(MeshShape(1, 1))
        self._job = assemble.start_job(config, log, roles)
        source = assemble.train_source(config, log)
        model, params = assemble.new_model(self._job)
        connection = self._job.connect(source, model)
        moves = assemble.optimizers(config.optimizer, source)
        state = assemble.initial_state(self._job, model, params, moves, connection)
        self._state = worn(state)
        self._step = connection.train_step(model, moves)
        self._recorder = Recorder(NoEvents(), tqdm(disable=True), log_every=10**9)
        prefetch = config.train.prefetch
        batches = feed(connection.plan, 0, len(source), prefetch=prefetch, roles=roles)
        self._batches = iter(self._recorder.awaited(batches, first=1))
        self._done = 0
        self._keep = config.checkpoint.keep
        self.checkpoints = Checkpoints(
            folder,
            keep=self._keep,
            settings=fingerprint(to_json_dict(config)),
            vocabularies=log.vocabulary_sizes,
        )

    @property
    def state_bytes(self) -> int:
        """Of all arrays that are saved."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self._state))

    def in_peace(self, steps: int) -> Turn:
        """Takes steps, as a run does."""
        started = time.perf_counter()
        for _ in range(steps):
            self._take()
        self._recorder.settle()
        return Turn(steps, time.perf_counter() - started)

    def saving(self) -> Turn:
        """Saves, and takes steps until the checkpoint is finished and older ones are gone."""
        started = time.perf_counter()
        saved, steps = self._done, 1
        self.checkpoints.save(saved, self._state)
        held_s = time.perf_counter() - started
        first_step_s = self.in_peace(1).seconds
        while not self._finished(saved):
            self._take()
            steps += 1
        self._recorder.settle()
        return Turn(steps, time.perf_counter() - started, held_s, first_step_s)

    def _take(self) -> None:
        batch = next(self._batches)
        self._state, report = self._step(self._state, self._job.tables, batch)
        self._done += 1
        self._recorder.add(self._done, report)

    def _finished(self, step: int) -> bool:
        """Seen from outside: the folder has its final name, and no more are there than are kept."""
        names = [entry.name for entry in self.checkpoints.folder.iterdir()]
        return str(step) in names and len(names) <= self._keep


def with_keys(log: ClickLog, count: int) -> ClickLog:
    """The log with a last vocabulary so large that there are at least `count` keys in all."""
    *_, last = log.vocabulary_sizes
    missing = max(0, count - sum(log.vocabulary_sizes.values()))
    sizes = log.vocabulary_sizes | {last: log.vocabulary_sizes[last] + missing}
    return dataclasses.replace(log, vocabulary_sizes=sizes)


def worn(state: TrainState) -> TrainState:
    """The state with moments of ID rows such as long training leaves: zeros would compress."""
    row_VE = state.ids["row"]

    def drawn(seed: int) -> jax.Array:
        draw = jax.jit(
            lambda key: 1e-3 * jax.random.normal(key, row_VE.shape, jnp.float32),
            out_shardings=row_VE.sharding,
        )
        return draw(jax.random.key(seed))

    ids = state.ids | {"mu": drawn(1), "nu": jax.jit(jnp.square)(drawn(2))}
    return dataclasses.replace(state, ids=ids)


def keys_of(n_bytes: int, embedding_width: int) -> int:
    """Keys whose rows and two moments take so many bytes."""
    return n_bytes // (3 * embedding_width * np.dtype(np.float32).itemsize)
