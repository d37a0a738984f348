"""VGG16 up to FC6 is the network that everybody means by it.

Shape legend
    B   images      H, W   pixels      C   channels      D   width of FC6
"""

import contextlib
import math
import os
import warnings
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when Keras is first imported

from dicm_jax.features.encoder import Encoder
from dicm_jax.features.preprocessing import CONVENTIONS
from dicm_jax.features.vgg16 import Vgg16, Vgg16Shape
from dicm_jax.features.vgg16_weights import load_weights
from tests.features import tiny_vgg16

B = 16


@pytest.fixture(scope="module")
def pixels_BHWC() -> np.ndarray:
    size = tiny_vgg16.SHAPE.image_size
    return np.random.default_rng(1).integers(0, 256, (B, size, size, 3), np.uint8)


def encode(pixels_BHWC, weights=None, convention="caffe", relu=True) -> np.ndarray:
    encoder = Encoder(
        tiny_vgg16.SHAPE,
        tiny_vgg16.parameters() if weights is None else weights,
        CONVENTIONS[convention],
        relu=relu,
        batch_size=len(pixels_BHWC),
    )
    return np.asarray(encoder(pixels_BHWC))


def layers(shape, weights, image_BHWC) -> dict[str, np.ndarray]:
    """Output of every layer of our network."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Vgg16(shape, rngs=nnx.Rngs(0))))
    nnx.replace_by_pure_dict(state, weights)
    outputs = jax.jit(lambda image_BHWC: dict(nnx.merge(graph, state).layers(image_BHWC)))
    return outputs(image_BHWC)


@contextlib.contextmanager
def outside_our_rules():
    """Keras mixes number types, and warns of itself."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def test_number_of_parameters_is_the_published_one():
    network = nnx.eval_shape(lambda: Vgg16(Vgg16Shape(), rngs=nnx.Rngs(0)))

    def count(module):
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(module)))

    assert count(network.fc6) == 102_764_544
    without_top = 14_714_688  # Keras's count of the thirteen convolutions
    assert count(network) == without_top + 102_764_544
    fc7, fc8 = 4096 * 4096 + 4096, 4096 * 1000 + 1000
    assert count(network) + fc7 + fc8 == 138_357_544  # of the whole VGG16


def test_every_layer_equals_the_one_of_keras(tmp_path):
    """Full width at a small image size, with the random weights that Keras drew, from its file."""
    with outside_our_rules():
        import keras

        random: Any = None  # weights of no file
        theirs = keras.applications.VGG16(weights=random, input_shape=(32, 32, 3), classes=2)
        rng = np.random.default_rng(0)
        for weight in theirs.weights:
            if len(weight.shape) == 1:  # Keras draws no biases
                weight.assign(rng.normal(0, 0.05, weight.shape))
        path = tmp_path / "theirs.weights.h5"
        theirs.save_weights(path)
        wanted = [layer for layer in theirs.layers if "conv" in layer.name or layer.name == "fc1"]
        image_BHWC = rng.normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
        outputs = keras.Model(theirs.inputs, [layer.output for layer in wanted])(image_BHWC)
        outputs = [np.asarray(output) for output in outputs]

    shape = Vgg16Shape(image_size=32)
    ours = layers(shape, load_weights(path, shape).parameters, image_BHWC)
    assert len(ours) == len(outputs) == 14
    for (name, output), expected in zip(ours.items(), outputs, strict=True):
        output = jax.nn.relu(output) if name == "fc6" else output
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(output / scale, expected / scale, atol=1e-5, err_msg=name)


def test_channels_last_with_permuted_weights_equals_channels_first(pixels_BHWC):
    weights = tiny_vgg16.parameters()
    image_BHWC = CONVENTIONS["caffe"](jax.numpy.asarray(pixels_BHWC))
    outputs = layers(tiny_vgg16.SHAPE, weights, image_BHWC)
    last_BHWC = nnx.max_pool(outputs["conv2_2"], (2, 2), strides=(2, 2))
    as_caffe_BI = np.asarray(last_BHWC).transpose(0, 3, 1, 2).reshape(B, -1)
    kernel_DI = tiny_vgg16.tensors_of("caffe.safetensors", weights)["fc6.weight"]
    expected_BD = as_caffe_BI @ kernel_DI.T + weights["fc6"]["bias"]
    np.testing.assert_allclose(outputs["fc6"], expected_BD, rtol=1e-4, atol=1e-3)


def test_bgr_is_rgb_with_a_turned_first_convolution(pixels_BHWC):
    turned = tiny_vgg16.parameters()
    turned["conv1_1"]["kernel"] = turned["conv1_1"]["kernel"][:, :, ::-1]
    np.testing.assert_allclose(
        encode(pixels_BHWC),
        encode(pixels_BHWC, turned, convention="caffe_rgb"),
        rtol=1e-4,
        atol=1e-3,
    )
    assert np.abs(encode(pixels_BHWC) - encode(pixels_BHWC, turned)).max() > 1


@pytest.mark.parametrize(("convention", "mode"), [("caffe", "caffe"), ("torchvision", "torch")])
def test_preprocessing_is_that_of_keras(convention, mode, pixels_BHWC):
    with outside_our_rules():
        from keras.src.applications import imagenet_utils

        given_BHWC = pixels_BHWC.astype(np.float32)
        expected = np.asarray(imagenet_utils.preprocess_input(given_BHWC, mode=mode))
    ours = CONVENTIONS[convention](jax.numpy.asarray(pixels_BHWC))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_rows_are_not_negative_after_relu_only(pixels_BHWC):
    before_BD, after_BD = (encode(pixels_BHWC, relu=relu) for relu in (False, True))
    assert (before_BD < 0).any()
    assert (before_BD > 0).any()
    np.testing.assert_allclose(after_BD, np.maximum(before_BD, 0))


def test_a_row_does_not_depend_on_its_batch(pixels_BHWC):
    together_BD = encode(pixels_BHWC)
    halves_BD = np.concatenate([encode(pixels_BHWC[:8]), encode(pixels_BHWC[8:])])
    np.testing.assert_allclose(halves_BD, together_BD, rtol=1e-5, atol=1e-4)
    backwards_BD = encode(pixels_BHWC[::-1])[::-1]
    np.testing.assert_allclose(backwards_BD, together_BD, rtol=1e-5, atol=1e-4)


def test_batch_is_split_over_all_devices(pixels_BHWC):
    encoder = Encoder(
        tiny_vgg16.SHAPE,
        tiny_vgg16.parameters(),
        CONVENTIONS["caffe"],
        relu=True,
        batch_size=B - 3,  # 13 is not a multiple of 8 devices
    )
    assert encoder.batch_size == B
    rows_BD = encoder(pixels_BHWC)
    assert {shard.data.shape for shard in rows_BD.addressable_shards} == {(B // 8, 10)}
