"""Attention looked up by the value of an ID field is attention to each candidate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dicm_jax.exporting.by_value import MOST_VALUES, PoolingByValue, values_of
from dicm_jax.nn.aggregators import MultiQueryAttentivePooling
from dicm_jax.nn.spec import NetSpec
from dicm_jax.nn.view import new_aggregator
from tests import small_world

L, E, VALUES = 7, 5, 9


def _spec(**changes) -> NetSpec:
    basis = NetSpec(
        user_fields=2,
        impression_fields=3,
        behavior_targets=(0, 1),
        query_fields=(1,),
        embedding_width=E,
        vector_width=E,
        attention_widths=(6, 4),
        attention_chunk=16,
    )
    return dataclasses.replace(basis, **changes)


@pytest.mark.parametrize(
    ("groups", "images", "normalizer", "interaction"),
    [
        (1, "both", "none", "concat"),
        (4, "both", "softmax", "product"),
        (4, "behavior", "none", "outer"),
        (1, "behavior", "softmax", "concat"),
    ],
)
def test_it_is_attention_to_each_candidate(groups, images, normalizer, interaction):
    spec = _spec(images=images, normalizer=normalizer, interaction=interaction)
    plain = new_aggregator(spec, rngs=nnx.Rngs(0))
    assert isinstance(plain, MultiQueryAttentivePooling)
    rng = np.random.default_rng(0)
    behavior_GLE = jnp.asarray(rng.standard_normal((groups, L, E)), jnp.float32)
    mask_GL = jnp.asarray(np.arange(L) < rng.integers(0, L + 1, (groups, 1)))
    group_B = jnp.asarray(rng.integers(0, groups, 48), jnp.int32)
    value_B = jnp.asarray(rng.integers(0, VALUES + 1, 48), jnp.int32)
    query_UQ = jnp.asarray(rng.standard_normal((VALUES + 1, E)), jnp.float32).at[0].set(0.0)
    of_ids = [query_UQ[value_B]]
    of_images = [jnp.asarray(rng.standard_normal((48, E)), jnp.float32)] if images == "both" else []
    queries = of_images + of_ids
    by_value = PoolingByValue(plain, query_UQ, value_B)
    wanted = jax.jit(lambda: plain(behavior_GLE, mask_GL, queries, group_B))()
    found = jax.jit(lambda: by_value(behavior_GLE, mask_GL, queries, group_B))()
    assert found.shape == (48, by_value.width)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    assert np.ptp(wanted) > 0.1


def test_the_field_is_found_among_id_rows():
    log = small_world.log()
    values = values_of(_spec(), log)
    assert values is not None
    # Behind the row of nothing one vocabulary after the other: age 5, category 7, image, ...
    assert (values.column, values.first, values.count) == (1, 1 + 5, 7)
    position = values_of(_spec(query_fields=(2,)), log)
    assert position is not None
    assert (position.column, position.first) == (2, 1 + 5 + 7 + small_world.ITEMS)


def test_where_it_does_not_pay_or_fit_there_is_none():
    log = small_world.log()
    assert log.vocabulary_sizes["image"] > MOST_VALUES
    for changes in (
        {"query_fields": (0,)},  # too many values
        {"query_fields": (1, 2)},
        {"query_fields": ()},
        {"images": "ad"},
        {"images": "none"},
        {"aggregator": "attentive"},
    ):
        assert values_of(_spec(**changes), log) is None
