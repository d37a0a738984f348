"""Saving a run and going on with it, with Orbax.

A checkpoint holds the training state and a small JSON record: the position in the input (a single
number, since batches can be built at random) and the settings it belongs to. Frozen feature tables
are not saved; they are built from their source. What rounding owes to gradients belongs to the
devices that sent them, and is saved apart: on another number of devices a run goes on without it.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
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
      vocabularies: sizes of the log's vocabularies, in their order, for
        `dicm_jax.checkpoint.warm_start`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        settings: dict[str, Any],
        vocabularies: Mapping[str, int] = MappingProxyType({}),
    ):
        self.folder = folder.absolute()
        self.settings = settings
        self.vocabularies = vocabularies
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
            ),
            item_names=("state", "errors", "record"),
        )

    def latest(self) -> int | None:
        """The newest finished checkpoint's step; None if there is none."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Steps of all finished checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def forget_after(self, step: int) -> None:
        """Delete the checkpoints of later steps than `step`."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def save(self, step: int, state: TrainState, notes: dict[str, Any] | None = None) -> None:
        """Save in the background; the arrays may be donated as soon as this returns.

        Args:
          step: steps taken.
          state: after them.
          notes: what else a run must know to go on from here, as JSON writes it.
        """
        record = {
            "next_batch": step,
            "notes": notes or {},
            "settings": self.settings,
            "vocabularies": [list(pair) for pair in self.vocabularies.items()],
            "lists": _lists(state),
        }
        errors = dict(_named(state.errors))
        items = {"errors": ocp.args.StandardSave(errors)} if errors else {}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_as_tree(state)),
                record=ocp.args.JsonSave(record),
                **items,
            ),
        )

    def notes(self, step: int) -> dict[str, Any]:
        """What `save` was given with the state of `step`."""
        return self._record(step).get("notes", {})

    def _record(self, step: int) -> dict[str, Any]:
        only = ocp.args.Composite(record=ocp.args.JsonRestore())
        return self._manager.restore(step, args=only)["record"]

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state of `step`, laid out like `like` (abstract arrays with shardings).

        Raises:
          CheckpointError: there is no such step, it belongs to other settings, or it cannot be
            read.
        """
        self._manager.wait_until_finished()
        if step not in self._manager.all_steps():
            raise CheckpointError(
                f"no checkpoint of step {step} in {self.folder}: found steps {self.steps()}"
            )
        try:
            record = self._record(step)
            check_same(record["settings"], self.settings, str(self.folder))
            items = {"state": ocp.args.StandardRestore(_as_tree(like))}
            if like.errors and record["lists"] == _lists(like):
                items["errors"] = ocp.args.StandardRestore(dict(_named(like.errors)))
            found = self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(
                f"cannot read the checkpoint of step {step} in {self.folder}:"
                f" {str(error).splitlines()[0]}. Remove its folder to go on from an older one"
            ) from error
        state = _put_back(found["state"], dataclasses.replace(like, errors={}))
        if "errors" not in items:
            return dataclasses.replace(state, errors=like.errors)
        return dataclasses.replace(state, errors=_put_back(found["errors"], like.errors))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        """Wait until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _as_tree(state: TrainState) -> dict[str, Any]:
    """A state as a dict of arrays under stable names, e.g. ``params.net.head.output.kernel``."""
    return dict(_named(dataclasses.replace(state, errors={})))


def _lists(state: TrainState) -> dict[str, int]:
    """How many places for errors each list has, over all devices."""
    return {name: len(errors.row_R) for name, errors in state.errors.items()}


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _put_back(found: dict[str, Any], like: Any) -> Any:
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name, _ in _named(like)])
