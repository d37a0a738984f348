"""Trials of a search: suggested by Optuna, run as cells are, remembered in a file of Optuna's.

A search's folder holds ``journal.log`` (all trials; any tool of Optuna's reads it) and a run's
folder for each trial, ``trials/0``, ``trials/1``, ... What is suggested depends on the search's
seed and the trials before, and not on whether the search was cut short in between.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from dicm_jax.checkpoint.fingerprint import differences, fingerprint
from dicm_jax.config import Config
from dicm_jax.config_file import to_json_dict
from dicm_jax.errors import ConfigError
from dicm_jax.searches.search_file import OBJECTIVES, Search
from dicm_jax.studies.cells import Cell
from dicm_jax.studies.runner import Runner

JOURNAL = "journal.log"
_INSTEAD_OF = "instead_of"
"""Attribute of a trial: the numbers of those that were cut short before it, in its folder."""


def open_study(search: Search, workdir: Path) -> optuna.Study:
    """The trials so far in the folder of a search; a new folder has none.

    Raises:
      ConfigError: the folder is of something else: a run, a study, another search, or the same
        with other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _check_folder(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(workdir / JOURNAL))),
        study_name="search",
        direction=OBJECTIVES[search.objective],
        load_if_exists=True,
    )
    asked = {"search": search.name, "objective": search.objective} | _binding(search.config)
    found = study.user_attrs.get("asked")
    if found is None:
        study.set_user_attr("asked", asked)
        return study
    # As JSON has it: tuples are lists.
    _check_same(found, json.loads(json.dumps(asked)), workdir)
    return study


def _check_folder(workdir: Path) -> None:
    if (workdir / JOURNAL).exists():
        return
    for file, what in (("config.json", "a run"), ("study.json", "a study"), ("trials", "trials")):
        if (workdir / file).exists():
            raise ConfigError(
                f"--workdir={workdir} is the folder of something else ({what}: it has {file} and no"
                f" {JOURNAL}); name another folder"
            )


def _binding(config: Config) -> dict[str, Any]:
    """Settings that change a trial's result."""
    tree = to_json_dict(config)
    return fingerprint(tree) | {
        "train.steps": tree["train"]["steps"],
        "evaluate.split": tree["evaluate"]["split"],
    }


def _check_same(found: dict[str, Any], asked: dict[str, Any], workdir: Path) -> None:
    differing = differences(found, asked)
    if differing:
        raise ConfigError(
            f"--workdir={workdir} holds another search ({differing}): its trials could not be"
            " compared with new ones; name another folder"
        )


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that came to an end, good or bad; those cut short go on under another number."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    replaced = {number for trial in study.trials for number in _instead_of(trial)}
    return [trial for trial in trials if trial.number not in replaced]


def failed(study: optuna.Study) -> list[FrozenTrial]:
    """Those of `finished` that have no score."""
    return [trial for trial in finished(study) if trial.state == TrialState.FAIL]


def best(study: optuna.Study) -> FrozenTrial | None:
    """The best trial; None where none has a score."""
    has_score = any(trial.state == TrialState.COMPLETE for trial in finished(study))
    return study.best_trial if has_score else None


def _instead_of(trial: FrozenTrial | Trial) -> list[int]:
    return trial.user_attrs.get(_INSTEAD_OF, [])


def _folder_number(trial: Trial) -> int:
    """The number that a trial had when it first began."""
    return [*_instead_of(trial), trial.number][0]


def resume_cut_short(study: optuna.Study) -> None:
    """Queue trials that a kill cut short again, in their folders: their checkpoints count."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        before = {_INSTEAD_OF: [*_instead_of(trial), trial.number]}
        study.enqueue_trial(trial.params, user_attrs=before)
        study.tell(trial.number, state=TrialState.FAIL)


def run_trial(
    search: Search,
    study: optuna.Study,
    workdir: Path,
    runner: Runner,
    started: Callable[[str], None] = lambda name: None,
) -> str | None:
    """One more trial: suggest, train, remember.

    Args:
      search, study, workdir: the search.
      runner: trains, and keeps the log between trials.
      started: told the trial's name before it trains.

    Returns:
      that it failed and why, to be shown; None if it has a score.

    Raises:
      ConfigError: ``suggest`` is at fault, see `Search.suggested`.
      PreemptedError: SIGTERM came; the same command goes on with this trial.
    """
    study.sampler = optuna.samplers.TPESampler(seed=search.seed + len(finished(study)))
    trial = study.ask()
    suggested = search.suggested(trial)  # where it raises, the trial counts as cut short
    number = _folder_number(trial)
    started(f"trial {number}")
    try:
        config, typed = search.with_suggested(suggested)
    except ConfigError as error:
        return _failed(study, trial, str(error))
    trial.set_user_attr("settings", typed)
    cell = Cell(f"trial-{number}", config.train.seed, config, workdir / f"trials/{number}", False)
    if cell.state != "done":
        runner.run(cell)
    if cell.state == "failed":
        return _failed(study, trial, cell.failure())
    score = cell.result()[search.objective]
    if score is None:
        return _failed(study, trial, f"its {search.objective} is undefined (NaN)")
    study.tell(trial, score)
    return None


def _failed(study: optuna.Study, trial: Trial, message: str) -> str:
    trial.set_user_attr("failure", message)
    study.tell(trial, state=TrialState.FAIL)
    return f"trial {_folder_number(trial)} failed: {message}"
