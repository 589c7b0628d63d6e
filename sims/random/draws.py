"""Gaussian and symmetric alpha-stable draws whose tails do not stop where float32 uniforms do.

One draw uses two random words (32 bits each in float32, 64 in float64). With |U| the angle and W
the exponential variable of Chambers, Mallows and Stuck (1976),

    word 1 = sign | which end of (0, pi/2) | distance of |U| from that end
    word 2 = which end of (0, 1)           | distance of the uniform behind W from that end

Distances from the nearer end keep relative precision at both ends. The low bits of each word lie
below the precision of its own floating-point distance, so they also extend the other's: distances
reach down to 2^-43 in float32. Midpoints of the cells exclude 0, hence no nan and no infinity.

Draws depend on the key, the block and the element's index, not on sharding, loops or vmap over
keys, bit for bit as far as the compiler rounds alike; it may not where one key serves several
alphas, and with an alpha known at compile time, within the rounding stated below.
"""

from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from sims.random import bits
from sims.random.polynomials import (
    at_most,
    atanh_ratio,
    exp2,
    log2_ratio,
    quarter_sine,
    split_exponent,
)

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
    """Returns standard Gaussian draws, (*shape,).

    In float32 magnitudes reach 7.9, not 5.4 as a 23-bit uniform gives.
    Box-Muller with one draw from each pair of words, so that element i depends on (key, block, i)
    only. By counting the grid's cells, the float32 probability of |X| > t is that of the
    law within 1e-8 (relative) down to p = 1e-7, 2e-7 at 1e-9 and 3e-6 at 1e-10. The rounding of
    each draw is at most 5e-7 relative.

    Args:
        key: a typed or legacy JAX key.
        shape: at most 2^32 elements.
        dtype: float32, or float64 under jax_enable_x64.
        block: which stretch of the key's stream to draw, an integer in [0, 2^31), may be traced.

    Raises:
        ValueError: another dtype, or a shape that is too large.

    References:
        boxmuller1958; the arrangement of the bits is new.
    """
    drawn = primitives(key, shape, dtype, block=block)
    angle = jnp.where(drawn.near_pole, 1 - drawn.edge, drawn.edge)
    return drawn.sign * jnp.sqrt(2 * drawn.exponential) * quarter_sine(angle, 1.0)


def normal_pair(
    key: jax.Array,
    shape: tuple[int, ...] = (),
    dtype: DTypeLike = jnp.float32,
    *,
    block: ArrayLike = 0,
) -> tuple[jax.Array, jax.Array]:
    """Returns two independent arrays of standard Gaussian draws from the words of one.

    The first is `normal(key, shape, dtype, block=block)`. The second takes the cosine where that
    takes the sine, so its magnitudes have the same law to the last cell; its sign is the lowest
    bit of word 1, which decides the angle by less than 2^-30 of a quarter turn.

    Args:
        key, shape, dtype, block: as for `normal`.

    Returns:
        two arrays of the shape that is asked for, (*shape,).

    Raises:
        ValueError: another dtype, or a shape that is too large.

    References:
        boxmuller1958.
    """
    drawn = primitives(key, shape, dtype, block=block)
    radius = jnp.sqrt(2 * drawn.exponential)
    near, far = quarter_sine(drawn.edge, 1.0), quarter_sine(1 - drawn.edge, 1.0)
    sine = jnp.where(drawn.near_pole, far, near)
    cosine = jnp.where(drawn.near_pole, near, far)
    return drawn.sign * radius * sine, drawn.other_sign * radius * cosine


