"""How the pixels of an image become the numbers that a network was trained on.

Three conventions are about for VGG16. They are not interchangeable: weights work with the one they
were trained with, and with another they give features, but poor ones, without any error.

Shape legend
    B   images      H, W   pixels      C   colors
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

ColorOrder = Literal["RGB", "BGR"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """``(pixel * scale - mean) / deviation``, per color, of pixels from 0 to 255.

    Attributes:
      name: of the convention.
      order: of the colors that the network reads.
      scale: of pixels.
      mean: per color, in that order.
      deviation: likewise.
    """

    name: str
    order: ColorOrder
    scale: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def __call__(self, pixels_BHWC: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
        """What the network reads, from RGB pixels."""
        x_BHWC = pixels_BHWC.astype(jnp.float32) * np.float32(self.scale)
        if self.order == "BGR":
            x_BHWC = x_BHWC[..., ::-1]
        mean_C, deviation_C = (np.array(of, np.float32) for of in (self.mean, self.deviation))
        return (x_BHWC - mean_C[None, None, None]) / deviation_C[None, None, None]

    def __str__(self) -> str:
        scaled = "0 to 255" if self.scale == 1 else "0 to 1"
        return (
            f"{self.name}: {self.order}, {scaled}, minus {list(self.mean)}, divided by "
            f"{list(self.deviation)}"
        )


CONVENTIONS = {
    convention.name: convention
    for convention in (
        Preprocessing("caffe", "BGR", 1, (103.939, 116.779, 123.68), (1, 1, 1)),
        Preprocessing("caffe_rgb", "RGB", 1, (123.68, 116.779, 103.939), (1, 1, 1)),
        Preprocessing("torchvision", "RGB", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    )
}
"""The original weights; the same with the first convolution turned to RGB, as some conversions
have it; torchvision's, which were trained anew."""
