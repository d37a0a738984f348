"""Look into checkpoints and cut them: arrays left out, put together, renamed, resized, cast.

    python -m dicm_jax.surgery inspect runs/dicm
    python -m dicm_jax.surgery drop runs/dicm 'ids.*' --output=runs/without-ids

Nothing is changed in place: what writes makes a new folder, which `python -m dicm_jax.train` can
start from (``checkpoint.warm_start``) and whose record tells what was done. Arrays are read and
written a block at a time, so that a checkpoint may be larger than memory. The last line on stdout
of a command that writes is what it wrote, as one JSON object.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from dicm_jax.checkpoint.surgery import comparing, inspecting
from dicm_jax.checkpoint.surgery.blocks import block_shape, n_bytes, regions
from dicm_jax.checkpoint.surgery.casting import cast
from dicm_jax.checkpoint.surgery.output import Cut, write_checkpoint
from dicm_jax.checkpoint.surgery.patterns import chosen
from dicm_jax.checkpoint.surgery.progress import byte_bar
from dicm_jax.checkpoint.surgery.resizing import resize
from dicm_jax.checkpoint.surgery.safetensors_files import read_safetensors, write_safetensors
from dicm_jax.checkpoint.surgery.selecting import drop, extract, merge, rename
from dicm_jax.checkpoint.surgery.source import Source, open_source
from dicm_jax.cli import DONE, FAILED, run_command
from dicm_jax.errors import CheckpointError

_EXAMPLE = """\
examples:
  python -m dicm_jax.surgery inspect runs/dicm
  python -m dicm_jax.surgery drop runs/dicm 'ids.*' --output=runs/without-ids
  python -m dicm_jax.surgery resize runs/dicm --vocabulary=item=500000 --output=runs/more-items
  python -m dicm_jax.surgery diff runs/dicm runs/without-ids

