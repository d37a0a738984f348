"""Saves a checkpoint from two processes; started by the test, once a process.

    python -m tests.checkpoint.surgery.two_processes FOLDER

The ID table lies by rows on the devices of both, everything else on all of them.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def laid_out(state, devices):
    """A state whose table is split over `devices`, and the rest repeated on them."""
    mesh = Mesh(np.array(devices), ("x",))

    def lay(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        spec = PartitionSpec("x") if name.startswith("ids.") else PartitionSpec()
        values = np.asarray(leaf)
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree_util.tree_map_with_path(lay, state)


def main(folder: Path) -> None:
    from dicm_jax.config import MeshConfig
    from dicm_jax.training.devices import join_processes
    from tests.checkpoint.surgery import made

    join_processes(MeshConfig())
    made.save(folder, laid_out(made.state(), jax.devices()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
