"""What of the stable law depends on alpha alone: the tables contracted with it, scales and borders.

On a panel every table is a polynomial in a coordinate s of alpha; contracting it leaves the
coefficients of the polynomials in x that `theory.stable.kernel` evaluates. s and the borders are
kept beyond alpha's own precision, as they enter exponents that magnify their rounding.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from theory.numerics.elementary import exp2_sum, shorten
from theory.stable.layout import (
    ALPHA_TERMS,
    FIRST,
    GAUSSIAN_FROM,
    LAST,
    PANEL_CENTRES,
    PANEL_EDGES,
    PANEL_SCALES,
    SCALES_BITS,
    SHORT_BITS,
    SPLIT,
    Line,
    load_table,
)


class Border(NamedTuple):
    """A value of alpha log2(x) as an integer and a fraction, together beyond alpha's dtype."""

    whole: Array
    fraction: Array


class PreparedLaw(NamedTuple):
    """What depends on alpha, (...), alone; polynomials are indexed [term], (terms, ...)."""

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


def law(alpha: Array, *names: str) -> PreparedLaw:
    """Returns the law at alpha, (...), of float32 or float64, with the named tables.

    nan gives nan throughout.
    """
    at = coordinate(alpha)
    weights = alpha_weights(at)
    # A choice between panels and not a branch of the law: its values agree at alpha = 1.5.
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


class Coordinate(NamedTuple):
    """Panel of alpha, (panels, ...), 1 there and 0 elsewhere, and s in [-1, 1] within it, (...).

    s is a short number and a rest, together beyond alpha's dtype; nan for alpha = nan.
    """

    inside: Array
    short: Array
    rest: Array


def coordinate(alpha: Array) -> Coordinate:
    """Returns where alpha, (...), lies; its mask is (panels, ...)."""
    dtype = str(alpha.dtype)
    # A count of edges and a mask, not a gather: on a batch of alphas a gather of coefficients
    # would move tens of kilobytes for each of them. nan lies in the first panel, and stays nan.
    index = sum(((alpha >= edge).astype(jnp.int32) for edge in PANEL_EDGES[1:-1]), jnp.int32(0))
    column = (-1, *(1,) * alpha.ndim)
    inside = index[None] == jnp.arange(len(PANEL_CENTRES), dtype=jnp.int32).reshape(column)
    centres, scales = (np.asarray(c, dtype).reshape(column) for c in (PANEL_CENTRES, PANEL_SCALES))
    centre, scale = (jnp.sum(jnp.where(inside, c, 0), axis=0) for c in (centres, scales))
    short_and_rest = split_quotient(alpha, centre, scale, SHORT_BITS[dtype])
    return Coordinate(inside.astype(dtype), *short_and_rest)


def split_quotient(alpha: Array, centre: Array, scale: Array, bits: int) -> tuple[Array, Array]:
    """Returns s = scale (alpha - centre)/(alpha + centre), (...), as short + rest.

    `scale` is short. The short part of the quotient is exact times that of alpha + centre, so
    that the remainder of the division is found without rounding.
    """
    # Both differences are exact, as each is of numbers that lie close together.
    short, short_centre = shorten(alpha, bits), shorten(centre, bits)
    whole = alpha + centre
    quotient = shorten((alpha - centre) / whole, bits)
    remainder = (alpha - centre) - quotient * (short + short_centre)
    remainder -= quotient * ((alpha - short) + (centre - short_centre))
    product = quotient * scale
    head = shorten(product, bits)
    return head, (product - head) + remainder / whole * scale


def alpha_weights(at: Coordinate) -> Array:
    """Returns the powers of s, (panels * terms, ...), nonzero in alpha's panel only."""
    s = at.short + at.rest
    terms, powers, factor = ALPHA_TERMS[str(s.dtype)], jnp.ones_like(s)[None], s
    # By doubling: five products and not twenty, in a function that is mostly dispatch.
    while len(powers) < terms:
        powers = jnp.concatenate([powers, powers * factor[None]])
        factor *= factor
    weights = jnp.where(at.inside[:, None] > 0, powers[:terms][None], 0)
    return weights.reshape(len(PANEL_CENTRES) * terms, *s.shape)


def contract(name: str, weights: Array) -> Array:
    """Returns the polynomial coefficients in x, (terms, ...), of one table at every alpha."""
    table = load_table(name, str(weights.dtype))
    matrix = jnp.asarray(table.reshape(-1, table.shape[-1]).T)
    # HIGHEST, or accelerators would multiply in TF32 or bfloat16.
    return jnp.tensordot(matrix, weights, axes=1, precision=lax.Precision.HIGHEST)


def scales(at: Coordinate) -> Array:
    """Returns the density and minus its second derivative at zero, (2, ...).

    Their logarithms are large at small alpha, so that their rounding would be seen. In this
    Horner scheme products and sums of short numbers are exact, and what they leave out is small.
    """
    dtype = str(at.short.dtype)

    def of_panel(name: str) -> Array:
        table = jnp.asarray(load_table(name, dtype))
        return jnp.tensordot(table, at.inside, axes=(0, 0), precision=lax.Precision.HIGHEST)

    high, low = of_panel("log2_scales"), of_panel("log2_scales_rest")
    head, tail = (jnp.stack([s, s]) for s in (at.short, at.rest))  # one for either scale
    whole, short, rest = head + tail, high[-1], low[-1]
    for k in range(len(high) - 2, -1, -1):
        # Short numbers: exact, whether or not the compiler fuses product and sum.
        exact = short * head + high[k]
        rest = short * tail + rest * whole + low[k]
        short = shorten(exact, SCALES_BITS[dtype])
        rest += exact - short
    return exp2_sum(short, rest)


def first_border(alpha: Array) -> Array:
    """Returns x = 2^(k + c/alpha), (...), where the middle zone begins, accurate to a few ulp."""
    bits = SHORT_BITS[str(alpha.dtype)]
    # The product of the two short numbers is exact, and so is what it lacks of 1: one step of
    # Newton's method for 1/alpha from there gives as many bits again.
    short, inverse = shorten(alpha, bits), shorten(1 / alpha, bits - 2)
    remainder = ((1 - inverse * short) - inverse * (alpha - short)) / alpha
    return exp2_sum(FIRST[0] + FIRST[1] * inverse, FIRST[1] * remainder)


def border(alpha: Array, line: Line) -> Border:
    """Returns the border, (...), that lies at k alpha + c."""
    short = shorten(alpha, SHORT_BITS[str(alpha.dtype)])
    exact = line[0] * short + line[1]
    whole = shorten(exact, 0)
    return Border(whole, (exact - whole) + line[0] * (alpha - short))
