"""The one wide product of the system: frozen rows times the compressor's first weights.

Rows are data, so only the weights need a gradient. In bfloat16 both products run on the matrix
units (AMX, tensor cores, MXU) with float32 accumulation; master weights stay float32.

Shape legend
    N   rows      D   content width      H   first hidden width
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.custom_vjp
def frozen_dot(rows_ND: Array, weights_DH: Float[Array, "D H"]) -> Float[Array, "N H"]:
    """``rows @ weights`` in the dtype of `rows`, accumulated in float32.

    Args:
      rows_ND: frozen rows in the compute dtype; they get no gradient.
      weights_DH: float32 master weights.
    """
    return _matmul(rows_ND, weights_DH.astype(rows_ND.dtype))


def _forward(rows_ND: Array, weights_DH: Array) -> tuple[Array, Array]:
    return frozen_dot(rows_ND, weights_DH), rows_ND


def _backward(rows_ND: Array, gradient_NH: Array) -> tuple[Array, Array]:
    # XLA:CPU folds a transpose into the dot and then leaves its fast bfloat16 path; with a row of
    # zeros appended the left side is no longer a plain transpose and the path is kept (measured
    # 5x). On other devices the extra row is one part in H.
    left_HN = gradient_NH.T.astype(rows_ND.dtype)
    if rows_ND.dtype == jnp.bfloat16:
        left_HN = jnp.concatenate([left_HN, jnp.zeros((1, left_HN.shape[1]), left_HN.dtype)])
    product_HD = _matmul(left_HN, rows_ND)
    return jnp.zeros_like(rows_ND), product_HD[: gradient_NH.shape[1]].T


frozen_dot.defvjp(_forward, _backward)


def _matmul(left: Array, right: Array) -> Array:
    return lax.dot_general(
        left, right, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32
    )
