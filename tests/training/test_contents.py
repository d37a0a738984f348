"""Two kinds of content in one model: each with rows, compressors and gradients of its own."""

import dataclasses

import numpy as np
import pytest

from dicm_jax.ams.keys import IMAGE
from dicm_jax.config import ExchangeConfig
from dicm_jax.data.schema import ClickLog, Content, in_memory
from tests import small_world
from tests.outcomes import assert_same, outcome
from tests.small_world import TEXT

SPEC = small_world.model_spec(contents=(IMAGE, TEXT))
MODELS = {"ad", "behavior", "ad_text", "behavior_text"}
STEPS = 8


def test_each_compressor_gets_gradients():
    run = small_world.run(
        1,
        2,
        spec=SPEC,
        click_log=small_world.log_with_texts(),
        optimizers=small_world.keep_gradients(),
        moved_by=0.1,
    )
    run.go(1)
    of_embedders = run.state.dense_optimizer.embedders
    assert of_embedders.keys() == MODELS
    for name, kept in of_embedders.items():
        assert np.abs(np.asarray(kept["first_DH"])).max() > 1e-6, name
        width = small_world.TEXT_WIDTH if name.endswith(TEXT) else small_world.CONTENT_WIDTH
        assert kept["first_DH"].shape[0] == width


@pytest.mark.parametrize("strategy", ["ams", "ps_server", "ps_worker"])
def test_any_devices_give_the_numbers_of_one(strategy):
    log = small_world.log_with_texts()
    settings = ExchangeConfig(chunk=64, strategy=strategy)
    one = outcome(small_world.run(1, 1, spec=SPEC, click_log=log), STEPS)
    placement = "dedicated" if strategy == "ps_worker" else "colocated"
    many = small_world.run(1, 4, spec=SPEC, click_log=log, settings=settings, placement=placement)
    assert_same(outcome(many, STEPS), one)


def permuted(log: ClickLog, content: str) -> ClickLog:
    """The log with the rows of one content dealt to other items."""
    order = np.random.default_rng(3).permutation
    texts = log.contents[TEXT]
    if content == TEXT:
        features = dataclasses.replace(
            texts.features, rows_VD=order(in_memory(texts.features).rows_VD)
        )
        return dataclasses.replace(log, more_content={TEXT: Content(features, texts.key_N)})
    features = dataclasses.replace(log.features, rows_VD=order(in_memory(log.features).rows_VD))
    return dataclasses.replace(log, features=features)


@pytest.mark.parametrize(
    ("content", "moved"), [(TEXT, {"ad_text", "behavior_text"}), (IMAGE, {"ad", "behavior"})]
)
def test_vectors_of_a_content_depend_on_its_rows_alone(content, moved):
    log = small_world.log_with_texts()
    before, after = (
        small_world.run(1, 1, spec=SPEC, click_log=of, moved_by=0.1).go(1)[0].workers
        for of in (log, permuted(log, content))
    )
    for name in MODELS:
        tensor = f"vectors of compressor {name!r}"
        same = float(before.magnitudes[tensor]) == float(after.magnitudes[tensor])
        assert same == (name not in moved), name
    assert float(before.magnitudes["ID rows"]) == float(after.magnitudes["ID rows"])
    assert float(before.loss) != float(after.loss)
