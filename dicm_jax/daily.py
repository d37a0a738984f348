"""Update a model with a day's log: the daily job, read from top to bottom.

    python -m dicm_jax.daily --config=configs/daily/synthetic.py --line=runs/line --day=day-01

A *line* is a folder of daily runs. A day starts from the line's current run, is trained on its own
log, scored beside its parent on the same impressions, and promoted, or refused, by the rule of the
daily file. ``lineage.json`` tells of every day. Run the same command again after a kill and the day
goes on. The last line on stdout is one JSON object.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicm_jax.ams.mesh import Roles
from dicm_jax.checkpoint.fingerprint import settings_of_all
from dicm_jax.checkpoint.run_folder import claimed
from dicm_jax.cli import DONE, PREEMPTED
from dicm_jax.command_line import split_overrides
from dicm_jax.config_file import to_json_dict
from dicm_jax.data.readers import read_log
from dicm_jax.errors import ConfigError
from dicm_jax.train import fit
from dicm_jax.training import company, progress, watchdog
from dicm_jax.training.agreement import together
from dicm_jax.training.devices import check_same_settings, is_main, start_roles
from dicm_jax.training.evaluation import score_split
from dicm_jax.training.preemption import PreemptedError, Preemption
from dicm_jax.updates import lineage
from dicm_jax.updates.begun import begin, differing_settings, now, settings_of
from dicm_jax.updates.daily_file import Day, load_day
from dicm_jax.updates.entry import Made, entry_of
from dicm_jax.updates.lineage import Lineage, alone
from dicm_jax.updates.parent import predictions_of_parent, starting_from
from dicm_jax.updates.rule import decide
from dicm_jax.whole_files import strict

REFUSED = 3
"""Exit code of a refused day, where ``--fail-on-refusal`` asks for one."""
_EXAMPLE = """\
example:
  python -m dicm_jax.daily --config=configs/daily/prepared.py --line=runs/line \\
      --day=2026-11-21 --config.data.path=data/2026-11-21
"""


def daily(
    path: str, line: Path, name: str, overrides: Sequence[str], *, fail_on_refusal: bool = False
) -> int:
    """The whole command: choose the parent, train, compare, decide, write it down."""
    day = load_day(path, name, overrides)
    preemption = Preemption()
    roles = start_roles(day.config.mesh, day.config.train.lanes)
    check_same_settings(settings_of_all(to_json_dict(day.config)))
    with contextlib.ExitStack() as stack:
        # ---- Alone in the line; where it stands
        with together(ConfigError):
            if is_main():
                stack.enter_context(alone(line))
            days = lineage.load(line)
            decided = _decided(days, day)

        # ---- The day, unless it has been decided before
        if decided is None:
            try:
                made = _update(day, days, roles, preemption)
            except PreemptedError:
                print("preempted: saved; run the same command again to go on", file=sys.stderr)
                return PREEMPTED
            promoted = made.decision.promoted
            if is_main():
                decided = strict(entry_of(made))
                days = days.with_day(decided)
                days.save()
        else:
            promoted = decided["decision"]["promoted"]
            _say(f"{name} has been decided before; nothing was done")
    if is_main() and decided is not None:
        print(f"{name} {decided['decision']['words']}")
        print(json.dumps(_last_line(decided, days)))
    return REFUSED if fail_on_refusal and not promoted else DONE


def _decided(days: Lineage, day: Day) -> dict[str, Any] | None:
    """The entry of a day that has one, if it was made with the same settings."""
    found = days.entry(day.name)
    if found is None:
        return None
    if differing := differing_settings(found["settings"], settings_of(day)):
        raise ConfigError(
            f"--day={day.name} of {days.folder} has been decided with other settings: {differing}."
            " Give the day another name to train it anew"
        )
    return found


def _update(day: Day, days: Lineage, roles: Roles, preemption: Preemption) -> Made:
    """A day from its parent to its decision."""
    clock = time.perf_counter()
    workdir = days.folder / day.name

    # ---- The parent, and what the day is begun with
    with together(ConfigError):
        parent = days.parent()
        started = begin(workdir, day, parent) if is_main() else now()
    config = starting_from(parent, day.config)
    with watchdog.watching(config.train), claimed(workdir, config):
        # ---- Today's log, and the parent on it
        progress.at("reading the log", seldom=True)
        log = read_log(config.data)
        split = log.split(config.evaluate.split)
        before = None
        if parent is not None:
            progress.at("scoring the parent", seldom=True)
            before = score_split(split, predictions_of_parent(config, log, roles, parent))
            _say(f"the parent, {parent.day}, on {day.name}: GAUC {before.gauc:.4f}")
        preemption.check()

        # ---- Today's model on the same impressions
        outcome = fit(config, log, roles, workdir, preemption)
        after = score_split(split, outcome.probability_B)

    return Made(
        day=day,
        config=config,
        workdir=workdir,
        parent=parent,
        log=log,
        before=before,
        after=after,
        decision=decide(day.rule, before, after),
        result=outcome.result,
        started=started,
        seconds=round(time.perf_counter() - clock, 1),
    )


def _last_line(decided: dict[str, Any], days: Lineage) -> dict[str, Any]:
    """A day in one line, for scripts."""
    names = ("day", "parent", "before", "after", "steps", "seconds")
    return {name: decided[name] for name in names} | {
        "promoted": decided["decision"]["promoted"],
        "decision": decided["decision"]["words"],
        "current": days.current,
        "workdir": str(days.folder / decided["day"]),
    }


def _say(text: str) -> None:
    if is_main():
        print(text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.daily",
        description="Update a model with a day's log, and promote or refuse it.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the daily file")
    parser.add_argument(
        "--line", required=True, type=Path, metavar="DIR", help="folder of the daily runs"
    )
    parser.add_argument("--day", required=True, metavar="NAME", help="such as 2026-11-21")
    parser.add_argument(
        "--config.a.b",
        metavar="VALUE",
        help="set b of section a, or of the section rule; may be repeated",
    )
    parser.add_argument(
        "--fail-on-refusal", action="store_true", help=f"exit with {REFUSED} if the day is refused"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    overrides, rest = split_overrides(sys.argv[1:], parser)
    known = parser.parse_args(rest)
    sys.exit(
        company.in_company(
            lambda: daily(
                known.config,
                known.line,
                known.day,
                overrides,
                fail_on_refusal=known.fail_on_refusal,
            ),
            debug=known.debug,
        )
    )


if __name__ == "__main__":
    main()
