"""VGG16's FC6 of batches of pixels, on all devices of this process.

The batch is split over the devices, every one of which holds the weights (538 MB in float32). It
has one shape for the whole run, so that the program is compiled once; the last batch is filled up.

Shape legend
    B   images of a batch      H, W   pixels      D   width of FC6
"""

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8

from dicm_jax.features.preprocessing import Preprocessing
from dicm_jax.features.vgg16 import Vgg16, Vgg16Shape
from dicm_jax.features.vgg16_weights import Parameters

_IMAGES = "image"


class Encoder:
    """Frozen VGG16 up to FC6: pixels in, feature rows out."""

    def __init__(
        self,
        shape: Vgg16Shape,
        parameters: Parameters,
        preprocessing: Preprocessing,
        *,
        relu: bool,
        batch_size: int,
    ):
        """Lays the weights on the devices.

        Args:
          shape: of the network.
          parameters: of each layer, as `vgg16_weights.load_weights` gives them.
          preprocessing: of pixels.
          relu: whether rows are taken after FC6's ReLU.
          batch_size: images together, rounded up to a multiple of the devices.
        """
        devices = jax.local_devices()
        self.batch_size = -(-batch_size // len(devices)) * len(devices)
        mesh = jax.make_mesh((len(devices),), (_IMAGES,), (AxisType.Auto,), devices=devices)
        self._split = NamedSharding(mesh, PartitionSpec(_IMAGES))
        network = nnx.eval_shape(lambda: Vgg16(shape, rngs=nnx.Rngs(0)))
        graph, state = nnx.split(network)
        nnx.replace_by_pure_dict(state, parameters)
        self._state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))

        @jax.jit
        def encode(state: Any, pixels_BHWC: UInt8[Array, "B H W 3"]) -> Float[Array, "B D"]:
            return nnx.merge(graph, state)(preprocessing(pixels_BHWC), relu=relu)

        self._encode = encode

    def __call__(self, pixels_BHWC: np.ndarray) -> Float[Array, "B D"]:
        """Starts the computation of a batch and returns its rows, which may not be ready yet.

        Args:
          pixels_BHWC: RGB, uint8, `batch_size` images.
        """
        return self._encode(self._state, jax.device_put(pixels_BHWC, self._split))
