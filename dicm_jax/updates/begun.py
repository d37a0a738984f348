"""``day.json``: what a day was begun with, so that the same command can go on and no other.

It lies in the day's folder from before the first step on. A killed day goes on only from the parent
and with the settings that it was begun with.
"""

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicm_jax import sealed_json
from dicm_jax.checkpoint.fingerprint import differences, fingerprint
from dicm_jax.config_file import to_json_dict
from dicm_jax.errors import ConfigError
from dicm_jax.studies.study_file import dotted
from dicm_jax.updates.daily_file import Day
from dicm_jax.updates.lineage import Parent

NAME = "day.json"
_FORMAT, _VERSION = "dicm_jax day", 1
_ALSO = (
    "data.path",
    "data.feature_tables",
    "train.steps",
    "evaluate.split",
    "checkpoint.warm_parts",
    "checkpoint.warm_patterns",
    "checkpoint.warm_optimizer",
)
"""Settings that change what a day gives, beside those that a checkpoint belongs to."""


def settings_of(day: Day) -> dict[str, Any]:
    """Settings that change what a day gives, with those of the rule, by dotted name."""
    tree = to_json_dict(day.config)
    flat = dotted(tree)
    rule = {f"rule.{name}": value for name, value in dataclasses.asdict(day.rule).items()}
    return fingerprint(tree) | {name: flat[name] for name in _ALSO} | rule


def differing_settings(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What differs, in words; settings that there were none of then are left out."""
    return differences(found, {name: value for name, value in asked.items() if name in found})


def begin(folder: Path, day: Day, parent: Parent | None) -> str:
    """Write down what a day is begun with, or check that it goes on with the same.

    Args:
      folder: of the day.
      day: what is asked.
      parent: the run that it starts from; None if it is the first.

    Returns:
      When it was begun, ISO 8601 in UTC.

    Raises:
      ConfigError: the folder holds something else, or the day was begun with another parent or
        other settings; names what differs.
    """
    asked = {"parent": parent and parent.day} | settings_of(day)
    if not (folder / NAME).exists():
        if (folder / "config.json").exists():
            raise ConfigError(
                f"--day={day.name}: {folder} is the folder of a run that is no day of a line; name"
                " the day otherwise, or remove that folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        body = {"format": _FORMAT, "version": _VERSION, "started": now(), "asked": asked}
        sealed_json.save(folder / NAME, body)
        return body["started"]
    body = sealed_json.load(
        folder / NAME, format=_FORMAT, version=_VERSION, what="a day of a line of runs"
    )
    if differing := differing_settings(body["asked"], asked):
        raise ConfigError(
            f"--day={day.name} was begun otherwise: {differing}. Run the command that it was begun"
            f" with, or remove {folder} to begin anew"
        )
    return body["started"]


def now() -> str:
    """The time, ISO 8601 in UTC, to seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
