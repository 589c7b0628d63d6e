"""Gaussian and symmetric alpha-stable draws whose tails do not stop where float32 uniforms do.

One draw uses two random words (32 bits each in float32, 64 in float64). With |U| the angle and W
the exponential variable of Chambers, Mallows and Stuck (1976),

    word 1 = sign | which end of (0, pi/2) | distance of |U| from that end
    word 2 = which end of (0, 1)           | distance of the uniform behind W from that end

Distances from the nearer end keep relative precision at both ends. The low bits of each word lie
below the precision of its own floating-point distance, so they also extend the other's: distances
reach down to 2^-43 in float32. Midpoints of the cells exclude 0, hence no nan and no infinity.
"""

from math import log, pi
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from sims import bits
from sims.elementary import atanh, exp2, log2, sine, split_exponent

_EXTENSION_BITS = 12
_WORDS: dict[np.dtype, tuple[type, type]] = {
    np.dtype("float32"): (np.uint32, np.int32),
    np.dtype("float64"): (np.uint64, np.int64),
}


def normal(
    key: jax.Array,
    shape: tuple[int, ...] = (),
    dtype: DTypeLike = jnp.float32,
    *,
    block: ArrayLike = 0,
) -> jax.Array:
    """Standard Gaussian draws; the float32 magnitude reaches 7.8 instead of 5.4.

    Box-Muller with one draw from each pair of words, so that element i depends on (key, block,
    i) only. Bias of the float32 tail probability relative to P(|X| > t) = p, by counting grid
    cells: BIAS_NORMAL.

    Args:
        key: a typed or legacy JAX key.
        shape: at most 2^32 elements.
        dtype: float32, or float64 under jax_enable_x64.
        block: which stretch of the key's stream to draw, an integer in [0, 2^31), may be traced.

    Raises:
        ValueError: another dtype, or a shape that is too large.

    Source: Box and Muller (1958); the arrangement of the bits is new.
    """
    drawn = _draw(key, shape, dtype, block)
    angle = jnp.where(drawn.near_pole, pi / 2 - drawn.edge, drawn.edge)
    magnitude = jnp.sqrt(2 * drawn.exponential) * sine(angle)
    return jnp.where(drawn.negative, -magnitude, magnitude)


def symmetric_stable(
    key: jax.Array,
    alpha: ArrayLike,
    shape: tuple[int, ...] = (),
    dtype: DTypeLike = jnp.float32,
    *,
    block: ArrayLike = 0,
) -> jax.Array:
    """Draws of the law with characteristic function exp(-|t|^alpha); alpha = 2 is N(0, 2).

    Finite for every alpha >= 0.3. A magnitude beyond the largest finite number is returned as
    that number: in float32 this has probability 2^(-128 alpha) or so, 1e-11 at alpha = 0.3 and
    1e-4 at 0.1, where `log_symmetric_stable` serves. Relative rounding error at most 1e-6 for
    alpha >= 0.5 and 3e-6 at 0.3. Differentiable in alpha at fixed key, through alpha = 1.

    Bias of the float32 tail probability relative to P(|X| > t) = p, by counting grid cells:
    BIAS_STABLE

    Args:
        key: a typed or legacy JAX key.
        alpha: stability index in (0, 2], broadcastable to shape, may be traced; rounded to
            dtype. Other values give nan.
        shape: at most 2^32 elements.
        dtype: float32, or float64 under jax_enable_x64.
        block: which stretch of the key's stream to draw, an integer in [0, 2^31), may be traced.

    Raises:
        ValueError: another dtype, or a shape that is too large.

    Source: Chambers, Mallows and Stuck (1976), in a form without special cases at 1 and 2.
    """
    drawn = _draw(key, shape, dtype, block)
    ratio, exponent = _magnitude(drawn, alpha)
    root = exp2(exponent / 2)  # twice, as 2^exponent alone may overflow where the draw does not
    magnitude = jnp.minimum(ratio * root * root, jnp.finfo(dtype).max)
    return jnp.where(drawn.negative, -magnitude, magnitude)


