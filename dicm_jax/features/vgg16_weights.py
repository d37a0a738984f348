"""VGG16's weights from the files that people have, in the order that `vgg16` reads.

What a file's tensors are called says where it comes from, and so how images are to be prepared:

| names | from | convention |
|---|---|---|
| ``features.0.weight`` ... ``classifier.0.weight`` | torchvision | ``torchvision`` |
| ``features.0.weight`` ... ``pre_logits.fc1.weight`` | timm | ``torchvision`` |
| ``conv1_1...`` to ``fc6...`` | Caffe and conversions of it (HDF5, npz, TF-Slim) | ``caffe`` |
| ``block1_conv1...`` to ``fc1...`` | Keras (the original Caffe weights) | ``caffe`` |
| ``layers/conv2d/vars/0`` to ``layers/dense/...`` | Keras 3, ``.weights.h5`` | ``caffe`` |

Some files have the original weights under torchvision's names, or with the first convolution turned
to RGB: one corner of the first published filter tells these apart, whatever the names say. For
weights of somebody else's training, name the convention.

Convolution kernels may be OIHW, then FC6 reads channels first, or HWIO, then it reads them last;
FC6 itself may be a matrix either way round or a 7x7 convolution.

Shape legend
    I, O   input and output channels      H, W   pixels      D   width of FC6
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dicm_jax.errors import DataError
from dicm_jax.features.file_crc import file_crc
from dicm_jax.features.preprocessing import CONVENTIONS, Preprocessing
from dicm_jax.features.tensor_files import Tensors, open_tensors
from dicm_jax.features.vgg16 import Vgg16Shape

Parameters = dict[str, dict[str, np.ndarray]]
"""``kernel`` and ``bias`` of each layer, float32, by its Caffe name."""

_ORIGINAL_BGR = np.array([0.42947057, 0.55037946, 0.48001540])
"""The original weights' first filter in its upper left corner: for blue, green, red."""

_SUFFIX = {"kernel": r"(W|w|weights?|kernel|0)", "bias": r"(b|bias(es)?|1)"}
"""What the two tensors of a layer are called; Keras adds numbers, and ``:0``, to names."""


class Weights(NamedTuple):
    """What a weights file gives.

    Attributes:
      parameters: of each layer.
      preprocessing: of images.
      crc: CRC-32 of the file.
    """

    parameters: Parameters
    preprocessing: Preprocessing
    crc: int


class _Naming(NamedTuple):
    """What a family of files calls the layers, and the convention that it is known for."""

    family: str
    convention: str
    layers: dict[str, str]
    deeper: tuple[str, ...] = ()
    """Layers that only a deeper network has, which has all of VGG16's names, too."""


_Names = dict[tuple[str, str], str]
"""The tensor of each layer and part (``kernel`` or ``bias``)."""


def load_weights(path: Path, shape: Vgg16Shape, convention: str | None = None) -> Weights:
    """Reads a weights file.

    Args:
      path: ``.safetensors``, ``.npz``, ``.h5`` or ``.hdf5``.
      shape: of the network.
      convention: name of the preprocessing; None takes that which the file is known for.

    Raises:
      DataError: an unreadable file, or one of another network: a tensor missing, of another shape,
        or with a NaN or infinity.
    """
    with open_tensors(path) as tensors:
        naming, names = _recognise(tensors, shape)
        reader = _Reader(tensors, names, shape)
        parameters = reader.parameters(naming)
    name = convention or _known_for(parameters["conv1_1"]["kernel"], naming)
    return Weights(parameters, CONVENTIONS[name], file_crc(path))


