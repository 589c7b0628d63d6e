"""Elementary functions from bit operations: XLA's CPU `log` and `pow` keep a whole loop scalar.

All of them are exact to a few ulp, take float32 or float64, never branch, and carry derivative
rules of any order (`jax.custom_jvp`), as bit operations have none of their own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

LN2 = math.log(2)
_NO_DECAY = (
    60.0  # exp(-x^2/4) is zero beyond: e^-900 is below the least double, and the square safe
)


class _Format(NamedTuple):
    integer: type
    mantissa: int
    bias: int
    log_terms: int
    exp_terms: int
    ln2_high: float  # leading bits of ln 2: its product with an exponent is exact
    ln2_low: float
    short: float  # 2^k + 1 splits a number into two halves whose squares are exact
    exponent_bits: float  # a multiplier with this many fractional bits times an exponent is exact


# ln 2 in two parts as in the exponentials of fdlibm (double) and Cephes (single precision). As many
# terms as the remainders need: of atanh's series at |s| <= 0.172, of 2^f's at |f| <= 1/2.
_FORMATS = {
    jnp.dtype("float64"): _Format(
        jnp.int64, 52, 1023, 10, 14, 6.93147180369123816490e-01, 1.90821492927058770002e-10,
        2.0**27 + 1, 2.0**40,
    ),
    jnp.dtype("float32"): _Format(
        jnp.int32, 23, 127, 4, 8, 0.693359375, -2.12194440e-4, 2.0**12 + 1, 2.0**14
    ),
}  # fmt: skip


def shorten(x: Array, bits: int) -> Array:
    """Returns x, (...), rounded to `bits` fractional bits; its derivative is zero."""
    return jnp.round(x * 2.0**bits) * 2.0**-bits


def horner(coefficients: Array | Sequence[Array | float], t: Array) -> Array:
    """Returns sum_k coefficients[k] t^k, (...), of coefficients (k, ...) at t, (...)."""
    # Unrolled: a chain that the compiler fuses with what is around it, as a loop would not be.
    total = coefficients[-1]
    for k in range(len(coefficients) - 2, -1, -1):
        total = total * t + coefficients[k]
    return jnp.asarray(total)


def _split_log2(x: Array) -> tuple[Array, Array]:
    """Returns (e, f) with log2(x) = e + f, e integral, |f| <= 1/2; x positive and normal."""
    # Subtracting the bits of sqrt(1/2) before the shift rounds the exponent so that the mantissa
    # lies in [sqrt(1/2), sqrt(2)); log2(m) = 2 atanh(s) / ln 2, a series in odd powers of s.
    form = _FORMATS[x.dtype]
    bits = lax.bitcast_convert_type(x, form.integer)
    root_half = lax.bitcast_convert_type(jnp.asarray(math.sqrt(0.5), x.dtype), form.integer)
    exponent = (bits - root_half) >> form.mantissa
    mantissa = lax.bitcast_convert_type(bits - (exponent << form.mantissa), x.dtype)
    s = (mantissa - 1) / (mantissa + 1)
    series = [2 / (LN2 * (2 * k + 1)) for k in range(form.log_terms)]
    return exponent.astype(x.dtype), jnp.where(jnp.isnan(x), x, s * horner(series, s * s))


def _power_of_two(n: Array) -> Array:
    """Returns 2^n for integral n, zero below the normal range."""
    # At n = -bias all bits are zero, which is the number 0: the clip is the underflow.
    form = _FORMATS[n.dtype]
    clipped = jnp.clip(n, -form.bias, form.bias).astype(form.integer)
    return lax.bitcast_convert_type((clipped + form.bias) << form.mantissa, n.dtype)


def _exp2_fraction(f: Array) -> Array:
    """Returns 2^f for |f| <= 1/2."""
    terms = _FORMATS[f.dtype].exp_terms
    return horner([LN2**k / math.factorial(k) for k in range(terms)], f)


@jax.custom_jvp
def log(x: Array) -> Array:
    """Returns the natural logarithm, (...), of zero or a positive normal number, (...)."""
    exponent, fraction = _split_log2(x)
    return jnp.where(x == 0, -jnp.inf, (exponent + fraction) * LN2)


@log.defjvp
def _log_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return log(x), dx / x


def _exp2_of(whole: Array, fraction: Array) -> Array:
    """Returns 2^(whole + fraction) for integral `whole`, |fraction| <= 1/2."""
    return _power_of_two(whole) * _exp2_fraction(fraction)


def exp2_sum(exact: Array, rest: Array) -> Array:
    """Returns 2^(exact + rest), (...), to a few ulp, `rest` small; 0 below the normal range."""
    # exact - whole is exact, and `rest` joins when what is left is of its own size.
    whole = lax.stop_gradient(jnp.round(exact + rest))
    return _exp2_of(whole, (exact - whole) + rest)


@jax.custom_jvp
def inverse_power(x: Array, alpha: Array) -> tuple[Array, Array, Array]:
    """Returns n, f with n + f = alpha log2(x), n integral and |f| <= 1/2, and x^-alpha, each (...).

    Each is good to a few ulp however large the exponent.

    x is positive and normal (infinity counts as 2^1024 or 2^128), alpha in [0, 2] and of x's
    dtype. The exponent of x times the leading bits of alpha is exact, so that no rounding error
    is multiplied by |alpha ln x| as it is in exp(-alpha log(x)).
    """
    exponent, fraction = _split_log2(x)
    scale = _FORMATS[x.dtype].exponent_bits
    leading = jnp.round(alpha * scale) / scale
    exact = leading * exponent
    rest = (alpha - leading) * exponent + alpha * fraction
    n = jnp.round(exact + rest)
    f = (exact - n) + rest
    return n, f, _exp2_of(-n, -f)


@inverse_power.defjvp
def _inverse_power_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    (x, alpha), (dx, dalpha) = primals, tangents
    whole, fraction, power = inverse_power(x, alpha)
    # All of the change goes to the fraction: n is constant but where it jumps, and n + f does not.
    slope = log(x) * dalpha + alpha / x * dx
    return (whole, fraction, power), (jnp.zeros_like(whole), slope / LN2, -power * slope)


@jax.custom_jvp
def gaussian_decay(x: Array) -> Array:
    """Returns exp(-x^2/4), (...), to a few ulp down to the smallest normal number, then zero.

    The rounding of x^2 alone would cost |x^2/4| ulp.
    """
    # Veltkamp's splitting: `high` has half of x's bits, so that its square is exact, and
    # x^2 - high^2 = (x - high)(x + high) is small. Then Cody and Waite's reduction by n ln 2.
    form = _FORMATS[x.dtype]
    x = jnp.clip(x, -_NO_DECAY, _NO_DECAY)
    shifted = x * form.short
    high = shifted - (shifted - x)
    exact, rest = -high * high / 4, -(x - high) * (x + high) / 4
    n = jnp.round((exact + rest) / LN2)
    reduced = (exact - n * form.ln2_high) + (rest - n * form.ln2_low)
    return _power_of_two(n) * _exp2_fraction(reduced / LN2)


@gaussian_decay.defjvp
def _gaussian_decay_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    value = gaussian_decay(x)
    # Clipped here too: at x = inf, inf * 0 would be nan.
    return value, -jnp.clip(x, -_NO_DECAY, _NO_DECAY) / 2 * value * dx