A checkpoint is the folder of a run (its best step, else its newest), of checkpoints (the newest),
or of one step. Each command has a --help of its own."""
_PATTERNS = "names or globs, in which * also stands for dots; a group's name means all below it"
_DIFFERENT, _TROUBLE = 1, 2
"""Exit codes of diff, as of the program of that name."""


def _open(args: argparse.Namespace) -> Source:
    return open_source(args.source, verify=args.verify)


def _written(args: argparse.Namespace, cut: Cut) -> int:
    print(json.dumps(write_checkpoint(args.output, cut)))
    return DONE


def _inspect(args: argparse.Namespace) -> int:
    source = _open(args)
    if args.patterns:
        kept = chosen(args.patterns, source.arrays)
        arrays = {name: array for name, array in source.arrays.items() if name in kept}
        source = dataclasses.replace(source, arrays=arrays)
    values = {}
    if not args.quick:
        total = sum(map(n_bytes, source.arrays.values()))
        with byte_bar(total, "inspect") as bar:
            for name, array in source.arrays.items():
                values[name] = inspecting.values_of(array, bar.update)
    if args.json:
        print(json.dumps(inspecting.as_json(source, values)))
    else:
        print(inspecting.text(source, values))
    return DONE


def _extract(args: argparse.Namespace) -> int:
    return _written(args, extract(_open(args), args.patterns))


def _drop(args: argparse.Namespace) -> int:
    return _written(args, drop(_open(args), args.patterns))


def _merge(args: argparse.Namespace) -> int:
    sources = [open_source(path, verify=args.verify) for path in args.sources]
    if len(sources) < 2:
        raise CheckpointError(f"merge of {args.sources[0]} alone: give two checkpoints or more")
    prefer = {None: None, "first": 0, "last": len(sources) - 1}[args.prefer]
    return _written(args, merge(sources, prefer))


def _rename(args: argparse.Namespace) -> int:
    return _written(args, rename(_open(args), args.pairs))


def _resize(args: argparse.Namespace) -> int:
    cut = resize(
        _open(args),
        vocabularies=args.vocabulary,
        rows=args.rows,
        scale=args.scale,
        seed=args.seed,
    )
    return _written(args, cut)


def _cast(args: argparse.Namespace) -> int:
    return _written(args, cast(_open(args), args.pairs))


def _diff(args: argparse.Namespace) -> int:
    first, second = (open_source(path, verify=args.verify) for path in args.sources)
    total = sum(n_bytes(a) for name, a in first.arrays.items() if name in second.arrays)
    with byte_bar(total, "diff") as bar:
        found = comparing.compare(first, second, bar.update)
    print(json.dumps(found.as_json()) if args.json else comparing.text(found, args.sources))
    return DONE if found.equal else _DIFFERENT


def _to_safetensors(args: argparse.Namespace) -> int:
    print(json.dumps(write_safetensors(args.output, _open(args), args.max_file_size)))
    return DONE


def _from_safetensors(args: argparse.Namespace) -> int:
    return _written(args, read_safetensors(args.source, verify=args.verify))


def _verify(args: argparse.Namespace) -> int:
    source = open_source(args.source, verify=True)
    total = sum(map(n_bytes, source.arrays.values()))
    with byte_bar(total, "verify") as bar:
        for array in source.arrays.values():
            for region in regions(array.shape, block_shape(array)):
                bar.update(array.read(region).nbytes)
    body = source.as_json() | {"arrays": len(source.arrays), "bytes": total, "whole": True}
    print(json.dumps(body))
    return DONE


def _size(text: str) -> int:
    """Bytes, e.g. ``5GiB``."""
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    unit = next((unit for unit in reversed(units) if text.endswith(unit)), "")
    number = text.removesuffix(unit)
    if not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 5GiB, 200MiB or 4096B")
    return int(number) * units.get(unit, 1)


def _standard_deviation(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no standard deviation; give 0 or more")
    return value


class _Commands:
    """The sub-commands, each with what they have in common."""

    def __init__(self, parser: argparse.ArgumentParser):
        self._parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(
        self,
        name: str,
        work: Any,
        what: str,
        example: str,
        *,
        sources: str = "",
        writes: bool = True,
    ) -> argparse.ArgumentParser:
        """A sub-command; `sources` is how many checkpoints it takes, if not one (see argparse)."""
        parser = self._parsers.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=f"example:\n  python -m dicm_jax.surgery {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.set_defaults(work=work)
        if sources:
            nargs: Any = int(sources) if sources.isdigit() else sources
            parser.add_argument("sources", type=Path, nargs=nargs, metavar="CHECKPOINT")
        else:
            parser.add_argument("source", type=Path, metavar="CHECKPOINT")
        if writes:
            parser.add_argument(
                "--output", type=Path, required=True, metavar="DIR", help="new folder to make"
            )
        parser.add_argument(
            "--no-verify",
            dest="verify",
            action="store_false",
            help="do not compare files with their manifest first",
        )
        parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
        return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.surgery",
        description="Look into checkpoints and cut them; always into a new one.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = _Commands(parser)
    _add_reading(commands)
    _add_selecting(commands)
    _add_changing(commands)
    _add_safetensors(commands)
    return parser


def _add_reading(commands: _Commands) -> None:
    inspect = commands.add(
        "inspect",
        _inspect,
        "say what is in a checkpoint: arrays, norms, zeros and NaN, vocabularies, record",
        "inspect runs/dicm 'params.*' ids",
        writes=False,
    )
    inspect.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help=f"arrays to look at: {_PATTERNS}"
    )
    inspect.add_argument("--json", action="store_true", help="all of it as one JSON object")
    inspect.add_argument("--quick", action="store_true", help="read no array: no norms")
    diff = commands.add(
        "diff",
        _diff,
        "compare two checkpoints; ends with 0 if all arrays are equal, 1 if not, 2 on trouble",
        "diff runs/monday runs/tuesday",
        sources="2",
        writes=False,
    )
    diff.add_argument("--json", action="store_true", help="what differs as one JSON object")
    commands.add(
        "verify",
        _verify,
        "compare every file with the manifest, and read every array",
        "verify runs/dicm",
        writes=False,
    )


def _add_selecting(commands: _Commands) -> None:
    for name, work, help_text, example in (
        (
            "extract",
            _extract,
            "keep only some arrays",
            "extract runs/dicm params.embedders --output=runs/compressor",
        ),
        (
            "drop",
            _drop,
            "leave some arrays out, e.g. ID embeddings",
            "drop runs/dicm 'ids.*' --output=runs/without-ids",
        ),
    ):
        parser = commands.add(name, work, help_text, example)
        parser.add_argument("patterns", nargs="+", metavar="PATTERN", help=_PATTERNS)
    merge_parser = commands.add(
        "merge",
        _merge,
        "put the arrays of several checkpoints together",
        "merge runs/net runs/compressor --output=runs/both",
        sources="+",
    )
    merge_parser.add_argument(
        "--prefer", choices=("first", "last"), help="whose arrays, where several have them"
    )


def _add_changing(commands: _Commands) -> None:
    rename_parser = commands.add(
        "rename",
        _rename,
        "give arrays other names",
        "rename runs/dicm 'params.net.*=params.tower.*' --output=runs/renamed",
    )
    rename_parser.add_argument(
        "pairs", nargs="+", metavar="OLD=NEW", help="names, or one * in both"
    )
    resize_parser = commands.add(
        "resize",
        _resize,
        "grow or shrink vocabularies of the ID table, or the first dimension of other arrays",
        "resize runs/dicm --vocabulary=item=500000 --output=runs/more-items",
    )
    for option, form, what in (
        ("--vocabulary", "NAME=SIZE", "keys of a vocabulary; may be repeated"),
        ("--rows", "PATTERN=ROWS", "first dimension of arrays; may be repeated"),
    ):
        resize_parser.add_argument(option, action="append", default=[], metavar=form, help=what)
    resize_parser.add_argument(
        "--scale",
        type=_standard_deviation,
        metavar="S",
        help="standard deviation of new rows of parameters; 0 for zeros (default: of ID rows the"
        " run's model.id_init_scale, else 0)",
    )
    resize_parser.add_argument("--seed", type=int, default=0, help="of new rows (default 0)")
    cast_parser = commands.add(
        "cast",
        _cast,
        "change the number format of arrays",
        "cast runs/dicm ids.mu=bfloat16 ids.nu=bfloat16 --output=runs/smaller",
    )
    cast_parser.add_argument("pairs", nargs="+", metavar="PATTERN=DTYPE")


def _add_safetensors(commands: _Commands) -> None:
    to_files = commands.add(
        "to-safetensors",
        _to_safetensors,
        "write a checkpoint as safetensors files, the record in their metadata",
        "to-safetensors runs/dicm --output=dicm-safetensors",
    )
    to_files.add_argument(
        "--max-file-size",
        type=_size,
        default=5 * 2**30,
        metavar="SIZE",
        help="tensors in one file, at least one each (default 5GiB)",
    )
    commands.add(
        "from-safetensors",
        _from_safetensors,
        "make a checkpoint of such files",
        "from-safetensors dicm-safetensors --output=runs/dicm-again",
    )


def main() -> None:
    """The command line."""
    args = _parser().parse_args()
    ended: list[int] = []

    def command() -> int:
        ended.append(args.work(args))
        return ended[0]

    code = run_command(command, debug=args.debug)
    failed = code == FAILED and not ended
    sys.exit(_TROUBLE if failed and args.command == "diff" else code)


if __name__ == "__main__":
    main()
