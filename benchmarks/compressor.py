"""Gather, forward pass and weight gradient of the compressor, against PyTorch and bare products.

Claims, for 16,384 distinct rows of a table of 60,000 and the sizes 4096-256-64-12:

    float32    at least as many images a second as PyTorch in float32, and at least 0.75 of the roof
    bfloat16   at least 2.5 times PyTorch in float32
    int8       a step costs at most 1.15 times a bfloat16 step

The project's side is the operator of the servers: pull the rows' vectors, push their gradients
back, as one jitted program, on one device and on one virtual device a core, the better one counting
(the second also exchanges vectors between its servers). PyTorch gathers the same rows from the same
float32 table with `index_select` and runs the layers forward and backward to all weights, with one
thread and with all, the better one counting; under bfloat16 autocast also from a table kept in
bfloat16.

The roof is what the two wide products alone take, ``rows @ weights`` and ``gradient^T @ rows``, on
one chunk that lies ready: nothing is gathered, no other layer is run, nothing is added up. JAX,
PyTorch with one thread and PyTorch with all run them in the chunk size that suits each, and the
best one of a round counts; JAX's own are also reported apart.

All take turns. Before that the results in float32 must agree with PyTorch's from the same weights.

Shape legend
    V   rows of the table     N   rows of a batch or chunk     D   content width
    H   width behind the wide product     E   embedding width
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array

from benchmarks._machine import circumstances, thread_counts
from benchmarks._rounds import Pace, Program, medians, ratio, take_turns, timed
from dicm_jax.ams import feature_table
from dicm_jax.ams.content import ModelServer
from dicm_jax.ams.embedding import Chunks, Embedder
from dicm_jax.ams.feature_table import ContentRows, FeatureTable, Statistics
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import (
    BATCH_SPEC,
    BOTH,
    REPLICATED_SPEC,
    TABLE_SPEC,
    MeshShape,
    batch_sharding,
    make_mesh,
    replicated,
)
from dicm_jax.ams.order import after
from dicm_jax.ams.plan import Capacity, Request, plan
from dicm_jax.ams.strategy import Channel
from dicm_jax.ams.wire import WIRES
from dicm_jax.errors import DicmError
from dicm_jax.nn.compressor import Compressor

DESCRIPTION = "Times the compressor, its gather included, against PyTorch and the bare products."
EXAMPLE = """example:
  python -m benchmarks.compressor --rows=20000 --batch=4096

