"""What all jobs of a preparation share: encodings, cuts by time, partitions; found once.

Shape legend
    E   impressions     Q   edges between buckets
"""

import dataclasses

import numpy as np
import pyarrow as pa

from dicm_jax.data.schema import IdField
from dicm_jax.data.statistics import N_BUCKETS
from dicm_jax.errors import DataError
from dicm_jax.preparation.catalogue import ITEM, ItemCatalogue
from dicm_jax.preparation.columns import iso_seconds, iso_text
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.scan import SLOT_S, USER, Scan
from dicm_jax.preparation.vocabularies import (
    Encoding,
    Hashed,
    Vocabulary,
    expected_collisions,
    merged,
)

USER_STATISTICS = ("history_length", "since_behavior")
ITEM_STATISTICS = ("item_behaviors", "item_age")
SPLITS = ("train", "validation", "test")
_EMPTY = pa.array([""], pa.large_string())
_NOTHING = pa.array([], pa.large_string())
MOST_USERS = 2**31 - 1
"""Users are numbered by a hash below this, where they are hashed."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What every job of a preparation knows.

    Attributes:
      config: the settings.
      users: from the ID of a user to its number.
      items: from the ID of an item to its number.
      fields: encodings of the ID fields of users and impressions.
      now: second after which a row is in the future.
      cuts: first second of validation and of test; equal where there is no validation.
      edges_Q: seconds at which a new bucket begins, ascending; bucket 0 lies before the first.
      partitions: of users, and of items.
    """

    config: PrepareConfig
    users: Encoding
    items: Vocabulary
    fields: dict[str, Encoding]
    now: int
    cuts: tuple[int, int]
    edges_Q: np.ndarray
    partitions: int

    @property
    def buckets(self) -> int:
        """How many there are; groups of one bucket become one shard."""
        return len(self.edges_Q) + 1

    def bucket(self, second: np.ndarray) -> np.ndarray:
        """The bucket of each moment."""
        return np.searchsorted(self.edges_Q, second, side="right")

    def split_of(self, bucket: int) -> str:
        """The split that a bucket belongs to."""
        first = -np.inf if bucket == 0 else self.edges_Q[bucket - 1]
        return SPLITS[int(np.searchsorted(self.cuts, first, side="right"))]

    def buckets_of(self, split: str) -> list[int]:
        """The buckets of a split, in order of time."""
        return [bucket for bucket in range(self.buckets) if self.split_of(bucket) == split]

    def user_statistics(self) -> tuple[str, ...]:
        """Those of `USER_STATISTICS` that are asked for, in the order of the settings."""
        return tuple(name for name in self.config.statistics if name in USER_STATISTICS)

    def item_statistics(self) -> tuple[str, ...]:
        """Those of `ITEM_STATISTICS` that are asked for, in the order of the settings."""
        return tuple(name for name in self.config.statistics if name in ITEM_STATISTICS)


