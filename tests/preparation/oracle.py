"""The rules of a preparation, walked through row by row; shares no code with the package.

Times are seconds; a period is ``time // period_s``.
"""

import bisect
import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tests.preparation.small_log import Tables

MASK = 2**64 - 1
EDGES = sorted({round(2 ** (octave / 2)) for octave in range(41)})


@dataclasses.dataclass(frozen=True)
class Group:
    """A sample group: IDs as text, keys as numbers."""

    time: int
    user: int
    user_ids: tuple[int, ...]
    behaviors: tuple[int, ...]
    impressions: tuple[tuple[int, tuple[int, ...], int, bool], ...]
    """Item, context keys, click, cold."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """What of the settings the oracle knows."""

    period_s: int = 1
    window_s: int = 0
    most: int = 6
    min_dwell_s: float = 0.0
    dwell: bool = False
    unit_s: int = 86_400
    validation: int = 0
    test: int = 0
    hashed: tuple[str, ...] = ()
    buckets: int = 2**24
    statistics: tuple[str, ...] = (
        "history_length",
        "since_behavior",
        "item_behaviors",
        "item_age",
    )


def splits(tables: Tables, rules: Rules) -> dict[str, list[Group]]:
    """The groups of every split, in order."""
    keys = Keys(tables, rules)
    past = behaviors(tables, rules, keys)
    grouped = collections.defaultdict(list)
    for row in tables.impressions:
        grouped[row["time"] // rules.period_s, keys.user(row["user"])].append(row)
    made = collections.defaultdict(list)
    for period, user in sorted(grouped):
        start = period * rules.period_s
        split = "train"
        if start >= rules.validation:
            split = "validation"
        if start >= rules.test:
            split = "test"
        cut = {"train": None, "validation": rules.validation, "test": rules.test}[split]
        mine = [(when, item) for who, item, when in past if who == user and when < period]
        mine.sort()
        seen = mine
        if rules.window_s:
            reach = math.ceil(rules.window_s / rules.period_s)
            seen = [(when, item) for when, item in mine if when >= period - reach]
        seen = seen[max(len(seen) - rules.most, 0) :]
        rows = []
        for row in grouped[period, user]:
            item = keys.item[row["item"]]
            events = [when for _, it, when in past if it == item]
            context = [keys.field("page", row["page"]), keys.field("position", row["place"])]
            context += item_statistics(rules, events, period)
            cold = cut is not None and not any(when < cut // rules.period_s for when in events)
            rows.append((item, tuple(context), row["click"], cold))
        ids = (*keys.profile(user), *user_statistics(rules, mine, period))
        items = tuple(item for _, item in seen)
        made[split].append(Group(start, user, ids, items, tuple(rows)))
    return dict(made)


def behaviors(tables: Tables, rules: Rules, keys: "Keys") -> list[tuple[int, int, int]]:
    """Distinct (user, item, period)."""
    rows = tables.behaviors
    if rows is None:
        rows = [row for row in tables.impressions if row["click"] == 1]
    elif rules.dwell:
        rows = [r for r in rows if r["dwell"] is not None and r["dwell"] >= rules.min_dwell_s]
    return sorted(
        {
            (keys.user(row["user"]), keys.item[row["item"]], row["time"] // rules.period_s)
            for row in rows
        }
    )


def user_statistics(rules: Rules, mine: list[tuple[int, int]], period: int) -> list[int]:
    """Buckets of the number of behaviors and of the time since the last."""
    last = max((when for when, _ in mine), default=None)
    of = {"history_length": len(mine), "since_behavior": age(rules, last, period)}
    return [bucket(of[name]) for name in rules.statistics if name in of]


def item_statistics(rules: Rules, events: list[int], period: int) -> list[int]:
    """Buckets of the number of behaviors on an item and of the time since the first."""
    before = [when for when in events if when < period]
    first = min(before, default=None)
    of = {"item_behaviors": len(before), "item_age": age(rules, first, period)}
    return [bucket(of[name]) for name in rules.statistics if name in of]


def age(rules: Rules, since: int | None, period: int) -> int:
    """Begun units since a period; 0: there is none."""
    return 0 if since is None else math.ceil((period - since) * rules.period_s / rules.unit_s)


def bucket(count: int) -> int:
    return bisect.bisect_right(EDGES, count)


class Keys:
    """From values to keys."""

    def __init__(self, tables: Tables, rules: Rules):
        self._rules = rules
        rows = [*tables.impressions, *(tables.behaviors or [])]
        self.users = _sorted(row["user"] for row in rows)
        self.item = {str(row["item"]): at for at, row in enumerate(tables.catalogue)}
        self.values = {
            name: _sorted([*(_text(row[column]) for row in table), ""])
            for name, column, table in (
                ("page", "page", tables.impressions),
                ("position", "place", tables.impressions),
                ("age", "age", tables.users or []),
                ("city", "city", tables.users or []),
            )
        }
        self._profiles: Mapping[int, Any] | None = None
        if tables.users is not None:
            known = {row["user"]: row for row in tables.users}
            self._profiles = {
                self.user(user): row for user, row in known.items() if user in self.users
            }
        self.items = [self._of_item(row, tables.catalogue) for row in tables.catalogue]

    def user(self, text: str) -> int:
        if "user" in self._rules.hashed:
            return hash64(text) % (2**31 - 1)
        return self.users.index(text)

    def field(self, name: str, value: Any) -> int:
        text = _text(value)
        if name in self._rules.hashed:
            return hash64(text) % self._rules.buckets
        return self.values[name].index(text)

    def profile(self, user: int) -> tuple[int, ...]:
        if self._profiles is None:
            return ()
        row = self._profiles.get(user, {})
        return tuple(self.field(name, row.get(name)) for name in ("age", "city"))

    def _of_item(self, row: Mapping[str, Any], rows: list[dict[str, Any]]) -> tuple[int, ...]:
        keys = []
        for name in ("item", "category", "brand"):
            if name in self._rules.hashed:
                keys.append(hash64(_text(row[name])) % self._rules.buckets)
            elif name == "item":
                keys.append(self.item[row["item"]])
            else:
                keys.append(_sorted(_text(other[name]) for other in rows).index(_text(row[name])))
        return tuple(keys)


def hash64(text: str) -> int:
    """SplitMix64's finaliser over the length and each 8 bytes of UTF-8."""
    octets = text.encode()
    state = _mixed((0x9E3779B97F4A7C15 + len(octets)) & MASK)
    for start in range(0, len(octets), 8):
        state = _mixed(state ^ int.from_bytes(octets[start : start + 8], "little"))
    return state


def _mixed(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _sorted(values: Any) -> list[str]:
    return sorted(set(values), key=lambda text: text.encode())
