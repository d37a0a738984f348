"""Aggregators that do not attend: order, padding, nobody.

Against NumPy they are tested as parts of the net, in ``test_dicm.py``.

Shape legend
    G   groups    B   impressions    L   behaviors per group    E   width of behaviors
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dicm_jax.nn.aggregators import (
    Aggregator,
    Concatenation,
    GroupPooling,
    max_pooling,
    sum_pooling,
)

G, L, E = 3, 6, 5
GROUP_B = jnp.array([0, 0, 1, 2, 1, 0, 2, 1], jnp.int32)
MASK_GL = jnp.asarray(np.arange(L) < np.array([L, 2, 0])[:, None])
BEHAVIOR_GLE = jax.random.normal(jax.random.key(0), (G, L, E)) - 3.0
POOLINGS: dict[str, Aggregator] = {
    "sum": GroupPooling(sum_pooling, E),
    "max": GroupPooling(max_pooling, E),
    "concat": Concatenation(E, 4),
}

every = pytest.mark.parametrize("name", POOLINGS)


def pooled(name: str, behavior_GLE: jax.Array = BEHAVIOR_GLE, mask_GL: jax.Array = MASK_GL):
    return np.asarray(POOLINGS[name](behavior_GLE, mask_GL, [], GROUP_B))


@every
def test_no_behaviors_give_exactly_zero(name):
    alone_B = np.asarray(GROUP_B) == 2
    assert not pooled(name)[alone_B].any()
    assert pooled(name)[~alone_B].any(axis=1).all()
    assert pooled(name).shape == (len(GROUP_B), POOLINGS[name].width)


@every
def test_more_padding_with_anything_in_it_changes_nothing(name):
    longer_GLE = jnp.pad(BEHAVIOR_GLE, ((0, 0), (0, 9), (0, 0)), constant_values=77.0)
    longer_GLE = jnp.where(jnp.pad(MASK_GL, ((0, 0), (0, 9)))[..., None], longer_GLE, 77.0)
    longer_mask_GL = jnp.pad(MASK_GL, ((0, 0), (0, 9)))
    np.testing.assert_allclose(pooled(name, longer_GLE, longer_mask_GL), pooled(name), rtol=1e-6)


@every
def test_padding_gets_no_gradient(name):
    g_GLE = np.asarray(
        jax.grad(lambda x: jnp.sum(jnp.sin(POOLINGS[name](x, MASK_GL, [], GROUP_B))))(BEHAVIOR_GLE)
    )
    assert not g_GLE[~np.asarray(MASK_GL)].any()
    assert np.isfinite(g_GLE).all()
    assert g_GLE.any()


@pytest.mark.parametrize(("name", "matters"), [("sum", False), ("max", False), ("concat", True)])
def test_the_order_matters_to_concatenation_alone(name, matters):
    turned_GLE = BEHAVIOR_GLE.at[0].set(BEHAVIOR_GLE[0, ::-1])
    same = np.allclose(pooled(name, turned_GLE), pooled(name), rtol=1e-5)
    assert same != matters


def test_concatenation_keeps_the_newest_oldest_first():
    kept_BNE = pooled("concat").reshape(-1, 4, E)
    np.testing.assert_array_equal(kept_BNE[0], BEHAVIOR_GLE[0, 2:])
    np.testing.assert_array_equal(kept_BNE[2, :2], BEHAVIOR_GLE[1, :2])
    assert not kept_BNE[2, 2:].any()
