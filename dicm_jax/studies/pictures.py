"""Attention of a trained model for a few users: what the report shows as rows of photos.

Shape legend
    G   groups          B   impressions         L   behaviors per group
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dicm_jax.ams.mesh import Roles
from dicm_jax.checkpoint.restore import restore_run
from dicm_jax.data.looks import looks
from dicm_jax.data.schema import NO_IMAGE, ClickLog, GroupedImpressions
from dicm_jax.training.attention import attention

USERS = 6
SHOWN = 14
"""Behaviors shown of a user, the newest."""
FEWEST = 8
"""Behaviors that a user must have to be shown."""
_NOTHING: dict[str, Any] = {"users": [], "looks": {}, "photos": {}}


def sample_pictures(
    folder: Path, log: ClickLog, roles: Roles, split: GroupedImpressions, probability_B: np.ndarray
) -> dict[str, Any]:
    """Sampled users with one impression they clicked and one they did not, and the attention.

    Args:
      folder: of the run, with its checkpoint.
      log: its data.
      roles: its devices.
      split: what `probability_B` predicts, in its order.
      probability_B: predicted click probabilities.

    Returns:
      ``users``, each with its behaviors (items and image rows, oldest first) and two impressions
      with ``weights`` by query; ``looks`` (coordinates) and ``photos`` (files) by image row. All
      are empty for a model without attention, and where no group has enough behaviors.
    """
    group_G = sample_groups(split)
    if not len(group_G):
        return _NOTHING
    run = restore_run(folder, log=log, roles=roles)
    chosen = take_groups(split, group_G)
    weights = attention(run.job, chosen, run.model)(run.state)
    if not weights:
        return _NOTHING
    users = [_user(log, split, int(group), probability_B) for group in group_G]
    for number, user in enumerate(users):
        _add_weights(user, chosen, number, weights)
    rows = sorted({row for user in users for row in _rows_of(user) if row != NO_IMAGE})
    drawn_from = looks(log.features, rows).tolist()
    return {
        "users": users,
        "looks": dict(zip(rows, drawn_from, strict=True)),
        "photos": _photos(log, rows),
    }


def sample_groups(split: GroupedImpressions, count: int = USERS, seed: int = 0) -> np.ndarray:
    """Groups with enough behaviors and both kinds of impressions, of users all different."""
    lengths_G = np.diff(split.behavior_offsets)
    group_B = np.repeat(np.arange(split.n_groups), np.diff(split.impression_offsets))
    clicks_G = np.bincount(group_B, weights=split.click_B, minlength=split.n_groups)
    both_G = (clicks_G > 0) & (clicks_G < np.diff(split.impression_offsets))
    fit_G = np.flatnonzero(both_G & (lengths_G >= FEWEST))
    fit_G = np.random.default_rng(seed).permutation(fit_G)
    _, first = np.unique(split.user_G[fit_G], return_index=True)
    return fit_G[np.sort(first)[:count]]


def take_groups(split: GroupedImpressions, group_G: np.ndarray) -> GroupedImpressions:
    """The split of these groups alone, in this order."""
    behaviors, behavior_offsets = _cut(split.behavior_offsets, group_G)
    impressions, impression_offsets = _cut(split.impression_offsets, group_G)
    known = split.probability_B
    return dataclasses.replace(
        split,
        user_G=split.user_G[group_G],
        user_ids_GF=split.user_ids_GF[group_G],
        behavior_offsets=behavior_offsets,
        behavior_item_H=split.behavior_item_H[behaviors],
        impression_offsets=impression_offsets,
        item_B=split.item_B[impressions],
        context_ids_BF=split.context_ids_BF[impressions],
        click_B=split.click_B[impressions],
        cold_B=split.cold_B[impressions],
        probability_B=None if known is None else known[impressions],
    )


def _cut(offsets: np.ndarray, group_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the given groups in what `offsets` divides, and the offsets of these."""
    places = [np.arange(int(offsets[group]), int(offsets[group + 1])) for group in group_G]
    lengths = [len(of_group) for of_group in places]
    return np.concatenate(places), np.cumsum([0, *lengths]).astype(np.int64)


def _user(
    log: ClickLog, split: GroupedImpressions, group: int, probability_B: np.ndarray
) -> dict[str, Any]:
    start, end = split.behavior_offsets[group : group + 2]
    shown = split.behavior_item_H[max(start, end - SHOWN) : end]
    first, last = split.impression_offsets[group : group + 2]
    click = split.click_B[first:last]
    places = (int(np.argmax(click == 1)), int(np.argmax(click == 0)))
    return {
        "user": int(split.user_G[group]),
        "all_behaviors": int(end - start),
        "behaviors": [_item(log, item) for item in shown],
        "impressions": [
            _item(log, split.item_B[first + place])
            | {
                "place": place,
                "clicked": bool(click[place]),
                "probability": float(probability_B[first + place]),
            }
            for place in places
        ],
    }


def _item(log: ClickLog, item: Any) -> dict[str, int]:
    return {"item": int(item), "row": int(log.items.image_N[item])}


def _add_weights(
    user: dict[str, Any],
    chosen: GroupedImpressions,
    number: int,
    weights: dict[str, np.ndarray],
) -> None:
    first = int(chosen.impression_offsets[number])
    shown = len(user["behaviors"])
    names = sorted(weights, key=lambda name: not name.endswith("/image"))  # the photo's query first
    for impression in user["impressions"]:
        of_it = {name: weights[name][first + impression["place"]] for name in names}
        impression["weights"] = {
            name: [float(weight) for weight in _newest(weight_L, user["all_behaviors"], shown)]
            for name, weight_L in of_it.items()
        }


def _newest(weight_L: np.ndarray, behaviors: int, shown: int) -> np.ndarray:
    """The weights of the newest `shown` of the behaviors that the model saw."""
    seen = min(behaviors, len(weight_L))
    return weight_L[max(seen - shown, 0) : seen]


def _rows_of(user: dict[str, Any]) -> list[int]:
    return [thing["row"] for thing in (*user["behaviors"], *user["impressions"])]


def _photos(log: ClickLog, rows: list[int]) -> dict[int, str]:
    if log.photo is None:
        return {}
    files = {row: log.photo(row) for row in rows}
    return {row: str(path.absolute()) for row, path in files.items() if path is not None}