PyTorch comes with the extra `bench`, or with `pip install torch`. The last line is one of JSON:
`ratio` says how many times more images a second the project handles in float32 than PyTorch,
`ratio_roof` which part of the bare products' pace that is (`ratio_roof_jax`: of JAX's own),
`ratio_bfloat16` and `ratio_bfloat16_autocast` how bfloat16 compares with PyTorch in float32 and
under autocast, `cost_int8` how much longer a step takes from int8 rows than from bfloat16 rows."""

FORMATS: dict[str, tuple[feature_table.Storage, str]] = {
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "int8": ("int8", "bfloat16"),
}
"""Storage of the table and dtype of the wide product, by contender."""

WIDTHS = (256, 64, 12)
ROOF_CHUNKS = (512, 2048, 8192)
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.1}
"""Largest relative difference of the vectors, and of the gradient of each weight, from PyTorch's
in float32: norm of the difference over norm. Gradients of random vectors nearly cancel in the sum
over rows, so that rounding weighs more here than in training."""


@dataclasses.dataclass(frozen=True)
class Ours:
    """A program of the project.

    Attributes:
      step: runs it once.
      results: runs it once, and gives the vectors in the order of the batch, and the gradients.
    """

    step: Callable[[], Any]
    results: Callable[[], tuple[np.ndarray, Any]]


class Problem:
    """A table, a batch of its rows, the gradients of their vectors and the weights to start from.

    Args:
      rows: of the table.
      batch: distinct rows of a step.
      width: of a row.
      seed: of all that is random.
    """

    def __init__(self, rows: int, batch: int, width: int, seed: int):
        rng = np.random.default_rng(seed)
        layout = RowLayout(rows)
        self.capacity = Capacity(batch, batch, 1, layout.n_rows)
        keys_K = rng.choice(rows, batch, replace=False)
        self.request, _ = plan(keys_K, layout, self.capacity)
        self.features_VD = rng.standard_normal((rows, width), np.float32)
        self.gradients_KE = rng.standard_normal((batch, WIDTHS[-1]), np.float32)
        self.params = _compressor(width, "float32")[1]

    def table(self, storage: feature_table.Storage, mesh: Mesh) -> FeatureTable:
        """The rows in a format for rest; they are drawn standardised."""
        width = self.features_VD.shape[1]
        stats = Statistics(np.zeros(width, np.float32), np.ones(width, np.float32))
        return feature_table.build(self.features_VD, None, stats, storage, mesh)

    def dealt_to(self, devices: int) -> tuple[Request, Capacity, np.ndarray]:
        """The batch dealt to `devices` requesters, who are the servers as well.

        Returns:
          Their requests, what the exchange is compiled for, and the place of each of their rows in
          the list of the whole batch.
        """
        share = len(self.request.rows_K) // devices
        place_K = np.concatenate([np.arange(d, share * devices, devices) for d in range(devices)])
        counts = np.full(devices, share, np.int32)
        request = Request(self.request.rows_K[place_K], np.ones(devices, np.int32), counts)
        rows = self.capacity.rows_per_server // devices
        return request, Capacity(share, share, devices, rows), place_K


def _compressor(width: int, compute_dtype: str) -> tuple[nnx.GraphDef, Any]:
    model = Compressor(width, WIDTHS, compute_dtype=compute_dtype, rngs=nnx.Rngs(0))
    graph, params = nnx.split(model, nnx.Param)
    return graph, nnx.to_pure_dict(params)


def ours(
    problem: Problem, storage: feature_table.Storage, compute_dtype: str, devices: int
) -> Ours:
    """The servers' pull and push in one program: vectors, and gradients of all weights."""
    mesh = make_mesh(MeshShape(1, devices))
    table = problem.table(storage, mesh)
    request, capacity, place_K = problem.dealt_to(devices)
    graph, _ = _compressor(table.stored_VD.shape[1], compute_dtype)

    def wide(params: Any, rows: ContentRows) -> Array:
        return nnx.merge(graph, params).wide(rows)

    def narrow(params: Any, hidden_NH: Array) -> Array:
        return nnx.merge(graph, params).narrow(hidden_NH)

    embedder = Embedder(wide, narrow, hidden_width=WIDTHS[0], width=WIDTHS[-1])
    channel = Channel(embedder, capacity, WIRES["float32"], Chunks())
    server = ModelServer()

    def pull_and_push(params: Any, table: FeatureTable, request: Request, gradients_KE: Array):
        vectors_KE, kept = server.serve(channel, params, table, request)
        request = after(request, vectors_KE)
        pushed = server.push(channel, params, table, request, gradients_KE, kept)
        return vectors_KE, lax.psum(pushed, BOTH)

    program = jax.jit(
        jax.shard_map(
            pull_and_push,
            mesh=mesh,
            in_specs=(REPLICATED_SPEC, TABLE_SPEC, BATCH_SPEC, BATCH_SPEC),
            out_specs=(BATCH_SPEC, REPLICATED_SPEC),
            check_vma=False,
        )
    )
    params = jax.device_put(problem.params, replicated(mesh))
    batch = jax.device_put((request, problem.gradients_KE[place_K]), batch_sharding(mesh))
    order_K = np.argsort(place_K)

    def step() -> tuple[Array, Any]:
        return jax.block_until_ready(program(params, table, *batch))

    def results() -> tuple[np.ndarray, Any]:
        vectors_KE, gradients = step()
        return np.asarray(vectors_KE)[order_K], gradients

    return Ours(step, results)


