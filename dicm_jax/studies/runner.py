"""Runs the cells of a study, one after another, in this process."""

import gc
import shutil
import time
import traceback
from typing import Any

import jax
import numpy as np

from dicm_jax.ams.mesh import Roles
from dicm_jax.checkpoint.locate import BEST, CHECKPOINTS
from dicm_jax.config_file import to_json_dict
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import ClickLog
from dicm_jax.errors import DicmError
from dicm_jax.evaluate import segments_of
from dicm_jax.metrics import score
from dicm_jax.studies.cells import FAILURE, PICTURES, RESULT, Cell
from dicm_jax.studies.pictures import sample_pictures
from dicm_jax.train import PreemptedError, fit
from dicm_jax.training.devices import start_roles
from dicm_jax.training.evaluation import oracle_gauc
from dicm_jax.training.preemption import Preemption
from dicm_jax.whole_files import write_json, write_text


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
        (cell.folder / FAILURE).unlink(missing_ok=True)
        try:
            self._run(cell)
        except PreemptedError:
            raise
        except Exception as error:  # a cell may fail in any way; the others shall not mind
            _write_failure(cell, error)
        else:
            if self._drop_checkpoints and not cell.is_started_from:
                for name in (CHECKPOINTS, BEST):
                    shutil.rmtree(cell.folder / name, ignore_errors=True)
        jax.clear_caches()
        gc.collect()

    def _run(self, cell: Cell) -> None:
        started = time.perf_counter()
        cell.check_start()
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
            write_json(cell.folder / PICTURES, pictures)
        write_json(cell.folder / RESULT, result)

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
    write_json(cell.folder / FAILURE, {"error": type(error).__name__, "message": message})
