"""The workers' network: against NumPy, and what reaches what.

Shape legend
    G   groups    B   impressions    L   behaviors per group    E   embedding width
    F   ID fields of a level
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dicm_jax.ams.keys import IMAGE
from dicm_jax.nn.dicm import DICM
from dicm_jax.nn.inputs import Inputs, place
from dicm_jax.nn.spec import NetSpec
from dicm_jax.training.model import CompressorSpec, ModelSpec, click_loss
from tests import numpy_model

G, B, L, E = 3, 7, 4, 5
CONTENTS = (IMAGE, "text")
BOTH = {"contents": CONTENTS}
SPEC = NetSpec(
    user_fields=2,
    impression_fields=3,
    behavior_targets=(0, 2),
    query_fields=(0, 2),
    embedding_width=E,
    vector_width=E,
    attention_widths=(6, 4),
    head_widths=(9, 7),
)
CHANGES: list[dict[str, Any]] = [
    {},
    {"images": "ad"},
    {"images": "behavior"},
    {"images": "none"},
    {"behavior_targets": ()},
    {"aggregator": "attentive"},
    {"aggregator": "attentive", "interaction": "outer"},
    {"aggregator": "sum"},
    {"aggregator": "sum", "match": True},
    {"aggregator": "max"},
    {"aggregator": "concat", "concat_behaviors": 3},
    {"aggregator": "concat", "concat_behaviors": 9},
    {"basic_net": "lr"},
    {"basic_net": "lr", "images": "none"},
    {"basic_net": "din", "din_activation": "prelu", "images": "none"},
    {"basic_net": "din", "din_activation": "prelu", "din_widths": (5, 3)},
    {"basic_net": "din", "din_activation": "prelu", "din_normalizer": "softmax"},
    {"basic_net": "din", "din_activation": "prelu", "din_interaction": "outer"},
    {"basic_net": "din", "din_activation": "prelu", "din_interaction": "concat"},
    {"query_fields": (1,), "interaction": "product"},
    {"normalizer": "softmax"},
    {"match": True},
    {"match": True, "images": "ad"},
    {"similarity": True},
    {"similarity": True, "images": "behavior"},
    {"match_fields": (1, 0)},
    {"match_fields": (0,), "images": "none", "basic_net": "lr"},
    {"match_fields": (1,), "basic_net": "din", "din_activation": "prelu"},
    {"head_widths": (8,), "attention_widths": (6,)},
    BOTH,
    BOTH | {"images": "ad"},
    BOTH | {"images": "behavior"},
    BOTH | {"match": True, "normalizer": "softmax", "interaction": "product"},
]


def inputs() -> Inputs:
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    mask_GL = np.arange(L) < np.array([L, 1, 0])[:, None]
    return Inputs(
        user_GFE=normal(G, 2, E),
        impression_BFE=normal(B, 3, E),
        behavior_ids_GLK=jnp.where(mask_GL[..., None], normal(G, L, 2 * E), 0.0),
        ad_BE={content: normal(B, E) for content in CONTENTS},
        behavior_GLE={content: normal(G, L, E) for content in CONTENTS},
        behavior_mask_GL=jnp.asarray(mask_GL),
        group_B=jnp.array([0, 1, 2, 2, 1, 0, 0], jnp.int32),
        there_B=jnp.ones(B, bool),
    )


def split(spec: NetSpec) -> tuple[Any, Any]:
    graph, params = nnx.split(DICM(spec, rngs=nnx.Rngs(0)), nnx.Param)
    return graph, numpy_model.moved(nnx.to_pure_dict(params), by=0.2)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_logits_equal_numpy(changes):
    spec = dataclasses.replace(SPEC, **changes)
    graph, params = split(spec)
    given = inputs()
    if not spec.behavior_targets:
        given = dataclasses.replace(given, behavior_ids_GLK=jnp.zeros((G, L, 0)))
    logits_B2 = jax.jit(lambda params, x: nnx.merge(graph, params)(x))(params, given)
    assert logits_B2.shape == (B, 2)
    wide = numpy_model.in_float64(given)
    mask_GL = np.asarray(inputs().behavior_mask_GL)
    model = ModelSpec(spec, CompressorSpec(), {})
    for b, g in enumerate(np.asarray(inputs().group_B)):
        sample = {
            "user": wide.user_GFE[g],
            "impression": wide.impression_BFE[b],
            "behavior_ids": wide.behavior_ids_GLK[g][mask_GL[g]],
            "ad": {name: of_BE[b] for name, of_BE in wide.ad_BE.items()},
            "behaviors": {name: x[g][mask_GL[g]] for name, x in wide.behavior_GLE.items()},
        }
        expected_2 = numpy_model.logits({"net": numpy_model.in_float64(params)}, model, sample)
        np.testing.assert_allclose(logits_B2[b], expected_2, rtol=1e-4, atol=1e-5)


def gradients(spec: NetSpec) -> Inputs:
    """Gradient of the loss with respect to every float input of the network."""
    graph, params = split(spec)
    floats = ("user_GFE", "impression_BFE", "behavior_ids_GLK", "ad_BE", "behavior_GLE")
    label_B = jnp.arange(B, dtype=jnp.int32) % 2

    def loss(values):
        logits_B2 = nnx.merge(graph, params)(dataclasses.replace(inputs(), **values))
        return click_loss(logits_B2, label_B, jnp.ones(B))

    values = {name: getattr(inputs(), name) for name in floats}
    return dataclasses.replace(inputs(), **jax.jit(jax.grad(loss))(values))


@pytest.mark.parametrize(
    ("images", "seen"),
    [("both", (True, True)), ("ad", (True, False)), ("behavior", (False, True)), ("none", (0, 0))],
)
def test_only_the_images_that_a_model_sees_get_a_gradient(images, seen):
    g = gradients(dataclasses.replace(SPEC, images=images))
    seen_now = bool(jnp.any(g.ad_BE[IMAGE])), bool(jnp.any(g.behavior_GLE[IMAGE]))
    assert seen_now == tuple(seen)
    assert bool(jnp.any(g.behavior_ids_GLK))


@pytest.mark.parametrize("contents", [CONTENTS, CONTENTS[:1], CONTENTS[1:]], ids=str)
def test_only_the_contents_that_a_model_sees_get_a_gradient(contents):
    g = gradients(dataclasses.replace(SPEC, contents=contents))
    for name in CONTENTS:
        assert bool(jnp.any(g.ad_BE[name])) == (name in contents)
        assert bool(jnp.any(g.behavior_GLE[name])) == (name in contents)


PADDED = [{}, {"normalizer": "softmax"}, {"match": True}, BOTH]


@pytest.mark.parametrize("changes", PADDED, ids=str)
def test_padded_behaviors_get_no_gradient_and_all_else_is_finite(changes):
    spec = dataclasses.replace(SPEC, **changes)
    g = gradients(spec)
    padded_GL = ~np.asarray(inputs().behavior_mask_GL)
    assert not np.asarray(g.behavior_ids_GLK)[padded_GL].any()
    for content in spec.contents:
        assert not np.asarray(g.behavior_GLE[content])[padded_GL].any()
        assert np.asarray(g.behavior_GLE[content])[~padded_GL].any(axis=-1).all()
    for finite in jax.tree.leaves((g.user_GFE, g.impression_BFE, g.ad_BE, g.behavior_GLE)):
        assert np.isfinite(np.asarray(finite)).all()


def test_an_impression_does_not_see_other_groups():
    graph, params = split(SPEC)
    net = jax.jit(nnx.merge(graph, params).__call__)
    before = net(inputs())
    changed = dataclasses.replace(
        inputs(),
        user_GFE=inputs().user_GFE.at[0].add(1.0),
        behavior_GLE={IMAGE: inputs().behavior_GLE[IMAGE].at[0].add(1.0)},
    )
    moved_B = np.any(np.asarray(net(changed)) != np.asarray(before), axis=1)
    np.testing.assert_array_equal(moved_B, np.asarray(inputs().group_B) == 0)


def test_place_puts_vectors_the_missing_vector_and_zeros():
    vectors_KE = jnp.arange(12.0).reshape(4, 3) + 1
    missing_E = jnp.array([-1.0, -2.0, -3.0])
    slots = jnp.array([[0, 3, 4], [5, 4, 2]], jnp.int32)
    expected = np.stack([vectors_KE[0], vectors_KE[3], missing_E, np.zeros(3), missing_E])
    placed = place(vectors_KE, slots, missing_E)
    np.testing.assert_array_equal(placed.reshape(6, 3)[:5], expected)
    np.testing.assert_array_equal(placed[1, 2], vectors_KE[2])
    np.testing.assert_array_equal(place(vectors_KE, slots)[0, 2], 0)


def test_places_give_their_gradients_to_the_vectors_they_hold():
    slots = jnp.array([0, 3, 4, 5, 4, 3], jnp.int32)

    def total(vectors_KE, missing_E):
        return jnp.sum(place(vectors_KE, slots, missing_E))

    g_KE, g_missing_E = jax.grad(total, argnums=(0, 1))(jnp.ones((4, 3)), jnp.ones(3))
    np.testing.assert_array_equal(g_KE[:, 0], [1, 0, 0, 2])
    np.testing.assert_array_equal(g_missing_E, 2)
