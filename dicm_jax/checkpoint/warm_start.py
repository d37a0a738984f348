"""Starting from the trained parts of another run (the paper's warm-up, section 7.4 and Table 5).

*Partial* warm-up takes over embedding models, aggregators and the net, and leaves ID rows at their
random start: what photos mean holds from one date to the next, while ID rows learnt by heart
make a model overfit. *Full* warm-up takes the ID rows too, each to the place that its ID has in the
new log. *Pattern* takes the arrays that are named. Schedules start afresh; optimizers too, unless
they are asked to go on. Only what is taken over is read from disk.
"""

import dataclasses
import fnmatch
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp

from dicm_jax.checkpoint import known_ids, manifest
from dicm_jax.checkpoint.carried_rows import Carried, carry, match
from dicm_jax.checkpoint.known_ids import Keys
from dicm_jax.checkpoint.locate import step_folder
from dicm_jax.checkpoint.manager import named_leaves
from dicm_jax.checkpoint.surgery.stored import open_arrays
from dicm_jax.checkpoint.warm_report import TRAINED, ArrayReport, Fate, WarmReport
from dicm_jax.config import CheckpointConfig
from dicm_jax.errors import CheckpointError
from dicm_jax.training.agreement import together
from dicm_jax.training.state import TrainState

Parts = Literal["none", "partial", "full", "pattern"]
ROWS, ID_MOMENTS = "ids.row", ("ids.mu", "ids.nu")
_DENSE = ("embedders", "net")


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """What to take over.

    Attributes:
      source: folder of a run, of its checkpoints or of one checkpoint.
      parts: which arrays.
      patterns: with ``parts='pattern'``: names of arrays, in which ``*`` stands for anything.
      optimizer: go on with what optimizers keep for the parts that are taken over whole.
      verify: compare the source's checksums first.
    """

    source: Path
    parts: Parts = "partial"
    patterns: tuple[str, ...] = ()
    optimizer: bool = False
    verify: bool = True


def warm_up_of(config: CheckpointConfig) -> WarmUp:
    """What a run's settings ask for, which name a source."""
    assert config.warm_start is not None
    return WarmUp(
        source=Path(config.warm_start),
        parts=config.warm_parts,
        patterns=config.warm_patterns,
        optimizer=config.warm_optimizer,
        verify=config.verify,
    )


def warm_start(asked: WarmUp, state: TrainState, keys: Keys) -> tuple[TrainState, WarmReport]:
    """`state` with what another run has learnt, and what was done.

    Where the optimizer of ID rows goes on, so does its count, the state's step; rates must be told
    to begin there (`WarmReport.step`, `Optimizers.after`).

    Args:
      asked: what to take over.
      state: a new state, laid out on the devices.
      keys: the vocabularies of the new log: what ID rows stand for.

    Raises:
      CheckpointError: there is no checkpoint, its files are not those that were written, it cannot
        be read, its model has other parts or sizes, a pattern names nothing, or ID rows stand for
        IDs that are not known.
    """
    path = step_folder(asked.source, "checkpoint.warm_start")
    if asked.verify:
        with together(CheckpointError):
            manifest.check(path, part=jax.process_index(), parts=jax.process_count())
    fresh = _arrays(state)
    try:
        record = json.loads((path / "record" / "metadata").read_text())
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            shapes = {
                name: tuple(found.shape)
                for name, found in reader.metadata(path / "state").item_metadata.items()
            }
        taken = _taken(asked, fresh)
        kept = _kept_optimizers(asked, fresh, taken)
        wanted = taken | kept
        old = _keys_of(record, path)
        moving = ROWS in taken and _moves(old, keys)
        direct = {n: leaf for n, leaf in wanted.items() if not (moving and n.startswith("ids."))}
        _check_shapes(shapes, direct, path)
        found = _read(path / "state", direct)
        rows: dict[str, Carried] = {}
        if moving:
            row_V, rows = match(old, keys, str(path))
            tables = open_arrays(path / "state")
            for name in (n for n in wanted if n.startswith("ids.")):
                found[name] = carry(tables[name], fresh[name], row_V)
        elif ROWS in taken:
            rows = {name: Carried(size, 0, 0) for name, size in keys.sizes.items()}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(
            f"cannot read {path} for checkpoint.warm_start: {str(error).splitlines()[0]}; name the"
            " folder of another run"
        ) from error
    report = WarmReport(
        source=str(path),
        parts=asked.parts,
        step=int(record["next_batch"]) if "step" in kept else 0,
        optimizer=tuple(p for p in (*_DENSE, "ids") if any(_part_of(n) == p for n in kept)),
        arrays=tuple(_reports(shapes, fresh, found, moving)),
        rows=rows,
    )
    return _put(found, state), report


