"""Pooling of behaviors: against NumPy behavior by behavior, and what must not change it.

Shape legend
    G   groups    B   impressions    L   behaviors per group    E   width of behaviors
    Q   width of a query
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dicm_jax.nn.activation_unit import ActivationUnit
from dicm_jax.nn.aggregators import AttentivePooling, MultiQueryAttentivePooling, sum_pooling
from dicm_jax.nn.prelu import PReLU
from tests import numpy_model

G, B, L, E, Q = 3, 8, 6, 5, 5
KINDS = [(i, n) for i in ("concat", "product", "outer") for n in ("none", "softmax")]

every_kind = pytest.mark.parametrize(("interaction", "normalizer"), KINDS)


def new_pooling(query_width: int, interaction: Any, normalizer: Any) -> AttentivePooling:
    unit = ActivationUnit(E, query_width, (7, 4), interaction=interaction, rngs=nnx.Rngs(0))
    return AttentivePooling(unit, normalizer)


def pooling(interaction: Any = "concat", normalizer: Any = "none") -> AttentivePooling:
    """Attentive pooling with parameters that are all away from their start."""
    module = new_pooling(Q, interaction, normalizer)
    graph, params = nnx.split(module, nnx.Param)
    return nnx.merge(graph, numpy_model.moved(params, by=0.3))


def params_of(module: nnx.Module) -> dict[str, Any]:
    return numpy_model.in_float64(nnx.to_pure_dict(nnx.state(module, nnx.Param)))


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    """Groups of L, 2 and no behaviors; what stands at padded places is large."""
    keys = jax.random.split(jax.random.key(0), 2)
    length_G = np.array([L, 2, 0])
    mask_GL = np.arange(L) < length_G[:, None]
    behavior_GLE = jax.random.normal(keys[0], (G, L, E))
    return {
        "behavior_GLE": jnp.where(mask_GL[..., None], behavior_GLE, 100.0),
        "mask_GL": jnp.asarray(mask_GL),
        "query_BQ": jax.random.normal(keys[1], (B, Q)),
        "group_B": jnp.array([0, 0, 1, 2, 1, 0, 2, 1], jnp.int32),
    }


@every_kind
def test_equals_numpy_with_behavior_and_query_joined(inputs, interaction, normalizer):
    module = pooling(interaction, normalizer)
    params = params_of(module)["unit"]
    assert ("interaction_XH" in params) == (interaction != "concat")
    expected_BE = np.stack(
        [
            numpy_model.attentive(
                params,
                np.asarray(inputs["behavior_GLE"], np.float64)[g][np.asarray(inputs["mask_GL"])[g]],
                np.asarray(inputs["query_BQ"], np.float64)[b],
                normalizer,
            )
            for b, g in enumerate(np.asarray(inputs["group_B"]))
        ]
    )
    np.testing.assert_allclose(module(**inputs), expected_BE, rtol=1e-4, atol=1e-5)


@every_kind
def test_no_behaviors_give_exactly_zero_and_finite_gradients(inputs, interaction, normalizer):
    module = pooling(interaction, normalizer)
    pooled_BE = np.asarray(module(**inputs))
    alone_B = np.asarray(inputs["group_B"]) == 2
    np.testing.assert_array_equal(pooled_BE[alone_B], 0)
    assert pooled_BE[~alone_B].all()
    graph, params = nnx.split(module, nnx.Param)
    empty = inputs | {"mask_GL": jnp.zeros((G, L), bool)}
    gradients = jax.grad(lambda params: jnp.sum(nnx.merge(graph, params)(**empty)))(params)
    assert all(not np.asarray(g).any() for g in jax.tree.leaves(gradients))


@every_kind
def test_what_stands_at_padded_places_has_no_effect_and_gets_no_gradient(
    inputs, interaction, normalizer
):
    module = pooling(interaction, normalizer)
    mask_GL1 = inputs["mask_GL"][..., None]
    other = inputs | {"behavior_GLE": jnp.where(mask_GL1, inputs["behavior_GLE"], -7.0)}
    np.testing.assert_array_equal(module(**inputs), module(**other))

    def total(behavior_GLE):
        return jnp.sum(jnp.square(module(**(inputs | {"behavior_GLE": behavior_GLE}))))

    g_GLE = np.asarray(jax.grad(total)(inputs["behavior_GLE"]))
    real_GL = np.asarray(inputs["mask_GL"])
    assert not g_GLE[~real_GL].any()
    assert g_GLE[real_GL].any(axis=-1).all()


@every_kind
def test_more_padding_changes_nothing(inputs, interaction, normalizer):
    module = pooling(interaction, normalizer)
    longer = inputs | {
        "behavior_GLE": jnp.pad(inputs["behavior_GLE"], ((0, 0), (0, 9), (0, 0)), "edge"),
        "mask_GL": jnp.pad(inputs["mask_GL"], ((0, 0), (0, 9))),
    }
    np.testing.assert_allclose(module(**longer), module(**inputs), rtol=1e-5, atol=1e-6)


@every_kind
def test_the_order_of_behaviors_changes_nothing(inputs, interaction, normalizer):
    module = pooling(interaction, normalizer)
    order_L = np.random.default_rng(0).permutation(L)
    shuffled = inputs | {
        "behavior_GLE": inputs["behavior_GLE"][:, order_L],
        "mask_GL": inputs["mask_GL"][:, order_L],
    }
    np.testing.assert_allclose(module(**shuffled), module(**inputs), rtol=1e-4, atol=1e-5)


def test_equal_weights_make_it_sum_pooling(inputs):
    module = pooling()
    output = module.unit.output
    output.kernel[...] = jnp.zeros((4, 1))
    assert output.bias is not None
    output.bias[...] = jnp.ones(1)
    summed_BE = sum_pooling(inputs["behavior_GLE"], inputs["mask_GL"])[inputs["group_B"]]
    np.testing.assert_allclose(module(**inputs), summed_BE, rtol=1e-6, atol=1e-6)


def test_sum_pooling_equals_numpy(inputs):
    mask_GL = np.asarray(inputs["mask_GL"])
    expected_GE = np.stack(
        [np.asarray(inputs["behavior_GLE"])[g][mask_GL[g]].sum(axis=0) for g in range(G)]
    )
    summed_GE = sum_pooling(inputs["behavior_GLE"], inputs["mask_GL"])
    np.testing.assert_allclose(summed_GE, expected_GE, rtol=1e-5, atol=1e-6)


def test_softmax_weights_of_equal_behaviors_give_that_behavior(inputs):
    """Weights that sum to one: any number of copies of a behavior pool to the behavior."""
    same = inputs | {"behavior_GLE": jnp.broadcast_to(jnp.arange(1.0, 1 + E), (G, L, E))}
    pooled_BE = np.asarray(pooling("concat", "softmax")(**same))
    real_B = np.asarray(inputs["group_B"]) != 2
    expected_BE = np.broadcast_to(np.arange(1.0, 1 + E), (int(real_B.sum()), E))
    np.testing.assert_allclose(pooled_BE[real_B], expected_BE, rtol=1e-5)


def test_the_product_lets_a_query_change_the_order_of_weights(inputs):
    """Without a hidden layer's kink in the way, ``[e ; q]`` alone gives every query one order."""
    orders = {}
    for interaction in ("concat", "product"):
        unit = pooling(interaction).unit
        for activation in unit.activations:
            assert isinstance(activation, PReLU)
            activation.slope[...] = jnp.ones_like(activation.slope[...])
        group_B = jnp.zeros(B, jnp.int32)
        there_BL = jnp.ones((B, L), bool)
        weight_BL = unit(inputs["behavior_GLE"], there_BL, inputs["query_BQ"], group_B)
        orders[interaction] = {tuple(order) for order in np.argsort(weight_BL, axis=1).tolist()}
    assert len(orders["concat"]) == 1
    assert len(orders["product"]) > 1


