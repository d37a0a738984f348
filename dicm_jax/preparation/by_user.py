"""What a partition of users becomes: sample groups, each with the user's past.

Groups travel as Arrow tables with a row for each group, whose behaviors and impressions are lists.

Shape legend
    G   groups     B   impressions     P   behaviors     F   ID fields of a level
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.data.statistics import DatedEvents, bucket, dated_events
from dicm_jax.errors import DataError
from dicm_jax.preparation.by_item import without_repeats
from dicm_jax.preparation.mapping import WHO
from dicm_jax.preparation.partition import Columns, Parts, dealt
from dicm_jax.preparation.plan import Plan
from dicm_jax.preparation.vocabularies import encoded

_OF_USER, _OF_IMPRESSION = "user.", "context."
UNORDERED = "unordered"
"""Column of groups that counts impressions out of order."""


def groups_of_users(
    plan: Plan, shown: Columns | None, clicked: Columns | None, profiles: Columns | None
) -> Parts:
    """The groups of some users, for the buckets of their times.

    Args:
      plan: of the preparation.
      shown: all impressions of these users, as `with_item_statistics` gives them.
      clicked: all their behaviors.
      profiles: theirs.

    Raises:
      DataError: a user with two profiles.
    """
    profiles = _one_each(plan, profiles)
    if shown is None:
        return []
    order_B = np.lexsort((shown["row"], shown["period"], shown["user"]))
    shown = {name: values[order_B] for name, values in shown.items()}
    starts_B = np.ones(len(order_B), bool)
    starts_B[1:] = (np.diff(shown["user"]) != 0) | (np.diff(shown["period"]) != 0)
    first_G = np.flatnonzero(starts_B)
    user_G, period_G = shown["user"][first_G], shown["period"][first_G]
    users, place_G = np.unique(user_G, return_inverse=True)
    events, item_P = _histories(users, clicked)
    offsets, position_H = events.newest(
        place_G, period_G, plan.config.history.most, within=_window(plan)
    )
    columns = {
        "user": pa.array(user_G),
        "second": pa.array(period_G * plan.config.period_s),
        "behaviors": _lists(offsets, item_P[position_H]),
        UNORDERED: pa.array(_unordered(shown, first_G)),
    }
    for name in plan.config.users.column_of:
        columns[_OF_USER + name] = pa.array(_profile(plan, profiles, name, users)[place_G])
    for name in plan.user_statistics():
        values_G = _STATISTICS[name](plan, events, place_G, period_G)
        columns[_OF_USER + name] = pa.array(values_G)
    offsets = np.append(first_G, len(order_B))
    for name in ("item", "click", "cold"):
        columns[name] = _lists(offsets, shown[name])
    for name in (*plan.config.impressions.column_of, *plan.item_statistics()):
        columns[_OF_IMPRESSION + name] = _lists(offsets, shown[name])
    groups = pa.record_batch(columns)
    return dealt(groups, plan.bucket(period_G * plan.config.period_s), plan.buckets)


def in_order(groups: pa.Table) -> GroupedImpressions:
    """The groups of a bucket by time, then user, whatever order they come in."""
    order = pc.call_function(
        "sort_indices",
        [groups],
        pc.SortOptions(sort_keys=[("second", "ascending"), ("user", "ascending")]),
    )
    groups = groups.take(order).combine_chunks()
    behavior_offsets, behavior_H = _csr(groups["behaviors"])
    impression_offsets, item_B = _csr(groups["item"])
    user_columns = [name for name in groups.column_names if name.startswith(_OF_USER)]
    context_columns = [name for name in groups.column_names if name.startswith(_OF_IMPRESSION)]
    return GroupedImpressions(
        user_G=groups["user"].to_numpy().astype(np.int32),
        user_ids_GF=_stacked([groups[name].to_numpy() for name in user_columns], len(groups)),
        behavior_offsets=behavior_offsets,
        behavior_item_H=behavior_H.astype(np.int32),
        impression_offsets=impression_offsets,
        item_B=item_B.astype(np.int32),
        context_ids_BF=_stacked([_csr(groups[name])[1] for name in context_columns], len(item_B)),
        click_B=_csr(groups["click"])[1].astype(np.uint8),
        cold_B=_csr(groups["cold"])[1].astype(bool),
        time_G=groups["second"].to_numpy().astype(np.int64),
    )


def _unordered(shown: Columns, first_G: np.ndarray) -> np.ndarray:
    """Impressions of each group that stand in the table above an earlier one of the same user.

    Args:
      shown: impressions by user, time and row.
      first_G: the first of each group.
    """
    above_B = np.zeros(len(shown["row"]), np.int64)
    above_B[1:] = (np.diff(shown["row"]) < 0) & (np.diff(shown["user"]) == 0)
    return np.add.reduceat(above_B, first_G)


def _window(plan: Plan) -> int:
    """Periods that behaviors are looked for in; 0: all."""
    return -(-plan.config.history.window_s // plan.config.period_s)


def _histories(users: np.ndarray, clicked: Columns | None) -> tuple[DatedEvents, np.ndarray]:
    """Behaviors of the users given, who are numbered by their place; and the items, in order."""
    nothing = np.zeros(0, np.int64)
    if clicked is None:
        return dated_events(nothing, nothing, len(users)), np.zeros(0, np.int32)
    once = without_repeats(clicked, "user")
    place_P = np.searchsorted(users, once["user"])
    among_P = users[np.minimum(place_P, len(users) - 1)] == once["user"]
    events = dated_events(place_P[among_P], once["period"][among_P], len(users))
    return events, once["item"][among_P]


def _history_length(
    plan: Plan, events: DatedEvents, place_G: np.ndarray, period_G: np.ndarray
) -> np.ndarray:
    return bucket(events.count(place_G, period_G))


def _since_behavior(
    plan: Plan, events: DatedEvents, place_G: np.ndarray, period_G: np.ndarray
) -> np.ndarray:
    seconds_G = events.days_since_last(place_G, period_G) * plan.config.period_s
    return bucket(-(-seconds_G // plan.config.statistics_unit_s))


_STATISTICS = {"history_length": _history_length, "since_behavior": _since_behavior}


def _one_each(plan: Plan, profiles: Columns | None) -> Columns | None:
    """Profiles by user, one for each number: where users share one, that with the least hash."""
    if profiles is None:
        return None
    order = np.lexsort((profiles[WHO], profiles["user"]))
    listed = {name: values[order] for name, values in profiles.items()}
    again = np.diff(listed["user"]) == 0
    twice = np.flatnonzero(again & (np.diff(listed[WHO]) == 0))
    if len(twice):
        raise DataError(
            f"users.path={plan.config.users.path}: {len(twice)} rows are of users who have one"
            f" already, first the user {_name(plan, int(listed['user'][twice[0]]))}; keep one row"
            " for each"
        )
    first = np.append(True, ~again)[: len(order)]
    return {name: values[first] for name, values in listed.items()}


def _profile(plan: Plan, profiles: Columns | None, name: str, users: np.ndarray) -> np.ndarray:
    """A profile field of the users given; the key of the empty text for those without one."""
    nobody = encoded(pa.array([""], pa.large_string()), plan.fields[name])[0]
    key_U = np.full(len(users), nobody, np.int32)
    if profiles is None:
        return key_U
    place_U = np.minimum(np.searchsorted(profiles["user"], users), len(profiles["user"]) - 1)
    has_U = profiles["user"][place_U] == users
    key_U[has_U] = profiles[name][place_U[has_U]]
    return key_U


def _name(plan: Plan, user: int) -> str:
    values = getattr(plan.users, "values", None)
    return f"number {user}" if values is None else repr(values[user].as_py())


def _lists(offsets: np.ndarray, values: np.ndarray) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(offsets.astype(np.int64)), pa.array(values))


def _csr(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    array = pa.concat_arrays(column.chunks)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], array.flatten().to_numpy(zero_copy_only=False)


def _stacked(columns: list[np.ndarray], rows: int) -> np.ndarray:
    if not columns:
        return np.zeros((rows, 0), np.int32)
    return np.stack(columns, axis=1).astype(np.int32)
