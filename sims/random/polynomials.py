"""Sine, atanh, log2 and exp2 as short polynomials that XLA keeps in one vectorised loop.

The library calls behind `jnp.sin` and `jnp.power` in float32, and `jnp.log` in float64, are
scalar on CPU and slow down everything fused with them. Each function here serves the range that
the samplers need, to a few units in the last place, and is differentiable.
"""

from collections.abc import Callable
from math import factorial, log, pi
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.polynomial import Chebyshev, Polynomial

Coefficients: TypeAlias = dict[np.dtype, tuple[float, ...]]  # lowest power first

_INTEGER: dict[np.dtype, type] = {np.dtype("float32"): np.int32, np.dtype("float64"): np.int64}
_SQRT_HALF = 0.7071067811865476
# Subtracting the bits of x from these gives bits of about 1 / x: exponent and mantissa are, to
# first order, a logarithm. The steps make of the 12 % what the dtype resolves.
_RECIPROCAL: dict[np.dtype, tuple[np.signedinteger, int]] = {
    np.dtype("float32"): (np.int32(0x7EF311C7), 3),
    np.dtype("float64"): (np.int64(0x7FDE6238502484BA), 5),
}


def quarter_sine(x: jax.Array, within: float) -> jax.Array:
    """Returns sin(pi/2 x), (...), for |x| <= within, 1 or 3/2; relatively accurate near 0."""
    return x * _polynomial(_QUARTER_SINE[within], x * x)


def atanh_ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Returns atanh(numerator / denominator), (...), for ratios in [-1/3, 1/3].

    Args:
        numerator: (...).
        denominator: positive, (...).
    """
    ratio = numerator * _reciprocal(denominator)
    return ratio * _polynomial(_ATANH, ratio * ratio)


def log2_ratio(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the base-two logarithm of x / y, (...), for positive normal numbers."""
    x_exponent, x = _split_integer_exponent(x)
    y_exponent, y = _split_integer_exponent(y)
    exponent = (x_exponent - y_exponent).astype(x.dtype)
    return exponent + 2 / log(2) * atanh_ratio(x - y, x + y)


def exp2(x: jax.Array) -> jax.Array:
    """Returns 2^x, (...), x first clipped to the exponents of normal numbers; nan gives nan."""
    info = np.finfo(x.dtype)
    x = at_most(jnp.where(x < info.minexp, info.minexp, x), info.maxexp - 1)
    whole = _nearest_integer(x)
    return _power_of_two(whole, x.dtype) * _polynomial(_EXP2, x - whole.astype(x.dtype))


def at_most(x: jax.Array, bound: float) -> jax.Array:
    """Returns x or the bound, (...), whichever is less; nan gives nan.

    One instruction, unlike `jnp.minimum`.
    """
    return jnp.where(x > bound, bound, x)


def _nearest_integer(x: jax.Array) -> jax.Array:
    """The integer nearest to a small number, without the range checks of XLA's conversion.

    Adding 3/2 of the first power of two whose neighbours are integers rounds x and puts it into
    the low bits.
    """
    magic = np.asarray(1.5 * 2.0 ** np.finfo(x.dtype).nmant, x.dtype)
    integer = _INTEGER[x.dtype]
    return lax.bitcast_convert_type(x + magic, integer) - magic.view(integer)


def split_exponent(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns n and m, (...), with x = 2^n m, m in [sqrt(1/2), sqrt(2)), for positive normal x."""
    exponent, mantissa = _split_integer_exponent(x)
    return exponent.astype(x.dtype), mantissa


def _split_integer_exponent(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    integer = _INTEGER[x.dtype]
    offset: np.ndarray = np.asarray(_SQRT_HALF, x.dtype).view(integer)
    # Bits of the mantissa, read as an integer, increase with it: the shift floors log2(x / offset).
    exponent = (lax.bitcast_convert_type(x, integer) - offset) >> np.finfo(x.dtype).nmant
    return exponent, x * _power_of_two(-exponent, x.dtype)


def _reciprocal(x: jax.Array) -> jax.Array:
    """1 / x of a positive number of moderate size: a 12% guess and the powers of its error.

    XLA never fuses a division that has several uses: it would write the quotients to memory and
    compute everything before them, here the random words, a second time.
    """
    magic, steps = _RECIPROCAL[x.dtype]
    guess = magic - lax.bitcast_convert_type(lax.stop_gradient(x), _INTEGER[x.dtype])
    value = lax.bitcast_convert_type(guess, x.dtype)
    error = 1 - x * value
    for _ in range(steps):  # 1/(1 - e) = (1 + e)(1 + e^2)(1 + e^4)...
        value = value + value * error
        error = error * error
    return value


def _power_of_two(exponent: jax.Array, dtype: np.dtype) -> jax.Array:
    info = np.finfo(dtype)
    # The exponent field alone: its bias is maxexp - 1.
    return lax.bitcast_convert_type((exponent + (info.maxexp - 1)) << info.nmant, dtype)


def _polynomial(coefficients: Coefficients, x: jax.Array) -> jax.Array:
    """Sum of coefficients[k] x^k, all but the first by Estrin's scheme.

    A draw is one long chain of dependent steps, and latency costs more than arithmetic: Horner's
    scheme has twice as many steps in sequence.
    """
    first, *level = (jnp.full_like(x, coefficient) for coefficient in coefficients[x.dtype])
    power = x
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [even + power * odd for even, odd in pairs] + level[len(level) // 2 * 2 :]
        power = power * power
    return first + x * level[0]


def _interpolant(
    function: Callable[[np.ndarray], np.ndarray], low: float, high: float, terms: int
) -> tuple[float, ...]:
    fit = Chebyshev.interpolate(function, terms - 1, (low, high))
    return tuple(float(c) for c in fit.convert(kind=Polynomial).coef)


# float32: few terms by interpolation at Chebyshev points; float64: Taylor, for exact coefficients.
_TAYLOR_SINE = tuple((-1) ** k * (pi / 2) ** (2 * k + 1) / factorial(2 * k + 1) for k in range(14))
_QUARTER_SINE: dict[float, Coefficients] = {
    within: {
        np.dtype("float32"): _interpolant(
            lambda y: pi / 2 * np.sinc(np.sqrt(y) / 2), 0, within**2, terms
        ),
        np.dtype("float64"): _TAYLOR_SINE,
    }
    for within, terms in ((1.0, 6), (1.5, 7))
}
_ATANH: Coefficients = {
    np.dtype("float32"): _interpolant(lambda y: np.arctanh(np.sqrt(y)) / np.sqrt(y), 0, 1 / 9, 5),
    np.dtype("float64"): tuple(1 / (2 * k + 1) for k in range(16)),
}
_EXP2: Coefficients = {
    np.dtype("float32"): _interpolant(np.exp2, -0.5, 0.5, 7),
    np.dtype("float64"): tuple(log(2) ** k / factorial(k) for k in range(14)),
}
