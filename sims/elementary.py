"""Sine, atanh, log2 and exp2 as short polynomials that XLA keeps in one vectorised loop.

The library calls behind `jnp.sin` and `jnp.power` in float32, and `jnp.log` in float64, are
scalar on CPU and slow down everything fused with them. Each function here serves the range that
the samplers need, to a few units in the last place, and is differentiable.
"""

from collections.abc import Callable
from math import factorial, log
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.polynomial import Chebyshev, Polynomial

Coefficients: TypeAlias = dict[np.dtype, tuple[float, ...]]  # lowest power first

_INTEGER: dict[np.dtype, type] = {np.dtype("float32"): np.int32, np.dtype("float64"): np.int64}
_SQRT_HALF = 0.7071067811865476
_RECIPROCAL: dict[np.dtype, tuple[np.signedinteger, int]] = {
    np.dtype("float32"): (np.int32(0x7EF311C7), 2),
    np.dtype("float64"): (np.int64(0x7FDE6238502484BA), 4),
}


def sine(x: jax.Array) -> jax.Array:
    """sin(x) for |x| <= 3 pi / 4, relatively accurate near 0."""
    return x * _polynomial(_SINE, x * x)


def atanh_ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """atanh(numerator / denominator) for a positive denominator and a ratio within [-1/3, 1/3]."""
    ratio = numerator * _reciprocal(denominator)
    return ratio * _polynomial(_ATANH, ratio * ratio)


def log2_ratio(x: jax.Array, y: jax.Array) -> jax.Array:
    """Base-two logarithm of x / y, for positive normal numbers."""
    x_exponent, x = split_exponent(x)
    y_exponent, y = split_exponent(y)
    return (x_exponent - y_exponent) + 2 / log(2) * atanh_ratio(x - y, x + y)


def exp2(x: jax.Array) -> jax.Array:
    """2^x, with x first clipped to the exponents of normal numbers; nan gives nan."""
    info = jnp.finfo(x.dtype)
    x = jnp.clip(x, info.minexp, info.maxexp - 1)
    whole = jnp.round(x)
    return _power_of_two(whole.astype(_INTEGER[x.dtype]), x.dtype) * _polynomial(_EXP2, x - whole)


def split_exponent(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(n, m) with x = 2^n m and m in [sqrt(1/2), sqrt(2)), for a positive normal number."""
    integer = _INTEGER[x.dtype]
    offset: np.ndarray = np.asarray(_SQRT_HALF, x.dtype).view(integer)
    exponent = (lax.bitcast_convert_type(x, integer) - offset) >> jnp.finfo(x.dtype).nmant
    return exponent.astype(x.dtype), x * _power_of_two(-exponent, x.dtype)


def _reciprocal(x: jax.Array) -> jax.Array:
    """1 / x of a positive number of moderate size: a 12% guess, then cubically convergent steps.

    XLA never fuses a division that has several uses: it would write the quotients to memory and
    compute everything before them, here the random words, a second time.
    """
    magic, steps = _RECIPROCAL[x.dtype]
    guess = magic - lax.bitcast_convert_type(lax.stop_gradient(x), _INTEGER[x.dtype])
    value = lax.bitcast_convert_type(guess, x.dtype)
    for _ in range(steps):
        error = 1 - x * value
        value = value + value * (error + error * error)
    return value


def _power_of_two(exponent: jax.Array, dtype: np.dtype) -> jax.Array:
    info = jnp.finfo(dtype)
    return lax.bitcast_convert_type((exponent + (info.maxexp - 1)) << info.nmant, dtype)


def _polynomial(coefficients: Coefficients, x: jax.Array) -> jax.Array:
    *lower, leading = coefficients[x.dtype]
    value = jnp.full_like(x, leading)
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value


def _interpolant(
    function: Callable[[np.ndarray], np.ndarray], low: float, high: float, terms: int
) -> tuple[float, ...]:
    fit = Chebyshev.interpolate(function, terms - 1, (low, high))
    return tuple(float(c) for c in fit.convert(kind=Polynomial).coef)


# float32: few terms by interpolation at Chebyshev points; float64: Taylor, for exact coefficients.
_SINE: Coefficients = {
    np.dtype("float32"): _interpolant(
        lambda y: np.sinc(np.sqrt(y) / np.pi), 0, (0.75 * np.pi) ** 2, 7
    ),
    np.dtype("float64"): tuple((-1) ** k / factorial(2 * k + 1) for k in range(14)),
}
_ATANH: Coefficients = {
    np.dtype("float32"): _interpolant(lambda y: np.arctanh(np.sqrt(y)) / np.sqrt(y), 0, 1 / 9, 5),
    np.dtype("float64"): tuple(1 / (2 * k + 1) for k in range(16)),
}
_EXP2: Coefficients = {
    np.dtype("float32"): _interpolant(np.exp2, -0.5, 0.5, 7),
    np.dtype("float64"): tuple(log(2) ** k / factorial(k) for k in range(14)),
}
