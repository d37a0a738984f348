"""Row-sparse Adam on a large ID table, against `optax.adam` over the whole table.

Claim: with 10 million rows of width 12 and 100,000 touched rows a step, at least 20 times faster,
and in place: no array of the table's height is copied.

The project's side is the step's own code: `id_table.push` with `RowAdam`, on one device, jitted
with the table donated. Optax gets the gradient that differentiating a gather gives, a whole table
of mostly zeros, and its table and moments are donated as well. Both get the same distinct rows and
the same gradients, prepared before the clock starts. The first step leaves the same touched rows in
both tables, or the benchmark fails; later ones differ by design, as Optax fades the moments of
absent rows and RowAdam does not.

Shape legend
    V   rows of the table       K   touched rows of a step      E   embedding width
"""

import argparse
import functools
import json
import sys
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array

from benchmarks._machine import circumstances, peak_rss_mib
from benchmarks._rounds import medians, ratio, take_turns
from dicm_jax.ams import id_table
from dicm_jax.ams.id_table import Table
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import (
    BATCH_SPEC,
    REPLICATED_SPEC,
    TABLE_SPEC,
    MeshShape,
    batch_sharding,
    make_mesh,
    table_sharding,
)
from dicm_jax.ams.plan import Capacity, Request, plan
from dicm_jax.ams.wire import WIRES
from dicm_jax.training.row_adam import RowAdam

DESCRIPTION = "Times row-sparse Adam on a large table against optax.adam over the whole table."
EXAMPLE = """example:
  python -m benchmarks.lazy_adam --rows=1000000 --keys=10000

Ends with one line of JSON: `ratio` is how many times more steps a second the row-sparse one takes,
`in_place` whether its arrays still lie where they lay before the first step."""

LEARNING_RATE = 1e-3
BATCHES = 4
LAZY_STEPS = 20  # a turn; one step is too short to time beside a dense one
DENSE_STEPS = 2

Batch = tuple[Request, Array]


def push(table: Table, step: Array, batch: Batch, capacity: Capacity) -> Table:
    """The update of ID rows as the training step does it."""
    request, gradients_KE = batch
    update_rows = RowAdam().at(step, LEARNING_RATE)
    wire = WIRES["float32"]
    table, _ = id_table.push(table, gradients_KE, request, capacity, wire, update_rows)
    return table


def random_batches(
    keys: int, width: int, layout: RowLayout, capacity: Capacity, seed: int
) -> list[Batch]:
    """Distinct rows all over the table, and gradients for them."""
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(BATCHES):
        keys_K = rng.choice(layout.n_keys, keys, replace=False)
        request, _ = plan(keys_K, layout, capacity)
        gradients_KE = rng.standard_normal((keys, width), np.float32)
        batches.append((request, gradients_KE))
    return batches


@functools.partial(jax.jit, static_argnums=0)
def first_rows(shape: tuple[int, int]) -> Array:
    """Rows of the size of a new table's, made without a second array of that size.

    Random numbers would take more memory for a moment than a step does, and hide what a step takes.
    """
    return 0.01 * jnp.sin(lax.broadcasted_iota(jnp.float32, shape, 0))


class Lazy:
    """The project's table and its jitted update."""

    def __init__(self, row_VE: Array, batches: list[Batch], capacity: Capacity):
        mesh = make_mesh(MeshShape(1, 1))
        self.table = RowAdam().init(jax.device_put(row_VE, table_sharding(mesh)))
        self.batches = cycle([jax.device_put(batch, batch_sharding(mesh)) for batch in batches])
        self.steps_done = 0
        update = jax.shard_map(
            functools.partial(push, capacity=capacity),
            mesh=mesh,
            in_specs=(TABLE_SPEC, REPLICATED_SPEC, BATCH_SPEC),
            out_specs=TABLE_SPEC,
            check_vma=False,
        )
        jitted = jax.jit(update, donate_argnums=0, out_shardings=table_sharding(mesh))
        self.update = jitted.lower(self.table, np.int32(0), batches[0]).compile()
        jax.block_until_ready(self.table)

    def run(self, steps: int = LAZY_STEPS) -> int:
        for _ in range(steps):
            self.table = self.update(self.table, np.int32(self.steps_done), next(self.batches))
            self.steps_done += 1
        jax.block_until_ready(self.table)
        return steps


