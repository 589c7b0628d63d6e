"""Numbers of every size: lengths and ratios that know neither the scale nor the type of numbers.

The square of a number overflows float32 from 2^64 on and is lost below 2^-64, and float16 holds
nothing above 65504. So lengths are computed of numbers in units of a power of two, by which all
numbers are multiplied exactly, and in float32 at least: no bit of a result depends on the unit.
"""

from typing import Any

import jax
import jax.numpy as jnp

# In denominators of Croce and Hein's reference implementation, whose numbers are to be ours.
TINY = 1e-12
# From here on TINY is added, and shows by a thousandth at most, as published numbers have it.
# Below, it would shorten what it should only keep from being divided by zero.
_LEAST = 2.0**-30


def wide_dtype(dtype: Any) -> Any:
    """Returns float32 for types of 16 bits, in which sums are lost; others as they are."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def widened(values: jax.Array) -> jax.Array:
    """Returns values, (...), in float32 if they have 16 bits, and as they are otherwise."""
    return values.astype(wide_dtype(values.dtype))


def units(size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns powers of two near positive numbers (...), and their inverses, both exact, (...).

    The largest power of two that is no larger than the number, so that a number over its unit lies
    in [1, 2); at the ends of the dtype the last power whose inverse is no subnormal number.

    Args:
        size: >= 0, float32 or float64; zero gets the smallest unit.

    >>> [unit.tolist() for unit in units(jnp.asarray([1.0, 6.0, 0.3]))]
    [[1.0, 4.0, 0.25], [1.0, 0.25, 4.0]]
    """
    integer = jnp.int32 if size.dtype == jnp.float32 else jnp.int64

    def bits(number: Any) -> jax.Array:
        values: jax.Array = jax.lax.bitcast_convert_type(jnp.asarray(number, size.dtype), integer)
        return values

    # By its exponent, with no rounding and no division, which XLA would rearrange with others.
    least = bits(jnp.finfo(size.dtype).tiny)
    exponent = jnp.clip(bits(size) & bits(jnp.inf), least, 2 * bits(1) - least)
    unit, inverse = (
        jax.lax.bitcast_convert_type(value, size.dtype)
        for value in (exponent, 2 * bits(1) - exponent)
    )
    return unit, inverse


def over_length(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns v (B, ...) over the l2 length of its rows, and those lengths, (B, 1, ...).

    As the reference does, v / (length + 1e-12), unless the length is below 2^-30. So v times any
    power of two has the same direction: to the last bit in float32, but for lengths from 2^-30 to
    2^-15, where it is a little shorter. A row of zeros stays one.
    """
    axes, wide = tuple(range(1, v.ndim)), widened(v)
    unit, inverse = units(jnp.max(jnp.abs(wide), axes, keepdims=True))
    scaled = wide * inverse
    length = jnp.sqrt(jnp.sum(scaled**2, axes, keepdims=True))
    guard = jnp.where(length * unit >= _LEAST, TINY * inverse, 0)
    direction = scaled / jnp.where(length > 0, length + guard, 1)
    return direction.astype(v.dtype), (length * unit).astype(v.dtype)


def ratio(lead: jax.Array, spread: jax.Array) -> jax.Array:
    """Returns lead / (spread + 1e-12), (B,), of which neither value nor gradient knows a scale.

    As the reference does unless the spread is tiny; then 1e-12 only takes the place of zero.

    Args:
        lead: (B,).
        spread: >= 0, (B,), of the same dtype.
    """
    wide_lead, wide_spread = widened(lead), widened(spread)
    least = jnp.where(wide_spread > 0, wide_spread, TINY)
    guarded = jnp.where(wide_spread >= _LEAST, wide_spread + TINY, least)
    # The gradient divides by the square of the spread, which has to be of moderate size.
    inverse = jax.lax.stop_gradient(units(guarded)[1])
    return ((wide_lead * inverse) / (guarded * inverse)).astype(lead.dtype)
