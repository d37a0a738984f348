"""Prints the paper's Table 2, storage and traffic by strategy, for any sizes."""

import argparse
import dataclasses
import datetime
import json
import platform
import sys
from collections.abc import Callable

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
from dicm_jax.errors import ConfigError

DESCRIPTION = """Storage and traffic of ps_worker, ps_server and ams: the paper's Table 2 for any
sizes; without arguments, for the paper's own."""
EXAMPLE = """examples:
  python -m benchmarks.traffic
  python -m benchmarks.traffic --impressions=1024 --images=1923 --ids=20000 --wire=bfloat16

Ends with one line of JSON: `ratio` is how many times more ps_server sends than ams."""

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


def table(rows: list[list[str]]) -> str:
    """Lines of aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


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


def parse(arguments: list[str]) -> Sizes:
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
    args = vars(parser.parse_args(arguments))
    wire = args.pop("wire")
    try:
        sizes = Sizes(**{_field(name): value for name, value in args.items()})
    except ConfigError as error:
        parser.error(str(error))
    return sizes if wire == "paper" else on_our_wire(sizes, wire)


def _field(option: str) -> str:
    name = option.replace("-", "_")
    return FIELDS.get(name, name)


def main(arguments: list[str]) -> None:
    """Prints the table and its JSON line."""
    sizes = parse(arguments)
    result = {
        "benchmark": "traffic",
        "against": "ps_server, by the model of the paper's Table 2",
        **analytic(sizes),
        "sizes": dataclasses.asdict(sizes),
        "versions": {"python": platform.python_version()},
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
