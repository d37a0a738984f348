"""Rows of the log tables as integers, sent to the partitions of their items and users.

Shape legend
    E   rows of a chunk
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from dicm_jax.preparation import columns
from dicm_jax.preparation.columns import NO_TIME, Kept, as_text, iso_text
from dicm_jax.preparation.partition import Parts, parted
from dicm_jax.preparation.plan import Plan
from dicm_jax.preparation.tables import Fragment, chunks
from dicm_jax.preparation.vocabularies import encoded, hashed

SHOWN, CLICKED_BY_ITEM, CLICKED_BY_USER, PROFILES = "shown", "by_item", "by_user", "profiles"
"""Where rows go: impressions by item, behaviors by item, behaviors by user, profiles by user."""

WHO = "who"
"""Of profiles: a hash of the user's ID, beside the number, which may be a shorter hash."""


@dataclasses.dataclass(frozen=True)
class Mapped:
    """What became of a chunk.

    Attributes:
      parts: rows for each partition, by where they go.
      counts: rows left out, and other things worth counting.
    """

    parts: dict[str, Parts]
    counts: dict[str, int]


def mapped(plan: Plan, fragment: Fragment) -> Iterator[Mapped]:
    """A fragment of any table, a chunk at a time.

    Raises:
      DataError: a value that cannot be used, unless a policy says to count it.
    """
    make = {"impressions": _impressions, "behaviors": _behaviors, "users": _profiles}
    config = plan.config
    row = 0
    for chunk in chunks(fragment, columns_of(plan, fragment.table), config.runner.chunk_rows):
        yield make[fragment.table](plan, fragment, chunk, row)
        row += chunk.num_rows


def columns_of(plan: Plan, table: str) -> list[str]:
    """The columns of a table that a preparation reads."""
    config = plan.config
    if table == "users":
        return [config.users.user, *config.users.column_of.values()]
    if table == "behaviors":
        settings = config.behaviors
        dwell = [settings.dwell] if settings.dwell else []
        return [settings.user, settings.item, settings.time, *dwell]
    settings = config.impressions
    return [
        settings.user,
        settings.item,
        settings.time,
        settings.click,
        *settings.column_of.values(),
    ]


def _impressions(plan: Plan, fragment: Fragment, chunk: pa.Table, first_row: int) -> Mapped:
    settings = plan.config.impressions
    kept = Kept(fragment, first_row, chunk.num_rows, plan.config.policy)
    click_E = columns.labels(fragment.path, settings.click, chunk[settings.click])
    kept.only("missing", click_E == -1, lambda row: f"no {settings.click} in it")
    kept.only(
        "label",
        click_E == 2,
        lambda row: (
            f"{settings.click} is {chunk[settings.click][row].as_py()!r}; a click is 0 or 1"
        ),
    )
    user_E, item_E, second_E = _who_what_when(plan, fragment, chunk, kept, settings)
    row_E = fragment.row_number(first_row) + kept.row_E
    shown = {
        "user": user_E[kept.row_E],
        "item": item_E[kept.row_E],
        "second": second_E[kept.row_E],
        "click": click_E[kept.row_E].astype(np.uint8),
        "row": row_E,
    }
    for name, column in settings.column_of.items():
        texts = as_text(fragment.path, column, chunk[column])
        shown[name] = encoded(texts, plan.fields[name])[kept.row_E]
    parts = {SHOWN: parted(shown, "item", plan.partitions)}
    if plan.config.behaviors.path is None:
        clicked = np.flatnonzero(shown["click"])
        parts |= _clicked({name: shown[name][clicked] for name in ("user", "item", "second")}, plan)
    return Mapped(parts, kept.counts)


def _behaviors(plan: Plan, fragment: Fragment, chunk: pa.Table, first_row: int) -> Mapped:
    settings = plan.config.behaviors
    kept = Kept(fragment, first_row, chunk.num_rows, plan.config.policy)
    user_E, item_E, second_E = _who_what_when(plan, fragment, chunk, kept, settings)
    counts = {}
    if settings.dwell is not None:
        dwell_E = columns.floats(fragment.path, settings.dwell, chunk[settings.dwell])
        stayed_E = dwell_E >= plan.config.history.min_dwell_s  # an unknown stay is none
        counts["behaviors_of_short_dwell"] = int((~stayed_E[kept.row_E]).sum())
        kept.row_E = kept.row_E[stayed_E[kept.row_E]]
    rows = {"user": user_E, "item": item_E, "second": second_E}
    rows = {name: values[kept.row_E] for name, values in rows.items()}
    return Mapped(_clicked(rows, plan), kept.counts | counts)


def _profiles(plan: Plan, fragment: Fragment, chunk: pa.Table, first_row: int) -> Mapped:
    settings = plan.config.users
    kept = Kept(fragment, first_row, chunk.num_rows, plan.config.policy)
    users = as_text(fragment.path, settings.user, chunk[settings.user])
    kept.only("missing", columns.missing(users), lambda row: f"no {settings.user} in it")
    user_E = encoded(users, plan.users)
    strangers = int((user_E[kept.row_E] < 0).sum())
    kept.row_E = kept.row_E[user_E[kept.row_E] >= 0]
    rows = {"user": user_E[kept.row_E]}
    rows[WHO] = hashed(users)[kept.row_E]  # users whose numbers are hashes may share one
    for name, column in settings.column_of.items():
        texts = as_text(fragment.path, column, chunk[column])
        rows[name] = encoded(texts, plan.fields[name])[kept.row_E]
    counts = kept.counts | {"profiles_of_users_without_a_row": strangers}
    return Mapped({PROFILES: parted(rows, "user", plan.partitions)}, counts)


def _clicked(rows: dict[str, np.ndarray], plan: Plan) -> dict[str, Parts]:
    period = {"period": rows["second"] // plan.config.period_s}
    rows = {"user": rows["user"], "item": rows["item"]} | period
    return {
        CLICKED_BY_ITEM: parted(rows, "item", plan.partitions),
        CLICKED_BY_USER: parted(rows, "user", plan.partitions),
    }


def _who_what_when(plan: Plan, fragment: Fragment, chunk: pa.Table, kept: Kept, settings):  # noqa: ANN001
    """User, item and second of every row of a chunk; rows without one, or with a bad one, go."""
    path = fragment.path
    users = as_text(path, settings.user, chunk[settings.user])
    items = as_text(path, settings.item, chunk[settings.item])
    second_E = columns.seconds(path, settings.time, chunk[settings.time], plan.config.time_unit)
    for name, missing_E in (
        (settings.user, columns.missing(users)),
        (settings.item, columns.missing(items)),
        (settings.time, second_E == NO_TIME),
    ):
        kept.only("missing", missing_E, lambda row, name=name: f"no {name} in it")
    kept.only(
        "future",
        second_E > plan.now,
        lambda row: (
            f"{settings.time} is {iso_text(int(second_E[row]))}, after now"
            f" ({iso_text(plan.now)}); is time_unit={plan.config.time_unit!r} right?"
        ),
    )
    item_E = encoded(items, plan.items)
    kept.only(
        "unknown_item",
        item_E < 0,
        lambda row: f"{settings.item} is {items[row].as_py()!r}, which the items lack",
    )
    return encoded(users, plan.users), item_E, second_E
