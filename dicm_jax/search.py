"""Search for good settings with Optuna, judged on what is held out from training.

    python -m dicm_jax.search --config=configs/search/dicm.py --workdir=runs/search --trials=20

Run the same command again after a kill and it goes on; with more --trials it adds to them. A trial
that fails is recorded as failed and does not stop the others. The last line on stdout is the result
as one JSON object; ``best.json`` has the best settings and the command that trains with them.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from dicm_jax.cli import DONE, FAILED, PREEMPTED, run_command
from dicm_jax.command_line import split_overrides
from dicm_jax.errors import ConfigError
from dicm_jax.searches.search_file import Search, load_search
from dicm_jax.studies.runner import Runner
from dicm_jax.train import PreemptedError
from dicm_jax.training.preemption import Preemption
from dicm_jax.whole_files import write_json

_EXAMPLE = """\
example:
  python -m dicm_jax.search --config=configs/search/dicm.py --workdir=runs/search --trials=20
"""


def search(path: str, workdir: Path, trials: int, overrides: Sequence[str] = ()) -> int:
    """The whole command: check, run the trials that are missing, report the best.

    Args:
      path: the search file (`dicm_jax.searches.search_file`).
      workdir: folder of the search.
      trials: how many there shall be in all, failed ones included.
      overrides: settings of all trials, each ``"a.b=value"``.
    """
    if trials < 1:
        raise ConfigError(f"--trials={trials}: a search has at least one trial; ask for 1 or more")
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        raise ConfigError(
            f"JAX_COORDINATOR_ADDRESS={os.environ['JAX_COORDINATOR_ADDRESS']}: a search runs in one"
            " process; unset it"
        )
    optuna_side = _optuna_side()
    asked = load_search(path, overrides)
    study = optuna_side.open_study(asked, workdir)
    try:
        _run(optuna_side, asked, study, workdir, trials)
    except PreemptedError:
        print("preempted: saved; run the same command again to go on", file=sys.stderr)
        return PREEMPTED
    result = _result(optuna_side, asked, study, workdir)
    print(json.dumps(result))
    return FAILED if result["best"] is None else DONE


def _optuna_side() -> ModuleType:
    """The module that needs Optuna, which not every installation has."""
    try:
        return importlib.import_module("dicm_jax.searches.trials")
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError(
            "dicm_jax.search needs Optuna, which is not installed; install it with"
            " pip install 'dicm-jax[search]', or pip install optuna"
        ) from None


def _run(optuna_side: ModuleType, asked: Search, study: Any, workdir: Path, trials: int) -> None:
    runner = Runner(Preemption())
    optuna_side.resume_cut_short(study)
    done = len(optuna_side.finished(study))
    pause = 0.1 if sys.stderr.isatty() else 5.0
    with tqdm(
        total=max(trials, done),
        initial=done,
        desc=asked.name,
        unit="trial",
        mininterval=pause,
        dynamic_ncols=True,
    ) as bar:
        for _ in range(done, trials):
            failure = optuna_side.run_trial(asked, study, workdir, runner, bar.set_description)
            if failure is not None:
                bar.write(failure, file=sys.stderr)
            best = optuna_side.best(study)
            if best is not None:
                bar.set_postfix({f"best {asked.objective}": f"{best.value:.4f}"}, refresh=False)
            bar.update()


def _result(optuna_side: ModuleType, asked: Search, study: Any, workdir: Path) -> dict[str, Any]:
    """The last line; on the way, the best settings are written down and shown."""
    best = optuna_side.best(study)
    settings = None if best is None else best.user_attrs["settings"]
    score = None if best is None else best.value
    if settings is not None:
        command = asked.command(settings, workdir / "best")
        found = {"settings": settings, asked.objective: score, "command": command}
        write_json(workdir / "best.json", found)
        print(
            f"best settings, trained with all that may be trained on and scored on test:\n{command}"
        )
    return {
        "search": asked.name,
        "trials": len(optuna_side.finished(study)),
        "failed": len(optuna_side.failed(study)),
        "best": settings,
        asked.objective: score,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.search",
        description="Search for good settings with Optuna, or go on with a search.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the search file")
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help="folder (default: runs/search-NAME for NAME.py)"
    )
    parser.add_argument(
        "--trials",
        required=True,
        type=int,
        metavar="N",
        help="trials in all, those so far included",
    )
    parser.add_argument(
        "--config.a.b", metavar="VALUE", help="set b of section a in all trials; may be repeated"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    overrides, rest = split_overrides(sys.argv[1:], parser)
    known = parser.parse_args(rest)
    workdir = known.workdir or Path("runs") / f"search-{Path(known.config).stem}"
    sys.exit(
        run_command(
            lambda: search(known.config, workdir, known.trials, overrides), debug=known.debug
        )
    )


if __name__ == "__main__":
    main()
