"""DICM for Rank in PyTorch, the peer in `benchmarks.peer_torch`.

The same layers and inputs as the project's; eager, float32, rows of the feature table in memory.

Content is embedded once for each distinct image of a batch (`torch.unique`). A batch is either a
row per impression, each with its own padded behaviors (`ImpressionRows`), or the groups of a
`KeyBatch`, expanded by index where impressions need them (`grouped_batch`); the network does not
know which.

Shape legend
    N   impressions of a split     B   impressions of a batch     G   groups (or B where there are
    L   behaviors                  F   ID fields of a level           none)
    E   embedding width            D   content width              Q   width of a query
"""

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dicm_jax.ams.keys import IMAGE, NO_ROW, PADDING
from dicm_jax.data.key_batch import FieldStack, KeyBatch
from dicm_jax.data.schema import ClickLog, GroupedImpressions


@dataclasses.dataclass(frozen=True)
class TorchBatch:
    """One batch. Keys are those of a `KeyBatch`, int64.

    Attributes:
      user_GF, impression_BF, behavior_GLF: ID keys.
      ad_image_B, behavior_image_GL: rows of the feature table.
      group_B: group of each impression; None where every impression is a group of its own.
      label_B: 1 clicked, 0 not.
    """

    user_GF: Tensor
    impression_BF: Tensor
    behavior_GLF: Tensor
    ad_image_B: Tensor
    behavior_image_GL: Tensor
    group_B: Tensor | None
    label_B: Tensor

    def unique_images(self) -> int:
        """Feature rows that the two compressors see."""
        sides = (self.ad_image_B, self.behavior_image_GL)
        return sum(len(torch.unique(keys[keys >= 0])) for keys in sides)


