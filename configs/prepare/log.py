"""Your own log as a prepared set: copy this file and say what your columns are called.

Claim: none; a form to fill in. Every setting and its unit: `dicm_jax.preparation.config`.

    data       tables of Parquet or CSV: impressions, items and, if there are any, behaviors and
               users; a feature row for every image
    command    python -m dicm_jax.prepare --config=configs/prepare/log.py --output=SET
               --config.impressions.path=LOG/impressions --config.behaviors.path=LOG/clicks
               --config.catalogue.path=LOG/items.parquet --config.features=FEATURES
               --config.split.test_from=2026-06-01
    then       python -m dicm_jax.train --config=configs/dicm.py --config.data.kind=prepared
               --config.data.path=SET --config.data.stream=true
"""

import ml_collections

DAY_S = 86_400


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults; paths come from the command line."""
    config = ml_collections.ConfigDict()
    config.name = "log"
    config.time_unit = "s"  # of times that are integers
    config.period_s = 1  # seconds; impressions of one user in one second are a request, a group

    config.impressions = ml_collections.ConfigDict()
    config.impressions.user = "user"
    config.impressions.item = "item"
    config.impressions.time = "time"
    config.impressions.click = "click"
    config.impressions.fields = ()  # such as ("page", "hour=hour_of_day")

    config.behaviors = ml_collections.ConfigDict()
    config.behaviors.user = "user"
    config.behaviors.item = "item"
    config.behaviors.time = "time"
    config.behaviors.dwell = None  # column of seconds stayed

    config.catalogue = ml_collections.ConfigDict()
    config.catalogue.item = "item"
    config.catalogue.image = None  # column of the image's ID; none: the item's own ID
    config.catalogue.fields = ()  # such as ("category", "brand")

    config.history = ml_collections.ConfigDict()
    config.history.window_s = 14 * DAY_S  # seconds looked back, as in the paper
    config.history.most = 50  # newest behaviors kept
    config.history.min_dwell_s = 0.0  # seconds; the paper keeps long stays only

    return config
