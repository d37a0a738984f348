"""DIN's parts against numbers that DeepCTR-Torch and FuxiCTR computed, with their parameters.

The numbers are recorded by `tests/oracles/record_din.py`. Two known differences are taken out:

- Where nothing is there, softmax over no behavior is the mean of padding in both packages, and zero
  here; without softmax all agree on zero.
- Both packages take Dice's moments over padding, and keep a moving variance with ``n - 1`` in the
  denominator; here padding does not count, and the denominator is ``n``.

Shape legend
    G   groups   B   impressions   L   behaviors per group   E   width of behaviors and queries
    N   inputs of a Dice by itself   H   its width, or a hidden width
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dicm_jax.nn.activation_unit import ActivationUnit
from dicm_jax.nn.aggregators import AttentivePooling, NormalizerName
from dicm_jax.nn.basic_nets import Head
from dicm_jax.nn.dice import Activation, Dice, training
from dicm_jax.nn.dicm import DICM
from dicm_jax.nn.inputs import Inputs
from dicm_jax.nn.prelu import PReLU
from dicm_jax.nn.spec import NetSpec

ORACLES = Path(__file__).parents[1] / "oracles"
FIXTURES = {package: np.load(ORACLES / f"din_{package}.npz") for package in ("deepctr", "fuxictr")}
POOLINGS = [
    (package, activation, normalizer)
    for package in FIXTURES
    for activation in ("sigmoid", "prelu", "dice")
    for normalizer in ("none", "softmax")
]
Arrays = dict[str, np.ndarray]


def case_of(package: str, case: str) -> Arrays:
    fixture, prefix = FIXTURES[package], f"{case}/"
    arrays = {name: fixture[name] for name in fixture.files if name.startswith(prefix)}
    assert arrays, f"{package} has no case {case}"
    return {name.removeprefix(prefix): array for name, array in arrays.items()}


def alone(total: jax.Array) -> jax.Array:
    """The sum over all devices, where there is one."""
    return total


# ---- Copying parameters


def copied_activation(activation: Activation, case: Arrays, name: str) -> None:
    if isinstance(activation, PReLU | Dice):
        slope_H = activation.slope[...]
        activation.slope[...] = jnp.broadcast_to(case[f"{name}.alpha"], slope_H.shape)
    if isinstance(activation, Dice):
        activation.mean[...] = jnp.asarray(case[f"{name}.mean"])
        activation.variance[...] = jnp.asarray(case[f"{name}.variance"])


def copied_linear(linear: nnx.Linear, case: Arrays, name: str) -> None:
    linear.kernel[...] = jnp.asarray(case[f"{name}.weight"].T)
    assert linear.bias is not None
    linear.bias[...] = jnp.asarray(case[f"{name}.bias"])


def unit_of(case: Arrays, activation: str, prefix: str = "") -> ActivationUnit:
    """An activation unit with the parameters of theirs, whose input is ``[q, e, q - e, q * e]``.

    Ours forms ``q - e`` out of ``q`` and ``e``: the weights on it join those on the two.
    """
    weight_XH = case[f"{prefix}linear.0.weight"].T
    query_EH, key_EH, difference_EH, product_EH = np.split(weight_XH, 4)
    widths = [len(case[f"{prefix}linear.{number}.bias"]) for number in (0, 1)]
    unit = ActivationUnit(
        len(key_EH),
        len(query_EH),
        widths,
        interaction="product",
        activation=activation,
        rngs=nnx.Rngs(0),
    )
    unit.query_QH[...] = jnp.asarray(query_EH + difference_EH)
    unit.key_EH[...] = jnp.asarray(key_EH - difference_EH)
    unit.interaction_XH[...] = jnp.asarray(product_EH)
    unit.bias_H[...] = jnp.asarray(case[f"{prefix}linear.0.bias"])
    copied_linear(unit.hidden[0], case, f"{prefix}linear.1")
    copied_linear(unit.output, case, f"{prefix}linear.2")
    for number, module in enumerate(unit.activations):
        copied_activation(module, case, f"{prefix}activation.{number}")
    return unit


def pooled(pooling: AttentivePooling, case: Arrays, length_G: np.ndarray) -> np.ndarray:
    behavior_GLE = jnp.asarray(case["behavior_GLE"])
    mask_GL = jnp.arange(behavior_GLE.shape[1])[None, :] < jnp.asarray(length_G)[:, None]
    query_BE, group_B = jnp.asarray(case["query_BE"]), jnp.asarray(case["group_B"], jnp.int32)
    return np.asarray(pooling(behavior_GLE, mask_GL, query_BE, group_B))


# ---- Dice


def dice_cases() -> list[tuple[str, str]]:
    return [
        (package, case)
        for package, fixture in FIXTURES.items()
        for case in sorted({name.split("/")[0] for name in fixture.files})
        if case.startswith("dice")
    ]


def dice_of(case: Arrays) -> Dice:
    decay, eps = 1.0 - float(case["momentum"]), float(case["eps"])
    dice = Dice(case["x_NH"].shape[1], decay=decay, eps=eps)
    copied_activation(dice, case, "activation.0")
    return dice


@pytest.mark.parametrize(("package", "name"), dice_cases())
def test_dice_predicts_with_moving_averages(package, name):
    case = case_of(package, name)
    evaluated_NH = dice_of(case)(jnp.asarray(case["x_NH"]))
    np.testing.assert_allclose(evaluated_NH, case["evaluated_NH"], rtol=2e-6, atol=2e-6)
    assert np.abs(case["evaluated_NH"] - case["trained_NH"]).max() > 0.1, "both modes look alike"


@pytest.mark.parametrize(("package", "name"), dice_cases())
def test_dice_trains_with_moments_of_the_batch(package, name):
    case = case_of(package, name)
    dice = dice_of(case)
    training(dice, alone)
    trained_NH = dice(jnp.asarray(case["x_NH"]))
    np.testing.assert_allclose(trained_NH, case["trained_NH"], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("package", "name"), dice_cases())
def test_dice_keeps_the_moving_averages_that_the_packages_keep(package, name):
    case = case_of(package, name)
    dice = dice_of(case)
    training(dice, alone)
    dice(jnp.asarray(case["x_NH"]))
    np.testing.assert_allclose(
        dice.mean[...], case["after.activation.0.mean"], rtol=1e-6, atol=1e-6
    )
    variance_H = without_bessel(
        case["activation.0.variance"],
        case["after.activation.0.variance"],
        momentum=float(case["momentum"]),
        count=len(case["x_NH"]),
    )
    np.testing.assert_allclose(dice.variance[...], variance_H, rtol=2e-6, atol=1e-6)


def without_bessel(
    before_H: np.ndarray, after_H: np.ndarray, momentum: float, count: int
) -> np.ndarray:
    """The moving variance after a step, had the batch's variance ``n`` in its denominator."""
    kept_H = (1 - momentum) * before_H.astype(np.float64)
    return kept_H + (after_H - kept_H) * (count - 1) / count