def make_plan(config: PrepareConfig, seen: Scan, items: ItemCatalogue, now: int) -> Plan:
    """The plan for a log.

    Raises:
      DataError: cuts that are no dates, not between the impressions, or not on a border of periods.
    """
    users = _encoding(config, seen, USER, MOST_USERS)
    names = (*config.users.column_of, *config.impressions.column_of)
    fields = {name: _encoding(config, seen, name, config.ids.buckets) for name in names}
    cuts = _cuts(config, seen)
    rows = max(seen.rows.values(), default=0)
    return Plan(
        config=config,
        users=users,
        items=items.numbers,
        fields=fields,
        now=now,
        cuts=cuts,
        edges_Q=_edges(config, seen, cuts),
        partitions=max(1, -(-rows // config.runner.partition_rows)),
    )


def id_fields(plan: Plan, items: ItemCatalogue) -> tuple[tuple[IdField, ...], dict[str, int]]:
    """The ID fields of the log, and the sizes of their vocabularies."""
    config = plan.config
    fields = (
        *(
            IdField(name, name, "user")
            for name in (*config.users.column_of, *plan.user_statistics())
        ),
        *(IdField(name, name, "item") for name in items.encodings),
        *(
            IdField(name, name, "context")
            for name in (*config.impressions.column_of, *plan.item_statistics())
        ),
        IdField("behavior_item", ITEM, "behavior"),
    )
    sizes = {name: plan.fields[name].size for name in config.users.column_of}
    sizes |= dict.fromkeys(plan.user_statistics(), N_BUCKETS)
    sizes |= {name: plan.fields[name].size for name in config.impressions.column_of}
    sizes |= dict.fromkeys(plan.item_statistics(), N_BUCKETS)
    return fields, sizes | {name: found.size for name, found in items.encodings.items()}


def collisions(plan: Plan, items: ItemCatalogue, seen: Scan) -> dict[str, float]:
    """For each hashed field, its values and the share of them that a uniform hash lets collide."""
    encodings = plan.fields | items.encodings | {USER: plan.users}
    distinct = {field: seen.distinct(field) for field in seen.sketches} | items.distinct
    notes = {}
    for field in sorted(plan.config.ids.hashed):
        keys = encodings[field].size
        values = distinct.get(field, 0)  # none where its table has no row
        notes[f"{field}_values"] = float(values)
        notes[f"{field}_keys"] = float(keys)
        notes[f"{field}_expected_collision_share"] = expected_collisions(values, keys)
    return notes


def _encoding(config: PrepareConfig, seen: Scan, field: str, buckets: int) -> Encoding:
    if field in config.ids.hashed:
        return Hashed(buckets)
    values = seen.values.get(field, _NOTHING)
    if field == USER:
        return Vocabulary(values)
    # A value may be missing, and a user may have no profile: the empty text stands for both.
    return Vocabulary(merged([values, _EMPTY]))


def _cuts(config: PrepareConfig, seen: Scan) -> tuple[int, int]:
    assert config.split.test_from is not None  # checked by PrepareConfig
    test = iso_seconds("split.test_from", config.split.test_from)
    if config.split.validation_from is None:
        validation = test
    else:
        validation = iso_seconds("split.validation_from", config.split.validation_from)
        if validation >= test:
            raise DataError(
                f"split.validation_from={config.split.validation_from} is not before"
                f" split.test_from={config.split.test_from}: validation comes first"
            )
    for name, cut in (("validation_from", validation), ("test_from", test)):
        if cut % config.period_s:
            raise DataError(
                f"split.{name}={iso_text(cut)} lies within a period of {config.period_s} s, whose"
                " impressions belong together; cut at a multiple of period_s"
            )
    if not seen.slots:
        raise DataError(f"impressions.path={config.impressions.path}: no impression in it")
    first, last = min(seen.slots) * SLOT_S, (max(seen.slots) + 1) * SLOT_S
    if not first < validation or not test < last:
        early = config.split.validation_from is not None and not first < validation
        name, cut = ("validation_from", validation) if early else ("test_from", test)
        raise DataError(
            f"split.{name}={iso_text(cut)} leaves a split empty: impressions run from"
            f" {iso_text(first)} to {iso_text(last)}; cut between these"
        )
    return validation, test


def _edges(config: PrepareConfig, seen: Scan, cuts: tuple[int, int]) -> np.ndarray:
    """Borders of shards: every cut, and between them whenever enough impressions have come."""
    edges, held = set(cuts), 0
    per_shard = config.output.shard_groups
    step_s = int(np.lcm(SLOT_S, config.period_s))
    steps: dict[int, int] = {}
    for slot, count in seen.slots.items():
        step = slot * SLOT_S // step_s
        steps[step] = steps.get(step, 0) + count
    for step, count in steps.items():
        if held >= per_shard:
            edges.add(step * step_s)
            held = 0
        held += count
    return np.array(sorted(edges), np.int64)
