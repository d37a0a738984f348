"""From a config file and the command line to one checked `Config`, and to JSON and back.

A config file is a Python file with ``get_config()``, which returns an
`ml_collections.ConfigDict`:

    def get_config():
        config = ml_collections.ConfigDict()
        config.train = {"batch_size": 512}  # impressions per global batch
        return config

It is checked once, here: what comes out is frozen and complete, and no later code asks again.
"""

import dataclasses
import difflib
import functools
import runpy
import traceback
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ml_collections

from dicm_jax.config import Config
from dicm_jax.config_values import check_value, parse_text
from dicm_jax.errors import ConfigError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of `Config`: its type, and the metadata that `setting` gave it."""

    annotation: Any
    metadata: Mapping[str, Any]


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """The checked configuration of a run: `load` for `Config`.

    Example:
      >>> load_config("configs/dicm.py", ["train.batch_size=512"]).train.batch_size
      512
    """
    return load(Config, path, overrides)


def load(root: type[T], path: str, overrides: Sequence[str] = ()) -> T:
    """The checked settings of any kind of job.

    Args:
      root: a dataclass whose fields are settings, or sections of settings.
      path: a config file.
      overrides: settings that take precedence over the file's, each ``"a.b=value"``.

    Raises:
      ConfigError: the file cannot be read or run, a key does not exist, a value is of the wrong
        type or out of its limits, or two settings exclude each other.
    """
    values = _check_tree(root, read_config_file(path), source=path)
    for override in overrides:
        values.update(check_override(override, root))
    return _assemble(root, values)


def to_json_dict(config: Config) -> dict[str, Any]:
    """All settings, as `json` writes and reads them: tuples are lists."""
    return _with_lists(dataclasses.asdict(config))


def from_json_dict(tree: Mapping[str, Any], source: str) -> Config:
    """The inverse of `to_json_dict`, with the checks of a config file.

    Args:
      tree: nested settings; those left out take their defaults.
      source: where they were read, for messages.

    Raises:
      ConfigError: as in `load_config`.
    """
    return _assemble(Config, _check_tree(Config, tree, source=source))


@functools.cache
def settings(root: type = Config) -> dict[str, Setting]:
    """Every setting by its dotted path, in the order of the dataclass."""
    return dict(_walk(root, prefix=""))


def _walk(section: type, prefix: str) -> Iterator[tuple[str, Setting]]:
    annotations = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        annotation = annotations[field.name]
        if _is_nested(annotation):
            yield from _walk(annotation, prefix=f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", Setting(annotation, field.metadata)


def _is_nested(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def read_config_file(path: str) -> Mapping[str, Any]:
    """What ``get_config()`` of a file returns, as nested dicts, unchecked.

    Raises:
      ConfigError: there is no such file, or it does not run.
    """
    if not Path(path).is_file():
        raise ConfigError(
            f"--config={path}: there is no such file; name a Python file with get_config(), "
            "such as configs/dicm.py"
        )
    try:
        names = runpy.run_path(path, run_name="dicm_config")
        if "get_config" not in names:
            raise ConfigError(
                f"{path} has no function get_config(); define it, returning an "
                "ml_collections.ConfigDict"
            )
        config = names["get_config"]()
        tree = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    except ConfigError:
        raise
    except Exception as error:  # the file is the user's program: anything can happen in it
        raise ConfigError(f"{_place(error, path)}: {_in_one_line(error)}; mend the file") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"{path}: get_config() returned {config!r} ({type(config).__name__}); return an "
            "ml_collections.ConfigDict"
        )
    return tree


def _place(error: Exception, path: str) -> str:
    """The file, and its last line that the error passed through."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines.append(error.lineno)
    return f"{path}, line {lines[-1]}" if lines else path


def _in_one_line(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())}"


def _check_tree(
    root: type, tree: Mapping[str, Any], source: str, prefix: str = ""
) -> dict[str, Any]:
    """Nested settings as checked values by dotted path."""
    values = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if _is_section(root, path) and isinstance(value, Mapping):
            values |= _check_tree(root, value, source, prefix=f"{path}.")
        else:
            values[path] = _check(root, path, value, source)
    return values


def check_override(override: str, root: type = Config) -> dict[str, Any]:
    """The one setting of ``"a.b=value"``, by its dotted path, checked.

    Raises:
      ConfigError: as in `load_config`.
    """
    path, equals, text = override.partition("=")
    source = f"--config.{override}"
    if not equals:
        raise ConfigError(f"{source}: no value given; write --config.{path}=VALUE")
    known = settings(root)
    value = parse_text(known[path].annotation, text) if path in known else text
    return {path: _check(root, path, value, source)}


def _check(root: type, path: str, value: Any, source: str) -> Any:
    """The value of the setting at `path`, checked; a path of no setting is refused."""
    if _is_section(root, path):
        keys = ", ".join(_keys_of(root, path))
        raise ConfigError(
            f"{source}: {path} is a section, and {value!r} is no section; set its keys "
            f"one by one: {keys}"
        )
    if path not in settings(root):
        raise ConfigError(f"{source}: {_unknown(root, path)}")
    known = settings(root)[path]
    try:
        return check_value(known.annotation, value, known.metadata)
    except ConfigError as error:
        raise ConfigError(f"{source}: {path} {error}") from None


def _is_section(root: type, path: str) -> bool:
    return any(name.startswith(f"{path}.") for name in settings(root))


def _keys_of(root: type, section: str) -> list[str]:
    """The keys right below a section ("" is the root), in order and once each."""
    prefix = f"{section}." if section else ""
    below = (name[len(prefix) :] for name in settings(root) if name.startswith(prefix))
    return list(dict.fromkeys(name.split(".")[0] for name in below))


def _unknown(root: type, path: str) -> str:
    """What to say of a path that names nothing: what could be meant, and what there is."""
    parent = path
    while parent and not _is_section(root, parent):
        parent = parent.rpartition(".")[0]
        if parent in settings(root):
            return f"there is no key {path}: {parent} is a value and has no keys"
    near = _near(root, path)
    meant = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"there is no key {path}{meant} Keys of {parent or 'a config'}: " + ", ".join(
        _keys_of(root, parent)
    )


def _near(root: type, path: str, at_most: int = 3, cutoff: float = 0.7) -> list[str]:
    """The paths most like `path`, by the whole or by the last name (the wrong section)."""

    def likeness(name: str) -> float:
        whole = difflib.SequenceMatcher(a=path, b=name).ratio()
        last = difflib.SequenceMatcher(a=path.rpartition(".")[2], b=name.rpartition(".")[2]).ratio()
        return max(whole, last)

    names = sorted([*settings(root), *_keys_of(root, "")], key=likeness, reverse=True)
    return [name for name in names[:at_most] if likeness(name) >= cutoff]


def _assemble(section: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """The section with these values, its other fields at their defaults."""
    annotations = typing.get_type_hints(section)
    fields = {}
    for field in dataclasses.fields(section):
        path = f"{prefix}{field.name}"
        if _is_nested(annotations[field.name]):
            fields[field.name] = _assemble(annotations[field.name], values, prefix=f"{path}.")
        elif path in values:
            fields[field.name] = values[path]
    try:
        return section(**fields)
    except ConfigError as error:
        raise ConfigError(f"{prefix.rstrip('.') or 'the config'}: {error}") from None


def _with_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_lists(element) for key, element in value.items()}
    return [_with_lists(element) for element in value] if isinstance(value, tuple) else value