def symmetric_stable(
    key: jax.Array,
    alpha: ArrayLike,
    shape: tuple[int, ...] = (),
    dtype: DTypeLike = jnp.float32,
    *,
    block: ArrayLike = 0,
) -> jax.Array:
    """Returns draws of the law with characteristic function exp(-|t|^alpha).

    At alpha = 2 that is N(0, 2).

    Never infinite: a magnitude beyond the largest finite number is returned as that number. In
    float32 this has probability 2e-12 at alpha = 0.3 and 1e-4 at 0.1, where
    `log_symmetric_stable` serves. The relative rounding of a draw, largest in the far tail, was
    at most 4e-6 for alpha >= 0.5 and 1e-5 for alpha >= 0.3, out to the tail of probability 1e-7.
    Differentiable in alpha at fixed key, through alpha = 1.

    Relative bias of the float32 tail probability, t at P(|X| > t) = p, by counting the grid's
    cells in float64 (a quadrature where the angle no longer resolves cells, error 1e-8), rounding
    of the transform aside. For comparison the naive form, with a 23-bit uniform angle and
    `jax.random.exponential`:

        p       alpha = 0.5   1.0        1.5        1.9        2.0      naive 1.5
        1e-6    -3e-10       -3e-9      -2e-9      -7e-9      -3e-9     -0.12
        1e-7    -3e-7        -3e-7      -6e-7      -3e-7      -3e-9     -0.97
        1e-8    -1e-7        +8e-7      -1e-9      +2e-9      -2e-8     -1
        1e-9    -1e-7        -1e-5      +4e-8      -7e-8      -2e-7     -1
        1e-10   -3e-7        +4e-4      -6e-7      -3e-7      -3e-6     -1

    Args:
        key, shape, dtype, block: as for `normal`.
        alpha: stability index in (0, 2], broadcastable to shape, may be traced; rounded to
            dtype. Other values give nan.

    Returns:
        the draws, (*shape,).

    Raises:
        ValueError: another dtype, or a shape that is too large.

    References:
        chambers1976method, in a form without special cases at 1 and 2.

    >>> key = jax.random.key(0)
    >>> normal_too = symmetric_stable(key, 2.0, (1000,)) / jnp.sqrt(2)  # the same bits
    >>> bool(jnp.allclose(normal_too, normal(key, (1000,)), rtol=2e-6))
    True
    """
    return stable_of(primitives(key, shape, dtype, block=block), alpha)


def log_symmetric_stable(
    key: jax.Array,
    alpha: ArrayLike,
    shape: tuple[int, ...] = (),
    dtype: DTypeLike = jnp.float32,
    *,
    block: ArrayLike = 0,
) -> tuple[jax.Array, jax.Array]:
    """Returns sign and log|X| of the draws of `symmetric_stable`: nothing overflows.

    Args:
        key, alpha, shape, dtype, block: as for `symmetric_stable`; alpha outside (0, 2] makes
            log|X| nan.

    Returns:
        signs, 1 or -1, and logarithms, both of the shape that is asked for, (*shape,).

    Raises:
        ValueError: another dtype, or a shape that is too large.
    """
    drawn = primitives(key, shape, dtype, block=block)
    numerator, sin_phi, half_exponent = _magnitude(drawn, alpha)
    return drawn.sign, log(2) * (log2_ratio(numerator, sin_phi) + 2 * half_exponent)


class Primitives(NamedTuple):
    """Signs, angle and exponential variable, (*shape,) each.

    The angle: pi/2 edge is pi/2 - |U| if `near_pole`, else |U|.
    `edge` lies in (0, 1/2]; all but `other_sign` are independent and make one draw. That is a bit
    which decides the angle by less than 2^-30 of a quarter turn, for a second draw.
    """

    sign: jax.Array
    near_pole: jax.Array
    edge: jax.Array
    exponential: jax.Array
    other_sign: jax.Array


def primitives(
    key: jax.Array,
    shape: tuple[int, ...] = (),
    dtype: DTypeLike = jnp.float32,
    *,
    block: ArrayLike = 0,
) -> Primitives:
    """Returns the random variables behind the draws above, (*shape,) each.

    Args:
        key, shape, dtype, block: as for `normal`.

    Raises:
        ValueError: another dtype, or a shape that is too large.
    """
    dtype = jnp.dtype(dtype)
    if dtype not in _WORDS or jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(f"draws are float32, or float64 under jax_enable_x64, not {dtype}")
    unsigned, _ = _WORDS[dtype]
    width = 8 * np.dtype(unsigned).itemsize
    first, second = bits.words(key, shape, block, unsigned)
    # Each word extends the other: its low bits lie below the precision of its own distance.
    tail = _fraction(second, first, width - 1, dtype)
    return Primitives(
        sign=_sign(first, dtype),
        near_pole=_bit(first, width - 2),
        edge=_fraction(first, second, width - 2, dtype),
        exponential=_exponential(_bit(second, width - 1), tail),
        other_sign=_sign(first << (width - 1), dtype),
    )


