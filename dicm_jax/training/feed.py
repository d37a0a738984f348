"""Batches on their way to the devices: built, planned and laid out in threads, ahead of the step.

The loop of the steps finds its next batch on the devices already.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding

from dicm_jax.ams.mesh import Device, Roles, batch_sharding
from dicm_jax.training.batch import Batch
from dicm_jax.training.planning import PlannedList

Plan = Callable[[int], list[PlannedList]]
"""From the number of a batch to its parts for this process's requesters."""

THREADS = 2
LAID_OUT = 1
"""Batches that lie on the devices, beside the one that is worked on and one on its way."""


class _Planned:
    """A random-access source of planned batches, as Grain takes it."""

    def __init__(self, plan: Plan, count: int):
        self._plan = plan
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> list[PlannedList]:
        return self._plan(number)


def feed(
    plan: Plan,
    first: int,
    end: int,
    *,
    prefetch: int,
    roles: Roles,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Batch]:
    """Batches ``first .. end - 1`` on the devices, in order.

    Batches can be built at random, so a run that goes on begins at `first` at once.

    Args:
      plan: makes one batch; called in threads.
      first, end: numbers of the batches.
      prefetch: batches planned ahead.
      roles: the devices.
      stop: whether this process was asked to stop; every batch tells all others.

    Raises:
      DicmError: a batch cannot be made; those before it have come.
    """
    if first >= end:
        return
    planned = grain.MapDataset.source(_Planned(plan, end))  # pyright: ignore[reportArgumentType]
    dataset = planned[first:end].to_iter_dataset(
        grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=max(prefetch, THREADS))
    )
    laid_out = grain.experimental.ThreadPrefetchIterDataset(
        dataset.map(lambda parts: lay_out(parts, roles, stop=stop())),
        prefetch_buffer_size=LAID_OUT,
    )
    batches = iter(laid_out)
    try:
        yield from batches
    finally:
        batches.close()


def own_requesters(roles: Roles) -> list[int]:
    """Numbers of the requesters that belong to this process."""
    process = jax.process_index()
    devices = roles.servers.devices.flat
    return [n for n, device in enumerate(devices) if device.process_index == process]


def lay_out(parts: Sequence[PlannedList], roles: Roles, *, stop: bool = False) -> Batch:
    """A planned batch on the devices: every process brings the parts of its own requesters.

    Args:
      parts: of `own_requesters`, in their order.
      roles: the devices.
      stop: tells all processes that this one was asked to stop.
    """
    own = own_requesters(roles)
    server_devices = [roles.servers.devices.flat[n] for n in own]
    columns = roles.workers.devices.reshape(roles.workers_per_list, -1)
    by_server = batch_sharding(roles.servers)
    asked = np.full(1, stop, np.int32)
    samples, sample_devices, list_parts, list_devices = [], [], [], []
    for number, part in zip(own, parts, strict=True):
        for worker in range(roles.workers_per_list):
            samples.append(dataclasses.replace(part.samples[worker], stop=asked))
            sample_devices.append(columns[worker, number])
            list_parts.append((part.lists, part.rows))
            list_devices.append(columns[worker, number])
    lists, rows = _assembled(list_parts, list_devices, roles.lists_on_workers, roles.requesters)
    return Batch(
        servers=_assembled(
            [part.servers for part in parts], server_devices, by_server, roles.requesters
        ),
        samples=_assembled(
            samples, sample_devices, batch_sharding(roles.workers), roles.workers.size
        ),
        lists=lists,
        rows=rows,
    )


def _assembled(
    parts: Sequence[Any], devices: Sequence[Device], sharding: NamedSharding, count: int
) -> Any:
    """Global arrays of `count` equal parts, of which this process has `parts` on `devices`."""
    trees = [jax.device_put(part, device) for part, device in zip(parts, devices, strict=True)]

    def assemble(*arrays: jax.Array) -> jax.Array:
        shape = (count * arrays[0].shape[0], *arrays[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, sharding, list(arrays))

    return jax.tree.map(assemble, *trees)
