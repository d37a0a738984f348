"""DICM on the built-in synthetic world, through the model server.

Claim: images of ads and behaviors raise the test GAUC from MEASURE (the same model without images)
to MEASURE; the best reachable, that of the world's own click probabilities, is MEASURE.

    data       the synthetic world of dicm_jax/data/synthetic.py, nothing to download
    time       MEASURE on 2 CPU cores, MEASURE GiB of memory
    command    python -m dicm_jax.train --config=configs/dicm.py --workdir=runs/dicm
    without images    the same with --config.model.images=none
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults in `dicm_jax.config`."""
    config = ml_collections.ConfigDict()

    config.data = ml_collections.ConfigDict()
    config.data.kind = "synthetic"  # the built-in world

    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 1024  # impressions per global batch
    config.train.epochs = 2  # passes over the train split
    config.train.baseline = True  # also report the GAUC of the model without images

    return config