class ImpressionRows:
    """A split with one row an impression, all of it as tensors in memory."""

    def __init__(self, log: ClickLog, split: GroupedImpressions, behaviors: int):
        stack = FieldStack(log)
        group_N = np.repeat(np.arange(split.n_groups), np.diff(split.impression_offsets))
        item_NF = log.items.ids_NF[split.item_B] + stack.item_F
        context_NF = split.context_ids_BF + stack.context_F
        behavior_GL, real_GL = _padded_behaviors(split, behaviors)
        keys_GLF = stack.behavior_key_NF[behavior_GL]
        behavior_key_GLF = np.where(real_GL[..., None], keys_GLF, PADDING)
        image_GL = np.where(real_GL, log.items.image_N[behavior_GL], PADDING)
        self.user_NF = _long((split.user_ids_GF + stack.user_F)[group_N])
        self.impression_NF = _long(np.concatenate([item_NF, context_NF], axis=1))
        self.behavior_NLF = _long(behavior_key_GLF[group_N])
        self.ad_image_N = _long(log.items.image_N[split.item_B])
        self.behavior_image_NL = _long(image_GL[group_N])
        self.label_N = _long(split.click_B)

    def batch(self, index_B: Tensor) -> TorchBatch:
        """The impressions numbered `index_B`."""
        return TorchBatch(
            self.user_NF[index_B],
            self.impression_NF[index_B],
            self.behavior_NLF[index_B],
            self.ad_image_N[index_B],
            self.behavior_image_NL[index_B],
            None,
            self.label_N[index_B],
        )

    def shuffled(self, batch_size: int, seed: int) -> Iterator[TorchBatch]:
        """Full batches in a new random order each epoch, without end."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order_N = torch.randperm(len(self.label_N), generator=generator)
            for index_B in order_N.split(batch_size):
                if len(index_B) == batch_size:
                    yield self.batch(index_B)


def grouped_batch(keys: KeyBatch) -> TorchBatch:
    """The groups and the real impressions of a batch as the project cuts it."""
    lanes, groups = keys.behavior_AGLF.shape[:2]
    real_B = keys.weight_AB.reshape(-1) > 0
    group_AB = keys.group_AB + np.arange(lanes)[:, None] * groups

    def flat(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1, *array.shape[2:])

    return TorchBatch(
        _long(flat(keys.user_AGF)),
        _long(flat(keys.impression_ABF)[real_B]),
        _long(flat(keys.behavior_AGLF)),
        _long(flat(keys.ad_AB[IMAGE])[real_B]),
        _long(flat(keys.behavior_content_AGL[IMAGE])),
        _long(flat(group_AB)[real_B]),
        _long(flat(keys.label_AB)[real_B]),
    )


class Content(nn.Module):
    """Frozen rows and the compressor behind them; each distinct image is compressed once."""

    def __init__(self, features_VD: Tensor, widths: tuple[int, ...]):
        super().__init__()
        self.features_VD = features_VD
        self.compressor = mlp(features_VD.shape[1], widths[:-1], widths[-1])
        self.no_image_1E = nn.Parameter(torch.zeros(1, widths[-1]))

    def forward(self, image: Tensor) -> Tensor:
        real = image >= 0
        unique_U, inverse = torch.unique(image[real], return_inverse=True)
        vectors_UE = self.compressor(self.features_VD[unique_U])
        padding_1E = torch.zeros_like(self.no_image_1E)
        place = torch.where(image == NO_ROW, len(unique_U), len(unique_U) + 1)
        place[real] = inverse
        return functional.embedding(place, torch.cat([vectors_UE, self.no_image_1E, padding_1E]))


class AttentivePooling(nn.Module):
    """Behaviors summed with the weights of an activation unit, ``FC1(FC16(FC64([e ; q])))``."""

    def __init__(self, key_width: int, query_width: int, widths: tuple[int, ...]):
        super().__init__()
        self.unit = mlp(key_width + query_width, widths, 1)

    def forward(self, behavior_BLE: Tensor, mask_BL: Tensor, query_BQ: Tensor) -> Tensor:
        query_BLQ = query_BQ[:, None].expand(-1, behavior_BLE.shape[1], -1)
        weight_BL1 = self.unit(torch.cat([behavior_BLE, query_BLQ], dim=-1))
        weight_BL = weight_BL1[..., 0].masked_fill(~mask_BL, 0.0)
        return torch.bmm(weight_BL[:, None], behavior_BLE)[:, 0]


class TorchDICM(nn.Module):
    """The whole model, compressors included.

    Args:
      features_VD: standardised rows, float32.
      n_keys: rows of the ID table.
      n_fields: ID fields of users and impressions together.
      query_fields: positions of the second query's fields among the impression-level ones.
    """

    def __init__(
        self,
        features_VD: Tensor,
        n_keys: int,
        n_fields: int,
        query_fields: tuple[int, ...],
        *,
        width: int = 12,
        compressor_widths: tuple[int, ...] = (256, 64, 12),
        attention_widths: tuple[int, ...] = (64, 16),
        head_widths: tuple[int, ...] = (200, 80),
    ):
        super().__init__()
        self.query_fields = list(query_fields)
        self.ids = nn.Embedding(n_keys + 1, width, padding_idx=n_keys, sparse=True)
        self.ad = Content(features_VD, compressor_widths)
        self.behavior = Content(features_VD, compressor_widths)
        query_widths = (width, width * len(query_fields))
        self.poolings = nn.ModuleList(
            [AttentivePooling(width, query, attention_widths) for query in query_widths]
        )
        # Fields, one ID field of behaviors, the ad image, behaviors pooled for each query.
        self.head = mlp((n_fields + 1 + 1 + len(query_widths)) * width, head_widths, 2)

    def forward(self, batch: TorchBatch) -> Tensor:
        impression_BFE = self._embed(batch.impression_BF)
        ad_BE = self.ad(batch.ad_image_B)
        behavior_BLE = _expanded(self.behavior(batch.behavior_image_GL), batch.group_B)
        mask_BL = _expanded(batch.behavior_image_GL != PADDING, batch.group_B)
        queries = [ad_BE, impression_BFE[:, self.query_fields].flatten(1)]
        parts = [
            _expanded(self._embed(batch.user_GF).flatten(1), batch.group_B),
            impression_BFE.flatten(1),
            _expanded(self._embed(batch.behavior_GLF).sum(dim=1).flatten(1), batch.group_B),
            ad_BE,
        ]
        for pooling, query_BQ in zip(self.poolings, queries, strict=True):
            parts.append(pooling(behavior_BLE, mask_BL, query_BQ))
        return self.head(torch.cat(parts, dim=-1))

    def loss(self, batch: TorchBatch) -> Tensor:
        """Mean cross-entropy, nat."""
        return functional.cross_entropy(self(batch), batch.label_B)

    def _embed(self, keys: Tensor) -> Tensor:
        padding = self.ids.num_embeddings - 1
        return self.ids(torch.where(keys >= 0, keys, padding))


class TorchProgram:
    """A model on a stream of batches; SparseAdam for ID rows, Adam for the rest."""

    def __init__(self, model: TorchDICM, batches: Iterator[TorchBatch], learning_rate: float):
        self.model, self.batches = model, batches
        dense = [parameter for name, parameter in model.named_parameters() if name != "ids.weight"]
        self.optimizers = [
            torch.optim.SparseAdam([model.ids.weight], lr=learning_rate),
            torch.optim.Adam(dense, lr=learning_rate, fused=True),
        ]

    def train(self, steps: int) -> tuple[int, list[float]]:
        """Trains on the next `steps` batches; their impressions, and the losses."""
        impressions, losses = 0, []
        for batch in islice(self.batches, steps):
            impressions += len(batch.label_B)
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss = self.model.loss(batch)
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            losses.append(loss.item())
        return impressions, losses


class WithThreads:
    """A program that runs on so many threads."""

    def __init__(self, program: TorchProgram, count: int):
        self.program, self.count = program, count

    def train(self, steps: int) -> tuple[int, list[float]]:
        """See `TorchProgram.train`."""
        torch.set_num_threads(self.count)
        return self.program.train(steps)


def mlp(fan_in: int, widths: tuple[int, ...], fan_out: int) -> nn.Sequential:
    """Linear layers with a PReLU of one slope a channel behind all but the last."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(fan_in, width), LastDimPReLU(width)]
        fan_in = width
    return nn.Sequential(*layers, nn.Linear(fan_in, fan_out))


