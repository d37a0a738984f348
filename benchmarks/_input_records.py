"""The same set with one group a record, read by TFDS and Grain into the project's batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from benchmarks._input_log import PER_GROUP
from benchmarks._input_ours import Ours, impressions_of
from benchmarks._input_turns import Batches
from dicm_jax.data.groups import joined
from dicm_jax.data.key_batch import KeyBatch, KeyMaker
from dicm_jax.data.lanes import arranged
from dicm_jax.data.prepared.reader import open_records
from dicm_jax.data.prepared.record import decode
from dicm_jax.training.feed import lay_out, own_requesters

_AHEAD = 2


class Records:
    """One group a record, in a new order each epoch.

    Args:
      folder: of a set written with one group a block.
      like: the batches to make: their shape, their keys and their plan.
    """

    def __init__(self, folder: Path, like: Ours):
        self._records = open_records(folder, "train")
        self._like = like
        self._keys = KeyMaker(like.log, like.source.stack, like.source.shape)
        self._groups = like.config.train.batch_size // PER_GROUP

    def read(self, threads: int) -> Batches:
        """Batches of keys; Grain fetches the records of a batch in one call."""
        return (impressions_of(keys) for keys in self._grain(threads))

    def ready(self, threads: int) -> Batches:
        """The same, planned and laid out as ours are."""
        planner, roles = self._like.connection.planner, self._like.roles
        own = own_requesters(roles)
        for batch in self._grain(threads).map(lambda keys: lay_out(planner.plan(keys, own), roles)):
            jax.block_until_ready(batch)
            yield int(np.asarray(batch.samples.weight_B).sum())

    def by_hand(self) -> Batches:
        """Batches of keys without Grain: a call of TFDS for the records of each."""
        rng, count = np.random.default_rng(0), len(self._records)
        while True:
            order = rng.permutation(count)
            for first in range(0, count - self._groups + 1, self._groups):
                chosen = order[first : first + self._groups].tolist()
                yield impressions_of(self._batch(self._records.__getitems__(chosen)))

    def _grain(self, threads: int) -> grain.IterDataset:
        chosen = grain.MapDataset.source(self._records).shuffle(0).repeat()
        batches = chosen.batch(self._groups, drop_remainder=True, batch_fn=self._batch)
        ahead = _AHEAD if threads else 0
        return batches.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        )

    def _batch(self, records: Sequence[Mapping[str, Any]]) -> KeyBatch:
        groups = joined([decode(record) for record in records])
        shape = self._like.source.shape
        arrangement = arranged(np.diff(groups.impression_offsets), shape, None)
        return self._keys.lanes(groups, arrangement, np.arange(shape.lanes))
