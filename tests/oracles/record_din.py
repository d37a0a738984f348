"""Record what DeepCTR-Torch and FuxiCTR compute for DIN: Dice, attention pooling, whole models.

    pip install torch deepctr-torch fuxictr
    python -m tests.oracles.record_din

Writes ``din_deepctr.npz`` and ``din_fuxictr.npz`` beside this file. Names are ``case/array``.
Parameters have the same names for both packages: of a network's layers from below
``linear.0.weight`` [out, in], ``linear.0.bias``, and of the activations between them
``activation.0.alpha`` (PReLU, Dice), ``.mean`` and ``.variance`` (Dice). All in float32 on the CPU.

Shape legend
    G   groups   B   impressions   L   behaviors per group   E   width of behaviors and queries
    N   inputs of a Dice by itself   H   its width
"""

# pyright: reportMissingImports=false

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat, get_feature_names
from deepctr_torch.layers.activation import Dice as DeepctrDice
from deepctr_torch.layers.sequence import AttentionSequencePoolingLayer
from deepctr_torch.models import DIN
from fuxictr.pytorch.layers import DIN_Attention, MLP_Block
from fuxictr.pytorch.layers.activations import Dice as FuxictrDice

from tests.oracles.provenance import save

FOLDER = Path(__file__).parent
G, B, L, E, N, H = 5, 11, 7, 6, 37, 5
WIDTHS = [8, 4]
HEAD_WIDTHS = [10, 6]
SCALE_H = np.array([1, 3, 0.1, 1, 1], np.float32)
SHIFT_H = np.array([0, 1, 0, -2, 5], np.float32)
ACTIVATIONS = (torch.nn.PReLU, DeepctrDice, FuxictrDice)
Arrays = dict[str, np.ndarray]


def main() -> None:
    """Both packages, one file each."""
    save(FOLDER / "din_deepctr.npz", _flat(_of_deepctr()), "deepctr-torch", "torch")
    save(FOLDER / "din_fuxictr.npz", _flat(_of_fuxictr()), "fuxictr", "torch")


def _flat(cases: Iterator[tuple[str, Arrays]]) -> Arrays:
    return {f"{case}/{name}": array for case, arrays in cases for name, array in arrays.items()}


# ---- DeepCTR-Torch


def _of_deepctr() -> Iterator[tuple[str, Arrays]]:
    for eps in (1e-8, 1e-2):
        yield f"dice-{eps:g}", _dice(DeepctrDice(H, dim=2, epsilon=eps), eps)
    for activation in ("sigmoid", "prelu", "dice"):
        for normalizer in ("none", "softmax"):
            pooling = AttentionSequencePoolingLayer(
                att_hidden_units=WIDTHS,
                att_activation=activation,
                weight_normalization=normalizer == "softmax",
                embedding_dim=E,
            )
            yield (
                f"pooling-{activation}-{normalizer}",
                _pooling(
                    pooling,
                    lambda query, keys, length, module=pooling: module(
                        query[:, None, :], keys, length[:, None]
                    )[:, 0],
                ),
            )
    for normalizer in ("none", "softmax"):
        yield f"model-{normalizer}", _deepctr_model(normalizer)


def _deepctr_model(normalizer: str) -> Arrays:
    """The whole model: tables of IDs, attention over two joined fields, head, probability."""
    torch.manual_seed(5)
    sizes = {"user": 9, "item": 20, "category": 6}
    plain = [SparseFeat(name, size, embedding_dim=4) for name, size in sizes.items()]
    history = [
        VarLenSparseFeat(
            SparseFeat(f"hist_{name}", sizes[name], embedding_dim=4, embedding_name=name),
            maxlen=L,
            length_name="length",
        )
        for name in ("item", "category")
    ]
    columns = [*plain, *history]
    model = DIN(
        columns,
        ["item", "category"],
        dnn_hidden_units=HEAD_WIDTHS,
        dnn_activation="prelu",
        att_hidden_size=WIDTHS,
        att_activation="dice",
        att_weight_normalization=normalizer == "softmax",
    )
    _draw_parameters(model, seed=6)
    model.eval()
    ids = _ids(sizes)
    group_B = ids["group_B"]
    given = {"user": ids["user_G"][group_B], "length": ids["length_G"][group_B]}
    for name in ("item", "category"):
        given |= {name: ids[f"{name}_B"], f"hist_{name}": ids[f"{name}_GL"][group_B]}
    names = get_feature_names(columns)
    inputs = np.concatenate([given[name].reshape(B, -1) for name in names], axis=1)
    with torch.no_grad():
        probability_B1 = model(torch.tensor(inputs, dtype=torch.float32))
    tables = {f"table.{name}": model.embedding_dict[name].weight for name in sizes}
    return (
        {name: table.detach().numpy() for name, table in tables.items()}
        | _layers(model.attention, "unit.")
        | _layers(torch.nn.ModuleList([model.dnn, model.dnn_linear]), "head.")
        | {"head.output_bias": model.out.bias.detach().numpy()}
        | ids
        | {"probability_B": probability_B1.numpy()[:, 0]}
    )


