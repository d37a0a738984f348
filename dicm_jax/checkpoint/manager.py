"""Saving a run and going on with it, with Orbax.

A checkpoint holds the training state and a small JSON record: the position in the input (a single
number, since batches can be built at random) and the settings it belongs to. The frozen feature
table is not saved; it is built from its source.
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from dicm_jax.checkpoint.fingerprint import check_same
from dicm_jax.errors import CheckpointError
from dicm_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: where they lie, one folder a step.
      keep: newest ones kept.
      settings: what the run's checkpoints belong to (see `fingerprint`).
    """

    def __init__(self, folder: Path, *, keep: int, settings: dict[str, Any]):
        self.folder = folder.absolute()
        self.settings = settings
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
            ),
            item_names=("state", "record"),
        )

    def latest(self) -> int | None:
        """The newest finished checkpoint's step; None if there is none."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Steps of all finished checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState) -> None:
        """Save in the background; the arrays may be donated as soon as this returns."""
        record = {"next_batch": step, "settings": self.settings}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_as_tree(state)), record=ocp.args.JsonSave(record)
            ),
        )

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state of `step`, laid out like `like` (abstract arrays with shardings).

        Raises:
          CheckpointError: there is no such step, it belongs to other settings, or it cannot be
            read.
        """
        if step not in self._manager.all_steps():
            raise CheckpointError(
                f"no checkpoint of step {step} in {self.folder}: found steps {self.steps()}"
            )
        try:
            record = self._manager.restore(
                step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
            )["record"]
            check_same(record["settings"], self.settings, str(self.folder))
            tree = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_as_tree(like)))
            )["state"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(
                f"cannot read the checkpoint of step {step} in {self.folder}:"
                f" {str(error).splitlines()[0]}. Remove its folder to go on from an older one"
            ) from error
        return jax.tree.unflatten(jax.tree.structure(like), _leaves_in_order(tree, like))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        """Wait until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _as_tree(state: TrainState) -> dict[str, Any]:
    """A state as a dict of arrays under stable names, e.g. ``params.net.head.output.kernel``."""
    return dict(_named(state))


def _named(state: TrainState) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    ]


def _leaves_in_order(tree: dict[str, Any], like: TrainState) -> list[Any]:
    return [tree[name] for name, _ in _named(like)]
