"""Settings of the FuxiCTR reader: which column is what, where the files do not say."""

import dataclasses
from typing import Literal

from dicm_jax.config_values import setting


@dataclasses.dataclass(frozen=True)
class FuxiCTRConfig:
    """The roles of columns; the defaults follow from the feature map (`layout.py`)."""

    user: str | None = setting(
        None, "column of the user; None = group_id, else the meta column, else the first of users"
    )
    item: str | None = setting(None, "column of the item; None = what the history shares keys with")
    history: str | None = setting(
        None, "sequence of the items behaved to; None = the first that shares an embedding"
    )
    label: str | None = setting(None, "column of the click; None = the only label")
    user_fields: tuple[str, ...] = setting((), "columns of the user, whatever their source")
    item_fields: tuple[str, ...] = setting((), "columns of the item, whatever their source")
    context_fields: tuple[str, ...] = setting((), "columns of the impression, likewise")
    ignore: tuple[str, ...] = setting((), "columns left out")
    newest: Literal["last", "first"] = setting("last", "end of a sequence where the newest stands")
    numeric_buckets: int = setting(
        32, "buckets of a numeric column, cut at quantiles of the train file", at_least=2
    )
    train_file: str | None = setting(None, "None = train.parquet, .csv, .npz or train/*.parquet")
    test_file: str | None = setting(None, "None = test.parquet, .csv, .npz or test/*.parquet")
    content: str | None = setting(
        None, "array of content rows (item_id, rows, or key, value); None = the one .npz or .npy"
    )
    dataset: str | None = setting(None, "dataset of dataset_config.yaml; None = the only one")
