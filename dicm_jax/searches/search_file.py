"""A search file, checked at once: what is varied, from where, and by what it is judged.

A search file is a Python file with ``get_config()``, which returns a dict:

    def suggest(trial):
        return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 1e-2, log=True)}

    def get_config():
        return {
            "base": "configs/dicm.py",                          # a run's config file
            "settings": {"data.validation_share": 0.1, "evaluate.split": "validation"},
            "suggest": suggest,
            "objective": "gauc",                                # or auc, logloss
            "seed": 0,                                          # of the suggestions
        }

``trial`` is an `optuna.trial.Trial`. A suggested value may also be the text that a command line has
for it (``"64,16"`` for a tuple), since Optuna's categories are numbers and texts.
"""

import dataclasses
import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dicm_jax.config import Config
from dicm_jax.config_file import check_override, from_json_dict, read_config_file, settings
from dicm_jax.errors import ConfigError
from dicm_jax.studies.study_file import dotted

Direction = Literal["maximize", "minimize"]
OBJECTIVES: dict[str, Direction] = {"gauc": "maximize", "auc": "maximize", "logloss": "minimize"}
"""Scores that trials can be judged by, and which way is better."""

_DEFAULTS: dict[str, Any] = {
    "base": None,
    "settings": {},
    "suggest": None,
    "objective": "gauc",
    "seed": 0,
}


@dataclasses.dataclass(frozen=True)
class Search:
    """A checked search.

    Attributes:
      path: its file.
      base: the config file that trials start from.
      common: settings of all trials on top of it, by dotted name.
      config: the configuration of a trial that suggests nothing.
      objective: a key of `OBJECTIVES`.
      seed: of the suggestions.
    """

    path: str
    base: str
    common: dict[str, Any]
    config: Config
    objective: str
    seed: int
    _suggest: Callable[[Any], Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The name of the file, without ``.py``."""
        return Path(self.path).stem

    def suggested(self, trial: Any) -> dict[str, Any]:
        """What the file suggests to an `optuna.trial.Trial`, by dotted name; values unchecked.

        Raises:
          ConfigError: ``suggest`` fails or returns no settings, or one that does not exist or that
            changes what trials are judged on. No later trial would do better.
        """
        try:
            values = self._suggest(trial)
        except Exception as error:  # the file is the user's program: anything can happen in it
            raise ConfigError(
                f"{self.path}: suggest() raised {type(error).__name__}: {error}; mend the file"
            ) from error
        if not isinstance(values, Mapping) or not values:
            raise ConfigError(
                f"{self.path}: suggest() returned {values!r}; return settings by dotted name, such"
                " as {'optimizer.learning_rate': ...}"
            )
        for name, value in values.items():
            self._check_name(name, value)
        return dict(values)

    def _check_name(self, name: str, value: Any) -> None:
        if name not in settings():
            from_json_dict({name: value}, f"{self.path}: suggest()")  # raises, with what was meant
        if name == "evaluate.split" or (name.startswith("data.") and name != "data.behaviors"):
            raise ConfigError(
                f"{self.path}: suggest() sets {name}={value!r}, which changes what trials are"
                " judged on, so that they could not be compared; set it in settings, once for all"
            )

    def with_suggested(self, values: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
        """The configuration of a trial, and the suggested values as it has them.

        Raises:
          ConfigError: a value that its setting cannot have, or settings that exclude each other.
        """
        typed: dict[str, Any] = {}
        for name, value in values.items():
            typed |= check_override(f"{name}={value}") if isinstance(value, str) else {name: value}
        source = f"{self.path}: suggest()"
        return from_json_dict(_tree(self.base) | self.common | typed, source), typed

    def command(self, suggested: Mapping[str, Any], workdir: Path) -> str:
        """The command line that trains with suggested settings and scores on the test split.

        What was held out for the search is trained on again, unless early stopping needs it.
        """
        final: dict[str, Any] = {"evaluate.split": "test"}
        if self.config.data.validation_days:
            final["data.validation_days"] = 0
        patience = suggested.get("train.patience", self.config.train.patience)
        if self.config.data.validation_share and not patience:
            final["data.validation_share"] = 0.0
        chosen = self.common | dict(suggested) | final
        words = ["python", "-m", "dicm_jax.train", f"--config={self.base}", f"--workdir={workdir}"]
        return shlex.join(words + [f"--config.{name}={_text(x)}" for name, x in chosen.items()])


def load_search(path: str, overrides: Sequence[str] = ()) -> Search:
    """The checked search of a file.

    Args:
      path: the search file.
      overrides: settings of all trials that take precedence over the file's, each ``"a.b=value"``.

    Raises:
      ConfigError: no base or no ``suggest``, an unknown key, objective or setting, a value that a
        run could not have, or trials that would be judged on the test split.
    """
    tree = read_config_file(path)
    for key in tree:
        if key not in _DEFAULTS:
            near = difflib.get_close_matches(str(key), _DEFAULTS, n=1)
            meant = f" did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"{path}: a search has no key {key!r};{meant} keys: {', '.join(_DEFAULTS)}"
            )
    given = {**_DEFAULTS, **tree}
    _check_given(given, path)
    common = dotted(given["settings"])
    for override in overrides:
        common |= check_override(override)
    config = from_json_dict(_tree(given["base"]) | common, path)
    _check_held_out(config, path)
    return Search(
        path=path,
        base=given["base"],
        common=common,
        config=config,
        objective=given["objective"],
        seed=given["seed"],
        _suggest=given["suggest"],
    )


def _check_given(given: Mapping[str, Any], path: str) -> None:
    if not isinstance(given["base"], str):
        raise ConfigError(
            f"{path}: base={given['base']!r}; name the config file of a run that trials start from,"
            " such as 'configs/dicm.py'"
        )
    if not callable(given["suggest"]):
        raise ConfigError(
            f"{path}: suggest={given['suggest']!r} is no function; give one from an Optuna trial to"
            " settings by dotted name"
        )
    if given["objective"] not in OBJECTIVES:
        raise ConfigError(
            f"{path}: objective={given['objective']!r} is no score of a run; use one of"
            f" {', '.join(OBJECTIVES)}"
        )
    seed = given["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"{path}: seed={seed!r} must be a whole number, 0 or more")


def _check_held_out(config: Config, path: str) -> None:
    """Settings chosen by the test split would make its scores worthless."""
    moved = config.data.validation_days and config.data.kind == "hm"  # others know no days
    if config.evaluate.split == "test" and not moved:
        raise ConfigError(
            f"{path}: trials would be judged on the test split (evaluate.split='test'), and the"
            " best of many is too good there; set data.validation_share, e.g. to 0.1, and"
            " evaluate.split='validation'; or, with data.kind='hm', data.validation_days"
        )
    if config.evaluate.split == "validation" and not config.data.validation_share:
        raise ConfigError(
            f"{path}: evaluate.split='validation' with data.validation_share=0.0: nothing is held"
            " out to judge trials on; set data.validation_share, e.g. to 0.1"
        )


def _tree(base: str) -> dict[str, Any]:
    return dotted(read_config_file(base))


def _text(value: Any) -> str:
    """A value as command lines spell it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value)) or "()"
    return str(value)