def test_grouped_equals_flat_in_value_and_gradient(inputs):
    """Behaviors once a group, or again for each impression."""
    graph, params = nnx.split(pooling("product"), nnx.Param)
    g_out_BE = jax.random.normal(jax.random.key(5), (B, E))

    def grouped(params, behavior_GLE):
        return nnx.merge(graph, params)(**(inputs | {"behavior_GLE": behavior_GLE}))

    def flat(params, behavior_GLE):
        group_B = inputs["group_B"]
        return nnx.merge(graph, params)(
            behavior_GLE[group_B],
            inputs["mask_GL"][group_B],
            inputs["query_BQ"],
            jnp.arange(B, dtype=jnp.int32),
        )

    results = [jax.vjp(f, params, inputs["behavior_GLE"]) for f in (grouped, flat)]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6, atol=1e-6)
    gradients = [pull_back(g_out_BE) for _, pull_back in results]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *gradients)


def test_several_queries_pool_side_by_side_with_weights_of_their_own(inputs):
    poolings = [new_pooling(E, "product", "none"), new_pooling(2 * E, "concat", "softmax")]
    module = MultiQueryAttentivePooling(poolings, E)
    wide_BQ = jax.random.normal(jax.random.key(9), (B, 2 * E))
    rest = (inputs["behavior_GLE"], inputs["mask_GL"])
    queries = [inputs["query_BQ"], wide_BQ]
    pooled_BX = module(*rest, queries, inputs["group_B"])
    assert pooled_BX.shape == (B, 2 * E)
    for i, query_BQ in enumerate(queries):
        alone_BE = module.poolings[i](*rest, query_BQ, inputs["group_B"])
        np.testing.assert_array_equal(pooled_BX[:, i * E : (i + 1) * E], alone_BE)
