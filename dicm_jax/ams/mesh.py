"""Devices and their roles: the mesh on which servers own rows and workers own samples.

Co-located placement (the paper's): every device is a server *and* a worker. Tables are split along
the ``server`` axis and repeated along the ``worker`` axis; the batch is split over both. So
``(worker, server) = (1, N)`` is the paper's layout, and ``(hosts, local devices)`` keeps the
exchange of vectors inside a host.
"""

import dataclasses

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dicm_jax.ams.layout import VIRTUAL_SHARDS
from dicm_jax.errors import MeshError

WORKER = "worker"
SERVER = "server"
BOTH = (WORKER, SERVER)

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
