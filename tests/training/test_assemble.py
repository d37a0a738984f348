"""Settings that do not fit the log: what the messages say, and rows that start larger."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import MeshShape, colocated
from dicm_jax.config import Config, FeaturesConfig, ModelConfig, OptimizerConfig
from dicm_jax.data.behavior_fields import with_behavior_fields
from dicm_jax.errors import ConfigError, DataError
from dicm_jax.training import assemble
from tests import small_world


def config(**of_model: Any) -> Config:
    small = {"compressor_widths": (8, 12), "attention_widths": (4,), "head_widths": (5,)}
    return Config(
        features=FeaturesConfig(storage="float32"), model=ModelConfig(**(small | of_model))
    )


@pytest.mark.parametrize(
    ("of_model", "message"),
    [
        ({"query_fields": ("colour",)}, r"query_fields names 'colour'.*image, category, position"),
        ({"compressor_widths": (8, 64)}, r"ends in 64, but model.embedding_width is 12"),
        ({"compressor_widths": (8, 6), "similarity": True}, r"ends in 6, but .* is 12"),
        ({"images": "behavior"}, r"images='behavior' with model.query_fields=\(\).*no query"),
        ({"match_fields": ("brand",)}, r"match_fields names 'brand'.*they have image, category"),
    ],
)
def test_settings_that_the_log_does_not_fit(of_model, message):
    with pytest.raises(ConfigError, match=message):
        assemble.model_spec(config(**of_model), small_world.log())


def test_din_needs_ids_of_behaviors():
    log = small_world.log()
    bare = dataclasses.replace(log, fields=log.fields[:-2])
    with pytest.raises(ConfigError, match=r"basic_net='din' on log .* whose behaviors have no ID"):
        assemble.model_spec(config(basic_net="din"), bare)


def test_sums_of_behaviors_need_no_query():
    spec = assemble.model_spec(config(images="behavior", aggregator="sum"), small_world.log())
    assert spec.net.aggregator == "sum"


def test_behavior_fields_can_be_added_and_messages_name_what_there_is():
    log = small_world.log()
    bare = dataclasses.replace(log, fields=log.fields[:-1])
    added = with_behavior_fields(bare, ("category", "image"))
    assert [field.name for field in added.fields_of("behavior")] == [
        "behavior_image",
        "behavior_category",
    ]
    with pytest.raises(DataError, match=r"'colour', which is no item field .* image, category"):
        with_behavior_fields(log, ("colour",))
    with pytest.raises(DataError, match=r"names 'image' more than once"):
        with_behavior_fields(log, ("image", "image"))


def test_rows_of_match_fields_start_larger():
    log = small_world.log()
    settings = config(match_fields=("category",), match_init_scale=2.0)
    settings = dataclasses.replace(settings, optimizer=OptimizerConfig(id_regularization=0.1))
    job = assemble.start_job(settings, log, colocated(MeshShape(1, 2)))
    source = assemble.train_source(settings, log)
    model, params = assemble.new_model(job)
    moves = assemble.optimizers(settings.optimizer, source)
    state = assemble.initial_state(job, model, params, moves, job.connect(source, model))
    keys = np.arange(source.stack.n_keys)
    row_VE = np.asarray(state.ids["row"])[RowLayout(source.stack.n_keys).row(keys)]
    start = source.stack.start["category"]
    of_category = slice(start, start + log.vocabulary_sizes["category"])
    assert row_VE[of_category].std() == pytest.approx(2, rel=0.3)
    assert np.delete(row_VE, keys[of_category], axis=0).std() == pytest.approx(0.01, rel=0.1)
    assert "pull" in state.ids
