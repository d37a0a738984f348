"""The compressor and its wide products in PyTorch, the peers in `benchmarks.compressor`.

Shape legend
    V   rows of the table     N   rows of a batch or chunk     D   content width
    H   width behind the wide product     E   embedding width
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks._peer_torch_model import copy_mlp, mlp

T = TypeVar("T")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchCompressor:
    """Gather, forward and backward to all weights, as a PyTorch user writes them.

    Args:
      params: the project's, to start from.
      table_VD: rows.
      rows_N: which of them make the batch.
      gradients_NE: of the vectors.
      autocast: whether products run in bfloat16.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        table_VD: Tensor,
        rows_N: np.ndarray,
        gradients_NE: np.ndarray,
        autocast: bool,
    ):
        content_width, *hidden = params["first_DH"].shape
        hidden += [layer["kernel"].shape[1] for layer in params["hidden"].values()]
        self.layers = mlp(content_width, tuple(hidden), params["output"]["kernel"].shape[1])
        copy_mlp(self.layers, params, params["first_DH"], params["first_bias_H"])
        self.table_VD, self.autocast = table_VD, autocast
        self.rows_N = torch.from_numpy(rows_N.astype(np.int64))
        self.gradients_NE = torch.from_numpy(gradients_NE)

    def step(self) -> Tensor:
        """Vectors; leaves the gradients with the weights."""
        self.layers.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            vectors_NE = self.layers(self.table_VD.index_select(0, self.rows_N))
        vectors_NE.backward(self.gradients_NE.to(vectors_NE.dtype))
        return vectors_NE

    def run(self) -> int:
        """One step; its images."""
        self.step()
        return len(self.rows_N)

    def results(self) -> list[np.ndarray]:
        """Vectors and the gradients of all weights, kernels as PyTorch has them."""
        found = [self.step(), *(weights.grad for weights in self.layers.parameters())]
        return [tensor.detach().float().numpy() for tensor in found]


def in_order_of_torch(params: Mapping[str, Any]) -> list[np.ndarray]:
    """A tree of the project's compressor, laid out as `TorchCompressor` has its parameters."""
    linear = [(params["first_DH"], params["first_bias_H"])]
    linear += [(layer["kernel"], layer["bias"]) for layer in params["hidden"].values()]
    slopes = [activation["slope"] for activation in params["activations"].values()]
    arrays = []
    for (kernel, bias), slope in zip(linear, slopes, strict=True):
        arrays += [kernel.T, bias, slope]
    return [
        np.asarray(x) for x in (*arrays, params["output"]["kernel"].T, params["output"]["bias"])
    ]


def wide_products(
    rows_ND: np.ndarray, weights_DH: np.ndarray, gradients_NH: np.ndarray, dtype: str
) -> Callable[[], None]:
    """``rows @ weights`` and ``gradients^T @ rows`` of one hot chunk, into buffers kept for it."""
    operands = (torch.from_numpy(x).to(DTYPES[dtype]) for x in (rows_ND, weights_DH, gradients_NH))
    rows, weights, gradients = operands
    out = torch.empty_like(gradients)
    out_gradient = torch.empty(weights.shape[::-1], dtype=rows.dtype)

    def both() -> None:
        torch.mm(rows, weights, out=out)
        torch.mm(gradients.T, rows, out=out_gradient)

    return both


def as_tensor(array: Any) -> Tensor:
    """A JAX array's memory as a tensor, without a copy."""
    return torch.from_dlpack(array)


def with_threads(function: Callable[[], T], count: int) -> Callable[[], T]:
    """`function` on so many threads."""

    def run() -> T:
        torch.set_num_threads(count)
        return function()

    return run
