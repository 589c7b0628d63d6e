"""Evaluation of the symmetric stable law on x >= 0 from its tables (see `theory.stable.tables`).

The tables are contracted with alpha once, into the coefficients of one polynomial for each zone in
x; a value then costs one logarithm, one power x^-alpha and these polynomials. The contraction is a
matrix product for one alpha as for many, so a vmap over alpha stays a matrix product.

With a = alpha, y = a log2 x and u = x^-a = 2^-y, the half-line falls into four zones, and in each
the table of a function is a polynomial P(t) on [-1, 1]; y1, y2, y3 are the borders FIRST, SPLIT and
LAST, and x1, u3 the values of x and u at y1 and y3:

    near    y < y1          t = 2 (x / x1)^2 - 1
    middle  y1 <= y < y2    t = 2 (y - y1) / (y2 - y1) - 1
            y2 <= y < y3    t = 2 (y - y2) / (y3 - y2) - 1
    tail    y >= y3         t = 2 u / u3 - 1

Near zero the law is a series in x^2, in the tail one in u; between, only y varies at the same pace
for every alpha. What the polynomials multiply holds the limiting form at either end, so that they
stay of order one and relative accuracy survives wherever the function itself is tiny. With f0 and
c0 the density and minus its second derivative at zero, and L the table's lift (`table_lift`),

                near            middle                           tail
    density     f0 P            g a u P / (L x + a u / f0)       (2 - a) a u P / (L x)
    -density'   c0 x P          g a u P / (L x^2 + a u/(c0 x))   (2 - a) a u P / (L x^2)
    survival    1/2 - f0 x P    g u P / (1 + u)                  (2 - a) u P
    central     f0 x P          P / (2 L + 1 / (f0 x))           P / L

For a < 1.5, g = 1. From a = 1.5 on (GAUSSIAN_FROM) the tables outside the near zone hold what is
left after the value at a = 2, the Gaussian N(0, 2), divided by 2 - a: then g = 2 - a, the Gaussian
part is added, and f0 and c0 in the denominators are 1. At a -> 2 a Gaussian core meets a power
tail whose height is proportional to 2 - a: no polynomial follows both, but each alone is smooth.
The central part needs that only in its tail, where it is 1/2 less the survival function: there its
table is 1/2 - (2 - a) u P, and the Gaussian part is subtracted.
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
    gaussian_decay,
    horner,
    inverse_power,
    log,
)
from theory.stable.layout import (
    CENTRAL_LIFT,
    DENSITY_LIFT,
    FIRST,
    GAUSSIAN_FROM,
    GAUSSIAN_PIVOT,
    GAUSSIAN_START,
    LAST,
    SLOPE_LIFT,
    SPLIT,
    Line,
    load_table,
    table_lift,
    zone_terms,
)
from theory.stable.prepared import PreparedLaw

Ratio = Callable[[Array], Array]


class Position(NamedTuple):
    """Zone of x, polynomials' arguments and x^-alpha, each (...); elsewhere those of a border."""

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


def span(alpha: Array, start: Line, end: Line) -> Array:
    """Returns alpha log2(x), (...), from one border to another."""
    return (end[0] - start[0]) * alpha + (end[1] - start[1])


def locate(law: PreparedLaw, x: Array) -> Position:
    """Returns where x >= 0, (...), lies; outside of a zone its position is that of a border."""
    near = x < law.first_x
    # Replacing by borders keeps unused branches finite: a `where` passes their derivatives on,
    # times zero, which is nan where they are infinite.
    x_near = jnp.where(near, x, law.first_x)
    x_far = jnp.where(near, law.first_x, x)
    whole, fraction, power = inverse_power(x_far, law.alpha)
    log2_power = whole + fraction
    tail = log2_power >= law.last
    high = log2_power >= law.split.whole + law.split.fraction
    # Whole and fractional parts are subtracted apart: their sum has lost the fraction's last bits.
    start = (jnp.where(high, *parts) for parts in zip(law.split, law.first, strict=True))
    scale = jnp.where(high, 2 / span(law.alpha, SPLIT, LAST), 2 / span(law.alpha, FIRST, SPLIT))
    distance = (whole - next(start)) + (fraction - next(start))
    middle_t = jnp.where(tail, 1, distance * scale - 1)
    tail_t = jnp.where(tail, 2 * power * jnp.exp2(law.last) - 1, 1)
    ratio = x_near / law.first_x
    near_t = 2 * ratio * ratio - 1
    return Position(near, tail, x_near, x_far, log2_power, power, high, near_t, middle_t, tail_t)