class LastDimPReLU(nn.PReLU):
    """`nn.PReLU` takes dim 1 for the channels; here they are the last dim."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(-1, x.shape[-1])).view(x.shape)


@torch.no_grad()
def copy_weights(
    model: TorchDICM, embedders: Mapping[str, Any], net: Mapping[str, Any], id_rows: np.ndarray
) -> None:
    """Start from the project's parameters; `id_rows` in the order of keys."""
    model.ids.weight[:-1] = torch.from_numpy(id_rows.copy())
    model.ids.weight[-1] = 0.0
    view = net["views"][IMAGE]
    for content, name in ((model.ad, "ad"), (model.behavior, "behavior")):
        part = embedders[name]
        copy_mlp(content.compressor, part, part["first_DH"], part["first_bias_H"])
        content.no_image_1E[0] = _tensor(view[f"no_{name}_E"])
    for i, pooling in enumerate(model.poolings):
        unit = view["aggregator"]["poolings"][i]["unit"]
        first = np.concatenate([unit["key_EH"], unit["query_QH"]])
        copy_mlp(pooling.unit, unit, first, unit["bias_H"])
    copy_mlp(model.head, net["basic_net"]["head"])


@torch.no_grad()
def copy_mlp(layers: nn.Module, part: Mapping[str, Any], first: Any = None, bias: Any = None):
    """Copy `first` and `bias`, where given, then the hidden layers and the output."""
    pairs = [] if first is None else [(first, bias)]
    pairs += [(layer["kernel"], layer["bias"]) for layer in part["hidden"].values()]
    pairs.append((part["output"]["kernel"], part["output"]["bias"]))
    linear = [layer for layer in layers.children() if isinstance(layer, nn.Linear)]
    for layer, (kernel, bias) in zip(linear, pairs, strict=True):
        layer.weight.copy_(_tensor(kernel).T)
        layer.bias.copy_(_tensor(bias))
    prelus = [layer for layer in layers.children() if isinstance(layer, nn.PReLU)]
    for layer, slope in zip(prelus, part["activations"].values(), strict=True):
        layer.weight.copy_(_tensor(slope["slope"]))


def _expanded(x: Tensor, group_B: Tensor | None) -> Tensor:
    return x if group_B is None else x[group_B]


def _padded_behaviors(split: GroupedImpressions, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The newest behaviors of each group, oldest first, and which places hold one."""
    end_G1 = split.behavior_offsets[1:, None]
    length_G1 = np.minimum(np.diff(split.behavior_offsets)[:, None], most)
    place_L = np.arange(most)
    real_GL = place_L < length_G1
    return split.behavior_item_H[np.where(real_GL, end_G1 - length_G1 + place_L, 0)], real_GL


def _long(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))
