"""The H&M log as a prepared set: purchases are behaviors, articles the catalogue.

Claim: the set holds what the reader of the Kaggle folder makes of it, group by group; training on
it gives the same scores.

    data       the Kaggle competition "H&M Personalized Fashion Recommendations", in Kaggle's
               layout, with impressions.parquet (request, customer, day, article, click)
    features   a table of the photos, by article_id, made with python -m dicm_jax.features
    command    python -m dicm_jax.prepare --config=configs/prepare/hm.py --output=SET
               --config.impressions.path=HM/impressions.parquet
               --config.behaviors.path=HM/transactions_train.csv
               --config.catalogue.path=HM/articles.csv --config.features=FEATURES
    then       python -m dicm_jax.train --config=configs/hm.py --config.data.kind=prepared
               --config.data.path=SET
"""

import ml_collections

DAY_S = 86_400


def get_config() -> ml_collections.ConfigDict:
    """What differs from the defaults in `dicm_jax.preparation.config`."""
    config = ml_collections.ConfigDict()
    config.name = "hm"
    config.period_s = DAY_S  # the log knows days; a day's purchases say nothing of that day

    config.impressions = ml_collections.ConfigDict()
    config.impressions.user = "customer_id"
    config.impressions.item = "article_id"
    config.impressions.time = "t_dat"
    config.impressions.click = "click"

    config.behaviors = ml_collections.ConfigDict()
    config.behaviors.user = "customer_id"
    config.behaviors.item = "article_id"
    config.behaviors.time = "t_dat"

    config.catalogue = ml_collections.ConfigDict()
    config.catalogue.item = "article_id"
    config.catalogue.fields = (
        "product_type=product_type_no",
        "product_group=product_group_name",
        "graphical_appearance=graphical_appearance_no",
        "colour_group=colour_group_code",
        "perceived_colour_value=perceived_colour_value_id",
        "perceived_colour_master=perceived_colour_master_id",
        "department=department_no",
        "index=index_code",
        "index_group=index_group_no",
        "section=section_no",
        "garment_group=garment_group_no",
    )

    config.history = ml_collections.ConfigDict()
    config.history.window_s = 0  # people buy clothes less often than they click
    config.history.most = 50

    config.split = ml_collections.ConfigDict()
    config.split.test_from = "2020-05-17"
    return config