def _ids(sizes: dict[str, int]) -> Arrays:
    """Users and behaviors of groups, ads of impressions; 0 at padding."""
    random = np.random.default_rng(7)
    length_G = _lengths()
    ids = {"length_G": length_G, "group_B": _groups(), "user_G": random.integers(1, 9, G)}
    for name in ("item", "category"):
        ids[f"{name}_B"] = random.integers(1, sizes[name], B)
        there_GL = np.arange(L) < length_G[:, None]
        ids[f"{name}_GL"] = random.integers(1, sizes[name], (G, L)) * there_GL
    return ids


# ---- FuxiCTR


def _of_fuxictr() -> Iterator[tuple[str, Arrays]]:
    for eps in (1e-9, 1e-2):
        yield f"dice-{eps:g}", _dice(FuxictrDice(H, eps=eps), eps)
    for activation in ("Sigmoid", "PReLU", "Dice"):
        for normalizer in ("none", "softmax"):
            pooling = DIN_Attention(
                embedding_dim=E,
                attention_units=WIDTHS,
                hidden_activations=activation,
                use_softmax=normalizer == "softmax",
            )
            name = f"pooling-{activation.lower()}-{normalizer}"
            yield (
                name,
                _pooling(
                    pooling,
                    lambda query, keys, length, module=pooling: module(
                        query, keys, torch.arange(L)[None] < length[:, None]
                    ),
                ),
            )
    for normalizer in ("none", "softmax"):
        yield f"model-{normalizer}", _fuxictr_model(normalizer)


def _fuxictr_model(normalizer: str) -> Arrays:
    """FuxiCTR's parts in the order of its DIN, on drawn embeddings: user, ad, pooled behaviors."""
    pooling = DIN_Attention(
        embedding_dim=E,
        attention_units=WIDTHS,
        hidden_activations="Dice",
        use_softmax=normalizer == "softmax",
    )
    head = MLP_Block(
        input_dim=3 * E,
        output_dim=1,
        hidden_units=HEAD_WIDTHS,
        hidden_activations=[FuxictrDice(width) for width in HEAD_WIDTHS],
        output_activation="sigmoid",
    )
    modules = torch.nn.ModuleDict({"pooling": pooling, "head": head})
    _draw_parameters(modules, seed=8)
    modules.eval()
    inputs = _inputs()
    user_GE = _normal(9, G, E)
    query_BE, key_BLE, mask_BL = _expanded(inputs, torch.tensor(inputs["length_G"]))
    with torch.no_grad():
        pooled_BE = pooling(query_BE, key_BLE, mask_BL)
        user_BE = torch.tensor(user_GE[inputs["group_B"]])
        probability_B1 = head(torch.cat([user_BE, query_BE, pooled_BE], dim=-1))
    return (
        _layers(pooling, "unit.")
        | _layers(head, "head.")
        | inputs
        | {"user_GE": user_GE, "probability_B": probability_B1.numpy()[:, 0]}
    )


# ---- What is asked of both


def _dice(dice: torch.nn.Module, eps: float) -> Arrays:
    """Dice by itself: evaluation, and training with gradients and the moments it leaves."""
    _draw_parameters(dice, seed=1)
    x_NH = _normal(2, N, H) * SCALE_H + SHIFT_H
    before = _layers(dice)
    arrays = {"x_NH": x_NH, "eps": np.array(eps), "evaluated_NH": _evaluated(dice, x_NH)}
    weight_NH = _normal(3, N, H)
    dice.train()
    x = torch.tensor(x_NH, requires_grad=True)
    trained_NH = dice(x)
    (trained_NH * torch.tensor(weight_NH)).sum().backward()
    arrays |= {"trained_NH": trained_NH.detach().numpy(), "weight_NH": weight_NH}
    arrays |= {"gradient_x_NH": x.grad.numpy(), "gradient_alpha_H": dice.alpha.grad.numpy()}
    arrays |= {"momentum": np.array(dice.bn.momentum)}
    return arrays | before | _moments_after(dice)


