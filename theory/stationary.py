"""Where the risk is least along the intercept: the stationary points, constant rules left aside.

In the intercept beta the risk has the slope of

    log(R s_+ / s_-) + log f((t - beta) / s_-) - log f((t + beta) / s_+),

whose change from negative to positive is a local minimum: one at most for a Gaussian, where it is
a quadratic, and for the Cauchy law, where it is a ratio of two; one or two for the other stable
laws, found by a scan that does not involve R and a bracketed root.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import gammaln

from theory import stable
from theory.elementary import log
from theory.root import bracketed_root, implicit_root

# Nodes outwards and inwards of each class: a third of an e-fold apart, where alpha is not small.
_OUTER, _INNER = 48, 16
# The scan ends where the tail beyond holds this probability, in powers of ten.
_TAIL_DIGITS = 7.0
_LARGEST_LOG = 75.0  # float32 still squares nothing this large, but holds it


class Minimum(NamedTuple):
    """The finite local minimum of least risk, and whether there is one; beta is 0 if not."""

    beta: Array
    exists: Array


def gaussian(margin: Array, negative: Array, positive: Array, ratio: Array) -> Minimum:
    """Returns the minimum for Gaussian noise of unit variance (theory document T4, T5).

    The arguments are t, s_-, s_+ and R, broadcast; derivatives are those of the closed form.
    """
    a_negative, a_positive = negative**-2, positive**-2
    log_odds = jnp.log(ratio * positive / negative)
    slope = a_negative - a_positive
    centre = margin * (a_negative + a_positive)
    offset = slope * margin**2 - 2 * log_odds
    square = 4 * a_negative * a_positive * margin**2 + 2 * slope * log_odds
    return _quadratic(slope, centre, offset, square, margin)


def cauchy(margin: Array, negative: Array, positive: Array, ratio: Array) -> Minimum:
    """Returns the minimum for Cauchy noise (theory document T17, T19): see `gaussian`."""
    slope = positive - ratio * negative
    centre = margin * (positive + ratio * negative)
    rest = negative - ratio * positive
    offset = slope * margin**2 + positive * negative * rest
    square = positive * negative * (4 * ratio * margin**2 - slope * rest)
    return _quadratic(slope, centre, offset, square, margin)


def _quadratic(slope: Array, centre: Array, offset: Array, square: Array, margin: Array) -> Minimum:
    """Returns where slope beta^2 - 2 centre beta + offset turns from positive to negative."""
    real = square > 0
    root = jnp.sqrt(jnp.where(real, square, 1))
    # Each of the two equal forms of the root loses accuracy where the other keeps it.
    forward, curved = margin > 0, slope != 0
    beta = jnp.where(
        forward,
        offset / jnp.where(forward, centre + root, 1),
        (centre - root) / jnp.where(curved, slope, 1),
    )
    exists = real & (forward | curved)
    return Minimum(jnp.where(exists, beta, 0), exists)


def scanned(margin: Array, negative: Array, positive: Array, ratio: Array, alpha: Array) -> Minimum:
    """Returns the minimum for symmetric stable noise, alpha in [0.1, 2] (theory document T17, T19).

    alpha = 1 and alpha = 2 take the closed forms by value; derivatives are implicit everywhere.
    """
    problem = lax.stop_gradient((margin, negative, positive, ratio, alpha))
    found = _search(*problem)
    for index, closed in ((1.0, cauchy(*problem[:4])), (2.0, _gaussian_of_index_two(*problem[:4]))):
        found = Minimum(
            *(jnp.where(alpha == index, c, f) for c, f in zip(closed, found, strict=True))
        )
    beta = implicit_root(log_slope, found.beta, margin, negative, positive, ratio, alpha)
    return Minimum(jnp.where(found.exists, beta, 0), found.exists)


def _gaussian_of_index_two(
    margin: Array, negative: Array, positive: Array, ratio: Array
) -> Minimum:
    return gaussian(margin, math.sqrt(2) * negative, math.sqrt(2) * positive, ratio)


def log_slope(
    beta: Array, margin: Array, negative: Array, positive: Array, ratio: Array, alpha: Array
) -> Array:
    """Returns a number with the sign of the risk's slope in beta: see the module."""
    gaining, losing = at_both(stable.logpdf, beta, margin, negative, positive, alpha)
    return jnp.log(ratio * positive / negative) + losing - gaining


def _density_ratio(
    beta: Array, margin: Array, negative: Array, positive: Array, alpha: Array
) -> Array:
    """Returns log f((t + beta) / s_+) - log f((t - beta) / s_-), fast; alpha < 2."""
    gaining, losing = at_both(stable.pdf, beta, margin, negative, positive, alpha)
    return log(gaining) - log(losing)


def _ratio_slope(
    beta: Array, margin: Array, negative: Array, positive: Array, alpha: Array
) -> Array:
    gaining, losing = at_both(stable.score, beta, margin, negative, positive, alpha)
    return gaining / positive + losing / negative


