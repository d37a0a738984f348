"""The cells of a study: one run of one variant with one seed, each in a folder of its own.

A cell's folder is a run's folder (``config.json``, ``metrics.jsonl``, ``checkpoints``). With
``result.json``, written last, the cell is done; ``failed.json`` says why it failed.
"""

import dataclasses
import gc
import json
import math
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from dicm_jax.ams.mesh import Roles
from dicm_jax.checkpoint.fingerprint import fingerprint
from dicm_jax.config import Config
from dicm_jax.config_file import to_json_dict
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import ClickLog
from dicm_jax.errors import ConfigError, DicmError
from dicm_jax.evaluate import segments_of
from dicm_jax.metrics import score
from dicm_jax.studies.files import write_json, write_text
from dicm_jax.studies.grid import Study
from dicm_jax.studies.pictures import sample_pictures
from dicm_jax.train import PreemptedError, fit
from dicm_jax.training.devices import start_roles
from dicm_jax.training.evaluation import oracle_gauc
from dicm_jax.training.preemption import Preemption
from dicm_jax.training.restore import BEST, CHECKPOINTS

STUDY_FILE = "study.json"
_RESULT, _FAILURE = "result.json", "failed.json"
PICTURES = "pictures.json"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
      variant, seed: which.
      config: its settings.
      folder: where it lies.
      with_pictures: whether attention of sampled users is kept for the report.
    """

    variant: str
    seed: int
    config: Config
    folder: Path
    with_pictures: bool

    @property
    def name(self) -> str:
        return f"{self.variant}/seed-{self.seed}"

    @property
    def state(self) -> Literal["done", "failed", "open"]:
        if (self.folder / _RESULT).exists():
            return "done"
        return "failed" if (self.folder / _FAILURE).exists() else "open"

    def result(self) -> dict[str, Any]:
        """Scores of a cell that is done."""
        return json.loads((self.folder / _RESULT).read_text())

    def pictures(self) -> dict[str, Any]:
        """Attention of sampled users."""
        return json.loads((self.folder / PICTURES).read_text())

    def failure(self) -> str:
        """The message that a cell failed with."""
        return json.loads((self.folder / _FAILURE).read_text())["message"]


def cells_of(study: Study, workdir: Path) -> list[Cell]:
    """All cells of a study, seed after seed, so that early on every variant has something."""
    return [
        Cell(
            variant=variant,
            seed=seed,
            config=study.configs[variant, seed],
            folder=workdir / "cells" / variant / f"seed-{seed}",
            with_pictures=variant == study.attention and seed == study.seeds[0],
        )
        for seed in study.seeds
        for variant in study.variants
    ]


def check_folder(study: Study, cells: list[Cell], workdir: Path) -> None:
    """Refuse a folder that holds something else than (a part of) this study.

    Raises:
      ConfigError: the folder is a run's or another study's, or one of its cells was made with
        other settings; names what differs.
    """
    path = workdir / STUDY_FILE
    if not path.exists():
        if (workdir / "config.json").exists():
            raise ConfigError(
                f"--workdir={workdir} is the folder of a run (it has config.json), not of a study;"
                " name another folder"
            )
        return
    found = json.loads(path.read_text())["study"]
    if found != study.name:
        raise ConfigError(
            f"--workdir={workdir} holds the study {found!r}, and {study.name!r} was asked for;"
            " name another folder"
        )
    for cell in cells:
        _check_cell(cell)


def _check_cell(cell: Cell) -> None:
    path = cell.folder / "config.json"
    if not path.exists():
        return
    found, wanted = _binding(json.loads(path.read_text())), _binding(to_json_dict(cell.config))
    differing = [
        f"{name} was {found.get(name)!r}, is {wanted.get(name)!r}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ConfigError(
            f"{cell.folder} was made by another study: " + "; ".join(differing) + ". Use another"
            " --workdir or the settings it was made with, or remove the cell's folder"
        )


def _binding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that change a cell's result."""
    return fingerprint(config) | {
        "train.steps": config["train"]["steps"],
        "evaluate.split": config["evaluate"]["split"],
    }


