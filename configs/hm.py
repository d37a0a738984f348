"""DICM on the H&M log: purchases of real people, with a photo of every article.

Claim: test GAUC .755, AUC .758 (mean of three seeds). With photos shuffled across articles the GAUC
falls to .732, without images it is .723. Boosted trees on hand-made features: .722.

    data       the Kaggle competition "H&M Personalized Fashion Recommendations", in Kaggle's
               layout, with a 4096-D feature per photo beside it; train before 2020-05-17; a
               slice of 1,364 customers, 17,033 articles, 142,580 impressions
    time       1.5 to 2.5 minutes on 2 CPU cores with other work, about 1.3 GiB of memory
    command    python -m dicm_jax.train --config=configs/hm.py --config.data.path=FOLDER
    control    the same with --config.data.permute_images=true
"""

import ml_collections

MATCHED = ("section", "department", "index")
"""Where in the shop an article hangs: what its photo does not show."""


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults in `dicm_jax.config`; the command line gives data.path."""
    config = ml_collections.ConfigDict()

    config.data = ml_collections.ConfigDict()
    config.data.kind = "hm"  # the H&M log
    config.data.behavior_fields = MATCHED  # item fields that behaviors carry too

    config.features = ml_collections.ConfigDict()
    config.features.storage = "int8"  # format of the rows at rest: 1 byte a feature

    config.model = ml_collections.ConfigDict()
    config.model.share_compressor = True  # ads and behaviors are photos of the same articles
    config.model.compressor_widths = (256, 64, 64)  # 12 for the paper's net, all 64 for likeness
    config.model.similarity = True  # the head sees a soft histogram of the photos' cosines
    config.model.compressor_init = "pca"  # vectors start as the table's principal coordinates
    config.model.compressor_output_norm = "rms"  # vectors differ in direction only
    config.model.match_fields = MATCHED  # ID fields compared with those of behaviors
    config.model.query_fields = ("product_type",)  # ID fields of the second query
    config.model.interaction = "product"  # of query and behavior, beside their concatenation
    config.model.normalizer = "softmax"  # attention weights sum to one
    config.model.match = True  # the head sees ad image times pooled behaviors
    config.model.compute_dtype = "bfloat16"  # of the first, wide product; sums in float32

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 1e-3  # per step, of the net
    config.optimizer.id_learning_rate = 3e-3  # per step; products of IDs are slow to learn
    config.optimizer.compressor_learning_rate = 1e-4  # per step; more forgets where it started
    config.optimizer.schedule = "cosine"  # to zero over all epochs

    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 1024  # impressions per global batch
    config.train.epochs = 3  # passes over the train split

    return config
