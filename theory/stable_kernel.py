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

from theory.elementary import LN2, gaussian_decay, horner, inverse_power, log
from theory.stable_layout import (
    ALPHA_TERMS,
    GAUSSIAN_FROM,
    GAUSSIAN_PIVOT,
    GAUSSIAN_START,
    MIDDLE_SPLIT,
    PANEL_CENTRES,
    PANEL_EDGES,
    PANEL_SCALES,
    load_table,
    log_borders,
    zone_terms,
)

Ratio = Callable[[Array], Array]


class Law(NamedTuple):
    """What depends on alpha alone; polynomials are indexed [term], with alpha's shape behind."""

    alpha: Array
    tables: dict[str, Array]
    mode: Array  # density at zero
    curvature: Array  # -second derivative of the density at zero
    first_x: Array  # where the middle zone begins
    first: Array  # the same, split and end of the middle zone, as alpha log2(x)
    split: Array
    last: Array
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


def alpha_weights(alpha: Array) -> Array:
    """Return the powers of the panel coordinate, nonzero in alpha's panel only.

    Shape (panels * terms, *alpha.shape); nan for alpha = nan.
    """
    dtype = str(alpha.dtype)
    index = sum(((alpha >= edge).astype(jnp.int32) for edge in PANEL_EDGES[1:-1]), jnp.int32(0))
    column = (-1, *(1,) * alpha.ndim)
    inside = index[None] == jnp.arange(len(PANEL_CENTRES), dtype=jnp.int32).reshape(column)
    centres, scales = (np.asarray(c, dtype).reshape(column) for c in (PANEL_CENTRES, PANEL_SCALES))
    centre, scale = (jnp.sum(jnp.where(inside, c, 0), axis=0) for c in (centres, scales))
    s = (alpha - centre) / (alpha + centre) * scale
    powers = [jnp.ones_like(s)]
    for _ in range(ALPHA_TERMS[dtype] - 1):
        powers.append(powers[-1] * s)
    return jnp.where(inside[:, None], jnp.stack(powers)[None], 0).reshape(-1, *alpha.shape)


def contract(name: str, weights: Array) -> Array:
    """Return the polynomial coefficients in x of one table at every alpha."""
    table = load_table(name, str(weights.dtype))
    matrix = jnp.asarray(table.reshape(-1, table.shape[-1]).T)
    return jnp.tensordot(matrix, weights, axes=1, precision=lax.Precision.HIGHEST)


def law(alpha: Array, *names: str) -> Law:
    """Return the law at alpha (any shape, float32 or float64), with the named tables.

    nan gives nan throughout.
    """
    weights = alpha_weights(alpha)
    first, last = (border / LN2 for border in log_borders(alpha))
    gaussian = alpha >= GAUSSIAN_FROM
    mode, curvature = jnp.exp2(contract("log2_scales", weights))
    return Law(
        alpha=alpha,
        tables={name: contract(name, weights) for name in names},
        mode=mode,
        curvature=curvature,
        first_x=jnp.exp2(first / alpha),
        first=first,
        split=first + MIDDLE_SPLIT * (last - first),
        last=last,
        middle_factor=jnp.where(gaussian, 2 - alpha, 1),
        tail_factor=2 - alpha,
        density_floor=alpha * jnp.where(gaussian, 1, 1 / mode),
        slope_floor=alpha * jnp.where(gaussian, 1, 1 / curvature),
    )


def locate(law: Law, x: Array) -> Position:
    """Return where x >= 0 lies. Replacing by borders keeps unused branches finite, in gradients."""
    near = x < law.first_x
    x_near = jnp.where(near, x, law.first_x)
    x_far = jnp.where(near, law.first_x, x)
    log2_power, power = inverse_power(x_far, law.alpha)
    tail = log2_power >= law.last
    high = log2_power >= law.split
    log2_middle = jnp.where(tail, law.last, log2_power)
    start = jnp.where(high, law.split, law.first)
    scale = jnp.where(high, 2 / (law.last - law.split), 2 / (law.split - law.first))
    middle_t = (log2_middle - start) * scale - 1
    tail_t = jnp.where(tail, 2 * power * jnp.exp2(law.last) - 1, 1)
    ratio = x_near / law.first_x
    near_t = 2 * ratio * ratio - 1
    return Position(near, tail, x_near, x_far, log2_power, power, high, near_t, middle_t, tail_t)


def zones(law: Law, name: str) -> list[Array]:
    """Return the coefficients of a table's near, two middle and tail polynomials."""
    stops = np.cumsum((0, *zone_terms(name, str(law.alpha.dtype))))
    return [law.tables[name][i:j] for i, j in itertools.pairwise(stops)]


def middle_polynomial(low: Array, high: Array, at: Position) -> Array:
    """Return a table's value in the middle zone; one chain is faster than a choice of two."""
    chosen = [jnp.where(at.high, high[k], low[k]) for k in range(len(low))]
    return horner(chosen, at.middle_t)


def tabulated(name: str, law: Law, at: Position) -> tuple[Array, Array]:
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


