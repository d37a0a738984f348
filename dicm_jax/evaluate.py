"""Score a run's checkpoint: exact AUC, GAUC and log loss, overall and by segment.

    python -m dicm_jax.evaluate --workdir=runs/dicm

The last line on stdout is one JSON object.
"""

import argparse
import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dicm_jax.checkpoint.restore import restore_run
from dicm_jax.cli import DONE
from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.metrics import score
from dicm_jax.training.company import in_company
from dicm_jax.training.devices import is_main
from dicm_jax.training.evaluation import oracle_gauc, predictor
from dicm_jax.training.events import jsonable

HISTORY_LENGTHS = (0, 1, 5, 20, 50)
"""Where the segments of history length begin, behaviors."""


def evaluate(workdir: Path, step: int | None, split: str) -> int:
    """The whole command: rebuild the run from its folder, restore, predict, score."""
    run = restore_run(workdir, step)
    probability_B = predictor(run.job, split, run.model)(run.state)
    impressions = run.job.log.split(split)
    result = _scores(impressions, probability_B, np.ones(len(probability_B), bool))
    segments = {
        name: _scores(impressions, probability_B, chosen_B)
        for name, chosen_B in segments_of(impressions).items()
    }
    result |= {"step": run.step, "split": split, "oracle_gauc": oracle_gauc(impressions)}
    if not is_main():
        return DONE
    for name, scores in segments.items():
        print(
            f"{name:24s} {scores['impressions']:>10,} impressions   GAUC {scores['gauc']:.4f}"
            f"   AUC {scores['auc']:.4f}   log loss {scores['logloss']:.4f}"
        )
    print(json.dumps(jsonable(result) | {"segments": _jsonable_all(segments)}))
    return DONE


def segments_of(split: GroupedImpressions) -> dict[str, np.ndarray]:
    """Which impressions belong to each segment: items unknown in training, and history lengths."""
    sizes = np.diff(split.impression_offsets)
    length_B = np.repeat(np.diff(split.behavior_offsets), sizes)
    segments = {"cold items": split.cold_B, "warm items": ~split.cold_B}
    bounds = [*HISTORY_LENGTHS, np.inf]
    for low, high in itertools.pairwise(bounds):
        name = (
            f"history of {low} to {high - 1:.0f}" if np.isfinite(high) else f"history of {low} up"
        )
        segments["no history" if high == 1 else name] = (length_B >= low) & (length_B < high)
    return {name: chosen_B for name, chosen_B in segments.items() if chosen_B.any()}


def _scores(
    split: GroupedImpressions, probability_B: np.ndarray, chosen_B: np.ndarray
) -> dict[str, Any]:
    scores = score(split.user_B[chosen_B], split.click_B[chosen_B], probability_B[chosen_B])
    return dataclasses.asdict(scores)


def _jsonable_all(segments: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: jsonable(scores) for name, scores in segments.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.evaluate",
        description="Score a run's checkpoint, overall and by segment.",
        epilog="example:\n  python -m dicm_jax.evaluate --workdir=runs/dicm --split=test",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    parser.add_argument("--step", type=int, help="checkpoint; default: best, else newest")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    arguments = parser.parse_args()
    sys.exit(
        in_company(
            lambda: evaluate(arguments.workdir, arguments.step, arguments.split),
            debug=arguments.debug,
        )
    )


if __name__ == "__main__":
    main()
