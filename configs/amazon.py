"""DICM on an Amazon review set, with the published 4096-D feature of each product's picture.

Claim: none about GAUC. This file has been run on small sets in the exact format of the published
files, which the tests write; not yet on the public files.

    data       of one category of https://jmcauley.ucsd.edu/data/amazon/: reviews_*.json.gz (all, or
               the 5-core) or ratings_*.csv, image_features_*.b and, if wanted, meta_*.json.gz
    protocol   a review is a click of its user on that day, beside 4 products drawn in proportion to
               what the others reviewed that week; the newest fifth of the reviews is the test;
               behaviors are the user's reviews of strictly earlier days (`dicm_jax.data.amazon`)
    time       not measured on the public files
    command    python -m dicm_jax.train --config=configs/amazon.py --config.data.path=FOLDER
    control    the same with --config.data.permute_images=true
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults in `dicm_jax.config`; the command line gives data.path."""
    config = ml_collections.ConfigDict()

    config.data = ml_collections.ConfigDict()
    config.data.kind = "amazon"  # reviews as clicks

    config.model = ml_collections.ConfigDict()
    config.model.share_compressor = True  # ads and behaviors are pictures of the same products
    config.model.compressor_init = "pca"  # vectors start as the table's principal coordinates
    config.model.query_fields = ("category",)  # ID fields of the second query
    config.model.normalizer = "softmax"  # attention weights sum to one

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.schedule = "cosine"  # to zero over all epochs

    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 1024  # impressions per global batch
    config.train.epochs = 2  # passes over the train split

    return config