def stable_of(drawn: Primitives, alpha: ArrayLike) -> jax.Array:
    """Returns the draws (*shape,) that `symmetric_stable` makes of variables (*shape,)."""
    numerator, sin_phi, half_exponent = _magnitude(drawn, alpha)
    root = exp2(half_exponent)  # squared, as 2^exponent may overflow where the draw does not
    largest = float(np.finfo(numerator.dtype).max)
    return drawn.sign * at_most(numerator / sin_phi * root * root, largest)


def _bit(word: jax.Array, position: int) -> jax.Array:
    is_set: jax.Array = (word & word.dtype.type(1 << position)) != 0
    return is_set


def _sign(word: jax.Array, dtype: np.dtype) -> jax.Array:
    """-1 or 1: the word's highest bit before the other bits of 1."""
    unsigned, _ = _WORDS[dtype]
    highest = unsigned(1 << (8 * np.dtype(unsigned).itemsize - 1))
    one: np.ndarray = np.ones((), dtype).view(unsigned)
    return jax.lax.bitcast_convert_type((word & highest) | one, dtype)


def _fraction(word: jax.Array, other: jax.Array, count: int, dtype: np.dtype) -> jax.Array:
    """Cell midpoint in (0, 1/2]: `count` low bits of `word`, then the low bits of `other`."""
    cell = 2.0 ** -(count + 1)
    small = cell * 2.0**-_EXTENSION_BITS
    extension = small * _low_bits(other, _EXTENSION_BITS, dtype) + small / 2
    return cell * _low_bits(word, count, dtype) + extension


def _low_bits(word: jax.Array, count: int, dtype: np.dtype) -> jax.Array:
    unsigned, signed = _WORDS[dtype]  # signed integers convert faster
    low: jax.Array = word & unsigned((1 << count) - 1)
    return low.astype(signed).astype(dtype)


def _exponential(upper: jax.Array, tail: jax.Array) -> jax.Array:
    """-log(tail) if `upper` (the large values), else -log(1 - tail), for tail in (0, 1/2]."""
    # Two logarithms share one polynomial: log(2^n m) = n log 2 + 2 atanh((m - 1) / (m + 1)), and
    # -log(1 - t) = 2 atanh(t / (2 - t)), which is exact to rounding for small t.
    exponent, mantissa = split_exponent(tail)
    numerator = jnp.where(upper, 1 - mantissa, tail)
    denominator = jnp.where(upper, 1 + mantissa, 2 - tail)
    whole = jnp.where(upper, -exponent, jnp.zeros_like(exponent))
    return log(2) * (whole + 2 / log(2) * atanh_ratio(numerator, denominator))


def _magnitude(drawn: Primitives, alpha: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(numerator, sin(phi), half exponent) with |X| = numerator / sin(phi) * 2^exponent.

    With phi = pi/2 - |U|: |X| = sin(alpha |U|) / sin(phi) * Z^((1 - alpha) / alpha), where
    Z = cos((1 - alpha) U) / (W sin(phi)). Each trigonometric factor is the sine of an affine
    function of the distance from the nearer end, so no factor suffers cancellation.
    """
    edge, pole = drawn.edge, drawn.near_pole
    alpha = jnp.asarray(alpha, edge.dtype)
    alpha = jnp.where((alpha > 0) & (alpha <= 2), alpha, jnp.nan)
    # Not broadcast to all draws, which compilers would write to memory before a loop over blocks.
    alpha = jnp.expand_dims(alpha, range(edge.ndim - alpha.ndim))
    # Above 1 the factors run the other way, so that no difference of near numbers is formed.
    steep = alpha > 1
    near = jnp.where(steep, 2 - alpha, alpha)
    apart = jnp.where(steep, alpha - 1, 1 - alpha)
    turn = jnp.where(pole, jnp.where(steep, alpha, -alpha), alpha)
    numerator = quarter_sine(jnp.where(pole, near, 0) + turn * edge, 1.5)
    turned = quarter_sine(jnp.where(pole, near, 1) + jnp.where(pole, apart, -apart) * edge, 1.0)
    sin_phi = quarter_sine(jnp.where(pole, edge, 1 - edge), 1.0)
    half_exponent = (1 - alpha) / (2 * alpha) * log2_ratio(turned, drawn.exponential * sin_phi)
    return numerator, sin_phi, half_exponent
