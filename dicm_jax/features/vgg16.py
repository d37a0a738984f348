"""VGG16 up to FC6, the frozen part of the paper's image embedding model.

Thirteen 3x3 convolutions in five blocks (padding 1, ReLU, then 2x2 max-pooling of stride 2), and
the first fully connected layer: Simonyan & Zisserman, "Very Deep Convolutional Networks for
Large-Scale Image Recognition", configuration D, its first 14 layers of weights.

Everything is in JAX's order: images NHWC, kernels HWIO, and FC6 reads the last feature map
flattened height first, channels last. `vgg16_weights` brings files of other orders into this one.

Shape legend
    B   images      H, W   pixels      C   channels      D   width of FC6, 4096
"""

import dataclasses
from collections.abc import Iterator

import jax
from flax import nnx
from jaxtyping import Array, Float

COLORS = 3


@dataclasses.dataclass(frozen=True)
class Vgg16Shape:
    """Sizes of the network; anything but the defaults is for tests.

    Attributes:
      blocks: output channels of each convolution, by block.
      fc6: ``D``.
      image_size: height and width of an image, pixels.
    """

    blocks: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
    fc6: int = 4096
    image_size: int = 224

    @property
    def convolutions(self) -> dict[str, tuple[int, int]]:
        """Input and output channels of each convolution, by its Caffe name (``conv1_1`` ...)."""
        channels, found = COLORS, {}
        for block, widths in enumerate(self.blocks, start=1):
            for number, width in enumerate(widths, start=1):
                found[f"conv{block}_{number}"] = (channels, width)
                channels = width
        return found

    @property
    def last_map(self) -> tuple[int, int, int]:
        """Height, width and channels of what FC6 reads: 7, 7 and 512."""
        size = self.image_size >> len(self.blocks)
        return size, size, self.blocks[-1][-1]


class Vgg16(nnx.Module):
    """The network. Its layers are attributes under their Caffe names, ``conv1_1`` to ``fc6``."""

    def __init__(self, shape: Vgg16Shape, *, rngs: nnx.Rngs):
        self.shape = shape
        for name, (channels, width) in shape.convolutions.items():
            setattr(self, name, nnx.Conv(channels, width, (3, 3), padding=1, rngs=rngs))
        height, width, channels = shape.last_map
        self.fc6 = nnx.Linear(height * width * channels, shape.fc6, rngs=rngs)

    def __call__(self, image_BHWC: Float[Array, "B H W C"], *, relu: bool) -> Float[Array, "B D"]:
        """FC6 of preprocessed images, after its ReLU or before it."""
        for _, output in self.layers(image_BHWC):  # noqa: B007  the last one is wanted
            pass
        return jax.nn.relu(output) if relu else output

    def layers(
        self, image_BHWC: Float[Array, "B H W C"]
    ) -> Iterator[tuple[str, Float[Array, "B ..."]]]:
        """Output of every layer, by name: convolutions after their ReLU, FC6 before it."""
        x_BHWC = image_BHWC
        for block, widths in enumerate(self.shape.blocks, start=1):
            for number in range(1, len(widths) + 1):
                name = f"conv{block}_{number}"
                x_BHWC = jax.nn.relu(getattr(self, name)(x_BHWC))
                yield name, x_BHWC
            x_BHWC = nnx.max_pool(x_BHWC, (2, 2), strides=(2, 2))
        yield "fc6", self.fc6(x_BHWC.reshape(len(x_BHWC), -1))