def zones(law: PreparedLaw, name: str) -> list[Array]:
    """Returns a table's near, two middle and tail polynomials: coefficients, (terms, ...) each."""
    stops = np.cumsum((0, *zone_terms(name, str(law.alpha.dtype))))
    return [law.tables[name][i:j] for i, j in itertools.pairwise(stops)]


def middle_polynomial(low: Array, high: Array, at: Position) -> Array:
    """Returns a table's value, (...), in the middle zone."""
    # The coefficients are chosen and not the values: one chain is faster than two and a choice.
    coefficients = [jnp.where(at.high, high[k], low[k]) for k in range(len(low))]
    return horner(coefficients, at.middle_t)


def tabulated(name: str, law: PreparedLaw, at: Position) -> tuple[Array, Array]:
    """Returns a table's value in the near zone and, times its prefactor, beyond, both (...)."""
    near, low, high, tail = zones(law, name)
    middle_value = law.middle_factor * middle_polynomial(low, high, at)
    tail_value = law.tail_factor * horner(tail, at.tail_t)
    return horner(near, at.near_t), jnp.where(at.tail, tail_value, middle_value)


def gaussian_ratio(x: Array) -> Array:
    """Returns exp(x^2/4) erfc(x/2)/2, (...), for x >= GAUSSIAN_START, (...)."""
    inverse = 1 / (x + GAUSSIAN_PIVOT)
    t = 1 - 2 * (GAUSSIAN_START + GAUSSIAN_PIVOT) * inverse
    return horner(jnp.asarray(load_table("gaussian", str(x.dtype))), t) * inverse


def gaussian_part(law: PreparedLaw, x: Array, ratio: Ratio) -> Array:
    """Returns exp(-x^2/4) ratio(x), (...), where alpha >= 1.5, else zero."""
    gaussian = law.alpha >= GAUSSIAN_FROM

    def value(x: Array) -> Array:
        return jnp.where(gaussian, gaussian_decay(x) * ratio(x), 0)

    def nothing(x: Array) -> Array:
        return jnp.zeros(jnp.broadcast_shapes(x.shape, gaussian.shape), x.dtype)

    # Saves an exponential where no alpha needs it. Under a vmap over x alone it stays a branch.
    part: Array = lax.cond(jnp.any(gaussian), value, nothing, x)
    return part


def density_ratio(x: Array) -> Array:
    """Returns the density at alpha = 2, (...), over exp(-x^2/4)."""
    return jnp.full_like(x, 0.5 / math.sqrt(math.pi))


def slope_ratio(x: Array) -> Array:
    """Returns minus the derivative of the density at alpha = 2, (...), over exp(-x^2/4)."""
    return x / 2 * density_ratio(x)


