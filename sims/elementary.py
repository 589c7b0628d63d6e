"""Sine, atanh, log2 and exp2 as short polynomials that XLA keeps in one vectorised loop.

The library calls behind `jnp.sin` and `jnp.power` in float32, and `jnp.log` in float64, are
scalar on CPU and slow down everything fused with them. Each function here serves the range that
the samplers need, to a few units in the last place, and is differentiable.
"""

from math import factorial, log

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_INTEGER = {np.dtype("float32"): np.int32, np.dtype("float64"): np.int64}
_LOG2_E = 1.4426950408889634
_SQRT_HALF = 0.7071067811865476


def sine(x: jax.Array) -> jax.Array:
    """sin(x) for |x| <= 3 pi / 4, relatively accurate near 0."""
    return x * _polynomial(_SINE, x * x)


def atanh(x: jax.Array) -> jax.Array:
    """atanh(x) for |x| <= 1/3, relatively accurate near 0."""
    return x * _polynomial(_ATANH, x * x)


def log2(x: jax.Array) -> jax.Array:
    """Base-two logarithm of a positive normal number."""
    exponent, mantissa = split_exponent(x)
    return exponent + 2 * _LOG2_E * atanh((mantissa - 1) / (mantissa + 1))


def exp2(x: jax.Array) -> jax.Array:
    """2^x, with x first clipped to the exponents of normal numbers; nan gives nan."""
    info = jnp.finfo(x.dtype)
    x = jnp.clip(x, info.minexp, info.maxexp - 1)
    whole = jnp.round(x)
    return _power_of_two(whole.astype(_INTEGER[x.dtype]), x.dtype) * _polynomial(_EXP2, x - whole)


def split_exponent(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(n, m) with x = 2^n m and m in [sqrt(1/2), sqrt(2)), for a positive normal number."""
    integer = _INTEGER[x.dtype]
    offset = np.asarray(_SQRT_HALF, x.dtype).view(integer)
    exponent = (lax.bitcast_convert_type(x, integer) - offset) >> jnp.finfo(x.dtype).nmant
    return exponent.astype(x.dtype), x * _power_of_two(-exponent, x.dtype)


def _power_of_two(exponent: jax.Array, dtype: np.dtype) -> jax.Array:
    info = jnp.finfo(dtype)
    return lax.bitcast_convert_type((exponent + (info.maxexp - 1)) << info.nmant, dtype)


def _polynomial(coefficients: dict[np.dtype, tuple[float, ...]], x: jax.Array) -> jax.Array:
    *lower, leading = coefficients[x.dtype]
    value = jnp.full_like(x, leading)
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value


# Taylor coefficients: as many as the ranges above need in either precision.
_SINE = {
    np.dtype(dtype): tuple((-1) ** k / factorial(2 * k + 1) for k in range(terms))
    for dtype, terms in (("float32", 9), ("float64", 14))
}
_ATANH = {
    np.dtype(dtype): tuple(1 / (2 * k + 1) for k in range(terms))
    for dtype, terms in (("float32", 7), ("float64", 16))
}
_EXP2 = {
    np.dtype(dtype): tuple(log(2) ** k / factorial(k) for k in range(terms))
    for dtype, terms in (("float32", 8), ("float64", 14))
}
