"""Evaluation of the symmetric stable law on x >= 0 from its tables (see `stable_tables`).

The tables are contracted with alpha once, into the coefficients of one polynomial for each zone in
x; a value then costs one logarithm, one power x^-alpha and these polynomials. The contraction is a
matrix product for one alpha as for many, so a vmap over alpha stays a matrix product.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from theory.numerics.elementary import (
    LN2,
    exp2_sum,
    gaussian_decay,
    horner,
    inverse_power,
    log,
    shorten,
)
from theory.stable.layout import (
    ALPHA_TERMS,
    CENTRAL_LIFT,
    DENSITY_LIFT,
    FIRST,
    GAUSSIAN_FROM,
    GAUSSIAN_PIVOT,
    GAUSSIAN_START,
    LAST,
    PANEL_CENTRES,
    PANEL_EDGES,
    PANEL_SCALES,
    SCALES_BITS,
    SHORT_BITS,
    SLOPE_LIFT,
    SPLIT,
    load_table,
    table_lift,
    zone_terms,
)

Ratio = Callable[[Array], Array]
Line = tuple[float, float]


class Border(NamedTuple):
    """A value of alpha log2(x) as an integer and a fraction, together beyond alpha's dtype."""

    whole: Array
    fraction: Array


class PreparedLaw(NamedTuple):
    """What depends on alpha alone; polynomials are indexed [term], with alpha's shape behind."""

    alpha: Array
    tables: dict[str, Array]
    mode: Array  # density at zero
    curvature: Array  # -second derivative of the density at zero
    first_x: Array  # where the middle zone begins
    first: Border  # the same as alpha log2(x), and where that zone is cut in two
    split: Border
    last: Array  # alpha log2(x) where it ends
    middle_factor: Array  # prefactors of the tables, 1 or 2 - alpha
    tail_factor: Array
    density_floor: Array  # of the scaling in the middle zone
    slope_floor: Array


class Position(NamedTuple):
    """Zone of x, the polynomials' arguments and x^-alpha; in other zones replaced by a border."""

    near: Array  # masks; what is in neither `near` nor `tail` is in the middle
    tail: Array
    x_near: Array
    x_far: Array
    log2_power: Array  # alpha log2(x_far)
    power: Array  # x_far^-alpha
    high: Array  # mask: second part of the middle zone
    near_t: Array
    middle_t: Array
    tail_t: Array


class Coordinate(NamedTuple):
    """Panel of alpha, 1 there and 0 elsewhere on the first axis, and s in [-1, 1] within it.

    s is a short number and a rest, together beyond alpha's dtype; nan for alpha = nan.
    """

    inside: Array
    short: Array
    rest: Array


def split_quotient(alpha: Array, centre: Array, scale: Array, bits: int) -> tuple[Array, Array]:
    """Return s = scale (alpha - centre)/(alpha + centre) as short + rest, beyond alpha's dtype.

    `scale` is short. The short part of the quotient is exact times that of alpha + centre, so
    that the remainder of the division is found without rounding.
    """
    short, short_centre = shorten(alpha, bits), shorten(centre, bits)
    whole = alpha + centre
    quotient = shorten((alpha - centre) / whole, bits)
    remainder = (alpha - centre) - quotient * (short + short_centre)
    remainder -= quotient * ((alpha - short) + (centre - short_centre))
    product = quotient * scale
    head = shorten(product, bits)
    return head, (product - head) + remainder / whole * scale


def coordinate(alpha: Array) -> Coordinate:
    """Return where alpha lies."""
    dtype = str(alpha.dtype)
    index = sum(((alpha >= edge).astype(jnp.int32) for edge in PANEL_EDGES[1:-1]), jnp.int32(0))
    column = (-1, *(1,) * alpha.ndim)
    inside = index[None] == jnp.arange(len(PANEL_CENTRES), dtype=jnp.int32).reshape(column)
    centres, scales = (np.asarray(c, dtype).reshape(column) for c in (PANEL_CENTRES, PANEL_SCALES))
    centre, scale = (jnp.sum(jnp.where(inside, c, 0), axis=0) for c in (centres, scales))
    parts = split_quotient(alpha, centre, scale, SHORT_BITS[dtype])
    return Coordinate(inside.astype(dtype), *parts)


