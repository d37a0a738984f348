"""What a servable's scores are worth: those of evaluation, or how far from them.

Shape legend
    B   impressions of a split
"""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from dicm_jax.data.schema import ClickLog, GroupedImpressions
from dicm_jax.exporting.catalogue import item_names
from dicm_jax.serving.ranker import Ranker
from dicm_jax.serving.request import Query, User

_TOGETHER = 64
"""Queries that are asked together."""


def queries_of(log: ClickLog, split: GroupedImpressions) -> Iterator[Query]:
    """One query for each group: its user and behaviors, and the items that he was shown."""
    names = np.array(item_names(log), object)
    user_names = [field.name for field in log.fields_of("user")]
    context_names = [field.name for field in log.fields_of("context")]
    for group in range(split.n_groups):
        behaviors = slice(*split.behavior_offsets[group : group + 2])
        shown = slice(*split.impression_offsets[group : group + 2])
        keys_BF = split.context_ids_BF[shown]
        yield Query(
            User(
                dict(zip(user_names, split.user_ids_GF[group].tolist(), strict=True)),
                names[split.behavior_item_H[behaviors]].tolist(),
            ),
            names[split.item_B[shown]].tolist(),
            {name: keys_BF[:, i] for i, name in enumerate(context_names)},
        )


def served_scores(
    ranker: Ranker, log: ClickLog, split: GroupedImpressions, model: str
) -> np.ndarray:
    """The ranker's click probability of every impression of a split, float32 ``[B]``."""
    made, waiting = [], []
    queries = tqdm(queries_of(log, split), total=split.n_groups, desc=f"scores of {model}")
    for query in queries:
        waiting.append(query)
        if len(waiting) == _TOGETHER:
            made += [ranking.scores for ranking in ranker.rank_many(waiting, model=model)]
            waiting = []
    made += [ranking.scores for ranking in ranker.rank_many(waiting, model=model)]
    return np.concatenate(made)
