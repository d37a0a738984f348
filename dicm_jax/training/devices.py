"""The devices of a run and their roles, over all its processes."""

import json
import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from dicm_jax.ams import mesh
from dicm_jax.ams.mesh import Device, Roles
from dicm_jax.config import MeshConfig
from dicm_jax.errors import ConfigError, MeshError


def join_processes() -> None:
    """Join the other processes of a run, if there are any.

    On one machine, each process is told by the environment: ``JAX_COORDINATOR_ADDRESS``
    (host:port of process 0), ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``. On clusters that JAX
    knows (Slurm, GKE, TPU pods) set ``JAX_COORDINATOR_ADDRESS`` to ``auto``.

    Raises:
      MeshError: the address is there, but not the process's number or their count.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address is None:
        return
    if address == "auto":
        jax.distributed.initialize()
        return
    numbers = {}
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        text = os.environ.get(name, "")
        if not text.isdigit():
            raise MeshError(
                f"JAX_COORDINATOR_ADDRESS={address} with {name}={text or 'unset'}: every process"
                " of a run needs the number of processes and its own, from 0"
            )
        numbers[name] = int(text)
    jax.distributed.initialize(address, numbers["JAX_NUM_PROCESSES"], numbers["JAX_PROCESS_ID"])


def start_roles(config: MeshConfig, lanes: int) -> Roles:
    """The roles that a run asks for, on the devices of all its processes.

    Raises:
      MeshError: the devices cannot be arranged so, or the lanes of a batch cannot be dealt to them.
    """
    if config.virtual_devices is not None:
        jax.config.update("jax_num_cpu_devices", config.virtual_devices)
    join_processes()
    roles = _dedicated(config) if config.placement == "dedicated" else _colocated(config)
    if lanes % roles.workers.size:
        raise MeshError(
            f"train.lanes={lanes} cannot be dealt out evenly to {roles.workers.size} devices: set"
            f" train.lanes to a multiple of {roles.workers.size}"
        )
    return roles


def _colocated(config: MeshConfig) -> Roles:
    return mesh.colocated(mesh.mesh_shape(len(jax.devices()), config.worker, config.server))


def _dedicated(config: MeshConfig) -> Roles:
    """Every process gives the same number of its devices, the first ones, to serving."""
    if config.servers_on == "cpu":
        return mesh.dedicated(first_of_each(jax.devices("cpu"), config.server), jax.devices())
    devices = jax.devices()
    wanted = config.server or len(devices) // (config.worker + 1)
    servers = first_of_each(devices, wanted)
    return mesh.dedicated(servers, [device for device in devices if device not in servers])


def first_of_each(devices: list[Device], wanted: int | None) -> list[Device]:
    """`wanted` devices, as many of each process."""
    processes = jax.process_count()
    wanted = len(devices) if wanted is None else wanted
    if wanted < 1 or wanted % processes or wanted > len(devices):
        raise MeshError(
            f"placement 'dedicated' with {wanted} servers of {len(devices)} devices in {processes}"
            " process(es): every process needs the same number of servers, at least one; set"
            f" mesh.server to a multiple of {processes}"
        )
    each = wanted // processes
    return [
        device
        for process in range(processes)
        for device in [d for d in devices if d.process_index == process][:each]
    ]


def check_same_settings(settings: dict[str, object]) -> None:
    """Refuse to start where a process has other settings than process 0.

    Args:
      settings: by dotted name, as this process has them.

    Raises:
      ConfigError: names the settings that differ, in every process.
    """
    if jax.process_count() == 1:
        return
    mine = json.dumps(settings, sort_keys=True, default=str).encode()
    lengths_P = multihost_utils.process_allgather(np.array([len(mine)])).reshape(-1)
    padded = np.zeros(int(lengths_P.max()), np.uint8)
    padded[: len(mine)] = np.frombuffer(mine, np.uint8)
    texts_PX = multihost_utils.process_allgather(padded)
    of_all = [
        json.loads(bytes(text_X[:length]))
        for text_X, length in zip(texts_PX, lengths_P, strict=True)
    ]
    for process, other in enumerate(of_all):
        for name in sorted({*other, *of_all[0]}):
            if other.get(name) != of_all[0].get(name):
                raise ConfigError(
                    f"process {process} has {name}={other.get(name)!r}, process 0 has"
                    f" {of_all[0].get(name)!r}: start all processes of a run with the same"
                    " configuration"
                )


def is_main() -> bool:
    """Whether this process writes files and speaks for all."""
    return jax.process_index() == 0
