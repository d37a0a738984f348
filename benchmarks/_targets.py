"""Machines that a program can be compiled for without having them.

The compilers come with JAX's plugins: ``pip install 'jax[tpu]'`` for TPUs; ``jax-cuda13-plugin``
and ``jax-cuda13-pjrt``, of JAX's version, for GPUs (no driver and no other CUDA library is needed).
"""

import dataclasses
import os
import re
from importlib import resources

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from benchmarks._step_model import H100, TPU_V5E, Hardware
from dicm_jax.ams.mesh import BOTH, mesh_shape
from dicm_jax.errors import DicmError

GPUS_PER_HOST = 8
_NAME = re.compile(r"(?P<kind>tpu-v5e|h100)-(?P<devices>[1-9]\d*)")
_V5E_SLICES = {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_HARDWARE = {"tpu-v5e": TPU_V5E, "h100": H100}


# Nobody is asked which machine this is, nothing is said about not knowing it, and several compilers
# may run at a time.
_WITHOUT_TPUS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class TargetError(DicmError):
    """A machine that cannot be compiled for, here or at all."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine.

    Attributes:
      kind: ``"tpu-v5e"`` or ``"h100"``.
      devices: how many.
    """

    kind: str
    devices: int

    @property
    def hardware(self) -> Hardware:
        return _HARDWARE[self.kind]


def parse_target(name: str) -> Target:
    """``tpu-v5e-256``, ``h100-32``: kind and number of devices.

    Raises:
      TargetError: a name of no machine, or a number of devices that it does not come in.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise TargetError(
            f"target {name!r}: there is no such machine; name one as tpu-v5e-256 or h100-32"
        )
    target = Target(match["kind"], int(match["devices"]))
    if target.kind == "tpu-v5e" and target.devices not in _V5E_SLICES:
        raise TargetError(
            f"target {name!r}: v5e comes in slices of {', '.join(map(str, _V5E_SLICES))} chips"
        )
    if target.devices > GPUS_PER_HOST and target.devices % GPUS_PER_HOST:
        raise TargetError(
            f"target {name!r}: a host has {GPUS_PER_HOST} GPUs; use a multiple of"
            f" {GPUS_PER_HOST}, or fewer than that"
        )
    return target


def target_mesh(target: Target, worker: int) -> Mesh:
    """The ``(worker, server)`` mesh over the devices of a machine that need not be there.

    Raises:
      TargetError: its compiler is not installed.
      MeshError: the devices cannot be arranged so.
    """
    shape = mesh_shape(target.devices, worker)
    try:
        devices = np.array(_topology(target).devices)
    except (RuntimeError, ValueError) as error:
        raise TargetError(
            f"the compiler for {target.kind} is not at hand ({_first_line(error)}):"
            f" {_INSTALL[target.kind]}"
        ) from error
    return Mesh(devices.reshape(shape.worker, shape.server), BOTH, axis_types=(AxisType.Auto,) * 2)


_INSTALL = {
    "tpu-v5e": "pip install 'jax[tpu]'",
    "h100": f"pip install jax-cuda13-plugin=={jax.__version__} jax-cuda13-pjrt=={jax.__version__}",
}


def _topology(target: Target) -> topologies.TopologyDescription:
    if target.kind == "tpu-v5e":
        for name, value in _WITHOUT_TPUS.items():
            os.environ.setdefault(name, value)
        return topologies.get_topology_desc(
            platform="tpu", topology_name=f"v5e:{_V5E_SLICES[target.devices]}"
        )
    per_host = min(target.devices, GPUS_PER_HOST)
    description = resources.files("benchmarks").joinpath("targets", "h100.textproto").read_text()
    return topologies.get_topology_desc(
        platform="cuda",
        topology_name="h100",
        topology=f"1x{target.devices // per_host}x{per_host}",
        target_config=description,
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
