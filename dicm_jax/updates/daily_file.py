"""A daily file, checked at once: what is trained each day, on which log, and the rule.

A daily file is a Python file with ``get_config()``, which returns a dict:

    def log_of(day):
        return {"data.path": f"data/{day}"}

    def get_config():
        return {
            "base": "configs/dicm.py",                           # a run's config file
            "settings": {"checkpoint.warm_parts": "partial"},    # of all days
            "log_of": log_of,                                    # settings of a day, by its name
            "rule": {"allowed_gauc_drop": 0.005},                # see dicm_jax.updates.rule
        }

What the command line sets takes precedence over all of it; ``--config.rule.NAME`` sets the rule.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dicm_jax.config import Config
from dicm_jax.config_file import check_override, from_json_dict, read_config_file
from dicm_jax.config_values import check_value
from dicm_jax.errors import ConfigError
from dicm_jax.studies.study_file import dotted
from dicm_jax.updates import lineage
from dicm_jax.updates.rule import Rule

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RULE = "rule."
_DEFAULTS: dict[str, Any] = {"base": None, "settings": {}, "log_of": None, "rule": {}}


@dataclasses.dataclass(frozen=True)
class Day:
    """What is to be done for a day.

    Attributes:
      name: of the day, and of its folder.
      config: settings of its run, without a run to start from.
      rule: by which it is promoted.
    """

    name: str
    config: Config
    rule: Rule


def load_day(path: str, name: str, overrides: Sequence[str] = ()) -> Day:
    """The checked settings of a day.

    Args:
      path: the daily file.
      name: of the day.
      overrides: settings that take precedence over the file's, each ``"a.b=value"``.

    Raises:
      ConfigError: a name that no folder can have, an unknown key or setting, a value out of its
        limits, or ``log_of`` fails.
    """
    if not _NAME.fullmatch(name) or name == lineage.NAME:
        raise ConfigError(
            f"--day={name!r} cannot be the name of a folder; use letters, digits, '_', '-' and '.',"
            " such as 2026-11-21"
        )
    given = {**_DEFAULTS, **_checked_keys(read_config_file(path), path)}
    if given["base"] is None:
        raise ConfigError(f"{path}: no base; name the config file of a run that days start from")
    of_rule, of_run = dotted(given["rule"]), {}
    for override in overrides:
        if override.startswith(_RULE):
            of_rule |= check_override(override.removeprefix(_RULE), Rule)
        else:
            of_run |= check_override(override)
    tree = dotted(read_config_file(str(given["base"]))) | dotted(given["settings"])
    tree |= _log_of(given["log_of"], name, path) | of_run
    config = from_json_dict(tree, path)
    _check(config, path)
    return Day(name, config, _rule(of_rule, path))


def _checked_keys(tree: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    for key in tree:
        if key not in _DEFAULTS:
            raise ConfigError(
                f"{path}: a daily file has no key {key!r};{_meant(key, list(_DEFAULTS))} keys: "
                + ", ".join(_DEFAULTS)
            )
    return tree


def _log_of(function: Any, name: str, path: str) -> dict[str, Any]:
    """Settings that tell a day's log."""
    if function is None:
        return {}
    if not callable(function):
        raise ConfigError(
            f"{path}: log_of is {function!r}; give a function from the name of a day to its"
            " settings, such as lambda day: {'data.path': f'data/{day}'}"
        )
    try:
        found = function(name)
    except Exception as error:  # the file is the user's program: anything can happen in it
        raise ConfigError(
            f"{path}: log_of({name!r}) failed ({type(error).__name__}: {error}); name another day"
            " or mend the file"
        ) from error
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"{path}: log_of({name!r}) returned {found!r}; return settings by dotted name"
        )
    return dotted(found)


def _check(config: Config, path: str) -> None:
    """Settings that a day has no use for."""
    start = config.checkpoint.warm_start
    if start is not None:
        raise ConfigError(
            f"{path}: checkpoint.warm_start={start!r} is set, but a day starts from the line's"
            " current run; leave it out"
        )
    if config.train.baseline:
        raise ConfigError(
            f"{path}: train.baseline=True, but a day trains one model and compares it with its"
            " parent; set train.baseline=false"
        )


def _rule(values: Mapping[str, Any], path: str) -> Rule:
    fields = {field.name: field for field in dataclasses.fields(Rule)}
    checked = {}
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(
                f"{path}: the rule has no key {name!r};{_meant(name, list(fields))} keys: "
                + ", ".join(fields)
            )
        try:
            checked[name] = check_value(fields[name].type, value, fields[name].metadata)
        except ConfigError as error:
            raise ConfigError(f"{path}: rule.{name} {error}") from None
    return Rule(**checked)


def _meant(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" did you mean {near[0]!r}?" if near else ""