class Runner:
    """Runs cells in this process, one after another; neighbors with the same data share the log.

    Args:
      preemption: asked between steps.
      drop_checkpoints: delete a cell's checkpoints once its results are written.
    """

    def __init__(self, preemption: Preemption, *, drop_checkpoints: bool = False):
        self._preemption = preemption
        self._drop_checkpoints = drop_checkpoints
        self._log: tuple[object, ClickLog] | None = None
        self._roles: dict[object, Roles] = {}

    def run(self, cell: Cell) -> None:
        """Run a cell, or go on with it; what fails is written down and does not go further.

        Raises:
          PreemptedError: SIGTERM came; a checkpoint is saved.
        """
        write_json(cell.folder / "config.json", to_json_dict(cell.config))
        (cell.folder / _FAILURE).unlink(missing_ok=True)
        try:
            self._run(cell)
        except PreemptedError:
            raise
        except Exception as error:  # a cell may fail in any way; the others shall not mind
            _write_failure(cell, error)
        else:
            if self._drop_checkpoints:
                for name in (CHECKPOINTS, BEST):
                    shutil.rmtree(cell.folder / name, ignore_errors=True)
        jax.clear_caches()
        gc.collect()

    def _run(self, cell: Cell) -> None:
        started = time.perf_counter()
        log, roles = self._log_of(cell), self._roles_of(cell)
        outcome = fit(cell.config, log, roles, cell.folder, self._preemption)
        split = log.split(cell.config.evaluate.split)
        result = outcome.result | {
            "oracle_gauc": oracle_gauc(split),
            "segments": _segments(split, outcome.probability_B),
            "seconds": round(time.perf_counter() - started, 1),
        }
        np.save(cell.folder / "probability.npy", outcome.probability_B)
        if cell.with_pictures:
            pictures = sample_pictures(cell.folder, log, roles, split, outcome.probability_B)
            write_json(cell.folder / PICTURES, strict(pictures))
        write_json(cell.folder / _RESULT, strict(result))

    def _log_of(self, cell: Cell) -> ClickLog:
        data = cell.config.data
        if self._log is None or self._log[0] != data:
            self._log = None  # free the old one first
            self._log = (data, read_log(data))
        return self._log[1]

    def _roles_of(self, cell: Cell) -> Roles:
        key = (cell.config.mesh, cell.config.train.lanes)
        if key not in self._roles:
            self._roles[key] = start_roles(*key)
        return self._roles[key]


def _segments(split: Any, probability_B: np.ndarray) -> dict[str, dict[str, float]]:
    scores = {}
    for name, chosen_B in segments_of(split).items():
        of_it = score(split.user_B[chosen_B], split.click_B[chosen_B], probability_B[chosen_B])
        scores[name] = {
            "gauc": of_it.gauc,
            "auc": of_it.auc,
            "logloss": of_it.logloss,
            "impressions": of_it.impressions,
        }
    return scores


def _write_failure(cell: Cell, error: Exception) -> None:
    message = str(error) if isinstance(error, DicmError) else f"{type(error).__name__}: {error}"
    write_text(cell.folder / "traceback.txt", "".join(traceback.format_exception(error)))
    write_json(cell.folder / _FAILURE, {"error": type(error).__name__, "message": message})


def strict(value: Any) -> Any:
    """A value as strict JSON has it: NaN is null, NumPy's numbers are Python's."""
    if isinstance(value, Mapping):
        return {str(key): strict(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [strict(element) for element in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def events_of(cell: Cell, kind: str) -> Iterator[dict[str, Any]]:
    """The complete lines of one kind in a cell's ``metrics.jsonl``, in their order."""
    path = cell.folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        event = json.loads(line)
        if event["kind"] == kind:
            yield event