def density(law: PreparedLaw, x: Array, times_x: bool = False) -> Array:
    """Returns the density, (...), at x >= 0, or x times it.

    The product underflows no sooner than the survival function.
    """
    at = locate(law, x)
    near, outer = tabulated("density", law, at)
    # The factor x goes in before the division by x, where nothing has underflowed yet.
    factor = at.x_far if times_x else 1
    outer *= law.alpha * at.power * factor
    floor = jnp.where(at.tail, 0, law.density_floor * at.power)
    outer /= at.x_far * table_lift(DENSITY_LIFT, law.alpha, at.power) + floor
    outer += gaussian_part(law, at.x_far, density_ratio) * factor
    value = jnp.where(at.near, law.mode * near * (at.x_near if times_x else 1), outer)
    # Here and below: the limit at infinity, times what makes it nan for alpha = nan.
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def descent(law: PreparedLaw, x: Array) -> Array:
    """Returns minus the derivative of the density, (...), at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("slope", law, at)
    floor = jnp.where(at.tail, 0, law.slope_floor * at.power / at.x_far)
    square = at.x_far * at.x_far * table_lift(SLOPE_LIFT, law.alpha, at.power)
    outer *= law.alpha * at.power / (square + floor)
    outer += gaussian_part(law, at.x_far, slope_ratio)
    value = jnp.where(at.near, law.curvature * at.x_near * near, outer)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def score(law: PreparedLaw, x: Array) -> Array:
    """Returns minus the derivative of the log density, (...), at x >= 0.

    The quotient of `descent` and `density`, both without their common factor alpha x^-alpha / x
    beyond the near zone: so it is right where both underflow.
    """
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
    """Returns P(X > x), (...), at x >= 0."""
    # u P / (1 + u) and not P / (1 + x^a): u underflows to the right limit where x^a overflows.
    at = locate(law, x)
    near, outer = tabulated("survival", law, at)
    outer *= at.power / (1 + jnp.where(at.tail, 0, at.power))
    outer += gaussian_part(law, at.x_far, gaussian_ratio)
    value = jnp.where(at.near, 0.5 - law.mode * at.x_near * near, outer)
    return jnp.where(jnp.isinf(x), 0 * law.alpha, value)


def central(law: PreparedLaw, x: Array) -> Array:
    """Returns P(0 < X <= x), (...), at x >= 0."""
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
    """Returns `gaussian_part` over x^-alpha, (...), at x = at.x_far, zero where it underflows."""
    gaussian = gaussian_part(law, at.x_far, ratio)
    return gaussian / jnp.where(gaussian > 0, at.power, 1)


def log_outer(law: PreparedLaw, at: Position, total: Array, ratio: Ratio) -> tuple[Array, Array]:
    """Returns argument and shift, (...), with log(total x^-alpha) = log(argument) - shift.

    That is beyond the near zone.

    The power stays outside the logarithm, where it cannot underflow. Only at alpha = 2 the total
    does: it stands for exp(-x^2/4) ratio(x), and its slope in alpha then exceeds all numbers.
    """
    underflow = total == 0
    # Zero at alpha = 2 itself; its derivative there is minus the largest number, the steepest
    # finite fall: P(X > x) jumps from exp(-x^2/4) to a multiple of 2 - alpha.
    slope = law.tail_factor * np.finfo(total.dtype).max
    shift = jnp.where(underflow, at.x_far * at.x_far / 4 - slope, at.log2_power * LN2)
    return jnp.where(underflow, ratio(at.x_far), total), shift


def log_survival(law: PreparedLaw, x: Array, complement: Array) -> Array:
    """Returns log P(X > x), (...), at x >= 0, or log P(X <= x) where `complement`, (...)."""
    at = locate(law, x)
    near, outer = tabulated("survival", law, at)
    near = 0.5 - law.mode * at.x_near * near
    # x^-alpha is left out of the total: its logarithm is known without taking one.
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
    """Returns the logarithm of the density, (...), at x >= 0."""
    at = locate(law, x)
    near, outer = tabulated("density", law, at)

    def ratio(x: Array) -> Array:
        return x * density_ratio(x)

    floor = jnp.where(at.tail, 0, law.density_floor * at.power / at.x_far)
    outer *= law.alpha / (table_lift(DENSITY_LIFT, law.alpha, at.power) + floor)
    total = outer + scaled_gaussian(law, at, ratio)
    argument, shift = log_outer(law, at, total, ratio)
    # The total is of x times the density, which varies as x^-alpha does; log x comes off here.
    shift += at.log2_power * (LN2 / law.alpha)  # log x
    value = log(jnp.where(at.near, law.mode * near, argument)) - jnp.where(at.near, 0, shift)
    return jnp.where(jnp.isinf(x), -jnp.inf + 0 * law.alpha, value)
