"""Saving a run and going on with it, with Orbax.

A checkpoint holds the training state and a small JSON record: the position in the input (a single
number, since batches can be built at random) and the settings it belongs to. Frozen feature tables
are not saved; the record has what they are known again by. What rounding owes to gradients belongs
to the devices that sent them, and is saved apart: on another number of devices a run goes on
without it.
Every file stands in a manifest with its checksum, which is compared before anything is restored.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from dicm_jax.checkpoint import manifest
from dicm_jax.checkpoint.fingerprint import check_same, differences
from dicm_jax.checkpoint.publishing import PublishedWhole, remove_unlisted
from dicm_jax.errors import CheckpointError
from dicm_jax.training.agreement import together
from dicm_jax.training.state import TrainState

CHUNK_BYTES = 64 * 2**20
"""Tables are written in pieces of this size, so that they can be read and rewritten in pieces."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: where they lie, one folder a step.
      keep: newest ones kept; None opens the folder to read only, also while a run is writing it.
      keep_every: checkpoints of steps that this divides are kept too; None for no others.
      settings: what the run's checkpoints belong to (see `fingerprint`).
      vocabularies: sizes of the log's vocabularies, in their order, for
        `dicm_jax.checkpoint.warm_start`.
      vocabulary_crcs: of the IDs of those whose IDs the log tells (`known_ids.crc_of`).
      data: what the log and its frozen tables are known again by (`data_marks`).
      verify: compare checksums before a checkpoint is restored.

    Raises:
      CheckpointError: the folder cannot be made or read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int | None,
        keep_every: int | None = None,
        settings: dict[str, Any],
        vocabularies: Mapping[str, int] = NOTHING,
        vocabulary_crcs: Mapping[str, int] = NOTHING,
        data: Mapping[str, Mapping[str, int]] = NOTHING,
        verify: bool = True,
    ):
        self.folder = folder.absolute()
        self.settings, self.vocabularies, self.data = settings, vocabularies, data
        self.vocabulary_crcs, self.verify = vocabulary_crcs, verify
        reads_only = keep is None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            keep_period=keep_every,
            cleanup_tmp_directories=not reads_only,
            create=not reads_only,
            read_only=reads_only,
            enable_async_checkpointing=True,
            temporary_path_class=PublishedWhole,
        )
        with self._told("opened"):
            if not reads_only and jax.process_index() == 0:
                remove_unlisted(self.folder)
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=("state", "errors", "record")
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

        On CPUs the state is copied first: Orbax writes arrays in host memory from where they lie,
        and a step that is given them cannot reuse their buffers; it would copy them itself, slowly,
        beside the threads that write.

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
            "vocabulary_crcs": dict(self.vocabulary_crcs),
            "data": {name: dict(mark) for name, mark in self.data.items()},
            "lists": _lists(state),
        }
        if jax.default_backend() == "cpu":
            state = _copied(state)
        errors = dict(named_leaves(state.errors))
        items = {"errors": _in_pieces(errors)} if errors else {}
        with self._told("written"):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=_in_pieces(_as_tree(state)), record=ocp.args.JsonSave(record), **items
                ),
            )

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
          CheckpointError: it could not be written.
        """
        with self._told("written"):
            self._manager.wait_until_finished()

    def notes(self, step: int) -> dict[str, Any]:
        """What `save` was given with the state of `step`."""
        return self._record(step).get("notes", {})

    def _record(self, step: int) -> dict[str, Any]:
        only = ocp.args.Composite(record=ocp.args.JsonRestore())
        return self._manager.restore(step, args=only)["record"]

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state of `step`, laid out like `like` (abstract arrays with shardings).

        Raises:
          CheckpointError: there is no such step, its files are not those that were written, it
            belongs to other settings or other data, or it cannot be read.
        """
        self.wait()
        if step not in self._manager.all_steps():
            raise CheckpointError(
                f"no checkpoint of step {step} in {self.folder}: found steps {self.steps()}"
            )
        self._check(step)
        with self._told("read"):
            record = self._record(step)
            self._check_step(step, record["next_batch"])
            check_same(record["settings"], self.settings, str(self.folder))
            self._check_data(record)
            items = {"state": ocp.args.StandardRestore(_as_tree(like))}
            if like.errors and record["lists"] == _lists(like):
                items["errors"] = ocp.args.StandardRestore(dict(named_leaves(like.errors)))
            found = self._manager.restore(step, args=ocp.args.Composite(**items))
        state = _put_back(found["state"], dataclasses.replace(like, errors={}))
        if "errors" not in items:
            return dataclasses.replace(state, errors=like.errors)
        return dataclasses.replace(state, errors=_put_back(found["errors"], like.errors))

    def _check(self, step: int) -> None:
        """Compare the files of a checkpoint with its manifest, each process its share of them."""
        folder = self.folder / str(step)
        with together(CheckpointError):
            if self.verify:
                manifest.check(folder, part=jax.process_index(), parts=jax.process_count())
            else:
                manifest.read(folder)

    def _check_step(self, step: int, found: int) -> None:
        """Refuse a renamed folder: batches would be left out or taken twice."""
        if found != step:
            raise CheckpointError(
                f"{self.folder}: folder {step} holds the checkpoint of step {found}: it was"
                f" renamed; call it {found} again, or remove it to go on from another"
            )

    def _check_data(self, record: dict[str, Any]) -> None:
        found = _known_by(record["data"], dict(record["vocabularies"]), record["vocabulary_crcs"])
        wanted = _known_by(self.data, self.vocabularies, self.vocabulary_crcs)
        if differing := differences(found, wanted):
            raise CheckpointError(
                f"the checkpoint in {self.folder} was trained on other data ({differing}): give the"
                " log and the feature tables that it was trained on, or start a new run from it by"
                " checkpoint.warm_start"
            )

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Says which folder it is about, and what to do, where Orbax and the system fail."""
        try:
            yield
        except jax.errors.JaxRuntimeError:
            raise  # of the arrays, not of the disk: the step that makes them has failed
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            remedy = (
                "remove the newest folder in it to go on from an older checkpoint"
                if what == "read"
                else "see to room on the disk and to leave to write, then run the same command"
                " again: it goes on from the newest whole checkpoint, which is untouched"
            )
            raise CheckpointError(
                f"the checkpoints in {self.folder} cannot be {what}:"
                f" {str(error).splitlines()[0] or type(error).__name__}; {remedy}"
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Wait until everything is written; an error on the way out does not hide the first one."""
        try:
            with self._told("written"):
                self._manager.close()
        except CheckpointError:
            if error is None:
                raise


