"""Feature rows of photos that are sent to a service: VGG16's FC6, as in `dicm_jax.features`."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from dicm_jax.errors import RequestError
from dicm_jax.features.encoder import Encoder
from dicm_jax.features.image_decoding import BadImageError, decode_bytes
from dicm_jax.features.vgg16 import Vgg16Shape
from dicm_jax.features.vgg16_weights import load_weights


def vgg16_encoder(
    weights: Path, *, relu: bool = False, shape: Vgg16Shape | None = None
) -> Callable[[bytes], np.ndarray]:
    """From the bytes of a photo to its feature row, float32 ``[D]``.

    Args:
      weights: file of VGG16's weights.
      relu: whether rows are taken after FC6's ReLU; as the servable's table was made.
      shape: of the network; the paper's if None.

    Raises:
      DataError: the weights cannot be used.
    """
    shape = shape or Vgg16Shape()
    loaded = load_weights(weights, shape)
    encoder = Encoder(shape, loaded.parameters, loaded.preprocessing, relu=relu, batch_size=1)
    one_at_a_time = threading.Lock()

    def encode(photo: bytes) -> np.ndarray:
        try:
            pixels_SSC = decode_bytes(photo, "the photo", shape.image_size)
        except BadImageError as error:
            raise RequestError(str(error)) from error
        pixels_BSSC = np.zeros((encoder.batch_size, *pixels_SSC.shape), np.uint8)
        pixels_BSSC[0] = pixels_SSC
        with one_at_a_time:
            return np.asarray(encoder(pixels_BSSC))[0]

    encode(_a_photo())  # compiles
    return encode


def _a_photo() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()