class Dense:
    """Adam of Optax over the same table."""

    def __init__(self, row_VE: Array, batches: list[Batch]):
        self.optimizer = optax.adam(LEARNING_RATE)
        self.state: Any = (row_VE, self.optimizer.init(row_VE))
        self.batches = cycle([(jnp.asarray(request.rows_K), g_KE) for request, g_KE in batches])
        self.update = jax.jit(self._update, donate_argnums=0)

    def _update(self, state: Any, rows_K: Array, gradients_KE: Array) -> Any:
        row_VE, kept = state
        _, pull_back = jax.vjp(lambda row_VE: row_VE[rows_K], row_VE)
        (gradient_VE,) = pull_back(gradients_KE)
        updates, kept = self.optimizer.update(gradient_VE, kept)
        return optax.apply_updates(row_VE, updates), kept

    def run(self, steps: int = DENSE_STEPS) -> int:
        for _ in range(steps):
            self.state = self.update(self.state, *next(self.batches))
        jax.block_until_ready(self.state)
        return steps

    @property
    def table(self) -> Table:
        row_VE, (adam, *_) = self.state
        return {"row": row_VE, "mu": adam.mu, "nu": adam.nu}


def addresses(tree: Any) -> list[int]:
    """Where the arrays of a tree lie in memory."""
    return [leaf.addressable_data(0).unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]


def first_lazy_steps(lazy: Lazy) -> dict[str, Any]:
    """Takes one turn and reports what it cost in memory.

    Nothing has held more memory before than the table that is there now, so that what the turn
    holds beside it shows in the process's peak.
    """
    before, peak_before = addresses(lazy.table), peak_rss_mib()
    lazy.run()
    stats = lazy.update.memory_analysis()
    assert stats is not None
    return {
        "in_place": addresses(lazy.table) == before,
        "table_mib": _mib(sum(array.nbytes for array in lazy.table.values())),
        "alias_mib": _mib(stats.alias_size_in_bytes),
        "temp_mib": _mib(stats.temp_size_in_bytes),
        "peak_rss_mib": round(peak_rss_mib()),
        "peak_rss_growth_mib": round(peak_rss_mib() - peak_before),
    }


def _mib(size: int) -> float:
    return round(size / 2**20, 1)


def first_step_difference(ours: Table, optax_table: Table, rows_K: Array | np.ndarray) -> float:
    """The largest difference of a touched row after the first step.

    Raises:
      AssertionError: a touched row or its moments differ by more than rounding, or one of the two
        moved a row that was not touched.
    """
    rows_K = jnp.asarray(rows_K)
    for name in ("row", "mu", "nu"):
        touched_KE, expected_KE = ours[name][rows_K], optax_table[name][rows_K]
        np.testing.assert_allclose(touched_KE, expected_KE, rtol=1e-4, atol=1e-7, err_msg=name)
        assert not _moved_elsewhere(ours[name], optax_table[name], rows_K), name
    return float(jnp.abs(ours["row"][rows_K] - optax_table["row"][rows_K]).max())


@jax.jit
def _moved_elsewhere(ours_VE: Array, other_VE: Array, rows_K: Array) -> Array:
    differs_V = jnp.any(ours_VE != other_VE, axis=1)
    return jnp.any(differs_V.at[rows_K].set(False))


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Both tables through the same batches; the figures of the JSON line."""
    layout = RowLayout(args.rows)
    capacity = Capacity(args.keys, args.keys, 1, layout.n_rows)
    batches = random_batches(args.keys, args.width, layout, capacity, args.seed)
    shape = (layout.n_rows, args.width)
    memory = first_lazy_steps(Lazy(first_rows(shape), batches, capacity))
    lazy = Lazy(first_rows(shape), batches, capacity)
    dense = Dense(first_rows(shape), batches)
    lazy.run(1)
    dense_before = addresses(dense.table)
    dense.run(1)
    difference = first_step_difference(lazy.table, dense.table, batches[0][0].rows_K)
    against_in_place = addresses(dense.table) == dense_before
    paces = take_turns({"lazy": [lazy.run], "dense": [dense.run]}, args.rounds, "steps")
    seconds = {name: 1 / pace for name, pace in medians(paces).items()}
    return {
        "ratio": ratio(paces["lazy"], paces["dense"]),
        "ratio_cpu": ratio(paces["lazy"], paces["dense"], "per_cpu_second"),
        "seconds": round(seconds["lazy"], 5),
        "against_seconds": round(seconds["dense"], 5),
        "first_step_difference": difference,
        **memory,
        "against_in_place": against_in_place,
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lazy_adam",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="default 10,000,000")
    parser.add_argument("--keys", type=int, default=100_000, help="touched a step; default 100,000")
    parser.add_argument("--width", type=int, default=12, help="of a row; default 12")
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument("--seed", type=int, default=0, help="of rows and gradients; default 0")
    args = parser.parse_args(arguments)
    if not 0 < args.keys <= args.rows or args.width < 1 or args.rounds < 1:
        parser.error("needs 0 < keys <= rows, and width and rounds of at least 1")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line."""
    args = parse(arguments)
    result = {
        "benchmark": "lazy_adam",
        "against": "optax.adam over the whole table, donated, gradient scattered by autodiff",
        **compare(args),
        "rows": args.rows,
        "keys": args.keys,
        "width": args.width,
        "rounds": args.rounds,
        **circumstances("jax", "numpy", "optax"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
