"""The small model saved on some devices and restored on others; also what two processes do of it.

    python -m tests.multiprocess.places FOLDER

joins the other processes that the environment speaks of; saves in the place ``two`` and restores
there what the places ``one`` and ``eight`` have saved in FOLDER before.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

Arrays = dict[str, np.ndarray]

PLACES: dict[str, dict[str, Any]] = {
    "one": {"worker": 1, "server": 1},
    "eight": {"worker": 2, "server": 4},
    "two": {"worker": 1, "server": 2, "placement": "dedicated"},  # two processes, two devices each
}
SAVED, STEPS = 2, 4
"""Steps before the save, and in all."""


def start(place: str):
    """A run of the small model on the devices of `place`, with moving averages in its state."""
    from dicm_jax.config import ExchangeConfig
    from tests import small_world

    spec = small_world.model_spec(basic_net="din", images="behavior", aggregator="sum")
    return small_world.run(**PLACES[place], spec=spec, settings=ExchangeConfig(chunk=64))


def checkpoints(folder: Path, place: str):
    """Where `place` saves."""
    from dicm_jax.checkpoint.manager import Checkpoints

    return Checkpoints(folder / place, keep=2, settings={})


def save_and_go_on(folder: Path, place: str) -> list[float]:
    """Takes steps, saves amid them, and writes what it held then; the losses of all steps."""
    run = start(place)
    with checkpoints(folder, place) as saves:
        losses = losses_of(run, range(SAVED))
        saves.save(SAVED, run.state)
        np.savez(
            folder / f"{place}-{jax.process_index()}.npz", allow_pickle=False, **parts(run.state)
        )
        return losses + losses_of(run, range(SAVED, STEPS))


def restore_and_go_on(folder: Path, saved_by: str, run: Any) -> list[float]:
    """Restores what a place has saved, checks every bit, and goes on; the losses of its steps."""
    expected = held(folder, saved_by)
    with checkpoints(folder, saved_by) as saves:
        run.state = saves.restore(SAVED, like=run.fresh())
    assert_holds(run.state, expected)
    return losses_of(run, range(SAVED, STEPS))


def losses_of(run: Any, numbers: range) -> list[float]:
    """Takes the steps of these numbers."""
    return [float(run.take(run.source[number]).workers.loss) for number in numbers]


def parts(state: Any) -> Arrays:
    """What this process holds of every array, under ``name|first row``."""
    return {
        f"{name}|{_first_row(shard)}": np.asarray(shard.data)
        for name, leaf in _named(state)
        for shard in leaf.addressable_shards
    }


def held(folder: Path, place: str) -> Arrays:
    """What a place held when it saved, put together from the parts of its processes."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for path in folder.glob(f"{place}-*.npz"):
        with np.load(path) as file:
            for key, part in file.items():
                name, first = key.split("|")
                found.setdefault(name, {})[int(first)] = part
    return {
        name: rows[0] if len(rows) == 1 else np.concatenate([rows[n] for n in sorted(rows)])
        for name, rows in found.items()
    }


def assert_holds(state: Any, expected: Arrays) -> None:
    """Every array of a state, as far as this process holds it, is the expected one bit for bit."""
    named = _named(state)
    assert {name for name, _ in named} == set(expected)
    for name, leaf in named:
        assert leaf.shape == expected[name].shape, name
        for shard in leaf.addressable_shards:
            found, wanted = np.asarray(shard.data), expected[name][shard.index]
            assert found.dtype == wanted.dtype, name
            assert found.tobytes() == wanted.tobytes(), f"{name} on {shard.device}"


def _named(state: Any) -> list[tuple[str, jax.Array]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    ]


def _first_row(shard: Any) -> int:
    """Only rows are ever split."""
    return shard.index[0].start or 0 if shard.index else 0


def main(folder: Path) -> None:
    """The command line."""
    jax.config.update("jax_default_matmul_precision", "highest")
    from dicm_jax.config import MeshConfig
    from dicm_jax.training.devices import is_main, join_processes

    join_processes(MeshConfig())
    losses = {"two": save_and_go_on(folder, "two")}
    run = start("two")
    for other in ("one", "eight"):
        losses[other] = restore_and_go_on(folder, other, run)
    if is_main():
        (folder / "two.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