def _evaluated(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    module.eval()
    with torch.no_grad():
        return module(torch.tensor(x)).numpy()


def _pooling(module: torch.nn.Module, call) -> Arrays:
    """Attention pooling: evaluation with all lengths, and training with full histories.

    Both packages take Dice's moments over padding too, so that only full histories of training
    say something of moments over behaviors.
    """
    _draw_parameters(module, seed=4)
    inputs = _inputs()
    before = _layers(module)
    module.eval()
    query_BE, key_BLE, _ = _expanded(inputs, torch.tensor(inputs["length_G"]))
    length_B = torch.tensor(inputs["length_G"])[torch.tensor(inputs["group_B"])]
    with torch.no_grad():
        evaluated_BE = call(query_BE, key_BLE, length_B)
        module.train()
        trained_BE = call(query_BE, key_BLE, torch.full((B,), L))
    outputs = {"evaluated_BE": evaluated_BE.numpy(), "trained_full_BE": trained_BE.numpy()}
    return inputs | before | outputs | _moments_after(module)


def _moments_after(module: torch.nn.Module) -> Arrays:
    arrays = {f"after.{name}": array for name, array in _layers(module).items()}
    return {name: arrays[name] for name in arrays if name.endswith(("mean", "variance"))}


def _inputs() -> Arrays:
    """Groups with no, one, some and all places taken; padding holds numbers that must not count."""
    return {
        "behavior_GLE": _normal(10, G, L, E),
        "length_G": _lengths(),
        "query_BE": _normal(11, B, E),
        "group_B": _groups(),
    }


def _expanded(inputs: Arrays, length_G) -> tuple:
    """Query, behaviors and mask of each impression, as both packages want them."""
    group_B = torch.tensor(inputs["group_B"])
    key_BLE = torch.tensor(inputs["behavior_GLE"])[group_B]
    mask_BL = torch.arange(L)[None] < length_G[group_B][:, None]
    return torch.tensor(inputs["query_BE"]), key_BLE, mask_BL


def _lengths() -> np.ndarray:
    return np.array([0, L, 1, 3, 5])


def _groups() -> np.ndarray:
    return np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4])


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _draw_parameters(module: torch.nn.Module, seed: int) -> None:
    """Parameters and moments of size one: those that the packages start from show nothing."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if f".{name}".endswith((".num_batches_tracked", ".bn.weight", ".bn.bias")):
                continue  # a count; and a scale and a shift that Dice's formula does not have
            drawn = random.standard_normal(tuple(tensor.shape), np.float32)
            if name.endswith("running_var"):
                drawn = np.exp(drawn)
            elif name.endswith("weight") and tensor.dim() == 2:
                drawn *= np.float32(2 / tensor.shape[1] ** 0.5)
            else:
                drawn *= np.float32(0.5)
            tensor.copy_(torch.tensor(drawn))


def _layers(network: torch.nn.Module, prefix: str = "") -> Arrays:
    """Parameters and moments of a network's layers, from below, under names of our own."""
    linears = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    activations = [m for m in network.modules() if isinstance(m, ACTIVATIONS)]
    arrays = {}
    for number, linear in enumerate(linears):
        arrays[f"{prefix}linear.{number}.weight"] = linear.weight
        if linear.bias is not None:
            arrays[f"{prefix}linear.{number}.bias"] = linear.bias
    for number, activation in enumerate(activations):
        for name, tensor in _activation(activation).items():
            arrays[f"{prefix}activation.{number}.{name}"] = tensor
    return {name: tensor.detach().numpy().copy() for name, tensor in arrays.items()}


def _activation(activation: torch.nn.Module) -> dict[str, torch.Tensor]:
    if isinstance(activation, torch.nn.PReLU):
        return {"alpha": activation.weight}
    moments = {"mean": activation.bn.running_mean, "variance": activation.bn.running_var}
    return {"alpha": activation.alpha.reshape(-1)} | moments


if __name__ == "__main__":
    main()