def _recognise(tensors: Tensors, shape: Vgg16Shape) -> tuple[_Naming, _Names]:
    """The family whose names the file has most of, and the tensors."""
    found = [(naming, _find(tensors.names, naming.layers)) for naming in _namings(shape)]
    naming, names = max(found, key=lambda pair: len(pair[1]))
    if not names:
        families = ", ".join(naming.family for naming, _ in found)
        raise DataError(
            f"{tensors.path}: no tensor found under the names that {families} give VGG16's layers "
            f"(e.g. features.0.weight, conv1_1_W, block1_conv1/kernel); its {len(tensors.names)} "
            f"tensors are {_some(tensors.names)}: give a weights file of VGG16"
        )
    deeper = _find(tensors.names, {called: called for called in naming.deeper})
    if deeper:
        raise DataError(
            f"{tensors.path}: tensor {next(iter(deeper.values()))!r} found, of a layer that VGG16 "
            "does not have: it is of a deeper network, e.g. VGG19; give a weights file of VGG16"
        )
    for layer, called in naming.layers.items():
        for part in ("kernel", "bias"):
            if (layer, part) not in names:
                raise DataError(
                    f"{tensors.path}: no {part} of {layer} found (tensor {called!r} under "
                    f"{naming.family}'s names); {len(names)} of the {2 * len(naming.layers)} "
                    "tensors of VGG16 up to FC6 are there: give a VGG16 with its fully connected "
                    "layers and without batch normalisation"
                )
    return naming, names


def _namings(shape: Vgg16Shape) -> Iterator[_Naming]:
    convolutions = list(shape.convolutions)
    deeper = [f"conv{block}_{len(widths) + 1}" for block, widths in enumerate(shape.blocks, 1)]
    yield _Naming("Caffe", "caffe", {name: name for name in (*convolutions, "fc6")}, tuple(deeper))
    keras = {name: _as_in_keras(name) for name in (*convolutions, *deeper)}
    not_there = tuple(keras.pop(name) for name in deeper)
    yield _Naming("Keras", "caffe", keras | {"fc6": "fc1"}, not_there)
    counted = ["conv2d", *(f"conv2d_{number}" for number in range(1, len(convolutions)))]
    saved = dict(zip(convolutions, counted, strict=True))
    yield _Naming("Keras 3", "caffe", saved | {"fc6": "dense"})
    place, torch = 0, {}
    for block, widths in enumerate(shape.blocks, start=1):
        for number in range(1, len(widths) + 1):
            torch[f"conv{block}_{number}"] = f"features.{place}"
            place += 2  # its ReLU has a place too
        place += 1  # pooling
    yield _Naming("torchvision", "torchvision", torch | {"fc6": "classifier.0"})
    yield _Naming("timm", "torchvision", torch | {"fc6": "pre_logits.fc1"})


def _as_in_keras(name: str) -> str:
    return re.sub(r"conv(\d+)_", r"block\1_conv", name)


def _find(names: list[str], layers: dict[str, str]) -> _Names:
    found: _Names = {}
    for layer, called in layers.items():
        of_layer = rf"(^|.*[/.]){re.escape(called)}([/.](vars|{re.escape(called)}))?[/._]"
        for part, suffix in _SUFFIX.items():
            pattern = re.compile(rf"{of_layer}{suffix}(_\d+)?(:0)?")
            for name in names:
                if pattern.fullmatch(name) and not name.startswith("optimizer"):
                    found[layer, part] = name
    return found


