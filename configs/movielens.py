"""DICM on MovieLens-1M or MovieLens-100K, with a feature row for each poster.

Claim: none about GAUC. This file has been run on small sets in the exact format of both, which the
tests write; not yet on the public files with posters.

    data       ratings.dat, users.dat and movies.dat of MovieLens-1M, or u.data, u.user and u.item
               of MovieLens-100K (https://grouplens.org/datasets/movielens/), and beside them
               posters.npz: movie_id, rows [movies, feature width] and, for integers, scale
    protocol   clicked: 4 or 5 stars; the newest fifth of the ratings is the test; behaviors are
               the user's strictly earlier clicks (`dicm_jax.data.movielens`)
    time       not measured on the public files
    command    python -m dicm_jax.train --config=configs/movielens.py --config.data.path=FOLDER
    control    the same with --config.data.permute_images=true
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults in `dicm_jax.config`; the command line gives data.path."""
    config = ml_collections.ConfigDict()

    config.data = ml_collections.ConfigDict()
    config.data.kind = "movielens"  # 1M or 100K, by the files found

    config.model = ml_collections.ConfigDict()
    config.model.share_compressor = True  # ads and behaviors are posters of the same movies
    config.model.compressor_init = "pca"  # vectors start as the table's principal coordinates
    config.model.query_fields = ("genres",)  # ID fields of the second query
    config.model.normalizer = "softmax"  # attention weights sum to one

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.schedule = "cosine"  # to zero over all epochs

    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 1024  # impressions per global batch
    config.train.epochs = 2  # passes over the train split

    return config
