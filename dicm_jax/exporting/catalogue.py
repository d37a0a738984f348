"""What a servable knows of every item, taken from the log.

Shape legend
    N   items of the log     F   ID fields of a level     B   impressions
"""

import dataclasses

import numpy as np

from dicm_jax.data.key_batch import FieldStack
from dicm_jax.data.schema import NO_IMAGE, ClickLog, StreamedGroups
from dicm_jax.errors import ServableError
from dicm_jax.serving.format import ID_ROWS, MISSING_AD, VECTORS


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Tables by item, place 0 that of no item.

    Attributes:
      names: of the items, in order.
      items_NF: places of ID rows of the item fields.
      rows_N: place of each item's vector, by content.
      context_NF: places of ID rows of the context fields, as last seen in the train split.
    """

    names: list[str]
    items_NF: np.ndarray
    rows_N: dict[str, np.ndarray]
    context_NF: np.ndarray


def catalogue_of(log: ClickLog, kept_N: np.ndarray) -> Catalogue:
    """The catalogue of a log.

    Args:
      log: the log.
      kept_N: which items it has; the others can be added to a service later.
    """
    stack = FieldStack(log)
    first_N = np.zeros((1, len(stack.item_F)), np.int32)
    items_NF = log.items.ids_NF[kept_N] + stack.item_F + ID_ROWS
    rows_N = {}
    for name, content in log.contents.items():
        key_N = content.key_N[kept_N]
        place_N = np.where(key_N == NO_IMAGE, MISSING_AD, key_N + VECTORS)
        rows_N[name] = np.concatenate([[0], place_N]).astype(np.int32)
    context_NF = _last_context(log)[kept_N] + stack.context_F + ID_ROWS
    return Catalogue(
        names=[name for name, kept in zip(item_names(log), kept_N, strict=True) if kept],
        items_NF=np.concatenate([first_N, items_NF]).astype(np.int32),
        rows_N=rows_N,
        context_NF=np.concatenate([np.zeros((1, context_NF.shape[1])), context_NF]).astype(
            np.int32
        ),
    )


def item_names(log: ClickLog) -> list[str]:
    """What items are called: the IDs of the first item field that tells all apart, else numbers."""
    for position, field in enumerate(log.fields_of("item")):
        if field.vocabulary in log.ids:
            key_N = log.items.ids_NF[:, position]
            if len(np.unique(key_N)) == len(key_N):
                return log.ids[field.vocabulary]().take(key_N).to_pylist()
    return [str(number) for number in range(len(log.items.image_N))]


def warm_items(log: ClickLog) -> np.ndarray:
    """Which items training has seen, shown or clicked.

    Raises:
      ServableError: the train split is streamed, and so is not looked at whole.
    """
    if isinstance(log.train, StreamedGroups):
        raise ServableError(
            f"--leave-out-cold: the train split is streamed from {log.train.where}, and what it"
            " holds is not known without reading all of it; train with data.stream=false, or export"
            " all items"
        )
    seen_N = np.zeros(len(log.items.image_N), bool)
    for split in (log.train, log.validation):
        if split is not None:
            seen_N[split.item_B] = True
            seen_N[split.behavior_item_H] = True
    return seen_N


def _last_context(log: ClickLog) -> np.ndarray:
    """Keys of the context fields in the newest impression of each item; 0 for items never shown.

    Of a streamed train split the test split's first impressions are not looked at: all 0.
    """
    context_NF = np.zeros((len(log.items.image_N), len(log.fields_of("context"))), np.int32)
    if not isinstance(log.train, StreamedGroups):
        # Groups are in order of time; of several writes to one item the last one stays.
        context_NF[log.train.item_B] = log.train.context_ids_BF
    return context_NF
