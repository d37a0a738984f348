"""What one setting may be: its type, its unit, its limits, and its spelling on a command line.

A setting is a field of a frozen dataclass, declared in one line:

    batch_size: int = setting(1024, "impressions per global batch", at_least=1)

Its types are ``int``, ``float``, ``bool``, ``str``, ``Literal[...]``, ``tuple[T, ...]`` of these,
and any of them ``| None``.
"""

import ast
import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from dicm_jax.errors import ConfigError

T = TypeVar("T")

_COMPARISONS = {
    "at_least": ("at least", lambda value, limit: value >= limit),
    "at_most": ("at most", lambda value, limit: value <= limit),
    "above": ("above", lambda value, limit: value > limit),
    "below": ("below", lambda value, limit: value < limit),
}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def setting(default: T, unit: str, *, min_length: int = 0, **limits: int | float) -> T:
    """Declares a field of a section: its default, its unit or constraint, its limits.

    Args:
      default: the value where nothing else is said; the only place that says it.
      unit: unit or constraint in words; error messages quote it.
      min_length: the fewest elements of a tuple.
      **limits: ``at_least``, ``at_most``, ``above``, ``below``; each element of a tuple is held
        to them, None is not.
    """
    unknown = limits.keys() - _COMPARISONS.keys()
    if unknown:
        raise TypeError(f"limits are {', '.join(_COMPARISONS)}; found {', '.join(sorted(unknown))}")
    metadata = {"unit": unit, "min_length": min_length, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


def parse_text(annotation: Any, text: str) -> Any:
    """The value that `text`, from a command line, stands for; `check_value` judges it.

    Text that no value of the type is spelled by is returned as it is, for the check to refuse.
    """
    if _is_optional(annotation):
        return None if text in ("None", "none") else parse_text(_without_none(annotation), text)
    if annotation is bool:
        return _BOOLEANS.get(text.lower(), text)
    if get_origin(annotation) is tuple:
        return _parse_tuple(get_args(annotation)[0], text)
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            return text
    return text


def check_value(
    annotation: Any, value: Any, metadata: Mapping[str, Any] = types.MappingProxyType({})
) -> Any:
    """The value, as its type has it: an int given for a float, or a list for a tuple, is converted.

    Raises:
      ConfigError: the value is of another type, not one of the choices, or outside the limits.
        The message says what is allowed, what was found and the unit; the caller says where.
    """
    unit = metadata.get("unit")
    in_words = f" ({unit})" if unit else ""
    converted = _convert(annotation, value)
    if converted is _REFUSED:
        raise ConfigError(
            f"must be {describe(annotation)}{in_words}; found {value!r} ({type(value).__name__})"
        )
    if isinstance(converted, tuple) and len(converted) < metadata.get("min_length", 0):
        raise ConfigError(
            f"must have at least {metadata['min_length']} element(s){in_words}; found {value!r}"
        )
    elements = converted if isinstance(converted, tuple) else (converted,)
    for name, limit in metadata.get("limits", {}).items():
        word, holds = _COMPARISONS[name]
        if not all(element is None or holds(element, limit) for element in elements):
            raise ConfigError(f"must be {word} {limit}{in_words}; found {value!r}")
    return converted


def describe(annotation: Any) -> str:
    """The type in the notation of Python, choices spelled out: ``int or None``, ``'a' or 'b'``."""
    if _is_optional(annotation):
        return f"{describe(_without_none(annotation))} or None"
    if get_origin(annotation) is Literal:
        return " or ".join(repr(choice) for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"tuple of {describe(get_args(annotation)[0])}"
    if annotation is float:
        return "finite float"
    return annotation.__name__


_REFUSED = object()


def _convert(annotation: Any, value: Any) -> Any:
    """`value` as `annotation` has it, or `_REFUSED`."""
    if _is_optional(annotation):
        return None if value is None else _convert(_without_none(annotation), value)
    if get_origin(annotation) is Literal:
        return value if value in get_args(annotation) else _REFUSED
    if get_origin(annotation) is tuple:
        if not isinstance(value, tuple | list):
            return _REFUSED
        elements = tuple(_convert(get_args(annotation)[0], element) for element in value)
        return _REFUSED if any(element is _REFUSED for element in elements) else elements
    # bool is a subclass of int; True for a number of steps is a slip.
    if isinstance(value, bool) and annotation is not bool:
        return _REFUSED
    if annotation is float and isinstance(value, int | float):
        return float(value) if math.isfinite(value) else _REFUSED
    return value if isinstance(value, annotation) else _REFUSED


def _parse_tuple(element: Any, text: str) -> Any:
    """``(1, 8)``, ``1,8``, ``[1, 8]``, ``8``, ``a,b`` and ``()``."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = tuple(part.strip() for part in text.strip("()[]").split(",") if part.strip())
        return tuple(parse_text(element, part) for part in value)
    return value if isinstance(value, tuple | list) else (value,)


def _is_optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _without_none(annotation: Any) -> Any:
    return next(kind for kind in get_args(annotation) if kind is not types.NoneType)
