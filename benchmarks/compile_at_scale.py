"""Compiles the full training step for a machine that is not there, at the paper's size.

Claim: the step of 120 million images of 4096 features and 60,000 impressions a batch compiles for
256 TPU v5e chips or 256 H100 GPUs, and fits them; where a layout does not fit, that is said.

Nothing is allocated: the state, the tables and the batch are shapes with shardings. Room of the
exchanges comes from drawn keys (`benchmarks._key_distribution`), not from their mean. Memory and
collectives are the compiler's. The step time is a model from counts (`benchmarks._step_model`): it
was not measured.
"""

import argparse
import dataclasses
import json
import re
import sys
from typing import Any

import jax
from jax.sharding import Mesh

from benchmarks import _key_distribution as keys
from benchmarks import _step_model as model
from benchmarks._abstract_step import TILE, Places, Sizes, abstract_step, places
from benchmarks._key_distribution import BatchSize, Popularity, Room
from benchmarks._machine import circumstances
from benchmarks._step_model import Counts, Hardware, Widths
from benchmarks._targets import Target, parse_target, target_mesh
from dicm_jax.ams.collectives import Collective, collectives
from dicm_jax.ams.exchange import OVERFLOWN
from dicm_jax.ams.mesh import shape_of
from dicm_jax.errors import DicmError

UNIQUE_IMAGES = 320 * 1024
UNIQUE_IDS = 1_400_000
"""Distinct keys of a batch (paper section 7.3); IDs without images' own."""
TABLE_1_DEVICES = (5, 10, 20, 40, 80, 160, 256)
ROW_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
GIB = 2**30
GPU_SHARE = 0.75
_DEMAND = re.compile(r"\(?([\d.]+)([KMG])\)?,? (?:which )?exceeds")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}

DESCRIPTION = """Compiles the training step at the paper's size for a machine that is not there, and
prints memory, collectives and a modelled step time, then the paper's Table 1 as a model."""
EXAMPLE = """examples:
  python -m benchmarks.compile_at_scale --target=tpu-v5e-256
  python -m benchmarks.compile_at_scale --target=h100-32 --storage=int8
  python -m benchmarks.compile_at_scale --target=h100-256 --worker=2

The compilers come with pip install 'jax[tpu]', or jax-cuda13-plugin and jax-cuda13-pjrt of JAX's
version. Ends with one line of JSON: `ratio` is the share of a device's memory that the step uses.
Ends with code 1 where the layout does not fit."""


class DoesNotFitError(DicmError):
    """A layout that needs more memory than the device has.

    Attributes:
      needed: bytes that it needs on a device, as far as the compiler says.
    """

    def __init__(self, message: str, needed: float):
        super().__init__(message)
        self.needed = needed


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each device.

    Attributes:
      arguments: state, tables and batch.
      outputs: what is not written in the place of an argument.
      temporary: all else while the step runs.
      code: the program.
    """

    arguments: int
    outputs: int
    temporary: int
    code: int

    @property
    def peak(self) -> int:
        """All of it at once: an upper bound."""
        return sum(dataclasses.astuple(self))


def batch_rooms(
    sizes: Sizes, mesh: tuple[int, int], *, draws: int, quantile: float, seed: int
) -> tuple[dict[str, Room], dict[str, float]]:
    """Room of each exchange, and the exponents of popularity that it was drawn with."""
    field_ids = sizes.ids - sizes.images
    exponents = {
        "images": keys.fit_exponent(sizes.images, sizes.batch.image_places, UNIQUE_IMAGES),
        "ids": keys.fit_exponent(field_ids, sizes.batch.id_places, UNIQUE_IDS),
    }
    rooms = keys.measure(
        sizes.batch,
        Popularity(sizes.images, exponents["images"]),
        Popularity(field_ids, exponents["ids"]),
        mesh,
        draws=draws,
        quantile=quantile,
        seed=seed,
    )
    return rooms, exponents


def compile_step(
    sizes: Sizes, rooms: dict[str, Room], mesh: Mesh, hardware: Hardware
) -> tuple[Memory, list[Collective]]:
    """Memory and collectives of the compiled step.

    Raises:
      DoesNotFitError: it needs more memory than a device has.
    """
    step, arguments = abstract_step(sizes, rooms, mesh)
    lowered = step.lower(*arguments)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise _explained(error, sizes, mesh, hardware) from error
    stats = compiled.memory_analysis()
    memory = Memory(
        arguments=stats.argument_size_in_bytes,
        outputs=stats.output_size_in_bytes - stats.alias_size_in_bytes,
        temporary=stats.temp_size_in_bytes,
        code=stats.generated_code_size_in_bytes,
    )
    if memory.peak > hardware.memory:  # compilers for GPUs do not look
        raise _does_not_fit(memory.peak, sizes, mesh, hardware)
    return memory, collectives(compiled.as_text())


def _explained(error: Exception, sizes: Sizes, mesh: Mesh, hardware: Hardware) -> Exception:
    """The compiler's error, as ours where it is about memory."""
    text = str(error)
    demand = _DEMAND.search(text)
    if demand is None or not ("RESOURCE_EXHAUSTED" in text or "HbmOom" in text):
        return error
    return _does_not_fit(float(demand[1]) * _UNITS[demand[2]], sizes, mesh, hardware)


