"""Sample groups of a MovieLens log: a user's ratings of one period, with what he liked before.

Everything about an impression but the impression itself is drawn from strictly earlier periods.

Shape legend
    G   groups           B   impressions (one split)       E   ratings
    P   clicks           H   behaviors                     F   ID fields of a level
"""

import dataclasses

import numpy as np

from dicm_jax.data.movielens.files import Ratings
from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.data.statistics import DatedEvents, bucket, dated_events

LIKED = 4
"""The least rating that counts as a click."""

PROFILE_FIELDS = ("gender", "age", "occupation", "zip_region")
HISTORY_FIELDS = ("history_length", "minutes_since_click")
CONTEXT_FIELDS = ("movie_clicks", "movie_ratings")


@dataclasses.dataclass(frozen=True)
class World:
    """What both splits are cut from.

    Attributes:
      ratings: all of them.
      period_E: the period of each.
      period_s: its length, seconds.
      clicked_P: movies clicked, sorted by user and time, as the events of `histories` are.
      histories: clicks by user.
      clicks, shown: clicks and ratings by movie.
      profile_UF: int32 keys of `PROFILE_FIELDS`.
    """

    ratings: Ratings
    period_E: np.ndarray
    period_s: int
    clicked_P: np.ndarray
    histories: DatedEvents
    clicks: DatedEvents
    shown: DatedEvents
    profile_UF: np.ndarray


def world(ratings: Ratings, profile_UF: np.ndarray, n_movies: int, period_s: int) -> World:
    """The past of every user and movie, ready to be asked."""
    period_E = ratings.second_E // period_s
    order_P = np.flatnonzero(ratings.rating_E >= LIKED)
    order_P = order_P[np.lexsort((ratings.second_E[order_P], ratings.user_E[order_P]))]
    user_P, clicked_P = ratings.user_E[order_P], ratings.movie_E[order_P]
    return World(
        ratings=ratings,
        period_E=period_E,
        period_s=period_s,
        clicked_P=clicked_P,
        histories=dated_events(user_P, period_E[order_P], len(profile_UF)),
        clicks=dated_events(clicked_P, period_E[order_P], n_movies),
        shown=dated_events(ratings.movie_E, period_E, n_movies),
        profile_UF=profile_UF,
    )


def grouped(world: World, chosen_E: np.ndarray, *, behaviors: int) -> GroupedImpressions:
    """Groups of the chosen ratings, by period and user; `cold_B` is False throughout."""
    ratings = world.ratings
    order_B = np.flatnonzero(chosen_E)
    keys = (ratings.second_E[order_B], ratings.user_E[order_B], world.period_E[order_B])
    order_B = order_B[np.lexsort(keys)]
    user_B, period_B = ratings.user_E[order_B], world.period_E[order_B]
    starts_B = (np.diff(user_B, prepend=-1) != 0) | (np.diff(period_B, prepend=period_B[:1]) != 0)
    first_G = np.flatnonzero(starts_B)
    user_G, period_G = user_B[first_G], period_B[first_G]
    behavior_offsets, position_H = world.histories.newest(user_G, period_G, behaviors)
    item_B = ratings.movie_E[order_B]
    return GroupedImpressions(
        user_G=user_G,
        user_ids_GF=np.column_stack(
            [world.profile_UF[user_G], _history_ids(world, user_G, period_G)]
        ),
        behavior_offsets=behavior_offsets,
        behavior_item_H=world.clicked_P[position_H],
        impression_offsets=np.append(first_G, len(item_B)).astype(np.int64),
        item_B=item_B,
        context_ids_BF=np.column_stack(
            [
                bucket(world.clicks.count(item_B, period_B)),
                bucket(world.shown.count(item_B, period_B)),
            ]
        ),
        click_B=(ratings.rating_E[order_B] >= LIKED).astype(np.uint8),
        cold_B=np.zeros(len(item_B), bool),
        time_G=period_G.astype(np.int64) * world.period_s,
    )


def _history_ids(world: World, user_G: np.ndarray, period_G: np.ndarray) -> np.ndarray:
    """Buckets of `HISTORY_FIELDS`, int32 ``[G, 2]``."""
    seconds_G = world.histories.days_since_last(user_G, period_G) * world.period_s
    minutes_G = -(-seconds_G // 60)  # a click of this minute is one minute old; 0 means none
    return np.column_stack([bucket(world.histories.count(user_G, period_G)), bucket(minutes_G)])