def scan_nodes(margin: Array, negative: Array, positive: Array, alpha: Array) -> Array:
    """Returns increasing intercepts, (nodes, ...), dense about both classes and far into the tails.

    Their distance from the nearer class grows like a hyperbolic sine, from the width of the
    density's peak at the smaller scale; past the last one the tails hold less than 1e-7.
    """
    margin, negative, positive, alpha = jnp.broadcast_arrays(margin, negative, positive, alpha)
    smaller, larger = jnp.minimum(negative, positive), jnp.maximum(negative, positive)
    centre = jnp.abs(margin)
    # The density of a small index has a narrow peak, of height gamma(1 + 1 / alpha) / pi.
    log_peak = jnp.maximum(gammaln(1 + 1 / alpha), 0)
    unit = smaller * jnp.exp(-log_peak)
    width = jnp.log(2 + (larger + centre) / smaller)
    reach = _TAIL_DIGITS * math.log(10) / alpha + log_peak + width
    outwards = _distances(_OUTER, jnp.minimum(reach, _LARGEST_LOG), unit)
    inwards = _distances(_INNER, jnp.arcsinh(centre / unit), unit)
    right = jnp.concatenate([centre[None] - inwards[::-1], centre[None] + outwards[1:]])
    return jnp.concatenate([-right[:0:-1], right])


def _distances(count: int, reach: Array, unit: Array) -> Array:
    """Returns `count` distances, (count, ...), from 0 to unit sinh(reach)."""
    steps = jnp.linspace(0, 1, count, dtype=reach.dtype).reshape(-1, *[1] * reach.ndim)
    return unit[None] * jnp.sinh(steps * reach[None])


def at_both(
    function: Callable[[Array, Array], Array],
    beta: Array,
    margin: Array,
    negative: Array,
    positive: Array,
    alpha: Array,
) -> tuple[Array, Array]:
    """Returns a function of (x, alpha) at x = (t + beta) / s_+ and (t - beta) / s_-."""
    places = jnp.broadcast_arrays((margin + beta) / positive, (margin - beta) / negative)
    # A loop over the two is compiled once; one array of both would not become a vector loop.
    first, second = lax.map(lambda x: function(x, alpha), jnp.stack(places))
    return first, second


def leading(a: Array) -> Array:
    """Returns `a` with an axis in front, so that it meets arrays of nodes; 0-d stays 0-d."""
    return a[None] if a.ndim else a


def inner_index(index: Array, nodes: Array) -> Array:
    """Returns the nearest index that has a neighbour on either side."""
    return jnp.clip(index, 1, len(nodes) - 2)


def extremum_bracket(index: Array, nodes: Array) -> tuple[Array, Array]:
    """Returns the neighbours, (...) each, of the node of that index among (nodes, ...)."""
    low, high = (jnp.take_along_axis(nodes, (index + side)[None], 0)[0] for side in (-1, 1))
    return low, high


def _with_extrema(nodes: Array, heights: Array, *law: Array) -> tuple[Array, Array]:
    """Returns nodes and heights after moving the highest and the lowest node to the extrema.

    Without that a pair of stationary points could hide between two nodes.
    """
    indices = [inner_index(best(heights, 0), nodes) for best in (jnp.argmax, jnp.argmin)]
    ends = zip(*(extremum_bracket(index, nodes) for index in indices), strict=True)
    law = tuple(map(leading, law))
    places = bracketed_root(_ratio_slope, *map(jnp.stack, ends), *law)
    values = _density_ratio(places, *law)
    number = jnp.arange(len(nodes)).reshape(-1, *[1] * (nodes.ndim - 1))
    for index, place, value in zip(indices, places, values, strict=True):
        moved = number == index[None]
        nodes = jnp.where(moved, place[None], nodes)
        heights = jnp.where(moved, value[None], heights)
    return nodes, heights


def _search(margin: Array, negative: Array, positive: Array, ratio: Array, alpha: Array) -> Minimum:
    nodes = scan_nodes(margin, negative, positive, alpha)
    law = margin, negative, positive, alpha
    nodes, heights = _with_extrema(nodes, _density_ratio(nodes, *map(leading, law)), *law)
    falling = heights > leading(jnp.log(ratio * positive / negative))
    turns = falling[:-1] & ~falling[1:]
    number = jnp.arange(len(turns), dtype=jnp.int32).reshape(-1, *[1] * (turns.ndim - 1))
    first = jnp.min(jnp.where(turns, number, len(turns)), 0)
    last = jnp.max(jnp.where(turns, number, -1), 0)
    exists = last >= 0
    index = jnp.stack([first, last])
    nodes = jnp.broadcast_to(nodes, heights.shape[:1] + turns.shape[1:])
    low, high = (
        jnp.where(exists[None], jnp.take_along_axis(nodes, index + side, 0, mode="clip"), 0)
        for side in (0, 1)
    )
    problem = tuple(leading(a) for a in (*law[:3], ratio, alpha))
    return Minimum(_lesser(bracketed_root(_fast_slope, low, high, *problem), *problem), exists)


def _fast_slope(
    beta: Array, margin: Array, negative: Array, positive: Array, ratio: Array, alpha: Array
) -> Array:
    odds = log(ratio * positive / negative)
    return odds - _density_ratio(beta, margin, negative, positive, alpha)


def _lesser(
    candidates: Array, margin: Array, negative: Array, positive: Array, ratio: Array, alpha: Array
) -> Array:
    """Returns whichever of the two candidates, (2, ...), has the smaller risk."""
    miss, alarm = at_both(stable.sf, candidates, margin, negative, positive, alpha)
    risk = miss + ratio * alarm
    return jnp.where(risk[1] < risk[0], candidates[1], candidates[0])
