"""Exact AUC, GAUC and log loss of a large log, against a loop of scikit-learn over users.

Claim: 10 million impressions of 1 million users are scored in under 15 s, and the process, its
imports and the log included, stays under 2 GiB.

The loop is timed on the first users of the same log, in turn with the full run, and scaled per
impression, since all users would take it many minutes. It computes GAUC only; `score` is timed
with AUC over all impressions and log loss as well. Both give the same GAUC of the first users,
or the benchmark fails.

Shape legend
    B   impressions
    U   users
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks._machine import circumstances, peak_rss_mib
from dicm_jax.metrics import gauc, score

Log = tuple[np.ndarray, np.ndarray, np.ndarray]

DESCRIPTION = "Times exact AUC, GAUC and log loss of a random log against scikit-learn per user."
EXAMPLE = """example:
  python -m benchmarks.metrics --impressions=1000000 --users=100000

Ends with one line of JSON: `ratio` is how many times more impressions a second `score` handles."""


def random_log(impressions: int, users: int, seed: int) -> Log:
    """A log of every user at least once, the rest long-tailed; one click in ten; some ties."""
    rng = np.random.default_rng(seed)
    share_U = np.cumsum(rng.gamma(0.5, size=users))
    drawn_B = np.searchsorted(share_U, rng.random(impressions - users) * share_U[-1])
    user_B = np.concatenate([np.arange(users, dtype=np.int32), drawn_B.astype(np.int32)])
    rng.shuffle(user_B)
    click_B = rng.random(impressions, dtype=np.float32) < 0.1
    logit_B = rng.standard_normal(impressions, dtype=np.float32)
    logit_B += click_B
    np.round(logit_B, 3, out=logit_B)
    return user_B, click_B, 1 / (1 + np.exp(2 - logit_B))


def sklearn_gauc(user_B: np.ndarray, click_B: np.ndarray, probability_B: np.ndarray) -> float:
    """GAUC by one call of `roc_auc_score` for each user of both classes."""
    from sklearn.metrics import roc_auc_score  # not before the peak of memory has been read

    order_B = np.argsort(user_B, kind="stable")
    first_U = np.flatnonzero(np.diff(user_B[order_B])) + 1
    weighted = counted = 0.0
    for mine in np.split(order_B, first_U):
        click, probability = click_B[mine], probability_B[mine]
        if 0 < np.count_nonzero(click) < len(mine):
            weighted += len(mine) * roc_auc_score(click, probability)
            counted += len(mine)
    return weighted / counted if counted else float("nan")


def timed(function: Callable[..., object], log: Log) -> tuple[float, object]:
    """Seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = function(*log)
    return time.perf_counter() - start, result


def compare(log: Log, loop_users: int, repeats: int) -> dict[str, object]:
    """Times `score` on the log and the loop on its first users, in turn; medians of `repeats`."""
    user_B, click_B, probability_B = log
    first_B = user_B < loop_users
    loop_log = user_B[first_B], click_B[first_B], probability_B[first_B]
    seconds, scores = timed(score, log)
    peak = peak_rss_mib()
    expected = sklearn_gauc(*loop_log)
    found = gauc(*loop_log)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    ours, loop = [seconds], [timed(sklearn_gauc, loop_log)[0]]
    for _ in range(repeats - 1):
        ours.append(timed(score, log)[0])
        loop.append(timed(sklearn_gauc, loop_log)[0])
    loop_impressions = len(loop_log[0])
    loop_seconds = statistics.median(loop) / loop_impressions * len(user_B)
    return {
        "ratio": round(loop_seconds / statistics.median(ours), 1),
        "seconds": round(statistics.median(ours), 3),
        "seconds_worst": round(max(ours), 3),
        "against_seconds_scaled": round(loop_seconds, 1),
        "against_seconds": round(statistics.median(loop), 3),
        "against_impressions": loop_impressions,
        "gauc_difference": abs(found - expected),
        "peak_rss_mib": round(peak),
        "scores": vars(scores),
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no log."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metrics",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--impressions", type=int, default=10_000_000, help="default 10,000,000")
    parser.add_argument("--users", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--loop-users", type=int, default=2_000, help="in the loop; default 2,000")
    parser.add_argument("--repeats", type=int, default=3, help="of each timing; default 3")
    parser.add_argument("--seed", type=int, default=0, help="of the random log; default 0")
    args = parser.parse_args(arguments)
    if not 0 < args.loop_users <= args.users <= args.impressions or args.repeats < 1:
        parser.error("needs 0 < loop-users <= users <= impressions and repeats >= 1")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line."""
    args = parse(arguments)
    log = random_log(args.impressions, args.users, args.seed)
    result = {
        "benchmark": "metrics",
        "against": "scikit-learn roc_auc_score in a loop over users, scaled per impression",
        **compare(log, args.loop_users, args.repeats),
        "impressions": args.impressions,
        "users": args.users,
        **circumstances("numpy", "scikit-learn"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