def _does_not_fit(needed: float, sizes: Sizes, mesh: Mesh, hardware: Hardware) -> DoesNotFitError:
    shape = shape_of(mesh)
    tables = table_bytes(sizes) / shape.server
    return DoesNotFitError(
        f"{sizes.images} images of {sizes.content_width} {sizes.storage} features and"
        f" {sizes.ids} IDs on {hardware.name}, mesh (worker={shape.worker},"
        f" server={shape.server}), need {needed / GIB:.2f} GiB a device, of which the tables take"
        f" {tables / GIB:.2f} GiB; it has {hardware.memory / GIB:.2f} GiB: use more servers, a"
        " smaller --storage, or keep the table in host memory",
        needed,
    )


def table_bytes(sizes: Sizes) -> float:
    """Bytes of the feature table, its scales, and the ID table with its moments."""
    scale = 4 if sizes.storage == "int8" else 0
    row = sizes.content_width * ROW_BYTES[sizes.storage] + scale
    return float(sizes.images * row + sizes.ids * 12 * 4 * 3)


def counts(
    sizes: Sizes, rooms: dict[str, Room], share: Places, found: list[Collective], tile: int = 1
) -> Counts:
    """What the busiest device does in a step that needs one round of exchange.

    Collectives are those of the program, their minor dims padded to whole multiples of `tile`;
    arithmetic is that of the rows that the busiest owner was asked for in the drawn batches.
    """
    widths = Widths(content=sizes.content_width, row_bytes=ROW_BYTES[sizes.storage])
    fields = share.user_fields + share.impression_fields + 1
    images = rooms["ad"].owner + rooms["behavior"].owner
    dense = model.dense_parameters(widths, fields)
    found = [one for one in found if not one.within(OVERFLOWN)]
    exchanges = [one for one in found if one.kind == "all-to-all"]
    sums = [one for one in found if one.kind == "all-reduce"]
    others = [one for one in found if one not in exchanges and one not in sums]
    return Counts(
        embed_flops=model.embed_flops(widths, images),
        net_flops=model.net_flops(widths, fields, share.impressions, share.behaviors),
        memory_bytes=model.memory_bytes(
            widths, images, rooms["ids"].unique, rooms["ids"].owner, dense
        ),
        exchanged_bytes=sum(padded_bytes(one, tile) for one in exchanges),
        group=max((one.group_size for one in exchanges), default=1),
        summed_bytes=float(sum(one.operand_bytes for one in sums)),
        gathered_bytes=sum(one.bytes_leaving for one in others),
        all_to_alls=len(exchanges),
        others=len(sums) + len(others),
    )


