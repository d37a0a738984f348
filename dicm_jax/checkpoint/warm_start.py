"""Starting from the trained parts of another run (the paper's warm-up, section 7.4 and Table 5).

*Partial* warm-up takes over embedding models, aggregators and the net, and leaves ID rows at their
random start: what photos mean holds from one date to the next, while ID rows learnt by heart
make a model overfit. *Full* warm-up takes the ID rows too. Optimisers and schedules start afresh.
Only what is taken over is read from disk.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp

from dicm_jax.checkpoint.fingerprint import differences
from dicm_jax.errors import CheckpointError
from dicm_jax.training.state import Params, TrainState

Parts = Literal["partial", "full"]


def warm_start(
    checkpoints: Path, parts: Parts, state: TrainState, vocabularies: Mapping[str, int]
) -> TrainState:
    """`state` with what another run has learnt.

    Args:
      checkpoints: folder of the other run's checkpoints; the newest is read.
      parts: with or without ID rows.
      state: a new state, laid out on the devices.
      vocabularies: sizes of the log's vocabularies, in their order: what ID rows stand for.

    Raises:
      CheckpointError: there is no checkpoint, it cannot be read, its model has other parts or
        sizes, or its ID rows stand for other keys.
    """
    path = _newest(checkpoints) / "state"
    wanted = _taken(state, parts)
    try:
        if parts == "full":
            _check_vocabularies(path, vocabularies)
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            _check_shapes(reader.metadata(path).item_metadata, wanted, path)
            like = {name: _abstract(leaf) for name, leaf in wanted.items()}
            found = reader.restore(
                path,
                args=ocp.args.PyTreeRestore(
                    item=like,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(like),
                    partial_restore=True,
                ),
            )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(
            f"cannot read {path} for checkpoint.warm_start: {str(error).splitlines()[0]}; name the"
            " folder of another run"
        ) from error
    return _put(found, state, parts)


def _newest(checkpoints: Path) -> Path:
    steps = [entry for entry in checkpoints.glob("*") if (entry / "state").is_dir()]
    finished = [entry for entry in steps if entry.name.isdigit()]
    if not finished:
        raise CheckpointError(
            f"checkpoint.warm_start: no finished checkpoint in {checkpoints}; name the folder of a"
            " run of python -m dicm_jax.train that has saved one"
        )
    return max(finished, key=lambda entry: int(entry.name)).absolute()


def _taken(state: TrainState, parts: Parts) -> dict[str, Any]:
    """The arrays that are taken over, by their names in a checkpoint."""
    named = jax.tree_util.tree_leaves_with_path(state)
    arrays = {jax.tree_util.keystr(p, simple=True, separator="."): leaf for p, leaf in named}
    prefixes = ("params.", "moments.") + (("ids.row",) if parts == "full" else ())
    return {name: leaf for name, leaf in arrays.items() if name.startswith(prefixes)}


def _check_vocabularies(path: Path, wanted: Mapping[str, int]) -> None:
    """Refuse ID rows of another log; tables are padded, so their shapes do not tell."""
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        record = reader.restore(path.parent / "record")
    if "vocabularies" not in record:
        return  # a checkpoint of before they were written down
    found = dict(record["vocabularies"])
    if list(found.items()) != list(wanted.items()):
        differing = differences(found, wanted) or f"their order was {list(found)}"
        raise CheckpointError(
            f"checkpoint.warm_parts='full': the ID rows of {path} are those of other vocabularies"
            f" ({differing}); use checkpoint.warm_parts='partial'"
        )


def _check_shapes(found: Any, wanted: dict[str, Any], path: Path) -> None:
    for name, leaf in wanted.items():
        if name not in found:
            raise CheckpointError(
                f"checkpoint.warm_start: {path} has no {name}, which this model has; warm up from"
                " a run of the same model settings"
            )
        if tuple(found[name].shape) != leaf.shape:
            raise CheckpointError(
                f"checkpoint.warm_start: {name} of {path} has shape {tuple(found[name].shape)}, of"
                f" this model {leaf.shape}; make the sizes of the two models equal"
            )


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _put(found: dict[str, Any], state: TrainState, parts: Parts) -> TrainState:
    def replaced(tree: Any, prefix: str) -> Any:
        paths, structure = jax.tree_util.tree_flatten_with_path(tree)
        names = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in paths]
        return jax.tree.unflatten(structure, [found[f"{prefix}.{name}"] for name in names])

    params = Params(
        replaced(state.params.embedders, "params.embedders"),
        replaced(state.params.net, "params.net"),
    )
    ids = state.ids | {"row": found["ids.row"]} if parts == "full" else state.ids
    return dataclasses.replace(
        state, params=params, moments=replaced(state.moments, "moments"), ids=ids
    )
