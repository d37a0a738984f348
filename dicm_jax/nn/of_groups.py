"""What impressions take from their group: a gather, or for a single group the thing itself.

A service ranks for one user at a time. Then nothing is copied for each candidate, and sums over
behaviors are one matrix product.

Shape legend
    G   groups     B   impressions     L   behaviors per group     E   width of behaviors
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def of_group(x_G: Array, group_B: Int[Array, " B"]) -> Array:
    """``x_G[group_B]``."""
    if not _single(x_G):
        return x_G[group_B]
    return jnp.broadcast_to(x_G, (group_B.shape[0], *x_G.shape[1:]))


def weighted_sum(
    weight_BL: Float[Array, "B L"], behavior_GLE: Float[Array, "G L E"], group_B: Int[Array, " B"]
) -> Float[Array, "B E"]:
    """``sum_l weight_bl * behavior_gle`` over the behaviors of each impression's group."""
    if _single(behavior_GLE):
        return weight_BL @ behavior_GLE[0]
    return jnp.einsum("bl,ble->be", weight_BL, behavior_GLE[group_B])


def inner_products(
    x_BE: Float[Array, "B E"], behavior_GLE: Float[Array, "G L E"], group_B: Int[Array, " B"]
) -> Float[Array, "B L"]:
    """``<x_b, behavior_gl>`` for the behaviors of each impression's group."""
    if _single(behavior_GLE):
        return x_BE @ behavior_GLE[0].T
    return jnp.einsum("be,ble->bl", x_BE, behavior_GLE[group_B])


def _single(x_G: Array) -> bool:
    """Whether there is one group; the number of groups may also be a symbol, of a program."""
    return isinstance(x_G.shape[0], int) and x_G.shape[0] == 1
