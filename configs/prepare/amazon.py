"""An Amazon review set as a prepared set, by way of its reader.

Claim: the set holds what `configs/amazon.py` would train on, group by group.

    data       reviews_*.json[.gz] or ratings_*.csv, image_features_*.b, meta_*.json[.gz] if present
    command    python -m dicm_jax.prepare --config=configs/prepare/amazon.py --output=SET
               --config.data.path=FOLDER
    then       python -m dicm_jax.train --config=configs/amazon.py --config.data.kind=prepared
               --config.data.path=SET
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults in `dicm_jax.preparation.config`."""
    config = ml_collections.ConfigDict()
    config.source = "reader"  # instead of log tables
    config.data = ml_collections.ConfigDict()
    config.data.kind = "amazon"  # any reader does: hm, movielens, fuxictr, synthetic
    return config
