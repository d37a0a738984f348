"""The entry of a day in the lineage: what it was made of and what it came to."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicm_jax import sealed_json
from dicm_jax.checkpoint.locate import trained
from dicm_jax.checkpoint.run_folder import config_of
from dicm_jax.checkpoint.warm_report import WARM_REPORT
from dicm_jax.config import Config
from dicm_jax.config_file import to_json_dict
from dicm_jax.data.schema import ClickLog
from dicm_jax.metrics import Scores
from dicm_jax.studies.study_file import dotted
from dicm_jax.updates.begun import now, settings_of
from dicm_jax.updates.daily_file import Day
from dicm_jax.updates.lineage import Parent, manifest_crc32
from dicm_jax.updates.rule import Decision


@dataclasses.dataclass(frozen=True)
class Made:
    """A day that was trained and scored.

    Attributes:
      day: what was asked.
      config: settings of its run.
      workdir: folder of its run.
      parent: the run that it started from; None if it is the first.
      log: its log.
      before, after: scores of the parent and of the day; no `before` on the first day.
      decision: what became of it.
      result: what training ended with.
      started: when it was begun, by the first try if there were several.
      seconds: of the last try.
    """

    day: Day
    config: Config
    workdir: Path
    parent: Parent | None
    log: ClickLog
    before: Scores | None
    after: Scores
    decision: Decision
    result: Mapping[str, Any]
    started: str
    seconds: float


def entry_of(made: Made) -> dict[str, Any]:
    """What the lineage keeps of a day."""
    return {
        "day": made.day.name,
        "parent": None if made.parent is None else made.parent.day,
        "checkpoint": _checkpoint(made.workdir, made.result["best_step"]),
        "settings": settings_of(made.day),
        "changed": _changed(made.config, made.parent),
        "log": _log(made.log, made.config.evaluate.split),
        "warm_up": _warm_up(made),
        "before": None if made.before is None else dataclasses.asdict(made.before),
        "after": dataclasses.asdict(made.after),
        "steps": made.result["steps"],
        "decision": dataclasses.asdict(made.decision) | {"words": made.decision.words},
        "started": made.started,
        "ended": now(),
        "seconds": made.seconds,
    }


def _checkpoint(workdir: Path, step: int) -> dict[str, Any]:
    """Where the checkpoint lies that a day ends with, and what it is known again by."""
    folder = trained(workdir)
    crc = manifest_crc32(folder / str(step))
    return {"folder": folder.name, "step": step, "manifest_crc32": crc}


def _changed(config: Config, parent: Parent | None) -> dict[str, Any]:
    """Settings that differ from the parent's, by dotted name; the log's among them."""
    if parent is None:
        return {}
    was, now = dotted(to_json_dict(config_of(parent.workdir))), dotted(to_json_dict(config))
    return {
        name: {"was": was.get(name), "is": now.get(name)}
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name) and name != "checkpoint.warm_start"
    }


def _log(log: ClickLog, split: str) -> dict[str, Any]:
    """Name and sizes of a day's log."""
    return {
        "name": log.name,
        "train_impressions": log.train.n_impressions,
        "train_groups": log.train.n_groups,
        "split": split,
        "impressions": log.split(split).n_impressions,
        "items": len(log.items.image_N),
        "images": log.features.count,
        "vocabularies": dict(log.vocabulary_sizes),
    }


def _warm_up(made: Made) -> dict[str, Any] | None:
    """What was taken over, in counts; array by array it stands in the run's ``warm_start.json``."""
    if made.parent is None:
        return None
    report = sealed_json.load(
        made.workdir / WARM_REPORT,
        format="dicm_jax warm start",
        version=1,
        what="a warm start's report",
    )
    return {name: report[name] for name in ("parts", "optimizer", "counts", "rows")}
