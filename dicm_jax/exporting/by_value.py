"""Attention to behaviors once for each value of a query's ID field, instead of each candidate.

Candidates of one category ask the same of a user's behaviors, so what comes out is computed for
every value that the field can have, and looked up. The sums are the same, term by term.

Shape legend
    G   users     L   behaviors per user     B   candidates     U   values, and nothing
    Q   width of a query                     E   width of behaviors
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array

from dicm_jax.data.schema import ClickLog
from dicm_jax.nn.aggregators import AttentivePooling, MultiQueryAttentivePooling, Queries
from dicm_jax.nn.chunked import in_chunks
from dicm_jax.nn.spec import NetSpec
from dicm_jax.serving.format import ID_ROWS

MOST_VALUES = 256
"""With more of them, a candidate each is as cheap."""


@dataclasses.dataclass(frozen=True)
class Values:
    """The field that a query is made of.

    Attributes:
      column: of the field, among the places of an impression.
      first: place of its first value's ID row.
      count: of values.
    """

    column: int
    first: int
    count: int


def values_of(spec: NetSpec, log: ClickLog) -> Values | None:
    """The field of the second query, if it is one field of few values; else None."""
    attends = spec.aggregator == "multi_query" and spec.sees_behavior_images
    if not attends or len(spec.query_fields) != 1:
        return None
    (column,) = spec.query_fields
    field = (log.fields_of("item") + log.fields_of("context"))[column]
    names = list(log.vocabulary_sizes)
    before = names[: names.index(field.vocabulary)]
    first = ID_ROWS + sum(log.vocabulary_sizes[name] for name in before)
    count = log.vocabulary_sizes[field.vocabulary]
    return Values(column, first, count) if count <= MOST_VALUES else None


class PoolingByValue:
    """An aggregator (`dicm_jax.nn.aggregators.Aggregator`) whose ID query is looked up.

    Args:
      pooling: with the same parameters; its last query is made of IDs.
      query_UQ: the ID query of nothing, and of every value.
      value_B: number of each candidate's query among them.
    """

    def __init__(self, pooling: MultiQueryAttentivePooling, query_UQ: Array, value_B: Array):
        self._pooling, self._query_UQ, self._value_B = pooling, query_UQ, value_B
        self.width = pooling.width

    def __call__(
        self, behavior_GLE: Array, mask_GL: Array, queries: Queries, group_B: Array
    ) -> Array:
        """As the pooling that it stands for."""
        *of_images, of_ids = self._pooling.poolings
        parts = [
            _each(pooling, behavior_GLE, mask_GL, query_BQ, group_B, self._pooling.chunk)
            for pooling, query_BQ in zip(of_images, queries, strict=False)
        ]
        groups, values = mask_GL.shape[0], len(self._query_UQ)
        # Values of one user one after the other.
        user_N = jnp.repeat(jnp.arange(groups, dtype=jnp.int32), values)
        query_NQ = jnp.tile(self._query_UQ, (groups, 1))
        pooled_NE = of_ids(behavior_GLE, mask_GL, query_NQ, user_N)
        parts.append(pooled_NE[group_B * values + self._value_B])
        return jnp.concatenate(parts, axis=-1)


def _each(
    pooling: AttentivePooling,
    behavior_GLE: Array,
    mask_GL: Array,
    query_BQ: Array,
    group_B: Array,
    chunk: int,
) -> Array:
    """Attention once a candidate, a chunk of them at a time."""

    def pool(group_B: Array, query_BQ: Array) -> Array:
        return pooling(behavior_GLE, mask_GL, query_BQ, group_B)

    return in_chunks(pool, chunk, group_B, query_BQ)
