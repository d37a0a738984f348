"""Prints the paper's Table 2, storage and traffic by strategy, for any sizes, and measures it.

Claim: the bytes that leave the devices in a real training step, padding and rows at home apart, are
within 5 % of the model's; an image costs at most 12 x 4 x 2 bytes of vectors and gradients in
float32 and 12 x 2 x 2 in bfloat16, and at least 160 times less than with ps_server. What padding
and rows at home are is told in `benchmarks._traffic_account`.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable

from benchmarks._machine import circumstances
from benchmarks._text_table import table
from dicm_jax.ams.ledger import (
    PAPER,
    STRATEGIES,
    WIRE_BYTES,
    Figure,
    Ledger,
    Sizes,
    ledger,
    on_our_wire,
)
from dicm_jax.data.synthetic.config import WorldConfig
from dicm_jax.errors import ConfigError

DESCRIPTION = """Storage and traffic of ps_worker, ps_server and ams: the paper's Table 2 for any
sizes; without arguments, for the paper's own. Then compiles and runs a training step of each on 8
virtual devices, and counts the bytes in its program beside those of the model at its sizes."""
EXAMPLE = """examples:
  python -m benchmarks.traffic
  python -m benchmarks.traffic --measure=256 --measure-width=64
  python -m benchmarks.traffic --measure=0 --impressions=1024 --images=1923 --wire=bfloat16

Ends with one line of JSON: `ratio` is how many times more ps_server sends than ams by the model;
in `measured`, `ratio_images` is the same for an image's content in the programs."""

DEVICES = 8
MEASURED_IMPRESSIONS = 2048
OPTIONS = {
    "impressions": "samples of a step",
    "images": "unique images of a step",
    "ids": "unique IDs of a step",
    "samples": "samples of the run",
    "table-images": "unique images of the run",
    "width": "features of an image",
    "embedding": "elements of an embedding vector",
    "content-bytes": "bytes of a feature",
    "sample-bytes": "bytes of a stored sample without content",
}
FIELDS = {"width": "content_width", "embedding": "embedding_width"}
"""Fields of `Sizes` that options give another name."""
COLUMNS = {
    "worker_storage": "worker storage",
    "server_storage": "server storage",
    "all_traffic": "traffic, all",
    "image_traffic": "traffic, images",
}


def in_units(size: float, *, binary: bool) -> str:
    """A size in the largest unit that leaves at least 1 before the point: ``5.00 GiB``."""
    step, letters, suffix = (1024, "KMGTP", "iB") if binary else (1000, "kMGTP", "B")
    power = 0
    while size >= step and power < len(letters):
        size, power = size / step, power + 1
    return f"{size:.2f} {letters[power - 1]}{suffix}" if power else f"{size:g} B"


def analytic_table(ledgers: list[Ledger]) -> str:
    """Table 2 per step, per run, and what each cell counts."""

    def part(title: str, cell: Callable[[Figure], str]) -> list[list[str]]:
        return [
            [title, *COLUMNS.values()],
            *[[row.strategy, *(cell(getattr(row, name)) for name in COLUMNS)] for row in ledgers],
        ]

    return "\n\n".join(
        (
            table(part("per step", lambda one: in_units(one.step, binary=one.binary))),
            table(part("per run", lambda one: in_units(one.run, binary=one.binary))),
            table(part("counted", lambda one: one.counted)),
        )
    )


def analytic(sizes: Sizes) -> dict[str, object]:
    """Prints the table and gives its figures, in bytes, and the ratios of the paper's text."""
    ledgers = {strategy: ledger(sizes, strategy) for strategy in STRATEGIES}
    print(analytic_table(list(ledgers.values())), end="\n\n")
    ams, ps_server, ps_worker = ledgers["ams"], ledgers["ps_server"], ledgers["ps_worker"]
    stored = ams.worker_storage.step + ams.server_storage.step
    return {
        "ratio": round(ps_server.all_traffic.step / ams.all_traffic.step, 2),
        "ratio_images": round(ps_server.image_traffic.step / ams.image_traffic.step, 2),
        "ratio_storage": round(ps_worker.worker_storage.step / stored, 2),
        "batches": sizes.batches,
        "bytes": {
            row.strategy: {
                name: {"step": round(getattr(row, name).step), "run": getattr(row, name).run}
                for name in COLUMNS
            }
            for row in ledgers.values()
        },
    }


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
      sizes: of the model's run.
      impressions: of the measured step; 0 leaves it out.
      world: its data.
    """

    sizes: Sizes
    impressions: int
    world: WorldConfig


def parse(arguments: list[str]) -> Asked:
    """The sizes asked for; ends with code 2 on those that make no run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.traffic",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option, meaning in OPTIONS.items():
        default = getattr(PAPER, _field(option))
        text = f"{meaning}; default {default:,}"
        parser.add_argument(f"--{option}", type=int, default=default, help=text)
    parser.add_argument(
        "--wire",
        choices=("paper", *WIRE_BYTES),
        default="paper",
        help="vectors on the wire: float32 without row numbers (paper, the default), or a format"
        " of ours with int32 row numbers",
    )
    parser.add_argument(
        "--measure",
        type=int,
        default=MEASURED_IMPRESSIONS,
        help=f"impressions of the measured step, a multiple of {DEVICES}, or 0 for the model alone;"
        f" default {MEASURED_IMPRESSIONS:,}",
    )
    parser.add_argument(
        "--measure-width",
        type=int,
        default=WorldConfig().content_width,
        help=f"features of an image in it; default {WorldConfig().content_width:,}",
    )
    args = vars(parser.parse_args(arguments))
    wire, measured, width = args.pop("wire"), args.pop("measure"), args.pop("measure_width")
    if measured < 0 or measured % DEVICES:
        parser.error(f"--measure={measured}: give a multiple of {DEVICES}, or 0")
    try:
        sizes = Sizes(**{_field(name): value for name, value in args.items()})
        world = WorldConfig(content_width=width)
    except ConfigError as error:
        parser.error(str(error))
    return Asked(sizes if wire == "paper" else on_our_wire(sizes, wire), measured, world)


def _field(option: str) -> str:
    name = option.replace("-", "_")
    return FIELDS.get(name, name)


def measure_on_virtual_devices(asked: Asked) -> dict[str, object]:
    """Measures a step of each case on virtual devices of the CPU."""
    import jax  # not before it is needed: the model alone does without

    from benchmarks._traffic_measured import measure
    from benchmarks._traffic_report import report
    from dicm_jax.config import MeshConfig
    from dicm_jax.training.devices import start_roles

    jax.config.update("jax_platforms", "cpu")
    # Names of scopes are no part of a cached program's key: it may come with those of another.
    jax.config.update("jax_enable_compilation_cache", False)
    roles = start_roles(MeshConfig(virtual_devices=DEVICES), lanes=DEVICES)
    return {
        "content_width": asked.world.content_width,
        "impressions": asked.impressions,
        "devices": DEVICES,
        **report(measure(asked.world, asked.impressions, roles)),
    }


def main(arguments: list[str]) -> None:
    """Prints the tables and the JSON line."""
    asked = parse(arguments)
    result = {
        "benchmark": "traffic",
        "against": "ps_server, by the model of the paper's Table 2",
        **analytic(asked.sizes),
        "sizes": dataclasses.asdict(asked.sizes),
    }
    if asked.impressions:
        result["measured"] = measure_on_virtual_devices(asked)
    print(json.dumps(result | circumstances("jax", "numpy")))


if __name__ == "__main__":
    main(sys.argv[1:])