def _program(ours: Ours, batch: int) -> Program:
    def run() -> int:
        ours.step()
        return batch

    return run


def wide_products(
    rows_ND: np.ndarray, weights_DH: np.ndarray, gradients_NH: np.ndarray, dtype: str
) -> Callable[[], None]:
    """``rows @ weights`` and ``gradients^T @ rows`` of one hot chunk in JAX."""
    operands = (rows_ND, weights_DH, np.ascontiguousarray(gradients_NH.T))
    operands = [jnp.asarray(operand, dtype) for operand in operands]

    @jax.jit
    def both(rows_ND: Array, weights_DH: Array, gradients_HN: Array) -> tuple[Array, Array]:
        product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
        return product(rows_ND, weights_DH), product(gradients_HN, rows_ND)

    return lambda: jax.block_until_ready(both(*operands))


def roof(problem: Problem, dtype: str) -> dict[str, Program]:
    """The two wide products alone over a batch of images: each way to run them, at its best chunk.

    Which way is fastest depends on what else the machine does, so all of them take turns.
    """
    batch = problem.capacity.unique
    fastest: dict[str, Program] = {}
    pace: dict[str, float] = {}
    for chunk in sorted({min(chunk, batch) for chunk in ROOF_CHUNKS}):
        for way, both in _ways(problem, chunk, dtype).items():
            program = _repeated(both, chunk, batch)
            program()
            found = max(timed(program).per_second for _ in range(3))
            print(f"roof, {dtype}, {way}, chunks of {chunk}: {found:,.0f} images/s", flush=True)
            if found > pace.get(way, 0.0):
                fastest[way], pace[way] = program, found
    return fastest


def _ways(problem: Problem, chunk: int, dtype: str) -> dict[str, Callable[[], None]]:
    """Both products of one hot chunk: in JAX, and in PyTorch with one thread and with all."""
    from benchmarks import _compressor_torch as peer

    rows_ND = problem.features_VD[:chunk]
    weights_DH = np.array(problem.params["first_DH"])
    gradients_NH = np.random.default_rng(0).standard_normal((chunk, WIDTHS[0]), np.float32)
    operands = rows_ND, weights_DH, gradients_NH
    in_torch = peer.wide_products(*operands, dtype)
    return {
        "JAX": wide_products(*operands, dtype),
        **{
            f"PyTorch, threads: {count}": peer.with_threads(in_torch, count)
            for count in thread_counts()
        },
    }


