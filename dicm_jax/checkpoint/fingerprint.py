"""Which settings a checkpoint belongs to, and what differs when another run wants it."""

from collections.abc import Mapping
from typing import Any

from dicm_jax.config import Config
from dicm_jax.config_file import to_json_dict
from dicm_jax.errors import CheckpointError

BINDING = ("data", "features", "model", "optimizer", "exchange", "train")
"""Sections whose settings change what is trained."""
FREE = {
    "data.path",
    "data.verify",
    "data.feature_tables",
    "train.steps",
    "train.prefetch",
    "train.log_every",
    "train.hang_after_s",
    "train.hang_start_after_s",
    "features.tier",
    "features.path",
    "features.verify",
    "exchange.strategy",
    "exchange.dedup_worker",
    "exchange.dedup_server",
    "exchange.capacity_factor",
    "exchange.chunk",
    "train.baseline",
}
"""Settings of these sections that a run may change when it goes on."""


def fingerprint(config: Mapping[str, Any]) -> dict[str, Any]:
    """The binding settings of a resolved configuration, by dotted name."""
    flat = {}
    for section in BINDING:
        flat |= _flatten(config[section], section)
    return {name: value for name, value in flat.items() if name not in FREE}


def settings_of_all(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings by dotted name, but for folders, which differ between machines."""
    flat = _flatten(dict(config), "")
    folders = (".path", ".feature_tables")
    return {name[1:]: value for name, value in flat.items() if not name.endswith(folders)}


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: str) -> None:
    """Refuse a checkpoint whose settings differ.

    A setting that is newer than the checkpoint is taken to have had its default.

    Raises:
      CheckpointError: names every setting that differs, with both values.
    """
    defaults = fingerprint(to_json_dict(Config()))
    newer = {name: defaults[name] for name in wanted if name not in found and name in defaults}
    if differing := differences({**found, **newer}, wanted):
        raise CheckpointError(
            f"cannot go on from the checkpoint in {folder}: it is of another model ({differing})."
            " Use another --workdir, or the settings it was made with"
        )


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Every setting that differs, with both values, for a message; empty where none does.

    Example:
      >>> differences({"train.seed": 1, "train.epochs": 2}, {"train.seed": 3, "train.epochs": 2})
      'train.seed was 1, is 3'
    """
    return "; ".join(
        f"{name} was {found.get(name)!r}, is {wanted.get(name)!r}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    )


def _flatten(tree: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat = {}
    for name, value in tree.items():
        flat |= _flatten(value, f"{prefix}.{name}")
    return flat
