"""The arguments of ``python -m dicm_jax.train``: a config file, settings on top of it, a folder."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_EXAMPLE = """\
example:
  python -m dicm_jax.train --config=configs/dicm.py --workdir=runs/dicm \\
      --config.train.steps=200 --config.mesh.virtual_devices=8
"""
_OVERRIDE = "--config."


class CommandLine(NamedTuple):
    """What the user asked for.

    Attributes:
      path: the config file.
      workdir: folder of the run.
      overrides: settings that take precedence over the file's, each ``"a.b=value"``.
      debug: show the traceback of errors.
    """

    path: str
    workdir: str
    overrides: tuple[str, ...]
    debug: bool


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Reads the arguments of the train command, without the program's name.

    Raises:
      SystemExit: with 2 after a message on wrong usage, with 0 after ``--help``.
    """
    parser = _parser()
    overrides, rest = split_overrides(argv, parser)
    known = parser.parse_args(rest)
    workdir = known.workdir or str(Path("runs") / Path(known.config).stem)
    return CommandLine(known.config, workdir, tuple(overrides), known.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.train",
        description="Train the Deep Image CTR Model, or go on with a run that was cut short.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the config file")
    parser.add_argument(
        "--workdir", metavar="DIR", help="folder of the run (default: runs/NAME for NAME.py)"
    )
    # Listed for --help; `split_overrides` takes these out before argparse sees them.
    parser.add_argument(
        "--config.a.b", metavar="VALUE", help="set b of section a; repeat for other settings"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser


def split_overrides(
    argv: Sequence[str], parser: argparse.ArgumentParser
) -> tuple[list[str], list[str]]:
    """Overrides as ``"a.b=value"``, and the arguments that are none."""
    overrides, rest = [], []
    arguments = iter(argv)
    for argument in arguments:
        if not argument.startswith(_OVERRIDE):
            rest.append(argument)
        elif "=" in argument:
            overrides.append(argument.removeprefix(_OVERRIDE))
        else:
            value = next(arguments, None)
            if value is None or value.startswith("--"):
                parser.error(f"argument {argument}: expected one value, as in {argument}=VALUE")
            overrides.append(f"{argument.removeprefix(_OVERRIDE)}={value}")
    return overrides, rest
