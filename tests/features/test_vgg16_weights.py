"""Weights files of every family give the same network, and files of another network none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from dicm_jax.errors import DataError
from dicm_jax.features.file_crc import file_crc
from dicm_jax.features.vgg16_weights import load_weights
from tests.features import tiny_vgg16
from tests.features.tiny_vgg16 import FAMILIES, SHAPE

ORIGINAL_BGR = (0.42947057, 0.55037946, 0.48001540)


def fails(path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        load_weights(path, SHAPE)


def saved(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    path = folder / "weights.safetensors"
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
    return path


def changed(folder: Path, name: str, change) -> Path:
    """A weights file in which one tensor is changed, or dropped by a change to None."""
    tensors = tiny_vgg16.tensors_of("torchvision.safetensors", tiny_vgg16.parameters())
    tensor = change(tensors.pop(name))
    return saved(folder, tensors if tensor is None else tensors | {name: tensor})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_same_network(family, tmp_path):
    path = tiny_vgg16.save(tmp_path, family, tiny_vgg16.parameters())
    weights = load_weights(path, SHAPE)
    for layer, expected in tiny_vgg16.parameters().items():
        for part, tensor in expected.items():
            np.testing.assert_array_equal(weights.parameters[layer][part], tensor, layer)
    assert weights.preprocessing.name == FAMILIES[family]
    assert weights.crc == file_crc(path)


def test_convention_can_be_named(tmp_path):
    path = tiny_vgg16.save(tmp_path, "frossard.npz", tiny_vgg16.parameters())
    assert load_weights(path, SHAPE, "caffe_rgb").preprocessing.order == "RGB"


@pytest.mark.parametrize(
    ("corner", "family", "convention"),
    [
        (ORIGINAL_BGR, "torchvision.safetensors", "caffe"),
        (ORIGINAL_BGR[::-1], "torchvision.safetensors", "caffe_rgb"),
        (ORIGINAL_BGR[::-1], "frossard.npz", "caffe_rgb"),
        (ORIGINAL_BGR, "keras2.h5", "caffe"),
    ],
)
def test_original_weights_are_known_by_their_values(corner, family, convention, tmp_path):
    weights = tiny_vgg16.parameters()
    weights["conv1_1"]["kernel"][0, 0, :, 0] = corner
    path = tiny_vgg16.save(tmp_path, family, weights)
    assert load_weights(path, SHAPE).preprocessing.name == convention


def test_half_precision_is_read(tmp_path):
    tensors = tiny_vgg16.tensors_of("torchvision.safetensors", tiny_vgg16.parameters())
    half = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    kernel = load_weights(saved(tmp_path, half), SHAPE).parameters["fc6"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel, tiny_vgg16.parameters()["fc6"]["kernel"], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        (
            "classifier.0.weight",
            lambda tensor: None,
            r"no kernel of fc6 found \(tensor 'classifier.0' under torchvision's names\); 9 of the"
            r" 10 tensors .* with its fully connected layers",
        ),
        (
            "features.5.weight",
            lambda tensor: tensor[:, :4],
            r"'features.5.weight', the kernel of conv2_1, has shape \(6, 4, 3, 3\); expected"
            r" \(3, 3, 5, 6\) or \(6, 5, 3, 3\): give a weights file of VGG16",
        ),
        (
            "classifier.0.weight",
            lambda tensor: tensor[:, :50],
            r"the kernel of fc6, has shape \(10, 50\); expected \(63, 10\) or \(10, 63\)",
        ),
        ("features.0.bias", lambda tensor: tensor[:3], r"bias of conv1_1, has shape \(3,\)"),
        (
            "features.2.bias",
            lambda tensor: tensor * np.float32(np.nan),
            r"NaN or infinity in tensor 'features.2.bias', the bias of conv1_2",
        ),
        (
            "features.2.weight",
            lambda tensor: (tensor * 100).astype(np.int8),
            r"'features.2.weight' is int8; expected floating-point .* not quantised",
        ),
        (
            "features.2.weight",
            lambda tensor: tensor.transpose(2, 3, 1, 0),
            "some convolution kernels are OIHW and some HWIO; save all in one order",
        ),
    ],
)
def test_file_of_another_network_is_refused(name, change, match, tmp_path):
    fails(changed(tmp_path, name, change), match)


def test_deeper_network_is_refused(tmp_path):
    tensors = tiny_vgg16.tensors_of("caffe.safetensors", tiny_vgg16.parameters())
    path = saved(tmp_path, tensors | {"conv2_3.weight": np.zeros((7, 7, 3, 3), np.float32)})
    fails(path, r"tensor 'conv2_3.weight' found, of a layer that VGG16 does not have.*VGG19")


def test_theano_kernels_are_refused(tmp_path):
    tensors = tiny_vgg16.tensors_of("caffe.safetensors", tiny_vgg16.parameters())
    as_keras = {
        name.replace("conv1_", "block1_conv").replace("conv2_", "block2_conv").replace("fc6", "fc1")
        .replace("weight", "kernel"): tensor
        for name, tensor in tensors.items()
    }  # fmt: skip
    fails(saved(tmp_path, as_keras), r"has shape \(4, 3, 3, 3\).*Keras on Theano.*tf_kernels")


def test_file_without_any_of_the_names_is_refused(tmp_path):
    path = saved(tmp_path, {"layer1.0.conv1.weight": np.zeros((2, 2), np.float32)})
    fails(path, r"no tensor found under the names .* \['layer1.0.conv1.weight'\]: give a weights")


def test_pickles_are_never_read(tmp_path):
    (tmp_path / "vgg16.pth").write_bytes(b"\x80\x04")
    fails(tmp_path / "vgg16.pth", r"\.pth files are pickles, which can run any code.*save_file")
    objects = np.array([{"conv1_1": 1}], object)
    tensors: dict[str, Any] = tiny_vgg16.tensors_of("frossard.npz", tiny_vgg16.parameters())
    tensors["conv1_1_W"] = objects
    np.savez(tmp_path / "objects.npz", **tensors)
    fails(tmp_path / "objects.npz", r"tensor 'conv1_1_W' cannot be read.*pickled objects")


@pytest.mark.parametrize("family", ["torchvision.safetensors", "frossard.npz", "keras2.h5"])
def test_truncated_file_is_refused(family, tmp_path):
    path = tiny_vgg16.save(tmp_path, family, tiny_vgg16.parameters())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    fails(path, rf"{family}: the file cannot be read as .*cut short.*download it again")


def test_missing_file_and_unknown_suffix(tmp_path):
    fails(tmp_path / "vgg16.h5", r"vgg16.h5: no such file; give the weights file")
    (tmp_path / "vgg16.onnx").touch()
    fails(tmp_path / "vgg16.onnx", r"suffix '.onnx' found; weights are read from .safetensors, .np")
