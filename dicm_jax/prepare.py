"""Prepare a log for training: log tables to sample groups in blocks, once.

    python -m dicm_jax.prepare --config=configs/prepare/hm.py --output=runs/hm-set

Stopped and started again it goes on; until all is done there is no set. The last line on stdout is
what was made as one JSON object. Training reads the set with ``data.kind='prepared'``.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicm_jax.cli import DONE, run_command
from dicm_jax.command_line import split_overrides
from dicm_jax.config_file import load
from dicm_jax.data.prepared.from_log import write_log
from dicm_jax.data.prepared.manifest import Prepared
from dicm_jax.data.readers import read_log
from dicm_jax.errors import ConfigError
from dicm_jax.preparation import local
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.sources import settings_of

_EXAMPLE = """\
example:
  python -m dicm_jax.features --images=hm/images --weights=vgg16.safetensors --output=hm-features
  python -m dicm_jax.prepare --config=configs/prepare/hm.py --output=hm-set \\
      --config.impressions.path=hm/impressions.parquet --config.features=hm-features
  python -m dicm_jax.train --config=configs/hm.py --config.data.kind=prepared \\
      --config.data.path=hm-set
"""
RUNNERS = ("local", "beam")


def prepare(
    path: str, output: Path, overrides: Sequence[str], runner: str, beam_options: Sequence[str]
) -> int:
    """The whole command: read the settings, make the set, say what is in it."""
    started = time.perf_counter()
    config = load(PrepareConfig, path, overrides)
    _check_runner(config, runner, beam_options)
    if config.source == "reader":
        prepared = _from_reader(config, output)
    elif runner == "beam":
        from dicm_jax.preparation import beam  # an extra

        prepared = beam.prepare(config, output, beam_options)
    else:
        prepared = local.prepare(config, output)
    seconds = time.perf_counter() - started
    for name, value in prepared.notes.items():
        shown = f"{value:,.0f}" if value == round(value) else f"{value:.3g}"
        print(f"  {name.replace('_', ' ')}: {shown}")
    print(json.dumps(_result(prepared, output, seconds)))
    return DONE


def _check_runner(config: PrepareConfig, runner: str, beam_options: Sequence[str]) -> None:
    if runner == "beam" and config.source == "reader":
        raise ConfigError(
            "--runner=beam with source='reader': readers read on one machine; leave --runner out,"
            " or prepare the log's tables with source='tables'"
        )
    if beam_options and runner != "beam":
        raise ConfigError(
            f"--beam-option={beam_options[0]} with --runner={runner}: add --runner=beam, or leave"
            " the option out"
        )


def _from_reader(config: PrepareConfig, output: Path) -> Prepared:
    return write_log(
        read_log(config.data),
        output,
        block_groups=config.output.block_groups,
        shard_groups=config.output.shard_groups,
        storage=config.output.storage,
        settings=settings_of(config),
        report=print,
    )


def _result(prepared: Prepared, output: Path, seconds: float) -> dict[str, Any]:
    splits = {
        name: {
            what: sum(getattr(shard, what) for shard in shards)
            for what in ("groups", "impressions", "behaviors", "clicks")
        }
        for name, shards in prepared.splits.items()
    }
    return {
        "set": str(output),
        "items": prepared.items,
        "splits": splits,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.prepare",
        description="Make sample groups of log tables, or go on with a preparation.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the preparation's file")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the set (default: runs/set-NAME)"
    )
    parser.add_argument(
        "--config.a.b", metavar="VALUE", help="set b of section a; repeat for other settings"
    )
    parser.add_argument(
        "--runner",
        choices=RUNNERS,
        default=RUNNERS[0],
        help="threads of this machine; or Apache Beam, on any of its engines",
    )
    parser.add_argument(
        "--beam-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option for Beam, as --beam-option=--runner=FlinkRunner; may be repeated",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    overrides, rest = split_overrides(sys.argv[1:], parser)
    known = parser.parse_args(rest)
    output = known.output or Path("runs") / f"set-{Path(known.config).stem}"
    sys.exit(
        run_command(
            lambda: prepare(known.config, output, overrides, known.runner, known.beam_option),
            debug=known.debug,
        )
    )


if __name__ == "__main__":
    main()
