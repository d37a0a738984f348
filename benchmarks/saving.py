"""What saving costs a training run: the time it is held, and the time it loses in all.

Claim: at one save a minute of a state of 1 GiB, training is held for less than 5 % of the time.

The loop is that of a run, with its feed, its step and its `Checkpoints`; nearly all of the state is
an ID table (rows and two moments, all random, so that nothing compresses that would not in a run).
Two figures, since they have different causes:

    blocked   seconds in `Checkpoints.save`, and those that the next step takes more than usual, as
              it must leave alone what is being saved, over a minute: copying the state away
    lost      seconds more than the same steps take without saving, from the start of a save to the
              end of its last write and deletion, over a minute: blocked, and steps that are slower
              while threads compress, check and write on the same cores

Steps without saving have their turns right before and after each save, so that other programs'
share of the machine hits both.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._machine import circumstances, peak_rss_mib
from benchmarks._saving_run import SavingRun, Turn, keys_of, with_keys
from dicm_jax.config_file import load_config
from dicm_jax.data.readers import read_log

DESCRIPTION = "The time for which saving holds a training run, and the time the run loses in all."
EXAMPLE = """example:
  python -m benchmarks.saving --mib=1024 --rounds=5 train.batch_size=512

Ends with one line of JSON: `ratio` is the speed of training with one save a minute over that
without, `blocked_share` what of the time training stands still (the claim is at most .05)."""

MINUTE = 60.0
_WARM_UP = 5  # steps


@dataclasses.dataclass(frozen=True)
class Round:
    """A save, and what it cost.

    Attributes:
      saving: the turn with the save.
      step_s: seconds of a step in the turns around it.
    """

    saving: Turn
    step_s: float

    @property
    def blocked_s(self) -> float:
        """In which nothing is learned but the state copied."""
        return self.saving.held_s + max(0.0, self.saving.first_step_s - self.step_s)

    @property
    def lost_s(self) -> float:
        """More than the same steps take without saving."""
        return self.saving.seconds - self.saving.steps * self.step_s

    @property
    def slowdown(self) -> float:
        """Of the steps after the first while threads write, over those without; NaN for none."""
        if self.saving.steps < 2:
            return float("nan")
        seconds = self.saving.seconds - self.saving.held_s - self.saving.first_step_s
        return seconds / ((self.saving.steps - 1) * self.step_s)


def rounds_of(run: SavingRun, count: int, steps: int) -> list[Round]:
    """Saves with steps in peace before and after each."""
    rounds = []
    for number in range(count):
        before = run.in_peace(steps)
        saving = run.saving()
        after = run.in_peace(steps)
        step_s = (before.seconds + after.seconds) / (2 * steps)
        rounds.append(Round(saving, step_s))
        print(
            f"save {number + 1} of {count}: held {saving.held_s:.2f} s, blocked"
            f" {rounds[-1].blocked_s:.2f} s with the copy in the next step, written after"
            f" {saving.seconds:.2f} s and {saving.steps} steps of {1000 * step_s:.0f} ms in peace;"
            f" lost {rounds[-1].lost_s:.2f} s",
            flush=True,
        )
    return rounds


def report(rounds: list[Round]) -> dict[str, Any]:
    """Medians over rounds, and the worst."""
    blocked, lost = [r.blocked_s for r in rounds], [r.lost_s for r in rounds]
    return {
        "ratio": round(1 - statistics.median(lost) / MINUTE, 4),
        "blocked_share": round(statistics.median(blocked) / MINUTE, 5),
        "blocked_share_worst": round(max(blocked) / MINUTE, 5),
        "lost_share": round(statistics.median(lost) / MINUTE, 4),
        "lost_share_worst": round(max(lost) / MINUTE, 4),
        "blocked_s": [round(x, 3) for x in blocked],
        "held_s": [round(r.saving.held_s, 3) for r in rounds],
        "first_step_s": [round(r.saving.first_step_s, 3) for r in rounds],
        "lost_s": [round(x, 2) for x in lost],
        "written_after_s": [round(r.saving.seconds, 2) for r in rounds],
        "slowdown_while_writing": [round(r.slowdown, 2) for r in rounds],
        "step_ms": [round(1000 * r.step_s, 1) for r in rounds],
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.saving",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="configs/dicm.py", help="default %(default)s")
    parser.add_argument("--mib", type=int, default=1024, help="of the ID table; default 1024")
    parser.add_argument("--rounds", type=int, default=5, help="saves; default 5")
    parser.add_argument("--steps", type=int, default=20, help="before and after; default 20")
    parser.add_argument("--folder", default=None, help="for checkpoints; default: a temporary one")
    parser.add_argument("overrides", nargs="*", help="settings of the config, each a.b=value")
    args = parser.parse_args(arguments)
    if min(args.mib, args.rounds, args.steps) < 1:
        parser.error("needs mib, rounds and steps of at least 1")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line."""
    args = parse(arguments)
    config = load_config(args.config, ["train.epochs=1000", *args.overrides])
    log = with_keys(read_log(config.data), keys_of(args.mib * 2**20, config.model.embedding_width))
    with tempfile.TemporaryDirectory(prefix="saving_", dir=args.folder) as folder:
        run = SavingRun(config, log, Path(folder))
        run.in_peace(_WARM_UP)
        peak_before = peak_rss_mib()
        with run.checkpoints:
            first = run.saving()  # starts threads, makes files
            rounds = rounds_of(run, args.rounds, args.steps)
        result = {
            "benchmark": "saving",
            "against": "the same steps without saving",
            **report(rounds),
            "first_held_s": round(first.held_s, 3),
            "state_bytes": run.state_bytes,
            "peak_rss_mib": {"before_saves": round(peak_before), "after": round(peak_rss_mib())},
            "batch_size": config.train.batch_size,
            **circumstances("jax", "orbax-checkpoint"),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