class _Reader(NamedTuple):
    """Reads the tensors of a file into the network's own order.

    Attributes:
      tensors: of the file.
      names: of those that are wanted.
      shape: of the network.
    """

    tensors: Tensors
    names: _Names
    shape: Vgg16Shape

    def parameters(self, naming: _Naming) -> Parameters:
        found: Parameters = {}
        channels_last: set[bool] = set()
        for layer, (channels, width) in self.shape.convolutions.items():
            kernel = self._read(layer, "kernel")
            last = self._check_kernel(layer, kernel.shape, channels, width, naming)
            kernel_HWIO = kernel if last else kernel.transpose(2, 3, 1, 0)
            found[layer] = {"kernel": kernel_HWIO, "bias": self._bias(layer, width)}
            channels_last.add(last)
        if len(channels_last) > 1:
            raise DataError(
                f"{self.tensors.path}: some convolution kernels are OIHW and some HWIO; save "
                "all in one order"
            )
        kernel_ID = self._fc6(channels_last.pop())
        found["fc6"] = {"kernel": kernel_ID, "bias": self._bias("fc6", self.shape.fc6)}
        return found

    def _check_kernel(
        self, layer: str, found: tuple[int, ...], channels: int, width: int, naming: _Naming
    ) -> bool:
        """Whether a convolution's kernel is HWIO."""
        last, first = (3, 3, channels, width), (width, channels, 3, 3)
        if naming.family.startswith("Keras") and found == first and found != last:
            raise DataError(
                f"{self.tensors.path}: tensor {self.names[layer, 'kernel']!r} has shape {found}, "
                f"expected {last}: a file of Keras on Theano, whose kernels may be flipped; take "
                "the file for TensorFlow (tf_dim_ordering_tf_kernels)"
            )
        usually_last = naming.convention == "caffe"  # matters only where both fit
        for shape, answer in ((last, True), (first, False))[:: 1 if usually_last else -1]:
            if found == shape:
                return answer
        raise self._wrong_shape(layer, "kernel", found, f"{last} or {first}")

    def _fc6(self, channels_last: bool) -> np.ndarray:
        """FC6's kernel ``[I, D]``, inputs in the order height, width, channels."""
        height, width, channels = self.shape.last_map
        count, wide = height * width * channels, self.shape.fc6
        kernel = self._read("fc6", "kernel")
        if kernel.shape == (height, width, channels, wide):
            return kernel.reshape(count, wide)
        if kernel.shape == (wide, channels, height, width):
            return kernel.transpose(2, 3, 1, 0).reshape(count, wide)
        if kernel.shape not in ((count, wide), (wide, count)):
            expected = f"({count}, {wide}) or ({wide}, {count})"
            raise self._wrong_shape("fc6", "kernel", kernel.shape, expected)
        inputs_first = kernel.shape == (count, wide) and (channels_last or count != wide)
        kernel_ID = kernel if inputs_first else kernel.T
        if channels_last:
            return kernel_ID
        kernel_CHWD = kernel_ID.reshape(channels, height, width, wide)
        return kernel_CHWD.transpose(1, 2, 0, 3).reshape(count, wide)

    def _bias(self, layer: str, width: int) -> np.ndarray:
        bias = self._read(layer, "bias")
        if bias.size != width:
            raise self._wrong_shape(layer, "bias", bias.shape, f"({width},)")
        return bias.reshape(width)

    def _read(self, layer: str, part: str) -> np.ndarray:
        name = self.names[layer, part]
        tensor = self.tensors.read(name)
        if tensor.dtype.kind not in "fV":  # bfloat16 is of kind V
            raise DataError(
                f"{self.tensors.path}: tensor {name!r} is {tensor.dtype}; expected floating-point "
                f"numbers, the {part} of {layer}: give a file that is not quantised"
            )
        tensor = tensor.astype(np.float32)
        if not np.isfinite(tensor).all():
            raise DataError(
                f"{self.tensors.path}: NaN or infinity in tensor {name!r}, the {part} of {layer}; "
                "download the file again"
            )
        return tensor

    def _wrong_shape(
        self, layer: str, part: str, found: tuple[int, ...], expected: str
    ) -> DataError:
        return DataError(
            f"{self.tensors.path}: tensor {self.names[layer, part]!r}, the {part} of {layer}, has "
            f"shape {found}; expected {expected}: give a weights file of VGG16"
        )


def _known_for(kernel_HWIO: np.ndarray, naming: _Naming) -> str:
    """The convention of the weights: of the original ones by their values, else by their names."""
    corner_I = kernel_HWIO[0, 0, :, 0]
    if np.allclose(corner_I, _ORIGINAL_BGR, atol=1e-3):
        return "caffe"
    if np.allclose(corner_I[::-1], _ORIGINAL_BGR, atol=1e-3):
        return "caffe_rgb"
    return naming.convention


def _some(names: list[str]) -> str:
    return f"{names[:4]}{' ...' if len(names) > 4 else ''}"
