"""Devices and their roles: the mesh on which servers own rows and workers own samples.

Co-located placement (the paper's): every device is a server *and* a worker. Tables are split along
the ``server`` axis and repeated along the ``worker`` axis; the batch is split over both. So
``(worker, server) = (1, N)`` is the paper's layout, and ``(hosts, local devices)`` keeps the
exchange of vectors inside a host.

Dedicated placement: servers and workers are different devices, each set with a mesh of its own. The
servers stand in one row, ``(1, S)``; the workers' mesh is ``(W, S)``: the ``W`` workers of column
``s`` are fed by server ``s``, which asks for what all of them want, takes part in the exchange
between servers for them, and hands them their vectors. The two belong to one process.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dicm_jax.ams.layout import VIRTUAL_SHARDS
from dicm_jax.errors import MeshError

WORKER = "worker"
SERVER = "server"
BOTH = (WORKER, SERVER)

Device = Any
"""A `jax.Device`, which has no type that a checker could read: it comes from a compiled module."""

TABLE_SPEC = P(SERVER)
"""Rows of a table: split along the servers, the same on every worker row of the mesh."""
BATCH_SPEC = P(BOTH)
"""Dim 0 of everything that belongs to samples: split over all devices."""
REPLICATED_SPEC = P()
"""Dense parameters: the same on every device."""


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """How many devices stand along each axis of a mesh."""

    worker: int
    server: int

    @property
    def devices(self) -> int:
        return self.worker * self.server


def mesh_shape(n_devices: int, worker: int = 1, server: int | None = None) -> MeshShape:
    """The mesh shape for `n_devices`, with the server axis taking what the worker axis leaves.

    Args:
      n_devices: devices at hand.
      worker: length of the worker axis.
      server: length of the server axis; None for ``n_devices // worker``.

    Raises:
      MeshError: the axes do not multiply to the devices, or a server count that does not divide
        the virtual shards of a table.
    """
    if n_devices % worker:
        raise MeshError(
            f"mesh.worker={worker} does not divide the {n_devices} devices at hand: choose a"
            f" divisor of {n_devices}, or another number of devices (on CPU:"
            " --config.mesh.virtual_devices=N)"
        )
    server = n_devices // worker if server is None else server
    if worker * server != n_devices:
        raise MeshError(
            f"mesh (worker={worker}, server={server}) wants {worker * server} devices, {n_devices}"
            " are at hand: leave mesh.server unset, or (on CPU) set"
            f" --config.mesh.virtual_devices={worker * server}"
        )
    if VIRTUAL_SHARDS % server:
        raise MeshError(
            f"mesh.server={server} does not divide the {VIRTUAL_SHARDS} virtual shards of a table:"
            " use a power of two of servers and let mesh.worker take the rest"
        )
    return MeshShape(worker, server)


def make_mesh(shape: MeshShape) -> Mesh:
    """The co-located ``(worker, server)`` mesh over all devices.

    Axis types are ``Auto``: sharding is said once, at the boundary of each `jax.shard_map`.
    """
    return jax.make_mesh(
        (shape.worker, shape.server), BOTH, axis_types=(AxisType.Auto, AxisType.Auto)
    )


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which devices serve and which devices work.

    Attributes:
      servers: mesh of the devices that own rows.
      workers: mesh of the devices that own samples; the same one where devices have both roles.
    """

    servers: Mesh
    workers: Mesh

    @property
    def colocated(self) -> bool:
        """Whether every device has both roles."""
        return self.servers == self.workers

    @property
    def requesters(self) -> int:
        """Devices of the servers' mesh that ask for rows, each with a list of its own."""
        return self.servers.size

    @property
    def workers_per_list(self) -> int:
        """Workers whose samples one list is made for."""
        return self.workers.size // self.servers.size

    @property
    def lists_on_workers(self) -> NamedSharding:
        """Sharding, on the workers, of what has one entry for each list."""
        return NamedSharding(self.workers, BATCH_SPEC if self.colocated else TABLE_SPEC)


def colocated(shape: MeshShape) -> Roles:
    """All devices as servers and workers."""
    mesh = make_mesh(shape)
    return Roles(mesh, mesh)


def dedicated(servers: list[Device], workers: list[Device]) -> Roles:
    """Disjoint devices as servers and as workers.

    Args:
      servers: owners of rows, a power of two of them.
      workers: owners of samples, the same number for each server. Those of a process are dealt to
        the servers of that process.

    Raises:
      MeshError: a device in both sets, numbers that do not fit, or a process without its share.
    """
    both = set(servers) & set(workers)
    if both:
        raise MeshError(
            f"placement 'dedicated' with {sorted(map(str, both))} as server and as worker: the two"
            " sets must be disjoint; use fewer servers (mesh.server), or placement 'colocated'"
        )
    if not servers or not workers or len(workers) % len(servers):
        raise MeshError(
            f"placement 'dedicated' with {len(servers)} servers and {len(workers)} workers: every"
            " server feeds the same number of workers; choose mesh.server so that the rest of the"
            " devices is a multiple of it"
        )
    mesh_shape(len(servers))
    columns = _by_server(servers, workers)
    return Roles(_mesh(np.array([servers])), _mesh(np.array(columns).T))


def _by_server(servers: list[Device], workers: list[Device]) -> list[list[Device]]:
    """The workers of each server, all of its own process."""
    share = len(workers) // len(servers)
    free = {
        process: [worker for worker in workers if worker.process_index == process]
        for process in {server.process_index for server in servers}
    }
    columns = []
    for server in servers:
        mine = free[server.process_index]
        if len(mine) < share:
            raise MeshError(
                f"placement 'dedicated': process {server.process_index} has too few workers for"
                f" its servers, {share} for each; give every process the same devices"
            )
        columns.append([mine.pop(0) for _ in range(share)])
    return columns


def _mesh(devices: np.ndarray) -> Mesh:
    return Mesh(devices, BOTH, axis_types=(AxisType.Auto, AxisType.Auto))


def shape_of(mesh: Mesh) -> MeshShape:
    """The `MeshShape` of a mesh made by `make_mesh`."""
    return MeshShape(mesh.shape[WORKER], mesh.shape[SERVER])


def table_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of every array whose dim 0 counts the rows of a table."""
    return NamedSharding(mesh, TABLE_SPEC)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of every array whose dim 0 counts samples, or one entry a device."""
    return NamedSharding(mesh, BATCH_SPEC)


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of dense parameters and scalars."""
    return NamedSharding(mesh, REPLICATED_SPEC)
