"""DICM on a set that FuxiCTR reads, such as AmazonElectronics_x1, with content rows of the items.

Claim: none about GAUC. This file has been run on small sets in the formats that FuxiCTR reads and
writes, which the tests make; not yet on a public set.

    data       a folder with train and test as CSV, Parquet or NPZ, beside them feature_map.json
               (encoded) or dataset_config.yaml (raw), and one .npz of content rows: item_id and
               rows, or key and value (https://github.com/reczoo/Datasets)
    protocol   the files are the splits; roles of columns follow from the feature map and are said
               where it is silent, e.g. --config.data.fuxictr.user=user_id
               (`dicm_jax.data.fuxictr`)
    time       not measured on a public set
    command    python -m dicm_jax.train --config=configs/fuxictr.py --config.data.path=FOLDER
    control    the same with --config.data.permute_images=true
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults in `dicm_jax.config`; the command line gives data.path."""
    config = ml_collections.ConfigDict()

    config.data = ml_collections.ConfigDict()
    config.data.kind = "fuxictr"  # CSV, Parquet or NPZ with a feature map
    config.data.behaviors = 100  # newest behaviors kept; FuxiCTR's max_len for its public sets

    config.model = ml_collections.ConfigDict()
    config.model.share_compressor = True  # ads and behaviors are items of one catalogue
    config.model.normalizer = "softmax"  # attention weights sum to one

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.schedule = "cosine"  # to zero over all epochs

    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 1024  # impressions per global batch
    config.train.epochs = 2  # passes over the train split

    return config
