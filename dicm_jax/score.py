"""Scores of a Parquet file by a servable, on all devices.

    python -m dicm_jax.score --servable=servables/dicm --input=shown.parquet --output=scored.parquet

The last line on stdout is one JSON object.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from dicm_jax.cli import DONE, run_command

_EXAMPLE = """columns of the input, one row an impression:
  item        names of items
  behaviors   lists of names of items clicked before, oldest first
  FIELD       values of user and context fields by name: keys, or texts where they are known

example:
  python -m dicm_jax.score --servable=servables/dicm --input=shown.parquet --output=scored.parquet
"""


def score(arguments: argparse.Namespace) -> int:
    """The whole command: load, score, write."""
    # Imported late: `--help` needs none of it.
    import jax

    from dicm_jax.serving.buckets import OFFLINE
    from dicm_jax.serving.offline import score_file
    from dicm_jax.serving.ranker import Ranker

    devices = jax.local_devices()
    rankers = [
        Ranker(arguments.servable, device=device, room=0, buckets=OFFLINE) for device in devices
    ]
    started = time.perf_counter()
    rows = score_file(
        rankers,
        arguments.input,
        arguments.output,
        model=arguments.model,
        column=arguments.column,
    )
    seconds = time.perf_counter() - started
    result = {
        "output": str(arguments.output),
        "rows": rows,
        "servable": rankers[0].version,
        "devices": len(devices),
        "rows_per_s": round(rows / seconds, 1),
    }
    print(json.dumps(result))
    return DONE


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.score",
        description="Add a column of scores to a Parquet file.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--servable", required=True, type=Path, help="folder of the servable")
    parser.add_argument("--input", required=True, type=Path, help="Parquet file")
    parser.add_argument("--output", required=True, type=Path, help="Parquet file, written anew")
    parser.add_argument("--model", default="dicm", help="dicm or baseline; default %(default)s")
    parser.add_argument("--column", default="score", help="of the scores; default %(default)s")
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser.parse_args(argv)


def main() -> None:
    """The command line."""
    arguments = parse(sys.argv[1:])
    sys.exit(run_command(lambda: score(arguments), debug=arguments.debug))


if __name__ == "__main__":
    main()