def _copied(state: TrainState) -> TrainState:
    """The same arrays in other buffers, on the same devices, once they are all there."""
    return jax.block_until_ready(jax.tree.map(jnp.copy, state))


def _as_tree(state: TrainState) -> dict[str, Any]:
    """A state as a dict of arrays under stable names, e.g. ``params.net.head.output.kernel``."""
    return dict(named_leaves(dataclasses.replace(state, errors={})))


def _in_pieces(tree: dict[str, Any]) -> ocp.args.StandardSave:
    pieces = ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES)
    return ocp.args.StandardSave(tree, save_args=dict.fromkeys(tree, pieces))


def _known_by(
    data: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int], crcs: Mapping[str, int]
) -> dict[str, int]:
    """What tells the data of a run from others, by dotted name."""
    marks = {f"{of}.{name}": value for of, mark in data.items() for name, value in mark.items()}
    marks |= {f"vocabulary {name}": size for name, size in sizes.items()}
    return marks | {f"IDs of {name}": crc for name, crc in crcs.items()}


def _lists(state: TrainState) -> dict[str, int]:
    """How many places for errors each list has, over all devices."""
    return {name: len(errors.row_R) for name, errors in state.errors.items()}


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """The arrays of a tree with their names, e.g. ``("params.net.head.output.kernel", ...)``."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _put_back(found: dict[str, Any], like: Any) -> Any:
    return jax.tree.unflatten(
        jax.tree.structure(like), [found[name] for name, _ in named_leaves(like)]
    )
