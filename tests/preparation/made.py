"""A prepared set read back as the oracle's groups."""

from pathlib import Path

from dicm_jax.data.prepared.reader import load
from dicm_jax.data.schema import ClickLog, GroupedImpressions
from tests.preparation.oracle import Group


def read(folder: Path) -> ClickLog:
    """The log of a set."""
    return load(str(folder))


def groups(split: GroupedImpressions | None) -> list[Group]:
    """Every group of a split."""
    if split is None:
        return []
    assert split.time_G is not None
    made = []
    for g in range(split.n_groups):
        history = slice(*split.behavior_offsets[g : g + 2].tolist())
        shown = range(*split.impression_offsets[g : g + 2].tolist())
        made.append(
            Group(
                time=int(split.time_G[g]),
                user=int(split.user_G[g]),
                user_ids=tuple(split.user_ids_GF[g].tolist()),
                behaviors=tuple(split.behavior_item_H[history].tolist()),
                impressions=tuple(
                    (
                        int(split.item_B[b]),
                        tuple(split.context_ids_BF[b].tolist()),
                        int(split.click_B[b]),
                        bool(split.cold_B[b]),
                    )
                    for b in shown
                ),
            )
        )
    return made
