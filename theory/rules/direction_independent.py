"""Directions of largest robust margin when the coordinates' noise is independent and stable.

With noise scale ||w||_alpha the margin is (w . Delta - radius ||w||_q) / ||w||_alpha; Gaussian
noise is alpha = 2. Signs and order of the weights are those of Delta, so only |Delta| matters.
Theory document T3 (b, d, e, f), T16; alpha < 1 against l_1, and beyond the margin, are new.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from theory.numerics.local_search import ascend
from theory.numerics.norms import power_norm
from theory.numerics.root import bracketed_root


@functools.partial(jax.jit, static_argnames=("p", "gaussian"))
def direction(
    delta: Array, radius: Array, alpha: Array, p: float, gaussian: bool = False
) -> tuple[Array, Array, Array]:
    """Returns the weight, (d,), an upper bound on every margin, (), and whether it is exact, ().

    The bound, by duality, is nan from the radius on at which no margin is positive, and where the
    problem is not convex. Weights found by local search have derivative zero.

    Args:
        delta: half the difference of the class means, (d,), not all zero.
        radius: of the l_p ball, >= 0, ().
        alpha: stability index in (0, 2], ().
        p: order of the norm, in [1, inf].
        gaussian: alpha is known to be 2, which saves work.

    References:
        bhagoji2019lowerbounds; hu2023accuracydisparity; new; theory document T3, T16.
    """
    # Signs apart and in units of the largest entry, so that tolerances may be absolute.
    top = jnp.max(jnp.abs(delta))
    sizes, reduced = jnp.abs(delta) / top, radius / top
    # Against l_inf without the quotient: its rounding must not decide at the boundary.
    inside = radius < top if p == jnp.inf else reduced < power_norm(sizes, p)
    # `residual` is Delta less its worst perturbation: the weight is aligned with it, and its dual
    # norm is the bound. Against l_inf it shrinks every size, against l_1 it cuts the largest.
    if p == jnp.inf:
        residual = jnp.maximum(sizes - reduced, 0)
        aligned, beyond = _aligned(residual, alpha), _beyond_cube(sizes, reduced, alpha)
        weight = jnp.where(inside & _any_left(aligned), aligned, beyond)
        exact = jnp.asarray(True)
    elif p == 1:
        residual = jnp.minimum(sizes, _level(sizes, reduced))
        convex = jnp.where(alpha < 1, _leading(sizes, reduced, alpha), _aligned(residual, alpha))
        weight, exact = jnp.where(inside & _any_left(convex), convex, 1), jnp.asarray(True)
    elif p == 2 and gaussian:
        weight, exact = sizes, jnp.asarray(True)
        residual = jnp.maximum(1 - reduced / power_norm(sizes, p), 0) * sizes
    else:
        # No closed form. Below alpha = 1 the solver is shown 1, and its answer is not used.
        share = _share(sizes, reduced, jnp.maximum(alpha, 1), p)
        residual, exact = sizes - reduced * share, inside & (alpha >= 1)
        single = (reduced == 0) & (alpha == 1)
        # Without a threat and at alpha = 1 the equations of `_share` leave the weight open.
        solved = jnp.where(single, _aligned(sizes, alpha), share ** (p - 1))
        weight = lax.cond(exact, lambda: solved, lambda: _searched(sizes, reduced, alpha, p))
    # Below alpha = 1 no duality holds but against l_inf, where the residual is known all the same.
    length = _dual_length(*lax.stop_gradient((residual, alpha)))
    bounded = inside & ((alpha >= 1) | (p == jnp.inf))
    bound = jnp.where(bounded, top * length, jnp.nan)
    weight = jnp.where(jnp.isnan(alpha), jnp.nan, weight)
    return jnp.where(delta < 0, -weight, weight) * top, bound, exact


def _any_left(weight: Array) -> Array:
    """Returns whether a weight is not zero: rounding may leave nothing to align to."""
    left: Array = jnp.max(weight) > 0
    return left


def _dual_length(residual: Array, alpha: Array) -> Array:
    """Returns the norm of the residual dual to ||.||_alpha; for alpha <= 1 that to ||.||_1."""
    above = alpha > 1
    # An infinite order must not reach a power: 1^inf is nan on some processors.
    order = alpha / jnp.where(above, alpha - 1, 1)
    return jnp.where(above, power_norm(residual, order), jnp.max(residual))


def _aligned(residual: Array, alpha: Array) -> Array:
    """Returns the w >= 0 of largest w . residual / ||w||_alpha, in units of the largest residual.

    That is residual^(1 / (alpha - 1)); for alpha <= 1 a single coordinate, or, at alpha = 1 where
    any of them will do, all that share the maximum: the limit from above.
    """
    largest = jnp.max(residual)
    share = residual / jnp.where(largest > 0, largest, 1)
    exponent = 1 / jnp.where(alpha > 1, alpha - 1, 1)
    spread = jnp.where(share > 0, jnp.where(share > 0, share, 1) ** exponent, 0)
    single = jax.nn.one_hot(jnp.argmax(residual), len(residual), dtype=residual.dtype)
    # Not by equality, nor relative to the largest: a residual is a difference of sizes of at most
    # one, which compiled code may round differently at either place.
    near = (share > 0) & (residual >= largest - 4 * jnp.finfo(residual.dtype).eps)
    tied = jnp.maximum(near.astype(residual.dtype), single)
    return jnp.where(alpha > 1, spread, jnp.where(alpha == 1, tied, single)) * largest


def _leading(sizes: Array, radius: Array, alpha: Array) -> Array:
    """Returns the best weight against l_1 for alpha < 1: one on the largest k coordinates.

    Between 0 and 1 the margin falls and then rises in every single weight, so each is 0 or 1.
    """
    counts = jnp.arange(1, len(sizes) + 1, dtype=sizes.dtype)
    margins = (jnp.cumsum(jnp.sort(sizes, descending=True)) - radius) / counts ** (1 / alpha)
    rank = jnp.argsort(jnp.argsort(-sizes))
    return (rank <= jnp.argmax(margins)).astype(sizes.dtype)


def _beyond_cube(sizes: Array, radius: Array, alpha: Array) -> Array:
    """Returns the least bad weight against l_inf once no margin is positive.

    One coordinate for alpha >= 1. Below, ||w||_alpha is concave and the weights spread.
    """
    single = jax.nn.one_hot(jnp.argmax(sizes), len(sizes), dtype=sizes.dtype)
    lack = radius - sizes
    least = jnp.min(lack)
    spreads = (alpha < 1) & (least > 0)
    share = jnp.where(spreads, lack / jnp.where(least > 0, least, 1), 1)
    # Compiled code may round a lack in two ways at its two places, and an exact boundary then looks
    # like a lack of nothing, or a negative one, beside a least that is positive.
    share = jnp.where(share < 1, 1, share)
    exponent = 1 / jnp.where(alpha < 1, alpha - 1, -1)
    return jnp.where(spreads, share**exponent, single)


def _level(sizes: Array, radius: Array) -> Array:
    """Returns the level c at which sum (sizes - c)_+ = radius, for radius below the sum."""
    ordered = jnp.sort(sizes, descending=True)
    levels = (jnp.cumsum(ordered) - radius) / jnp.arange(1, len(sizes) + 1, dtype=sizes.dtype)
    # Adding a coordinate that lies below the level would lower it: the largest level is the one.
    return jnp.maximum(jnp.max(levels), 0)


def _share(sizes: Array, radius: Array, alpha: Array, p: float) -> Array:
    """Returns z / radius >= 0, of unit l_p norm, for the worst perturbation z of the best weight.

    Its entries x solve c x^s + radius x = size with s = (alpha - 1)(p - 1), and the weight is
    x^(p - 1). The level c follows from the largest entry, which is what is searched for.
    """
    power = (alpha - 1) * (p - 1)

    def entries(largest: Array, sizes: Array, radius: Array, power: Array) -> Array:
        level = jnp.maximum(1 - radius * largest, 0) / largest**power
        return _entry(sizes, level, radius, power)

    def excess(largest: Array, sizes: Array, radius: Array, power: Array) -> Array:
        return jnp.log(power_norm(entries(largest, sizes, radius, power), p))

    # Of d entries of unit l_p norm the largest is at least d^(-1/p) and at most 1; and radius times
    # it, one of two positive terms, cannot exceed the largest size, which is 1.
    low = jnp.full((), len(sizes), sizes.dtype) ** (-1 / p)
    high = jnp.where(radius > 1, 1 / jnp.where(radius > 1, radius, 1), 1)
    problem = sizes, radius, power
    return entries(bracketed_root(excess, jnp.minimum(low, high), high, *problem), *problem)


def _entry(size: Array, level: Array, radius: Array, power: Array) -> Array:
    """Returns the x >= 0 with level x^power + radius x = size, elementwise in size."""
    level, radius, power = (jnp.broadcast_to(a, size.shape) for a in (level, radius, power))
    # At power zero the first term is constant: what it leaves is all that x can take.
    flat = jnp.maximum(size - level, 0) / jnp.where(radius > 0, radius, 1)
    curved = (power > 0) & (size > 0)
    size, power = jnp.where(curved, size, 1), jnp.where(curved, power, 1)

    # In y = log x, and by the logarithm of the left side: nearly linear for any exponents.
    def excess(y: Array, size: Array, level: Array, radius: Array, power: Array) -> Array:
        return jnp.log(level * jnp.exp(power * y) + radius * jnp.exp(y)) - jnp.log(size)

    # Either term alone gives too much; half of each, too little.
    alone = jnp.log(size / radius), jnp.log(size / level) / power
    high = jnp.minimum(jnp.minimum(*alone), 0)
    low = high - 1 - jnp.log(jnp.asarray(2, size.dtype)) / jnp.minimum(power, 1)
    y = bracketed_root(excess, low, high, size, level, radius, power)
    return jnp.where(curved, jnp.exp(y), flat)


def _searched(sizes: Array, radius: Array, alpha: Array, p: float) -> Array:
    """Returns the best weight of a local search from the largest k coordinates, for every k."""
    # Below alpha = 1 the margin has local maxima on faces, where small weights are zero: a support
    # is fixed for each search, and the weights on it are exponentials, which stay positive.
    count = len(sizes)
    rank = jnp.argsort(jnp.argsort(-sizes))  # of the largest 0
    supports = rank[None] < jnp.arange(1, count + 1)[:, None]

    def weight(logarithm: Array, support: Array) -> Array:
        largest = jnp.max(jnp.where(support, logarithm, -jnp.inf))
        return jnp.where(support, jnp.exp(jnp.where(support, logarithm - largest, 0)), 0)

    def margin(logarithm: Array, support: Array) -> Array:
        w = weight(logarithm, support)
        return (jnp.sum(w * sizes) - radius * power_norm(w, p / (p - 1))) / power_norm(w, alpha)

    start = jnp.broadcast_to(jnp.log(jnp.maximum(sizes, 1e-3)), (count, count))
    sizes, radius, alpha = lax.stop_gradient((sizes, radius, alpha))
    logarithms, values = jax.vmap(lambda x, support: ascend(margin, x, support))(start, supports)
    best = jnp.argmax(values)
    return weight(logarithms[best], supports[best])
