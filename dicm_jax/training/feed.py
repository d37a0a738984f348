"""Batches on their way to the devices: built and planned in threads, a few ahead of the step."""

from collections.abc import Callable, Iterator

import grain
import jax

from dicm_jax.training.batch import Batch

Plan = Callable[[int], Batch]
"""From the number of a batch to the batch, planned for this host's devices."""

THREADS = 2


class _Planned:
    """A random-access source of planned batches, as Grain takes it."""

    def __init__(self, plan: Plan, count: int):
        self._plan = plan
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        return self._plan(number)


def feed(
    plan: Plan,
    first: int,
    end: int,
    *,
    prefetch: int,
    sharding: jax.sharding.NamedSharding,
) -> Iterator[Batch]:
    """Batches ``first .. end - 1`` on the devices, in order.

    Batches can be built at random, so a run that goes on begins at `first` at once.

    Args:
      plan: makes one batch; called in threads.
      first, end: numbers of the batches.
      prefetch: batches planned ahead.
      sharding: dim 0 of every array over the devices.
    """
    if first >= end:
        return
    batches = grain.MapDataset.source(_Planned(plan, end))  # pyright: ignore[reportArgumentType]
    dataset = batches[first:end].to_iter_dataset(
        grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=max(prefetch, THREADS))
    )
    for batch in dataset:
        yield jax.device_put(batch, sharding)
