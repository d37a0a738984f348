"""Steps over narrow wires: gradients that point where they should, on any placement."""

from typing import Any

import numpy as np
import pytest

from dicm_jax.config import ExchangeConfig
from tests import small_world
from tests.outcomes import cosine, difference, leaves_by_name, outcome

STEPS = 8
LEAST = {"bfloat16": 0.9995, "int8": 0.999}
"""Cosine of the gradient of each tensor with that over float32 wires."""


def over(wire: Any) -> ExchangeConfig:
    return ExchangeConfig(chunk=64, wire=wire, id_wire=wire)


def gradients(wire: str) -> dict[str, np.ndarray]:
    """Gradients of the first batch, away from where parameters start."""
    run = small_world.run(
        1, 4, settings=over(wire), optimizers=small_world.keep_gradients(), moved_by=0.1
    )
    run.go(1)
    kept = {"dense": run.state.dense_optimizer, "ids": run.state.ids["mu"]}
    return {name: np.asarray(leaf) for name, leaf in leaves_by_name(kept).items()}


@pytest.fixture(scope="module")
def exact() -> dict[str, np.ndarray]:
    return gradients("float32")


@pytest.mark.parametrize("wire", ["bfloat16", "int8"])
def test_gradients_point_where_those_over_float32_wires_do(exact, wire):
    narrow = gradients(wire)
    cosines = {name: cosine(narrow[name], exact[name]) for name in exact}
    assert min(cosines.values()) > LEAST[wire], min(cosines.items(), key=lambda item: item[1])
    assert max(difference(narrow[name], exact[name]) for name in exact) > 1e-4


@pytest.mark.parametrize("wire", ["bfloat16", "int8"])
def test_a_second_wire_to_a_dedicated_worker_rounds_nothing_more(wire):
    """What crosses two wires there has crossed one here."""
    here, there = (
        outcome(small_world.run(1, 4, placement=placement, settings=over(wire)), STEPS)
        for placement in ("colocated", "dedicated")
    )
    np.testing.assert_allclose(there.losses, here.losses, rtol=1e-6)
    assert here.leaves.keys() == there.leaves.keys()
    worst = {name: difference(there.leaves[name], leaf) for name, leaf in here.leaves.items()}
    assert max(worst.values()) < 1e-6, max(worst.items(), key=lambda item: item[1])


def test_errors_are_kept_for_narrow_wires_alone():
    of_both = small_world.run(1, 2, settings=over("int8")).state.errors
    assert of_both.keys() == {"ids", "ad", "behavior"}
    assert small_world.run(1, 2).state.errors == {}
    one = ExchangeConfig(chunk=64, id_wire="bfloat16")
    assert small_world.run(1, 2, settings=one).state.errors.keys() == {"ids"}
    raw = ExchangeConfig(chunk=64, wire="int8", strategy="ps_server")
    assert small_world.run(1, 2, settings=raw).state.errors == {}
