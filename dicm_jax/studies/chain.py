"""Chains of runs in a study: a model updated day after day, by each way of warming up.

Each way starts from the same first run, and from then on from its own of the day before, as daily
updates do. ``none`` is trained anew every day.
"""

from collections.abc import Sequence
from typing import Any

from dicm_jax.studies.grid import CELL

WAYS = ("none", "partial", "full")


def chain(
    days: Sequence[dict[str, Any]], prefix: str = ""
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """Variants of a study for every day and way of warming up, and their means over the days.

    Args:
      days: settings of each day, the oldest first; its log above all.
      prefix: of all names, where a study has several chains.

    Returns:
      Variants ``first``, ``none-1``, ``partial-1``, ``full-1``, ``none-2`` and so on; and averages
      ``none``, ``partial`` and ``full`` over all days but the first.

    Example:
      >>> variants, averages = chain([{"data.path": "mon"}, {"data.path": "tue"}])
      >>> variants["full-1"]["checkpoint.warm_start"]
      'cell:first'
    """
    first = f"{prefix}first"
    variants = {first: dict(days[0])}
    for number, settings in enumerate(days[1:], start=1):
        for way in WAYS:
            before = first if number == 1 else f"{prefix}{way}-{number - 1}"
            start = {"checkpoint.warm_start": CELL + before, "checkpoint.warm_parts": way}
            variants[f"{prefix}{way}-{number}"] = settings | ({} if way == "none" else start)
    averages = {
        f"{prefix}{way}": tuple(f"{prefix}{way}-{number}" for number in range(1, len(days)))
        for way in WAYS
    }
    return variants, averages