def padded_bytes(one: Collective, tile: int) -> float:
    """Bytes that a device puts into a collective, the minor dim padded to whole tiles."""
    total = 0.0
    for operand in one.operands:
        minor = operand.dims[-1] if operand.dims else 1
        total += operand.bytes * (-(-minor // tile) * tile / max(minor, 1))
    return total


def room_lines(rooms: dict[str, Room], exponents: dict[str, float], quantile: float) -> list[str]:
    """What was found about the keys."""
    lines = [
        f"keys: popularity falls as rank^-{exponents['images']:.3f} (images) and"
        f" rank^-{exponents['ids']:.3f} (IDs), fitted to {UNIQUE_IMAGES:,} and {UNIQUE_IDS:,}"
        " distinct keys a batch",
        f"room between one device and one server, for {quantile:.2%} of the steps in one round:",
    ]
    for name, room in rooms.items():
        lines.append(
            f"  {name:9s} {room.per_server:6,d} rows (mean {room.mean:.1f}, most seen {room.most});"
            f" of a device at most {room.unique:,d}, at an owner at most {room.owner:,d}"
        )
    return lines


def memory_lines(memory: Memory, hardware: Hardware) -> list[str]:
    """Bytes on each device."""
    parts = [f"{name} {value / GIB:.3f}" for name, value in dataclasses.asdict(memory).items()]
    lines = [
        f"GiB per device: {', '.join(parts)}; together {memory.peak / GIB:.3f} of"
        f" {hardware.memory / GIB:.2f}: fits"
    ]
    if not hardware.torus and memory.peak > GPU_SHARE * hardware.memory:
        lines.append(
            f"  more than the {GPU_SHARE:.0%} of a GPU that JAX takes unless"
            " XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise"
        )
    return lines


def collective_lines(found: list[Collective], tile: int) -> list[str]:
    """Collectives in the order of the program."""
    lines = [
        "collectives of a step (bytes that a device puts in, the same with padding, shapes, scope;"
        " what stands in a loop runs once a round, row numbers of a push only after the first):"
    ]
    for one in found:
        shapes = " ".join(
            f"{operand.dtype}{list(operand.dims)}" for operand in one.operands[:2]
        ) + (" ..." if len(one.operands) > 2 else "")
        scope = one.op_name.removeprefix("jit(step)/shard_map/").split("/")[0]
        lines.append(
            f"  {one.kind:11s} {one.operand_bytes:>11,d} {padded_bytes(one, tile):>11,.0f}"
            f"  {shapes}  {scope}"
        )
    return lines


def time_lines(time: model.StepTime, hardware: Hardware) -> list[str]:
    """The modelled time of a step."""
    parts = [f"{name} {1e3 * seconds:.3f}" for name, seconds in dataclasses.asdict(time).items()]
    return [
        f"modelled, not measured, ms a step on {hardware.name}: {', '.join(parts)}; together"
        f" {1e3 * time.total:.3f}",
        f"  assumed: {hardware.matmul / 1e12:.0f} Tflop/s,"
        f" {hardware.memory_bandwidth / 1e9:.0f} GB/s, each at its roof, one part after another;"
        f" {1e6 * hardware.latency:.0f} us a collective and {1e6 * hardware.peer_latency:.2f} us a"
        " peer of an all-to-all",
    ]


def table_1_lines(sizes: Sizes, hardware: Hardware) -> tuple[list[str], dict[str, Any]]:
    """The paper's Table 1 as a model, for its GPU and for the target's."""
    unique = (float(UNIQUE_IMAGES), float(UNIQUE_IDS))
    fitted = model.fitted(sizes.batch, Widths(row_bytes=4), unique)
    ours = Widths(row_bytes=ROW_BYTES[sizes.storage])
    old = model.table_1(fitted, sizes.batch, Widths(row_bytes=4), unique, TABLE_1_DEVICES)
    new = model.table_1(hardware, sizes.batch, ours, unique, TABLE_1_DEVICES)
    old_share, new_share = model.efficiency(old), model.efficiency(new)
    paper_share = model.efficiency(model.PAPER_HOURS)
    lines = [
        f"the paper's Table 1 as a model: {model.PAPER_STEPS:,} steps of"
        f" {sizes.batch.impressions:,} impressions, whatever the number of devices",
        f"  assumed of the paper's GPUs: {fitted.matmul / 1e12:.3f} Tflop/s sustained, fitted to"
        f" its {model.PAPER_HOURS[5]} h on 5; {fitted.far * 8 / 1e9:.0f} Gbit/s a GPU;"
        f" {1e3 * fitted.latency:.1f} ms a collective; work spread evenly, nothing overlaps",
        f"  devices  paper: h, efficiency   model: h, efficiency   on {hardware.name}: h,"
        " efficiency",
    ]
    for n in TABLE_1_DEVICES:
        known = f"{model.PAPER_HOURS[n]:8.1f} {paper_share[n]:8.1%}" if n in paper_share else ""
        fits = table_bytes(sizes) / n < hardware.memory
        lines.append(
            f"  {n:7d}  {known:20s}  {old[n]:8.2f} {old_share[n]:8.1%}    {new[n]:10.3f}"
            f" {new_share[n]:8.1%}{'' if fits else '  (its tables do not fit)'}"
        )
    lines.append(
        "  Bandwidth and latency alone predict less loss at 40 GPUs than the paper had: what its"
        " machines lost beyond them (stragglers, hosts) is not in the model."
    )
    figures = {
        "hours_paper_gpu": {n: round(old[n], 2) for n in old},
        "efficiency_paper_gpu": {n: round(old_share[n], 3) for n in old},
        "efficiency_target": {n: round(new_share[n], 3) for n in new},
    }
    return lines, figures


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no batch."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compile_at_scale",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", required=True, help="tpu-v5e-N or h100-N, N devices")
    parser.add_argument("--worker", type=int, default=1, help="rows of the mesh; default 1")
    parser.add_argument(
        "--storage", choices=ROW_BYTES, default="bfloat16", help="of image rows; default bfloat16"
    )
    parser.add_argument(
        "--wire", choices=("float32", "bfloat16"), default="float32", help="default float32"
    )
    parser.add_argument("--images", type=int, default=Sizes.images, help="default 120,000,000")
    parser.add_argument(
        "--ids", type=int, default=Sizes.ids, help="ID rows, images' own included; default"
        " 400,000,000 (the paper does not say)",
    )  # fmt: skip
    parser.add_argument(
        "--per-group", type=int, default=5, help="impressions that share behaviors; default 5"
    )
    parser.add_argument("--draws", type=int, default=3, help="batches drawn; default 3")
    parser.add_argument(
        "--quantile", type=float, default=0.999, help="of steps in one round; default 0.999"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws; default 0")
    args = parser.parse_args(arguments)
    if not 0 < args.images < args.ids or args.draws < 1 or not 0 < args.quantile < 1:
        parser.error("needs 0 < images < ids, draws >= 1 and a quantile between 0 and 1")
    return args


def run(args: argparse.Namespace, target: Target, sizes: Sizes) -> dict[str, Any]:
    """Draws keys, compiles, prints, and returns the figures."""
    mesh = target_mesh(target, args.worker)
    shape, hardware = shape_of(mesh), target.hardware
    print(f"target {args.target}: mesh (worker={shape.worker}, server={shape.server})", flush=True)
    rooms, exponents = batch_rooms(
        sizes,
        (shape.worker, shape.server),
        draws=args.draws,
        quantile=args.quantile,
        seed=args.seed,
    )
    _print(room_lines(rooms, exponents, args.quantile))
    print("compiling ...", flush=True)
    memory, found = compile_step(sizes, rooms, mesh, hardware)
    tile = TILE if hardware.torus else 1
    _print(memory_lines(memory, hardware) + collective_lines(found, tile))
    of_step = counts(sizes, rooms, places(sizes.batch, mesh.size), found, tile)
    time = model.step_time(of_step, hardware, mesh.size)
    _print(time_lines(time, hardware))
    lines, figures = table_1_lines(sizes, hardware)
    _print(lines)
    return {
        "ratio": round(memory.peak / hardware.memory, 4),
        "fits": True,
        "memory_per_device": dataclasses.asdict(memory),
        "room": {name: room.per_server for name, room in rooms.items()},
        "exponents": {name: round(value, 4) for name, value in exponents.items()},
        "exchanged_bytes": of_step.exchanged_bytes,
        "summed_bytes": of_step.summed_bytes,
        "collectives": len(found),
        "modelled_ms": round(1e3 * time.total, 3),
        **figures,
    }


def _print(lines: list[str]) -> None:
    print("\n".join(lines), flush=True)


def main(arguments: list[str]) -> None:
    """Compiles and prints; the JSON line comes last, also where the layout does not fit.

    Raises:
      DicmError: no such target, no compiler for it, or a layout that does not fit.
    """
    args = parse(arguments)
    target = parse_target(args.target)
    sizes = Sizes(
        batch=BatchSize(impressions_per_group=args.per_group),
        images=args.images,
        ids=args.ids,
        storage=args.storage,
        wire=args.wire,
    )
    head = {
        "benchmark": "compile_at_scale",
        "against": f"memory of one {target.hardware.name}",
        "target": args.target,
        "worker": args.worker,
        "storage": args.storage,
    }
    tail = circumstances("jax", "numpy")
    try:
        figures = run(args, target, sizes)
    except DoesNotFitError as error:
        ratio = round(error.needed / target.hardware.memory, 4)
        print(json.dumps({**head, "ratio": ratio, "fits": False, **tail}))
        raise
    print(json.dumps({**head, **figures, **tail}))


if __name__ == "__main__":
    # Before the first look for devices: none is wanted, and plugins for absent ones are dropped.
    jax.config.update("jax_platforms", "cpu")
    try:
        main(sys.argv[1:])
    except DicmError as error:
        sys.exit(f"benchmarks.compile_at_scale: {error}")
