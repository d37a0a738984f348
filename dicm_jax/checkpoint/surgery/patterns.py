"""Arrays chosen by glob patterns of their names."""

import difflib
import fnmatch
from collections.abc import Collection, Iterable

from dicm_jax.errors import CheckpointError

_NEAR = 3


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern means, in their order.

    A pattern is a name, a glob in which ``*`` also stands for dots, or what either is below: a
    group of arrays.

    Raises:
      CheckpointError: none; says which names are near.

    Example:
      >>> matching("ids", ["ids.mu", "ids.row", "params.net.head.kernel", "step"])
      ['ids.mu', 'ids.row']
      >>> matching("*.kernel", ["ids.mu", "params.net.head.kernel"])
      ['params.net.head.kernel']
    """
    known = list(names)
    found = [
        name
        for name in known
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
    ]
    if not found:
        raise CheckpointError(
            f"{pattern!r} means none of the {len(known)} arrays: {nearest(pattern, known)}; give a"
            " name or a glob of names (python -m dicm_jax.surgery inspect lists them)"
        )
    return found


def chosen(patterns: Iterable[str], names: Collection[str]) -> set[str]:
    """All names that any of the patterns means.

    Raises:
      CheckpointError: a pattern means none.
    """
    return {name for pattern in patterns for name in matching(pattern, names)}


def nearest(wanted: str, known: Collection[str]) -> str:
    """The names nearest to one that there is not, for a message."""
    near = difflib.get_close_matches(wanted, list(known), n=_NEAR, cutoff=0.4)
    shown = near or sorted(known)[:_NEAR]
    return f"{'the nearest are' if near else 'the first are'} {', '.join(shown)}"


def split_pair(text: str, form: str) -> tuple[str, str]:
    """Both sides of an argument such as ``ids.mu=bfloat16``.

    Raises:
      CheckpointError: it has no ``=``, or nothing on a side of it.
    """
    left, _, right = text.rpartition("=")
    if not left or not right:
        raise CheckpointError(f"{text!r} is not of the form {form}; write it as {form}")
    return left, right
