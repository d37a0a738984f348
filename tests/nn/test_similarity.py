"""Kernel pooling of cosines, and inner products of IDs: against NumPy, and what must not count.

Shape legend
    G   groups    B   impressions    L   behaviors per group    E   width of vectors
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dicm_jax.nn.id_matches import IdMatches
from dicm_jax.nn.similarity import CENTERS, SimilarityKernels
from tests import numpy_model
from tests.nn.test_dicm import SPEC, inputs

G, B, L, E = 3, 8, 6, 5
K = len(CENTERS)


@pytest.fixture(scope="module", name="given")
def _given() -> dict[str, Any]:
    """Groups of L, 2 and no behaviors."""
    keys = jax.random.split(jax.random.key(0), 2)
    return {
        "ad_BE": jax.random.normal(keys[0], (B, E)),
        "behavior_GLE": jax.random.normal(keys[1], (G, L, E)),
        "mask_GL": jnp.asarray(np.arange(L) < np.array([L, 2, 0])[:, None]),
        "group_B": jnp.array([0, 0, 1, 2, 1, 0, 2, 1], jnp.int32),
    }


def expected(given: dict[str, Any], b: int) -> np.ndarray:
    """The formula, behavior by behavior, in float64."""
    ad_E = np.asarray(given["ad_BE"], np.float64)[b]
    g = int(given["group_B"][b])
    behavior_LE = np.asarray(given["behavior_GLE"], np.float64)[g][np.asarray(given["mask_GL"])[g]]
    return numpy_model.similarity(ad_E, behavior_LE)


@pytest.mark.parametrize("chunk", [3, 100])
def test_it_is_the_formula(given, chunk):
    module = SimilarityKernels(chunk)
    found = module(**given)
    assert found.shape == (B, module.width)
    for b in range(B):
        np.testing.assert_allclose(found[b], expected(given, b), rtol=2e-4, atol=1e-5)


def test_no_behaviors_give_exactly_zero(given):
    alone_B = np.asarray(given["group_B"]) == 2
    assert not np.asarray(SimilarityKernels(100)(**given))[alone_B].any()


def test_order_and_padding_change_nothing_and_padding_gets_no_gradient(given):
    module = SimilarityKernels(100)
    order_L = np.random.default_rng(0).permutation(L)
    shuffled = given | {
        "behavior_GLE": given["behavior_GLE"][:, order_L],
        "mask_GL": given["mask_GL"][:, order_L],
    }
    longer = given | {
        "behavior_GLE": jnp.pad(given["behavior_GLE"], ((0, 0), (0, 4), (0, 0)), "edge"),
        "mask_GL": jnp.pad(given["mask_GL"], ((0, 0), (0, 4))),
    }
    for other in (shuffled, longer):
        np.testing.assert_allclose(module(**other), module(**given), rtol=1e-4, atol=1e-6)

    def total(behavior_GLE):
        return jnp.sum(module(**(given | {"behavior_GLE": behavior_GLE})))

    g_GLE = np.asarray(jax.grad(total)(given["behavior_GLE"]))
    real_GL = np.asarray(given["mask_GL"])
    assert not g_GLE[~real_GL].any()
    assert g_GLE[real_GL].any(axis=-1).all()
    assert np.isfinite(g_GLE).all()


def test_vectors_of_zeros_give_finite_values_and_gradients(given):
    def total(ad_BE):
        return jnp.sum(SimilarityKernels(100)(**(given | {"ad_BE": ad_BE})))

    value, gradient = jax.value_and_grad(total)(jnp.zeros((B, E)))
    assert np.isfinite(float(value))
    assert np.isfinite(np.asarray(gradient)).all()


def test_the_ad_among_the_behaviors_is_counted_by_the_last_kernel(given):
    same = given | {"behavior_GLE": given["behavior_GLE"].at[0, 0].set(given["ad_BE"][0])}
    found = np.asarray(SimilarityKernels(100)(**same))[0]
    assert found[K - 1] >= np.log(2) - 1e-4
    assert found[-2] == pytest.approx(1, abs=1e-5)


def test_id_matches_are_inner_products_with_the_mean_of_the_behaviors():
    spec = dataclasses.replace(SPEC, match_fields=(1, 0))
    given = inputs()
    module = IdMatches(spec)
    found_BX = np.asarray(module(given))
    assert found_BX.shape == (len(given.group_B), module.width)
    width = SPEC.embedding_width
    for b, g in enumerate(np.asarray(given.group_B)):
        there_L = np.asarray(given.behavior_mask_GL)[g]
        for m, field in enumerate(spec.match_fields):
            ad_E = np.asarray(given.impression_BFE)[b, SPEC.behavior_targets[field]]
            of_field = slice(field * width, (field + 1) * width)
            behavior_LE = np.asarray(given.behavior_ids_GLK)[g][there_L][:, of_field]
            mean_E = behavior_LE.mean(axis=0) if there_L.any() else np.zeros(width)
            np.testing.assert_allclose(found_BX[b, m], ad_E @ mean_E, rtol=1e-4, atol=1e-6)
            of_mean = slice(2 + m * width, 2 + (m + 1) * width)
            np.testing.assert_allclose(found_BX[b, of_mean], mean_E, rtol=1e-5, atol=1e-6)


def test_an_item_without_content_gets_gradients_of_the_size_of_others(given):
    """Its vector starts at zero, where a plain cosine is steep beyond all bounds."""
    module = SimilarityKernels(100)
    ad_BE = jnp.asarray(given["ad_BE"]).at[0].set(0.0)

    def total(ad_BE):
        return jnp.sum(jnp.sin(module(**given | {"ad_BE": ad_BE})))

    norm_B = np.linalg.norm(jax.grad(total)(ad_BE), axis=1)
    assert 0 < norm_B[0] < 1e4 * norm_B[1]


def test_the_length_of_vectors_does_not_matter(given):
    found = SimilarityKernels(100)(**given)
    scaled = SimilarityKernels(100)(**given | {"ad_BE": 0.02 * given["ad_BE"]})
    np.testing.assert_allclose(scaled, found, rtol=1e-5, atol=1e-6)