def _arrays(state: TrainState) -> dict[str, Any]:
    return dict(named_leaves(dataclasses.replace(state, errors={})))


def _taken(asked: WarmUp, fresh: Mapping[str, Any]) -> dict[str, Any]:
    """The trained arrays that are taken over, by name."""
    trained = {name: leaf for name, leaf in fresh.items() if name.startswith(TRAINED)}
    if asked.parts == "pattern":
        return {name: trained[name] for name in _matching(asked.patterns, list(trained))}
    if asked.parts == "full":
        return trained
    wanted = () if asked.parts == "none" else ("params.", "moments.")
    return {name: leaf for name, leaf in trained.items() if name.startswith(wanted)}


def _matching(patterns: Sequence[str], names: list[str]) -> list[str]:
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise CheckpointError(
                f"checkpoint.warm_patterns: {pattern!r} is the name of no trained array of this"
                f" model; it has {', '.join(names)}"
            )
    return [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _kept_optimizers(
    asked: WarmUp, fresh: Mapping[str, Any], taken: Mapping[str, Any]
) -> dict[str, Any]:
    """What optimizers keep for parts of which every array is taken over; schedules count anew."""
    if not asked.optimizer:
        return {}
    kept = {name: fresh[name] for name in (*ID_MOMENTS, "step") if ROWS in taken}
    for part in _DENSE:
        if all(name in taken for name in fresh if name.startswith(f"params.{part}.")):
            adam = f"dense_optimizer.{part}.0."  # behind it in the chain stands the schedule
            kept |= {name: leaf for name, leaf in fresh.items() if name.startswith(adam)}
    return kept


def _part_of(name: str) -> str:
    return "ids" if name.startswith("ids.") else name.removeprefix("dense_optimizer.").split(".")[0]


def _keys_of(record: Mapping[str, Any], path: Path) -> Keys:
    """The vocabularies of a checkpoint; their IDs lie in the folder of its run."""
    crcs = record.get("vocabulary_crcs", {})
    workdir = path.parent.parent
    return Keys(
        sizes=dict(record["vocabularies"]),
        crcs=crcs,
        ids=lambda name: known_ids.kept(workdir, name, crcs[name]),
    )


def _moves(old: Keys, new: Keys) -> bool:
    """Whether ID rows change places."""
    return list(old.sizes.items()) != list(new.sizes.items()) or old.crcs != new.crcs


def _check_shapes(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    for name, leaf in wanted.items():
        if name not in found:
            raise CheckpointError(
                f"checkpoint.warm_start: {path} has no {name}, which this model has; warm up from"
                " a run of the same model settings, or name what to take over in"
                " checkpoint.warm_patterns"
            )
        if found[name] != leaf.shape:
            raise CheckpointError(
                f"checkpoint.warm_start: {name} of {path} has shape {found[name]}, of"
                f" this model {leaf.shape}; make the sizes of the two models equal"
            )


def _read(state: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of a saved state, laid out like those given."""
    if not wanted:
        return {}
    like = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        for name, leaf in wanted.items()
    }
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore(
            state,
            args=ocp.args.PyTreeRestore(
                item=like,
                restore_args=ocp.checkpoint_utils.construct_restore_args(like),
                partial_restore=True,
            ),
        )


def _put(found: Mapping[str, Any], state: TrainState) -> TrainState:
    bare = dataclasses.replace(state, errors={})
    leaves = [found.get(name, leaf) for name, leaf in named_leaves(bare)]
    filled = jax.tree.unflatten(jax.tree.structure(bare), leaves)
    return dataclasses.replace(filled, errors=state.errors)


def _reports(
    shapes: Mapping[str, tuple[int, ...]],
    fresh: Mapping[str, Any],
    found: Mapping[str, Any],
    moving: bool,
) -> list[ArrayReport]:
    reports = []
    for name, leaf in fresh.items():
        fate: Fate = "skipped"
        if name in found:
            fate = _moved(shapes[name], leaf.shape) if _in_table(name, moving) else "restored"
        reports.append(ArrayReport(name, fate, shapes.get(name), tuple(leaf.shape)))
    gone = [name for name in shapes if name not in fresh]
    return reports + [ArrayReport(n, "not in this model", shapes[n], None) for n in gone]


def _in_table(name: str, moving: bool) -> bool:
    return moving and name.startswith("ids.")


def _moved(old: tuple[int, ...], new: tuple[int, ...]) -> Fate:
    if old[0] == new[0]:
        return "remapped"
    return "grown" if new[0] > old[0] else "shrunk"
