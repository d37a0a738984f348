"""How vectors and their gradients are written for the wire.

    float32    4 bytes an element, exact
    bfloat16   2 bytes an element, 8 bits of precision
    int8       1 byte an element and one more for each vector: ``x ~ q * 2^e`` with q in [-127, 127]

Scales are powers of two, so that writing what was read gives the same bytes again: a vector that
crosses two wires (between servers, then to a worker of another device) is rounded once. What is not
finite stays visible: it is read as NaN.

bfloat16 travels as its bits in uint16, since XLA:CPU widens collectives of bfloat16 to float32.

Shape legend
    E   width of a vector
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

_NOT_FINITE = 127
"""The exponent that marks a vector with NaN or infinity; finite float32 never need it."""


@runtime_checkable
class Wire(Protocol):
    """A format for vectors on the wire."""

    @property
    def exact(self) -> bool:
        """Whether what is read is what was written."""
        ...

    def write(self, x: Float[Array, "*n E"]) -> Shaped[Array, "*n bytes"]:
        """The vectors in the wire's format."""
        ...

    def read(self, written: Shaped[Array, "*n bytes"]) -> Float[Array, "*n E"]:
        """The vectors that `write` wrote, float32."""
        ...

    def bytes_per_vector(self, width: int) -> int:
        """Bytes of one vector of `width` elements."""
        ...


@dataclasses.dataclass(frozen=True)
class Float32Wire:
    """Vectors as they are."""

    exact = True

    def write(self, x: Float[Array, "*n E"]) -> Shaped[Array, "*n E"]:
        return x

    def read(self, written: Shaped[Array, "*n E"]) -> Float[Array, "*n E"]:
        return written

    def bytes_per_vector(self, width: int) -> int:
        return 4 * width


@dataclasses.dataclass(frozen=True)
class BFloat16Wire:
    """Vectors rounded to bfloat16."""

    exact = False

    def write(self, x: Float[Array, "*n E"]) -> Shaped[Array, "*n E"]:
        return lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)

    def read(self, written: Shaped[Array, "*n E"]) -> Float[Array, "*n E"]:
        return lax.bitcast_convert_type(written, jnp.bfloat16).astype(jnp.float32)

    def bytes_per_vector(self, width: int) -> int:
        return 2 * width


@dataclasses.dataclass(frozen=True)
class Int8Wire:
    """Vectors of 8-bit integers with one exponent each, in the last place."""

    exact = False

    def write(self, x: Float[Array, "*n E"]) -> Shaped[Array, "*n bytes"]:
        # Not read off the maximum: that of XLA:CPU passes over NaN where it is vectorized.
        finite = jnp.all(jnp.isfinite(x), axis=-1, keepdims=True)
        most = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
        mantissa, exponent = jnp.frexp(most / 127.0)
        exponent -= (mantissa == 0.5).astype(jnp.int32)  # a power of two is its own scale
        exponent = jnp.where(finite, jnp.clip(exponent, -126, 126), _NOT_FINITE)
        scaled = jnp.where(finite, jnp.ldexp(x, -exponent), 0.0)
        integers = jnp.rint(scaled).astype(jnp.int8)
        return jnp.concatenate([integers, exponent.astype(jnp.int8)], axis=-1)

    def read(self, written: Shaped[Array, "*n bytes"]) -> Float[Array, "*n E"]:
        exponent = written[..., -1:].astype(jnp.int32)
        x = jnp.ldexp(written[..., :-1].astype(jnp.float32), exponent)
        return jnp.where(exponent == _NOT_FINITE, jnp.nan, x)

    def bytes_per_vector(self, width: int) -> int:
        return width + 1


WIRES: dict[str, Wire] = {"float32": Float32Wire(), "bfloat16": BFloat16Wire(), "int8": Int8Wire()}


def rounded(wire: Wire, x: Float[Array, "*n E"]) -> Float[Array, "*n E"]:
    """`x` as the other end of the wire will read it."""
    return x if wire.exact else wire.read(wire.write(x))
