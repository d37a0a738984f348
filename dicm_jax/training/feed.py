"""Batches on their way to the devices: built, planned and laid out in threads, ahead of the step.

The loop of the steps finds its next batch on the devices already.
"""

import dataclasses
import os
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

THREADS = 0 if (os.cpu_count() or 1) <= 4 else 2
"""That help the one thread which is always ahead. Where cores are few the step needs them, and
threads that wait for each other's turn of the interpreter cost more than they help."""


class _LaidOut:
    """A random-access source of batches on the devices, as Grain takes it."""

    def __init__(self, lay_out: Callable[[int], Batch], count: int):
        self._lay_out = lay_out
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        return self._lay_out(number)


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

    Batches can be built at random, so a run that goes on begins at `first` at once. A batch is made
    by one thread from its keys to the devices: handing it on costs as much as planning it.

    Args:
      plan: makes one batch; called in threads.
      first, end: numbers of the batches.
      prefetch: batches that lie on the devices, beside the one that is worked on and the one that
        is being made.
      roles: the devices.
      stop: whether this process was asked to stop; every batch tells all others.

    Raises:
      DicmError: a batch cannot be made; those before it have come.
    """
    if first >= end:
        return
    made = _LaidOut(lambda number: lay_out(plan(number), roles, stop=stop()), end)
    dataset = grain.MapDataset.source(made)  # pyright: ignore[reportArgumentType]
    in_order = dataset[first:end].to_iter_dataset(
        grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=THREADS)
    )
    batches = iter(
        grain.experimental.ThreadPrefetchIterDataset(in_order, prefetch_buffer_size=prefetch)
    )
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
    place_of = sharding.devices_indices_map((count,))
    part_at = {_first(place_of[device]): number for number, device in enumerate(devices)}

    def assemble(*arrays: np.ndarray) -> jax.Array:
        rows = len(arrays[0])
        shape = (count * rows, *arrays[0].shape[1:])
        return jax.make_array_from_callback(
            shape, sharding, lambda index: arrays[part_at[_first(index) // rows]]
        )

    return jax.tree.map(assemble, *parts)


def _first(index: tuple[slice, ...] | None) -> int:
    """Where a device's part of an array begins."""
    return 0 if index is None else index[0].start or 0