def _repeated(chunk_done: Callable[[], None], chunk: int, batch: int) -> Program:
    def run() -> int:
        for _ in range(-(-batch // chunk)):
            chunk_done()
        return -(-batch // chunk) * chunk

    return run


def contenders(problem: Problem) -> tuple[dict[str, list[Program]], dict[str, float]]:
    """The programs, warmed up, and how far each of the project's is from PyTorch in float32.

    Raises:
      DicmError: results differ from PyTorch's by more than rounding.
    """
    from benchmarks import _compressor_torch as peer

    batch = problem.capacity.unique
    steps = {
        name: [ours(problem, storage, dtype, devices) for devices in device_counts()]
        for name, (storage, dtype) in FORMATS.items()
    }
    features_VD = peer.as_tensor(problem.table("float32", make_mesh(MeshShape(1, 1))).stored_VD)

    def in_torch(table_VD: Any, autocast: bool) -> "peer.TorchCompressor":
        return peer.TorchCompressor(
            problem.params, table_VD, problem.request.rows_K, problem.gradients_KE, autocast
        )

    float32 = in_torch(features_VD, False)
    autocast = [in_torch(table, True) for table in (features_VD, features_VD.bfloat16())]
    differences = _differences(steps, float32.results())
    for program in autocast:
        program.run()
    programs: dict[str, list[Program]] = {
        "torch": _each_thread_count(float32),
        "torch_autocast": [run for model in autocast for run in _each_thread_count(model)],
        **{name: [_program(step, batch) for step in each] for name, each in steps.items()},
    }
    for dtype in ("float32", "bfloat16"):
        ways = roof(problem, dtype)
        programs[f"roof_{dtype}"] = list(ways.values())
        programs[f"roof_{dtype}_jax"] = [ways["JAX"]]
    return programs, differences


def _each_thread_count(model: Any) -> list[Program]:
    from benchmarks import _compressor_torch as peer

    return [peer.with_threads(model.run, count) for count in thread_counts()]


def device_counts() -> list[int]:
    """The project's settings: one device, and one a core."""
    return sorted({1, len(jax.devices())})


def _differences(steps: dict[str, list[Ours]], expected: list[np.ndarray]) -> dict[str, float]:
    from benchmarks import _compressor_torch as peer

    found = {}
    for name, step in ((name, step) for name, each in steps.items() for step in each):
        vectors_KE, gradients = step.results()
        results = [vectors_KE, *peer.in_order_of_torch(gradients)]
        pairs = zip(results, expected, strict=True)
        worst = float(max(np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in pairs))
        found[name] = max(worst, found.get(name, 0.0))
        if not found[name] <= TOLERANCE[name]:
            raise DicmError(
                f"same weights and rows, yet {name} differs from PyTorch by {found[name]:.2g}, over"
                f" {TOLERANCE[name]}: bring benchmarks/_compressor_torch.py in line with the"
                " compressor"
            )
    return found


def report(paces: dict[str, list[Pace]]) -> dict[str, Any]:
    """The figures of the claims, by the clock and by the cores' time."""
    pairs = {
        "ratio": ("float32", "torch"),
        "ratio_roof": ("float32", "roof_float32"),
        "ratio_roof_jax": ("float32", "roof_float32_jax"),
        "ratio_bfloat16": ("bfloat16", "torch"),
        "ratio_bfloat16_autocast": ("bfloat16", "torch_autocast"),
        "ratio_bfloat16_roof": ("bfloat16", "roof_bfloat16"),
        "ratio_int8": ("int8", "torch"),
        "cost_int8": ("bfloat16", "int8"),
    }
    found = {name: ratio(paces[x], paces[y]) for name, (x, y) in pairs.items()}
    found |= {
        f"{name}_cpu": ratio(paces[x], paces[y], "per_cpu_second") for name, (x, y) in pairs.items()
    }
    per_second = {name: round(pace) for name, pace in medians(paces).items()}
    return found | {"images_per_s": per_second}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compressor",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=60_000, help="of the table; default 60,000")
    parser.add_argument("--batch", type=int, default=16_384, help="distinct rows; default 16,384")
    parser.add_argument("--width", type=int, default=4096, help="of a row; default 4096")
    parser.add_argument("--rounds", type=int, default=9, help="default 9")
    parser.add_argument("--seed", type=int, default=0, help="of rows and gradients; default 0")
    args = parser.parse_args(arguments)
    if not 0 < args.batch <= args.rows or args.width < 1 or args.rounds < 1:
        parser.error("needs 0 < batch <= rows, and width and rounds of at least 1")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line.

    Raises:
      DicmError: PyTorch is missing, or it computes something else.
    """
    args = parse(arguments)
    if importlib.util.find_spec("torch") is None:
        raise DicmError(
            "PyTorch is not installed, there is nothing to compare with: pip install torch, or"
            " this project with its extra, pip install -e '.[bench]'"
        )
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    programs, differences = contenders(Problem(args.rows, args.batch, args.width, args.seed))
    paces = take_turns(programs, args.rounds, "images")
    result = {
        "benchmark": "compressor",
        "against": "PyTorch: index_select, forward and backward in float32",
        **report(paces),
        "differences": differences,
        "rows": args.rows,
        "batch": args.batch,
        "width": args.width,
        "rounds": args.rounds,
        "threads": {"torch": thread_counts(), "jax": os.cpu_count()},
        "devices": device_counts(),
        **circumstances("jax", "numpy", "torch"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DicmError as error:
        sys.exit(f"benchmarks.compressor: {error}")