def log_symmetric_stable(
    key: jax.Array,
    alpha: ArrayLike,
    shape: tuple[int, ...] = (),
    dtype: DTypeLike = jnp.float32,
    *,
    block: ArrayLike = 0,
) -> tuple[jax.Array, jax.Array]:
    """(sign, log|X|) of the draws of `symmetric_stable`, for small alpha: nothing overflows.

    The sign is 1 or -1. Arguments and errors are those of `symmetric_stable`; alpha outside
    (0, 2] makes log|X| nan.
    """
    drawn = _draw(key, shape, dtype, block)
    ratio, exponent = _magnitude(drawn, alpha)
    sign = jnp.where(drawn.negative, -jnp.ones_like(ratio), jnp.ones_like(ratio))
    return sign, log(2) * (log2(ratio) + exponent)


class _Draw(NamedTuple):
    """Sign, angle and exponential variable; `edge` is pi/2 - |U| if `near_pole`, else |U|."""

    negative: jax.Array
    near_pole: jax.Array
    edge: jax.Array
    exponential: jax.Array


def _draw(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike, block: ArrayLike) -> _Draw:
    dtype = jnp.dtype(dtype)
    if dtype not in _WORDS or jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(f"draws are float32, or float64 under jax_enable_x64, not {dtype}")
    unsigned, _ = _WORDS[dtype]
    width = jnp.iinfo(unsigned).bits
    first, second = bits.words(key, shape, block, unsigned)
    edge = pi / 2 * _fraction(first, second, width - 2, dtype)
    tail = _fraction(second, first, width - 1, dtype)
    return _Draw(
        negative=_bit(first, width - 1),
        near_pole=_bit(first, width - 2),
        edge=edge,
        exponential=_exponential(_bit(second, width - 1), tail),
    )


def _bit(word: jax.Array, position: int) -> jax.Array:
    return (word >> position) & 1 != 0


def _fraction(word: jax.Array, other: jax.Array, count: int, dtype: np.dtype) -> jax.Array:
    """Cell midpoint in (0, 1/2]: `count` low bits of `word`, then the low bits of `other`."""
    head = _low_bits(word, count, dtype)
    extension = (_low_bits(other, _EXTENSION_BITS, dtype) + 0.5) * 2.0**-_EXTENSION_BITS
    return (head + extension) * 2.0 ** -(count + 1)


def _low_bits(word: jax.Array, count: int, dtype: np.dtype) -> jax.Array:
    unsigned, signed = _WORDS[dtype]  # signed integers convert faster
    return (word & unsigned((1 << count) - 1)).astype(signed).astype(dtype)


def _exponential(upper: jax.Array, tail: jax.Array) -> jax.Array:
    """-log(tail) if `upper` (the large values), else -log(1 - tail), for tail in (0, 1/2]."""
    exponent, mantissa = split_exponent(tail)
    numerator = jnp.where(upper, 1 - mantissa, tail)
    denominator = jnp.where(upper, 1 + mantissa, 2 - tail)
    whole = jnp.where(upper, -log(2) * exponent, jnp.zeros_like(exponent))
    return whole + 2 * atanh(numerator / denominator)


def _magnitude(drawn: _Draw, alpha: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """(ratio, exponent) with |X| = ratio * 2^exponent, both finite.

    With phi = pi/2 - |U|: |X| = sin(alpha |U|) / sin(phi) * Z^((1 - alpha) / alpha), where
    Z = cos((1 - alpha) U) / (W sin(phi)). Each trigonometric factor is the sine of an affine
    function of the distance from the nearer end, so no factor suffers cancellation.
    """
    edge, pole = drawn.edge, drawn.near_pole
    alpha = jnp.asarray(alpha, edge.dtype)
    alpha = jnp.where((alpha > 0) & (alpha <= 2), alpha, jnp.nan)
    steep = alpha > 1
    full, apart, near, gap, turn, power = (
        jnp.broadcast_to(constant, edge.shape)
        for constant in (
            alpha,
            jnp.abs(1 - alpha),
            jnp.minimum(alpha, 2 - alpha) * (pi / 2),
            jnp.where(steep, 2 - alpha, alpha) * (pi / 2),
            jnp.where(steep, alpha, -alpha),
            (1 - alpha) / alpha,
        )
    )
    sin_phi = sine(jnp.where(pole, edge, pi / 2 - edge))
    numerator = sine(jnp.where(pole, gap + turn * edge, full * edge))
    cosine = sine(jnp.where(pole, near + apart * edge, pi / 2 - apart * edge))
    return numerator / sin_phi, power * log2(cosine / (drawn.exponential * sin_phi))
