"""Pre-rank: what each tower sees, and that nothing meets before the product."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dicm_jax.ams.keys import IMAGE
from dicm_jax.nn.prerank import PreRank
from tests import numpy_model
from tests.nn.test_dicm import SPEC, inputs

OF_USER = ("user_GFE", "behavior_ids_GLK", "behavior_GLE")
OF_AD = ("impression_BFE", "ad_BE")


def net(images: Any = "both") -> PreRank:
    spec = dataclasses.replace(SPEC, stage="prerank", images=images, tower_widths=(9, 4))
    graph, params = nnx.split(PreRank(spec, rngs=nnx.Rngs(0)), nnx.Param)
    return nnx.merge(graph, numpy_model.moved(params, by=0.2))


def gradient(read: Any, names: tuple[str, ...]) -> dict[str, Any]:
    given = inputs()
    values = {name: getattr(given, name) for name in names}
    return jax.grad(lambda values: jnp.sum(jnp.square(read(dataclasses.replace(given, **values)))))(
        values
    )


def any_of(tree: Any) -> bool:
    return any(np.asarray(leaf).any() for leaf in jax.tree.leaves(tree))


def test_no_tower_sees_the_other_side():
    module = net()
    assert not any_of(gradient(module.user_vectors, OF_AD))
    assert not any_of(gradient(module.ad_vectors, OF_USER))
    for name in OF_USER:
        assert any_of(gradient(module.user_vectors, (name,))), name
    for name in OF_AD:
        assert any_of(gradient(module.ad_vectors, (name,))), name


@pytest.mark.parametrize("images", ["both", "ad", "behavior", "none"])
def test_the_score_is_the_sigmoid_of_the_inner_product(images):
    module, given = net(images), inputs()
    user_BP = np.asarray(module.user_vectors(given), np.float64)[np.asarray(given.group_B)]
    ad_BP = np.asarray(module.ad_vectors(given), np.float64)
    logits_B2 = np.asarray(module(given))
    np.testing.assert_allclose(logits_B2[:, 1], (user_BP * ad_BP).sum(axis=1), rtol=1e-5, atol=1e-6)
    assert not logits_B2[:, 0].any()
    assert user_BP.shape[1] == ad_BP.shape[1] == 4


def test_behavior_images_are_summed():
    """Two behaviors, or one that is their sum."""
    given = inputs()
    two_GLE = given.behavior_GLE[IMAGE]
    summed = jnp.sum(jnp.where(given.behavior_mask_GL[..., None], two_GLE, 0.0), axis=1)
    one_GLE = jnp.zeros_like(two_GLE).at[:, 0].set(summed)
    other = dataclasses.replace(given, behavior_GLE={IMAGE: one_GLE})
    has = np.asarray(given.behavior_mask_GL).any(axis=1)
    module = net()
    np.testing.assert_allclose(
        module.user_vectors(other)[has], module.user_vectors(given)[has], rtol=1e-4, atol=1e-5
    )
