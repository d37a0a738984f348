"""DICM on the built-in world: the first run, and the default of `make train`.

Claim: test GAUC .722 where knowing the true click probability reaches .821, and .610 without
images (train.baseline).

    data       drawn by `dicm_jax.data.synthetic`, nothing to download
    time       1 minute on 2 CPU cores, generation, baseline and compilation included; 1.1 GiB of
               memory
    command    make train
               (python -m dicm_jax.train --config=configs/dicm.py --workdir=runs/dicm)
    shorter    --config.train.epochs=1
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults in `dicm_jax.config`."""
    config = ml_collections.ConfigDict()

    config.model = ml_collections.ConfigDict()
    config.model.query_fields = ("category",)  # ID fields of the second query, as in the paper
    config.model.compute_dtype = "bfloat16"  # of the first, wide product; sums in float32

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 1e-3  # per step, the paper's
    config.optimizer.schedule = "cosine"  # to zero over all epochs; the paper's needs 24,000 steps

    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 1024  # impressions per global batch
    config.train.epochs = 2  # passes over the train split, the paper's
    config.train.baseline = True  # train the model without images too, for comparison

    config.checkpoint = ml_collections.ConfigDict()
    config.checkpoint.every = 100  # steps

    return config