def alpha_weights(at: Coordinate) -> Array:
    """Return the powers of s, nonzero in alpha's panel only: (panels * terms, *alpha.shape)."""
    s = at.short + at.rest
    terms, powers, factor = ALPHA_TERMS[str(s.dtype)], jnp.ones_like(s)[None], s
    while len(powers) < terms:
        powers = jnp.concatenate([powers, powers * factor[None]])
        factor *= factor
    weights = jnp.where(at.inside[:, None] > 0, powers[:terms][None], 0)
    return weights.reshape(len(PANEL_CENTRES) * terms, *s.shape)


def contract(name: str, weights: Array) -> Array:
    """Return the polynomial coefficients in x of one table at every alpha."""
    table = load_table(name, str(weights.dtype))
    matrix = jnp.asarray(table.reshape(-1, table.shape[-1]).T)
    return jnp.tensordot(matrix, weights, axes=1, precision=lax.Precision.HIGHEST)


def scales(at: Coordinate) -> Array:
    """Return the density and minus its second derivative at zero.

    Their logarithms are large at small alpha, so that their rounding would be seen. In this
    Horner scheme products and sums of short numbers are exact, and what they leave out is small.
    """
    dtype = str(at.short.dtype)

    def chosen(name: str) -> Array:
        table = jnp.asarray(load_table(name, dtype))
        return jnp.tensordot(table, at.inside, axes=(0, 0), precision=lax.Precision.HIGHEST)

    high, low = chosen("log2_scales"), chosen("log2_scales_rest")
    head, tail = (jnp.stack([part, part]) for part in (at.short, at.rest))
    whole, short, rest = head + tail, high[-1], low[-1]
    for k in range(len(high) - 2, -1, -1):
        exact = short * head + high[k]
        rest = short * tail + rest * whole + low[k]
        short = shorten(exact, SCALES_BITS[dtype])
        rest += exact - short
    return exp2_sum(short, rest)


def first_border(alpha: Array) -> Array:
    """Return x = 2^(k + c/alpha) where the middle zone begins, 1/alpha beyond alpha's dtype."""
    bits = SHORT_BITS[str(alpha.dtype)]
    short, inverse = shorten(alpha, bits), shorten(1 / alpha, bits - 2)
    remainder = ((1 - inverse * short) - inverse * (alpha - short)) / alpha
    return exp2_sum(FIRST[0] + FIRST[1] * inverse, FIRST[1] * remainder)


def law(alpha: Array, *names: str) -> PreparedLaw:
    """Return the law at alpha (any shape, float32 or float64), with the named tables.

    nan gives nan throughout.
    """
    at = coordinate(alpha)
    weights = alpha_weights(at)
    gaussian = alpha >= GAUSSIAN_FROM
    mode, curvature = scales(at)
    return PreparedLaw(
        alpha=alpha,
        tables={name: contract(name, weights) for name in names},
        mode=mode,
        curvature=curvature,
        first_x=first_border(alpha),
        first=border(alpha, FIRST),
        split=border(alpha, SPLIT),
        last=LAST[0] * alpha + LAST[1],
        middle_factor=jnp.where(gaussian, 2 - alpha, 1),
        tail_factor=2 - alpha,
        density_floor=alpha * jnp.where(gaussian, 1, 1 / mode),
        slope_floor=alpha * jnp.where(gaussian, 1, 1 / curvature),
    )


def border(alpha: Array, line: Line) -> Border:
    """Return the border that lies at k alpha + c."""
    short = shorten(alpha, SHORT_BITS[str(alpha.dtype)])
    exact = line[0] * short + line[1]
    whole = shorten(exact, 0)
    return Border(whole, (exact - whole) + line[0] * (alpha - short))


def span(alpha: Array, start: Line, end: Line) -> Array:
    """Return alpha log2(x) from one border to another."""
    return (end[0] - start[0]) * alpha + (end[1] - start[1])


def locate(law: PreparedLaw, x: Array) -> Position:
    """Return where x >= 0 lies. Replacing by borders keeps unused branches finite, in gradients."""
    near = x < law.first_x
    x_near = jnp.where(near, x, law.first_x)
    x_far = jnp.where(near, law.first_x, x)
    whole, fraction, power = inverse_power(x_far, law.alpha)
    log2_power = whole + fraction
    tail = log2_power >= law.last
    high = log2_power >= law.split.whole + law.split.fraction
    start = (jnp.where(high, *parts) for parts in zip(law.split, law.first, strict=True))
    scale = jnp.where(high, 2 / span(law.alpha, SPLIT, LAST), 2 / span(law.alpha, FIRST, SPLIT))
    distance = (whole - next(start)) + (fraction - next(start))
    middle_t = jnp.where(tail, 1, distance * scale - 1)
    tail_t = jnp.where(tail, 2 * power * jnp.exp2(law.last) - 1, 1)
    ratio = x_near / law.first_x
    near_t = 2 * ratio * ratio - 1
    return Position(near, tail, x_near, x_far, log2_power, power, high, near_t, middle_t, tail_t)


