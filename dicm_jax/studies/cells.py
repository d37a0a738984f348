"""The cells of a study: one run of one variant with one seed, each in a folder of its own.

A cell's folder is a run's folder (``config.json``, ``metrics.jsonl``, ``checkpoints``). With
``result.json``, written last, the cell is done; ``failed.json`` says why it failed.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dicm_jax.checkpoint.fingerprint import differences, fingerprint
from dicm_jax.checkpoint.locate import CHECKPOINTS
from dicm_jax.config import Config
from dicm_jax.config_file import to_json_dict
from dicm_jax.errors import CheckpointError, ConfigError
from dicm_jax.studies.grid import Study, started_from_cell

STUDY_FILE, CELLS = "study.json", "cells"
RESULT, FAILURE, PICTURES = "result.json", "failed.json", "pictures.json"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
      variant, seed: which.
      config: its settings.
      folder: where it lies.
      with_pictures: whether attention of sampled users is kept for the report.
      is_started_from: whether another cell starts from its checkpoint, which is then kept.
      starts_from: folder of the cell that it starts from, if from one.
    """

    variant: str
    seed: int
    config: Config
    folder: Path
    with_pictures: bool
    is_started_from: bool = False
    starts_from: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.variant}/seed-{self.seed}"

    @property
    def state(self) -> Literal["done", "failed", "open"]:
        if (self.folder / RESULT).exists():
            return "done"
        return "failed" if (self.folder / FAILURE).exists() else "open"

    def result(self) -> dict[str, Any]:
        """Scores of a cell that is done."""
        return json.loads((self.folder / RESULT).read_text())

    def pictures(self) -> dict[str, Any]:
        """Attention of sampled users."""
        return json.loads((self.folder / PICTURES).read_text())

    def failure(self) -> str:
        """The message that a cell failed with."""
        return json.loads((self.folder / FAILURE).read_text())["message"]

    def check_start(self) -> None:
        """Refuse to start from a cell that has not come to its end, or whose end is gone.

        Raises:
          CheckpointError: which cell, and what to do.
        """
        start = self.starts_from
        if start is None or any((self.folder / CHECKPOINTS).glob("[0-9]*")):
            return
        if not (start / RESULT).exists():
            raise CheckpointError(
                f"{self.name} starts from the cell in {start}, which is not done; it can be run"
                " once that one is: run the same command again"
            )
        if not any((start / CHECKPOINTS).glob("[0-9]*")):
            raise CheckpointError(
                f"{self.name} starts from the cell in {start}, which is done, but its checkpoints"
                " have been deleted (--drop-checkpoints, when no cell started from it yet); remove"
                " that folder, and the same command makes them again"
            )


def cells_of(study: Study, workdir: Path) -> list[Cell]:
    """All cells of a study, seed after seed, so that early on every variant has something."""
    started_from = {started_from_cell(config) for config in study.configs.values()}

    def folder(variant: str, seed: int) -> Path:
        return workdir / CELLS / variant / f"seed-{seed}"

    def cell(variant: str, seed: int) -> Cell:
        config = study.configs[variant, seed]
        source = started_from_cell(config)
        start = None if source is None else folder(source, seed)
        if start is not None:
            checkpoint = dataclasses.replace(config.checkpoint, warm_start=str(start))
            config = dataclasses.replace(config, checkpoint=checkpoint)
        return Cell(
            variant=variant,
            seed=seed,
            config=config,
            folder=folder(variant, seed),
            with_pictures=variant == study.attention and seed == study.seeds[0],
            is_started_from=variant in started_from,
            starts_from=start,
        )

    return [cell(variant, seed) for seed in study.seeds for variant in study.variants]


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
    differing = differences(found, wanted)
    if differing:
        raise ConfigError(
            f"{cell.folder} was made by another study: {differing}. Use another --workdir or the"
            " settings it was made with, or remove the cell's folder"
        )


def _binding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that change a cell's result."""
    return fingerprint(config) | {
        "train.steps": config["train"]["steps"],
        "evaluate.split": config["evaluate"]["split"],
        "checkpoint.warm_start": _start(config["checkpoint"].get("warm_start")),
        "checkpoint.warm_parts": config["checkpoint"].get("warm_parts", "partial"),
    }


def _start(folder: str | None) -> str | None:
    """Where a cell starts from; a cell by its place in the study, however its folder is spelled."""
    *_, cells, variant, seed = ("", "", "", *Path(folder or "").parts)
    return f"{cells}/{variant}/{seed}" if cells == CELLS else folder