def gaussian_part(law: Law, x: Array, ratio: Ratio) -> Array:
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


def density(law: Law, x: Array, times_x: bool = False) -> Array:
    """Return the density at x >= 0, or x times it, which underflows no sooner than survival."""
    at = locate(law, x)
    near, outer = tabulated("density", law, at)
    factor = at.x_far if times_x else 1
    outer *= law.alpha * at.power * factor
    outer /= at.x_far + jnp.where(at.tail, 0, law.density_floor * at.power)
    outer += gaussian_part(law, at.x_far, density_ratio) * factor
    return jnp.where(at.near, law.mode * near * (at.x_near if times_x else 1), outer)


def descent(law: Law, x: Array) -> Array:
    """Return minus the derivative of the density at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("slope", law, at)
    floor = jnp.where(at.tail, 0, law.slope_floor * at.power / at.x_far)
    outer *= law.alpha * at.power / (at.x_far * at.x_far + floor)
    outer += gaussian_part(law, at.x_far, slope_ratio)
    value = jnp.where(at.near, law.curvature * at.x_near * near, outer)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def score(law: Law, x: Array) -> Array:
    """Return minus the derivative of the log density at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("density", law, at)
    near_slope, outer_slope = tabulated("slope", law, at)
    ratio = jnp.where(at.tail, 0, at.power / at.x_far)
    outer /= 1 + law.density_floor * ratio
    outer_slope /= at.x_far + law.slope_floor * ratio / at.x_far
    gaussian = scaled_gaussian(law, at, lambda x: x * density_ratio(x)) / law.alpha
    total = outer + gaussian
    underflow = total == 0  # only at alpha = 2
    slope = outer_slope + gaussian * at.x_far / 2
    far = jnp.where(underflow, at.x_far / 2, slope / jnp.where(underflow, 1, total))
    value = jnp.where(at.near, law.curvature * at.x_near * near_slope / (law.mode * near), far)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def survival(law: Law, x: Array) -> Array:
    """Return P(X > x) at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("survival", law, at)
    outer *= at.power / (1 + jnp.where(at.tail, 0, at.power))
    outer += gaussian_part(law, at.x_far, gaussian_ratio)
    value = jnp.where(at.near, 0.5 - law.mode * at.x_near * near, outer)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def central(law: Law, x: Array) -> Array:
    """Return P(0 < X <= x) at x >= 0."""
    at = locate(law, x)
    near, *_ = zones(law, "survival")
    _, low, high, tail = zones(law, "central")
    near_value = law.mode * at.x_near * horner(near, at.near_t)
    middle_value = middle_polynomial(low, high, at) / (2 + 1 / (law.mode * at.x_far))
    tail_value = horner(tail, at.tail_t) - gaussian_part(law, at.x_far, gaussian_ratio)
    value = jnp.where(at.near, near_value, jnp.where(at.tail, tail_value, middle_value))
    return jnp.where(jnp.isinf(x), 0.5 + 0 * law.alpha, value)


def scaled_gaussian(law: Law, at: Position, ratio: Ratio) -> Array:
    """Return `gaussian_part` over x^-alpha at x = at.x_far, zero where it underflows."""
    gaussian = gaussian_part(law, at.x_far, ratio)
    return gaussian / jnp.where(gaussian > 0, at.power, 1)


def log_value(law: Law, at: Position, near: Array, outer: Array, outer_ratio: Ratio) -> Array:
    """Return the log of `near`, or beyond of outer x^-alpha + exp(-x^2/4) outer_ratio(x).

    The power stays outside the logarithm, where it cannot underflow.
    """
    total = outer + scaled_gaussian(law, at, outer_ratio)
    logarithm = log(jnp.where(at.near, near, jnp.where(total > 0, total, 1)))
    value = jnp.where(at.near, logarithm, logarithm - at.log2_power * LN2)
    # Only at alpha = 2 the total underflows; its slope in alpha then exceeds all numbers.
    only_gaussian = log(outer_ratio(at.x_far)) - at.x_far * at.x_far / 4
    only_gaussian += law.tail_factor * jnp.finfo(outer.dtype).max
    return jnp.where(at.near | (total > 0), value, only_gaussian)


def log_survival(law: Law, x: Array) -> Array:
    """Return log P(X > x) at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("survival", law, at)
    near = 0.5 - law.mode * at.x_near * near
    outer /= 1 + jnp.where(at.tail, 0, at.power)
    value = log_value(law, at, near, outer, gaussian_ratio)
    return jnp.where(jnp.isinf(x), -jnp.inf + 0 * law.alpha, value)


def log_density(law: Law, x: Array) -> Array:
    """Return the logarithm of the density at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("density", law, at)
    near *= law.mode
    outer *= law.alpha / (1 + jnp.where(at.tail, 0, law.density_floor * at.power / at.x_far))
    value = log_value(law, at, near, outer, lambda x: x * density_ratio(x))
    value -= jnp.where(at.near, 0, at.log2_power * (LN2 / law.alpha))
    return jnp.where(jnp.isinf(x), -jnp.inf + 0 * law.alpha, value)