def zones(law: PreparedLaw, name: str) -> list[Array]:
    """Return the coefficients of a table's near, two middle and tail polynomials."""
    stops = np.cumsum((0, *zone_terms(name, str(law.alpha.dtype))))
    return [law.tables[name][i:j] for i, j in itertools.pairwise(stops)]


def middle_polynomial(low: Array, high: Array, at: Position) -> Array:
    """Return a table's value in the middle zone; one chain is faster than a choice of two."""
    chosen = [jnp.where(at.high, high[k], low[k]) for k in range(len(low))]
    return horner(chosen, at.middle_t)


def tabulated(name: str, law: PreparedLaw, at: Position) -> tuple[Array, Array]:
    """Return a table's value in the near zone, and its value times prefactor beyond."""
    near, low, high, tail = zones(law, name)
    middle_value = law.middle_factor * middle_polynomial(low, high, at)
    tail_value = law.tail_factor * horner(tail, at.tail_t)
    return horner(near, at.near_t), jnp.where(at.tail, tail_value, middle_value)


def gaussian_ratio(x: Array) -> Array:
    """Return exp(x^2/4) erfc(x/2)/2 for x >= GAUSSIAN_START."""
    inverse = 1 / (x + GAUSSIAN_PIVOT)
    t = 1 - 2 * (GAUSSIAN_START + GAUSSIAN_PIVOT) * inverse
    return horner(jnp.asarray(load_table("gaussian", str(x.dtype))), t) * inverse


def gaussian_part(law: PreparedLaw, x: Array, ratio: Ratio) -> Array:
    """Return exp(-x^2/4) ratio(x) where alpha >= 1.5, else zero."""
    gaussian = law.alpha >= GAUSSIAN_FROM

    def value(x: Array) -> Array:
        return jnp.where(gaussian, gaussian_decay(x) * ratio(x), 0)

    def nothing(x: Array) -> Array:
        return jnp.zeros(jnp.broadcast_shapes(x.shape, gaussian.shape), x.dtype)

    return lax.cond(jnp.any(gaussian), value, nothing, x)


def density_ratio(x: Array) -> Array:
    """Return the density at alpha = 2 over exp(-x^2/4)."""
    return jnp.full_like(x, 0.5 / math.sqrt(math.pi))


def slope_ratio(x: Array) -> Array:
    """Return minus the derivative of the density at alpha = 2 over exp(-x^2/4)."""
    return x / 2 * density_ratio(x)