@pytest.mark.parametrize(("package", "name"), dice_cases())
def test_dice_has_the_gradients_of_the_packages(package, name):
    """The moments of the batch are functions of the input too; leaving that out shows here."""
    case = case_of(package, name)
    dice = dice_of(case)
    training(dice, alone)
    graph, slope, rest = nnx.split(dice, nnx.Param, ...)

    def weighted(slope: nnx.State, x_NH: jax.Array) -> jax.Array:
        activated_NH = nnx.merge(graph, slope, rest, copy=True)(x_NH)
        return jnp.sum(activated_NH * jnp.asarray(case["weight_NH"]))

    of_slope, of_x_NH = jax.grad(weighted, argnums=(0, 1))(slope, jnp.asarray(case["x_NH"]))
    (of_slope_H,) = jax.tree.leaves(of_slope)
    np.testing.assert_allclose(of_slope_H, case["gradient_alpha_H"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_x_NH, case["gradient_x_NH"], rtol=1e-5, atol=1e-5)


# ---- Attention pooling


@pytest.mark.parametrize(("package", "activation", "normalizer"), POOLINGS)
def test_pooling_of_histories_of_all_lengths(package, activation, normalizer):
    case = case_of(package, f"pooling-{activation}-{normalizer}")
    pooling = AttentivePooling(unit_of(case, activation), normalizer)
    found_BE = pooled(pooling, case, case["length_G"])
    length_B = case["length_G"][case["group_B"]]
    assert {0, case["behavior_GLE"].shape[1]} <= set(length_B.tolist())
    there_B = length_B > 0
    np.testing.assert_allclose(
        found_BE[there_B], case["evaluated_BE"][there_B], rtol=1e-5, atol=2e-6
    )
    np.testing.assert_array_equal(found_BE[~there_B], 0)
    if normalizer == "none":
        np.testing.assert_array_equal(case["evaluated_BE"][~there_B], 0)


@pytest.mark.parametrize(("package", "activation", "normalizer"), POOLINGS)
def test_pooling_in_training(package, activation, normalizer):
    case = case_of(package, f"pooling-{activation}-{normalizer}")
    pooling = AttentivePooling(unit_of(case, activation), normalizer)
    training(pooling, alone)
    full_G = np.full_like(case["length_G"], case["behavior_GLE"].shape[1])
    found_BE = pooled(pooling, case, full_G)
    np.testing.assert_allclose(found_BE, case["trained_full_BE"], rtol=1e-5, atol=5e-6)
    for number, dice in enumerate(pooling.unit.activations):
        if isinstance(dice, Dice):
            after_H = case[f"after.activation.{number}.mean"]
            before_H = case[f"activation.{number}.mean"]
            moved_H = (np.asarray(dice.mean[...]) - before_H) / (1 - dice.decay)
            expected_H = (after_H - before_H) / MOMENTUM[package]
            np.testing.assert_allclose(moved_H, expected_H, rtol=1e-4, atol=2e-5)


MOMENTUM = {"deepctr": 0.1, "fuxictr": 0.01}
"""What a batch counts in the moving averages of attention, the packages' default."""


# ---- The whole model


def din_of(
    case: Arrays, width: int, fields: int, normalizer: NormalizerName, head_activation: str
) -> DICM:
    """DIN without images, with the parameters of theirs; a behavior has `fields` ID fields."""
    spec = NetSpec(
        user_fields=1,
        impression_fields=fields,
        behavior_targets=tuple(range(fields)),
        query_fields=(),
        embedding_width=width,
        images="none",
        basic_net="din",
        head_widths=tuple(len(case[f"head.linear.{number}.bias"]) for number in (0, 1)),
        din_widths=tuple(len(case[f"unit.linear.{number}.bias"]) for number in (0, 1)),
        din_normalizer=normalizer,
    )
    model = DICM(spec, rngs=nnx.Rngs(0))
    model.basic_net.pooling.unit = unit_of(case, "dice", "unit.")
    fan_in = case["head.linear.0.weight"].shape[1]
    head = Head(fan_in, spec.head_widths, activation=head_activation, rngs=nnx.Rngs(0))
    for number, (layer, activation) in enumerate(zip(head.hidden, head.activations, strict=True)):
        copied_linear(layer, case, f"head.linear.{number}")
        copied_activation(activation, case, f"head.activation.{number}")
    copied_click_logit(head.output, case)
    model.basic_net.head = head
    return model


def copied_click_logit(output: nnx.Linear, case: Arrays) -> None:
    """One logit of theirs against a logit of zero for no click: softmax is then their sigmoid."""
    bias = case["head.output_bias" if "head.output_bias" in case else "head.linear.2.bias"]
    weight_1H = case["head.linear.2.weight"]
    output.kernel[...] = jnp.asarray(np.concatenate([np.zeros_like(weight_1H), weight_1H]).T)
    assert output.bias is not None
    output.bias[...] = jnp.asarray(np.concatenate([np.zeros_like(bias), bias]))


def inputs_of(
    user_GFE: np.ndarray, impression_BFE: np.ndarray, behavior_GLE: np.ndarray, case: Arrays
) -> Inputs:
    mask_GL = np.arange(behavior_GLE.shape[1]) < case["length_G"][:, None]
    return Inputs(
        user_GFE=jnp.asarray(user_GFE),
        impression_BFE=jnp.asarray(impression_BFE),
        behavior_ids_GLK=jnp.asarray(behavior_GLE),
        ad_BE={},
        behavior_GLE={},
        behavior_mask_GL=jnp.asarray(mask_GL),
        group_B=jnp.asarray(case["group_B"], jnp.int32),
        there_B=jnp.ones(len(case["group_B"]), bool),
    )


def assert_probabilities_are_theirs(model: DICM, inputs: Inputs, case: Arrays, normalizer: str):
    probability_B = jax.nn.softmax(model(inputs))[:, 1]
    agree_B = np.full(len(probability_B), True)
    if normalizer == "softmax":
        agree_B = case["length_G"][case["group_B"]] > 0  # no behavior: see the top of this file
    np.testing.assert_allclose(
        probability_B[agree_B], case["probability_B"][agree_B], rtol=2e-6, atol=1e-6
    )
    assert np.ptp(case["probability_B"]) > 0.2, "all alike: equality shows little"


@pytest.mark.parametrize("normalizer", ["none", "softmax"])
def test_din_gives_the_probabilities_of_deepctr(normalizer):
    """Two ID fields of a behavior, joined; Dice in the attention, PReLU in the head."""
    case = case_of("deepctr", f"model-{normalizer}")
    model = din_of(case, width=4, fields=2, normalizer=normalizer, head_activation="prelu")
    names = ("item", "category")
    inputs = inputs_of(
        case["table.user"][case["user_G"]][:, None],
        np.stack([case[f"table.{name}"][case[f"{name}_B"]] for name in names], axis=1),
        np.concatenate([case[f"table.{name}"][case[f"{name}_GL"]] for name in names], axis=-1),
        case,
    )
    assert_probabilities_are_theirs(model, inputs, case, normalizer)


@pytest.mark.parametrize("normalizer", ["none", "softmax"])
def test_din_gives_the_probabilities_of_fuxictr(normalizer):
    """One ID field of a behavior; Dice in the attention and in the head."""
    case = case_of("fuxictr", f"model-{normalizer}")
    model = din_of(case, width=6, fields=1, normalizer=normalizer, head_activation="dice")
    inputs = inputs_of(
        case["user_GE"][:, None], case["query_BE"][:, None], case["behavior_GLE"], case
    )
    assert_probabilities_are_theirs(model, inputs, case, normalizer)
