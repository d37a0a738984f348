"""A batch as the devices take it: requests to the servers, and slots that say what goes where.

Shape legend (the dims of one device; global arrays hold those of all devices, one after another)
    K   slots of a list of rows     G   groups     B   impressions
    L   behaviors per group         F   ID fields of a level
"""

import dataclasses
from typing import Literal, no_type_check

import jax

from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.plan import Capacity, Leaf, Request

Side = Literal["ad", "behavior"]


@dataclasses.dataclass(frozen=True)
class ContentInput:
    """One place where a model sees content.

    Attributes:
      side: what is seen, the ad shown or the behaviors.
      content: the content it is seen through, and the name of its table, e.g. ``"image"``.
      model: the embedding model that makes vectors of it; inputs may share one.
    """

    side: Side
    content: str
    model: str


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ServerBatch:
    """What servers get of a batch: one entry a requester.

    Attributes:
      ids: request for ID rows.
      content: request for vectors, by embedding model.
      staged: rows brought from host memory for this batch, by embedding model; empty where tables
        lie in device memory.
    """

    ids: Request
    content: dict[str, Request]
    staged: dict[str, FeatureTable]


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples:
    """What workers get of a batch.

    Attributes:
      user_slot_GF, impression_slot_BF, behavior_slot_GLF: slots of ID rows.
      ad_slot_B, behavior_content_slot_GL: slots of vectors, by content.
      behavior_mask_GL: True where there is a behavior.
      group_B: group of each impression, counted on its device.
      label_B: 1 clicked, 0 not.
      weight_B: 1 for an impression, 0 for padding.
      stop: int32 ``[1]``, 1 where this process was asked to stop.
    """

    user_slot_GF: Leaf
    impression_slot_BF: Leaf
    behavior_slot_GLF: Leaf
    ad_slot_B: dict[str, Leaf]
    behavior_content_slot_GL: dict[str, Leaf]
    behavior_mask_GL: Leaf
    group_B: Leaf
    label_B: Leaf
    weight_B: Leaf
    stop: Leaf


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch, planned.

    Attributes:
      servers: for the servers.
      samples: for the workers, one entry a worker.
      lists: the requests again, for the workers of each requester: IDs under `IDS`, content by
        embedding model.
      rows: raw rows in the order of a worker's list, by embedding model; empty unless a batch
        brings them.
    """

    servers: ServerBatch
    samples: Samples
    lists: dict[str, Request]
    rows: dict[str, FeatureTable]


IDS = "ids"
"""Name of the ID table among the lists and errors of a batch."""


@dataclasses.dataclass(frozen=True)
class Capacities:
    """What the exchanges of a step are compiled for.

    Attributes:
      ids: of the ID table.
      content: by embedding model.
    """

    ids: Capacity
    content: dict[str, Capacity]