def density(law: PreparedLaw, x: Array, times_x: bool = False) -> Array:
    """Return the density at x >= 0, or x times it, which underflows no sooner than survival."""
    at = locate(law, x)
    near, outer = tabulated("density", law, at)
    factor = at.x_far if times_x else 1
    outer *= law.alpha * at.power * factor
    floor = jnp.where(at.tail, 0, law.density_floor * at.power)
    outer /= at.x_far * table_lift(DENSITY_LIFT, law.alpha, at.power) + floor
    outer += gaussian_part(law, at.x_far, density_ratio) * factor
    value = jnp.where(at.near, law.mode * near * (at.x_near if times_x else 1), outer)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def descent(law: PreparedLaw, x: Array) -> Array:
    """Return minus the derivative of the density at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("slope", law, at)
    floor = jnp.where(at.tail, 0, law.slope_floor * at.power / at.x_far)
    square = at.x_far * at.x_far * table_lift(SLOPE_LIFT, law.alpha, at.power)
    outer *= law.alpha * at.power / (square + floor)
    outer += gaussian_part(law, at.x_far, slope_ratio)
    value = jnp.where(at.near, law.curvature * at.x_near * near, outer)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def score(law: PreparedLaw, x: Array) -> Array:
    """Return minus the derivative of the log density at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("density", law, at)
    near_slope, outer_slope = tabulated("slope", law, at)
    ratio = jnp.where(at.tail, 0, at.power / at.x_far)
    outer /= table_lift(DENSITY_LIFT, law.alpha, at.power) + law.density_floor * ratio
    lifted = at.x_far * table_lift(SLOPE_LIFT, law.alpha, at.power)
    outer_slope /= lifted + law.slope_floor * ratio / at.x_far
    gaussian = scaled_gaussian(law, at, lambda x: x * density_ratio(x)) / law.alpha
    total = outer + gaussian
    underflow = total == 0  # only at alpha = 2
    slope = outer_slope + gaussian * at.x_far / 2
    far = jnp.where(underflow, at.x_far / 2, slope / jnp.where(underflow, 1, total))
    value = jnp.where(at.near, law.curvature * at.x_near * near_slope / (law.mode * near), far)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def survival(law: PreparedLaw, x: Array) -> Array:
    """Return P(X > x) at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("survival", law, at)
    outer *= at.power / (1 + jnp.where(at.tail, 0, at.power))
    outer += gaussian_part(law, at.x_far, gaussian_ratio)
    value = jnp.where(at.near, 0.5 - law.mode * at.x_near * near, outer)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def central(law: PreparedLaw, x: Array) -> Array:
    """Return P(0 < X <= x) at x >= 0."""
    at = locate(law, x)
    near, *_ = zones(law, "survival")
    _, low, high, tail = zones(law, "central")
    near_value = law.mode * at.x_near * horner(near, at.near_t)
    lift = table_lift(CENTRAL_LIFT, law.alpha, at.power)
    middle_value = middle_polynomial(low, high, at) / (2 * lift + 1 / (law.mode * at.x_far))
    tail_value = horner(tail, at.tail_t) / lift - gaussian_part(law, at.x_far, gaussian_ratio)
    value = jnp.where(at.near, near_value, jnp.where(at.tail, tail_value, middle_value))
    return jnp.where(jnp.isinf(x), 0.5 + 0 * law.alpha, value)


def scaled_gaussian(law: PreparedLaw, at: Position, ratio: Ratio) -> Array:
    """Return `gaussian_part` over x^-alpha at x = at.x_far, zero where it underflows."""
    gaussian = gaussian_part(law, at.x_far, ratio)
    return gaussian / jnp.where(gaussian > 0, at.power, 1)


def log_outer(law: PreparedLaw, at: Position, total: Array, ratio: Ratio) -> tuple[Array, Array]:
    """Return (argument, shift) with log(total x^-alpha) = log(argument) - shift beyond near zero.

    The power stays outside the logarithm, where it cannot underflow. Only at alpha = 2 the total
    does: it stands for exp(-x^2/4) ratio(x), and its slope in alpha then exceeds all numbers.
    """
    underflow = total == 0
    slope = law.tail_factor * jnp.finfo(total.dtype).max
    shift = jnp.where(underflow, at.x_far * at.x_far / 4 - slope, at.log2_power * LN2)
    return jnp.where(underflow, ratio(at.x_far), total), shift


def log_survival(law: PreparedLaw, x: Array, complement: Array) -> Array:
    """Return log P(X > x) at x >= 0, or log P(X <= x) where `complement`."""
    at = locate(law, x)
    near, outer = tabulated("survival", law, at)
    near = 0.5 - law.mode * at.x_near * near
    outer /= 1 + jnp.where(at.tail, 0, at.power)
    total = outer + scaled_gaussian(law, at, gaussian_ratio)
    argument, shift = log_outer(law, at, total, gaussian_ratio)
    # log(1 - p) is log(w) + ((1 - w) - p)/w with w the rounded 1 - p
    p = jnp.where(at.near, near, total * at.power)
    w = 1 - p
    # Near zero `total` means nothing; where p is large, the logarithms of it and x^alpha cancel.
    large = at.near | (p > 0.125)
    argument = jnp.where(complement, w, jnp.where(large, p, argument))
    shift = jnp.where(complement, (p - (1 - w)) / w, jnp.where(large, 0, shift))
    limit = jnp.where(complement, 0, -jnp.inf) + 0 * law.alpha
    return jnp.where(jnp.isinf(x), limit, log(argument) - shift)


def log_density(law: PreparedLaw, x: Array) -> Array:
    """Return the logarithm of the density at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("density", law, at)

    def ratio(x: Array) -> Array:
        return x * density_ratio(x)

    floor = jnp.where(at.tail, 0, law.density_floor * at.power / at.x_far)
    outer *= law.alpha / (table_lift(DENSITY_LIFT, law.alpha, at.power) + floor)
    total = outer + scaled_gaussian(law, at, ratio)
    argument, shift = log_outer(law, at, total, ratio)
    shift += at.log2_power * (LN2 / law.alpha)  # log x
    value = log(jnp.where(at.near, law.mode * near, argument)) - jnp.where(at.near, 0, shift)
    return jnp.where(jnp.isinf(x), -jnp.inf + 0 * law.alpha, value)
