"""One record of a prepared set: a block of groups, as flat arrays. TFDS reads it, no TensorFlow.

A record holds many groups in CSR form: one group a record costs two hundred times as much to read.
Every feature is one-dimensional raw bytes of a fixed type; how many ID fields a row has is known
from the set.

Shape legend
    G   groups of the block     B   their impressions     H   their behaviors
    F   ID fields of a level
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from dicm_jax.data.schema import GroupedImpressions

_TYPES = {
    "user": np.int32,
    "time": np.int64,
    "user_ids": np.int32,
    "behavior_count": np.int32,
    "behavior_item": np.int32,
    "impression_count": np.int32,
    "item": np.int32,
    "context_ids": np.int32,
    "click": np.uint8,
    "cold": np.uint8,
    "probability": np.float32,
}
"""Every feature. ``time`` and ``probability`` are empty where a log has none."""


@functools.cache
def features() -> tfds.features.FeaturesDict:
    """The features of a record, as ``features.json`` of the set lists them."""
    return tfds.features.FeaturesDict(
        {
            name: tfds.features.Tensor(shape=(None,), dtype=dtype, encoding="bytes")
            for name, dtype in _TYPES.items()
        }
    )


def encode(block: GroupedImpressions) -> bytes:
    """A block of groups as a record: equal blocks, equal bytes."""
    nothing = np.zeros(0)
    arrays = {
        "user": block.user_G,
        "time": nothing if block.time_G is None else block.time_G,
        "user_ids": block.user_ids_GF,
        "behavior_count": np.diff(block.behavior_offsets),
        "behavior_item": block.behavior_item_H,
        "impression_count": np.diff(block.impression_offsets),
        "item": block.item_B,
        "context_ids": block.context_ids_BF,
        "click": block.click_B,
        "cold": block.cold_B,
        "probability": nothing if block.probability_B is None else block.probability_B,
    }
    flat = {name: array.reshape(-1).astype(_TYPES[name]) for name, array in arrays.items()}
    example = tf_example_pb2.Example.FromString(  # pyright: ignore[reportAttributeAccessIssue]
        features().serialize_example(flat)
    )
    # Features stand in the order of a hash table otherwise, another one in every process.
    return example.SerializeToString(deterministic=True)


def decode(record: Mapping[str, Any]) -> GroupedImpressions:
    """A record, as TFDS gives it, as a block of groups; its arrays may not be written to."""
    groups, impressions = len(record["user"]), len(record["item"])
    offsets = lambda counts: np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])  # noqa: E731
    return GroupedImpressions(
        user_G=record["user"],
        user_ids_GF=record["user_ids"].reshape(groups, -1 if record["user_ids"].size else 0),
        behavior_offsets=offsets(record["behavior_count"]),
        behavior_item_H=record["behavior_item"],
        impression_offsets=offsets(record["impression_count"]),
        item_B=record["item"],
        context_ids_BF=record["context_ids"].reshape(
            impressions, -1 if record["context_ids"].size else 0
        ),
        click_B=record["click"],
        cold_B=record["cold"].view(np.bool_),
        probability_B=record["probability"] if len(record["probability"]) else None,
        time_G=record["time"] if len(record["time"]) else None,
    )
