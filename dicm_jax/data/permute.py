"""The control for every claim about images: photos dealt out anew among the items that have one."""

import numpy as np

from dicm_jax.data.schema import NO_IMAGE


def permuted_images(image_N: np.ndarray, seed: int) -> np.ndarray:
    """Image keys shuffled across items; an item without an image stays without.

    Every ID stays with its item, so what a model loses on the result is what it had from looks.
    """
    permuted_N = image_N.copy()
    with_image = np.flatnonzero(image_N != NO_IMAGE)
    permuted_N[with_image] = np.random.default_rng(seed).permutation(image_N[with_image])
    return permuted_N
