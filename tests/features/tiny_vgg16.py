"""A tiny VGG16 with random weights, in the files of every family, for tests.

Shape legend
    I, O   input and output channels
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors.numpy import save_file

from dicm_jax.features.vgg16 import Vgg16Shape

SHAPE = Vgg16Shape(blocks=((4, 5), (6, 7)), fc6=10, image_size=12)
"""Two blocks of two convolutions; FC6 reads a map of 3 x 3 x 7."""

FAMILIES = {
    "torchvision.safetensors": "torchvision",
    "timm.safetensors": "torchvision",
    "torchvision.npz": "torchvision",
    "frossard.npz": "caffe",
    "slim.npz": "caffe",
    "caffe.safetensors": "caffe",
    "caffemodel.h5": "caffe",
    "keras1.h5": "caffe",
    "keras2.h5": "caffe",
    "keras3.weights.h5": "caffe",
}
"""A file of each family, and the convention that it is known for."""


def parameters(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Random weights in the network's own order."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, widths in SHAPE.convolutions.items():
        shapes[name] = (3, 3, *widths)
    shapes["fc6"] = (int(np.prod(SHAPE.last_map)), SHAPE.fc6)
    return {
        name: {
            "kernel": rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32),
            "bias": rng.normal(0, 0.1, shape[-1]).astype(np.float32),
        }
        for name, shape in shapes.items()
    }


def save(folder: Path, family: str, weights: dict[str, dict[str, np.ndarray]]) -> Path:
    """Writes weights as the files of a family have them."""
    tensors: dict[str, Any] = {
        name: np.ascontiguousarray(tensor) for name, tensor in tensors_of(family, weights).items()
    }
    path = folder / family
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        with h5py.File(path, "w") as file:
            for name, tensor in tensors.items():
                file[name] = tensor
    return path


def tensors_of(family: str, weights: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The tensors of a family's file, by name."""
    kernel_name, bias_name, oihw, fc6_is_convolution, after = _STYLE[family]
    found = {}
    for number, (layer, tensors) in enumerate(weights.items()):
        called = _called(family, layer, number)
        kernel = tensors["kernel"]
        if layer == "fc6":
            kernel = kernel.reshape(*SHAPE.last_map, SHAPE.fc6)
        if oihw:
            kernel = kernel.transpose(3, 2, 0, 1)
        if layer == "fc6" and not fc6_is_convolution:
            kernel = kernel.reshape((SHAPE.fc6, -1) if oihw else (-1, SHAPE.fc6))
        found[kernel_name.format(called)] = kernel
        found[bias_name.format(called)] = tensors["bias"]
    # What comes after FC6 is in the files, too, and not wanted.
    return found | {kernel_name.format(after): np.zeros((2, 3), np.float32)}


def _called(family: str, layer: str, number: int) -> str:
    if family.startswith(("torchvision", "timm")):
        fc6 = "pre_logits.fc1" if family.startswith("timm") else "classifier.0"
        place = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7}.get(layer)
        return fc6 if place is None else f"features.{place}"
    if family.startswith("keras3"):
        return {0: "conv2d", 4: "dense"}.get(number, f"conv2d_{number}")
    if family.startswith("keras"):
        return "fc1" if layer == "fc6" else f"block{layer[4]}_conv{layer[-1]}"
    if family.startswith("slim"):
        return f"vgg_16/{layer}" if layer == "fc6" else f"vgg_16/{layer[:5]}/{layer}"
    return layer


_STYLE = {  # kernel, bias, OIHW?, FC6 a convolution?, the layer after it
    "torchvision.safetensors": ("{}.weight", "{}.bias", True, False, "classifier.3"),
    "timm.safetensors": ("{}.weight", "{}.bias", True, True, "pre_logits.fc2"),
    "torchvision.npz": ("{}.weight", "{}.bias", True, False, "classifier.3"),
    "frossard.npz": ("{}_W", "{}_b", False, False, "fc7"),
    "slim.npz": ("{}/weights", "{}/biases", False, True, "vgg_16/fc7"),
    "caffe.safetensors": ("{}.weight", "{}.bias", True, False, "fc7"),
    "caffemodel.h5": ("data/{}/0", "data/{}/1", True, False, "fc7"),
    "keras1.h5": ("{0}/{0}_W_1:0", "{0}/{0}_b_1:0", False, False, "fc2"),
    "keras2.h5": ("m/{0}/{0}/kernel:0", "m/{0}/{0}/bias:0", False, False, "fc2"),
    "keras3.weights.h5": ("layers/{}/vars/0", "layers/{}/vars/1", False, False, "dense_1"),
}
