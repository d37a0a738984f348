"""Whether the service gives the scores of evaluation, over HTTP, on a whole test split.

Claim: every score within 1e-5, and the same GAUC.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks._machine import circumstances
from benchmarks._served_split import Client, served_split
from benchmarks._serving_load import serving
from dicm_jax.checkpoint.restore import restore_run
from dicm_jax.training.evaluation import predictor, score_split

DESCRIPTION = "Compare the service's scores with those of evaluation."
EXAMPLE = """example:
  python -m dicm_jax.export --workdir=runs/dicm --output=servables/dicm
  python -m benchmarks.served_scores --workdir=runs/dicm --servable=servables/dicm

Ends with one line of JSON: `ratio` is the served GAUC over the evaluated one."""


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.served_scores",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    parser.add_argument("--servable", type=Path, required=True, help="its servable")
    args = parser.parse_args(arguments)
    run = restore_run(args.workdir)
    split = run.job.log.split("test")
    evaluated_B = predictor(run.job, "test", run.model)(run.state)
    with serving(args.servable) as server, contextlib.closing(Client(server.port)) as client:
        served_B = served_split(client, run.job.log, split, ["dicm"])["dicm"]
    evaluated, served = score_split(split, evaluated_B), score_split(split, served_B)
    result = {
        "benchmark": "served_scores",
        "against": "python -m dicm_jax.evaluate",
        "ratio": served.gauc / evaluated.gauc,
        "impressions": split.n_impressions,
        "largest_difference": float(np.abs(served_B - evaluated_B).max()),
        "gauc": {"served": served.gauc, "evaluated": evaluated.gauc},
        "auc": {"served": served.auc, "evaluated": evaluated.auc},
        **circumstances("jax", "fastapi", "uvicorn"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
