"""The devices of a run and their roles, over all its processes."""

import json
import os
import threading
from typing import Any

import jax
from jax._src import distributed

from dicm_jax.ams import mesh
from dicm_jax.ams.mesh import Device, Roles
from dicm_jax.config import MeshConfig
from dicm_jax.errors import ConfigError, MeshError
from dicm_jax.training import company, last_words
from dicm_jax.training.agreement import texts_of_all

_SPARE_S = 10
"""JAX's own limits come this much later than ours, which end a process with a message."""


def join_processes(config: MeshConfig) -> None:
    """Join the other processes of a run, if there are any, and look after them from then on.

    On one machine, each process is told by the environment: ``JAX_COORDINATOR_ADDRESS``
    (host:port of process 0), ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``. On clusters that JAX
    knows (Slurm, GKE, TPU pods) set ``JAX_COORDINATOR_ADDRESS`` to ``auto``.

    Raises:
      MeshError: the address is there, but not the process's number or their count; or JAX knows
        no cluster here.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address is None:
        return
    given = {} if address == "auto" else _told_by_environment(address)
    late = threading.Timer(config.join_s, _end_alone, (address, config.join_s))
    late.daemon = True
    late.start()
    try:
        _initialize(config, given)
    finally:
        late.cancel()
    state = distributed.global_state
    if state.client is not None and state.num_processes > 1:
        company.join(
            state.client,
            state.process_id,
            state.num_processes,
            config.heartbeat_s,
            str(state.coordinator_address),
        )


def _told_by_environment(address: str) -> dict[str, Any]:
    numbers = {}
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        text = os.environ.get(name, "")
        if not text.isdigit():
            raise MeshError(
                f"JAX_COORDINATOR_ADDRESS={address} with {name}={text or 'unset'}: every process"
                " of a run needs the number of processes and its own, from 0"
            )
        numbers[name.removeprefix("JAX_").lower()] = int(text)
    return {"coordinator_address": address} | numbers


def _initialize(config: MeshConfig, given: dict[str, Any]) -> None:
    # Its preemption service would take SIGTERM for itself.
    jax.config.update("jax_enable_preemption_service", False)
    # JAX reads the variable too, and takes "auto" for a host's name.
    address = os.environ.pop("JAX_COORDINATOR_ADDRESS")
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=config.join_s + _SPARE_S,
            heartbeat_timeout_seconds=config.heartbeat_s + _SPARE_S,
            shutdown_timeout_seconds=config.heartbeat_s + _SPARE_S,
        )
    except ValueError as error:
        if given:
            raise
        raise MeshError(
            "JAX_COORDINATOR_ADDRESS=auto, but JAX finds no cluster that it knows here (Slurm, GKE,"
            f" Cloud TPU, Open MPI): {error} Name the address host:port of process 0 there, and set"
            " JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error
    finally:
        os.environ["JAX_COORDINATOR_ADDRESS"] = address


def _end_alone(address: str, join_s: int) -> None:
    """Ends this process, which waits for others that do not come."""
    if last_words.claim():
        last_words.exit_now(
            f"not all {os.environ.get('JAX_NUM_PROCESSES', '')} processes have come together within"
            f" {join_s} s (JAX_COORDINATOR_ADDRESS={address}, this is process"
            f" {os.environ.get('JAX_PROCESS_ID', 'auto')}): look at what the others say, see that"
            " their hosts reach that address, or raise mesh.join_s"
        )


def start_roles(config: MeshConfig, lanes: int) -> Roles:
    """The roles that a run asks for, on the devices of all its processes.

    Raises:
      MeshError: the devices cannot be arranged so, or the lanes of a batch cannot be dealt to them.
    """
    if config.virtual_devices is not None:
        jax.config.update("jax_num_cpu_devices", config.virtual_devices)
    join_processes(config)
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
    mine = json.dumps(settings, sort_keys=True, default=str)
    of_all = [json.loads(text) for text in texts_of_all(mine)]
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
