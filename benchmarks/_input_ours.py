"""The project's own input: batches of keys, and batches planned and laid out for the step."""

from pathlib import Path

import jax
import numpy as np

from benchmarks._input_turns import Batches
from dicm_jax.config import Config, DataConfig, TrainConfig
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.data.prepared import reader
from dicm_jax.data.prepared.stream import streamed_split
from dicm_jax.training import assemble
from dicm_jax.training.devices import start_roles
from dicm_jax.training.feed import feed

EPOCHS = 4
"""Different orders of a set, one after the other and again."""
_WINDOW_BLOCKS = 4


class Ours:
    """A prepared set as `dicm_jax.train` reads it.

    Args:
      folder: of the set.
      batch_size: impressions.
      stream: the set stays on disk and comes in windows of four blocks a lane.
    """

    def __init__(self, folder: Path, batch_size: int, *, stream: bool):
        self.config = Config(
            data=DataConfig(
                kind="prepared", path=str(folder), stream=stream, window_blocks=_WINDOW_BLOCKS
            ),
            train=TrainConfig(batch_size=batch_size, epochs=EPOCHS),
        )
        read_train = streamed_split if stream else reader.read_split
        self.log = reader.load(str(folder), read_train=read_train)
        self.roles = start_roles(self.config.mesh, self.config.train.lanes)
        self.source = assemble.train_source(self.config, self.log)
        job = assemble.start_job(self.config, self.log, self.roles)
        model, _ = assemble.new_model(job)
        self.connection = job.connect(self.source, model)

    def read(self) -> Batches:
        """Batches of keys, in one thread."""
        while True:
            for number in range(len(self.source)):
                yield impressions_of(self.source[number])

    def ready(self) -> Batches:
        """Batches on the device, as the loop of the steps gets them."""
        while True:
            for batch in feed(
                self.connection.plan,
                0,
                len(self.source),
                prefetch=self.config.train.prefetch,
                roles=self.roles,
            ):
                jax.block_until_ready(batch)
                yield int(np.asarray(batch.samples.weight_B).sum())


def impressions_of(keys: KeyBatch) -> int:
    """Impressions of a batch, padding left out."""
    return int(keys.weight_AB.sum())
