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
from theory.numerics.elementary import log
from theory.numerics.elementwise import batched
from theory.numerics.root import bracketed_search, implicit_root
from theory.stable import line, prepared
from theory.stable.prepared import PreparedLaw

# Nodes outwards and inwards of each class: a third of an e-fold apart, where alpha is not small.
_OUTER, _INNER = 48, 16
# The scan ends where the tail beyond holds this probability, in powers of ten.
_TAIL_DIGITS = 7.0
_LARGEST_LOG = 75.0  # float32 still squares nothing this large, but holds it


class Minimum(NamedTuple):
    """The finite local minimum of least risk, and whether there is one; beta is 0 if not. (...)."""

    beta: Array
    exists: Array


def gaussian(margin: Array, negative: Array, positive: Array, ratio: Array) -> Minimum:
    """Returns the minimum for Gaussian noise of unit variance (theory document T4, T5).

    The arguments are t, s_-, s_+ and R, each (...), broadcast; derivatives are those of the closed
    form.
    """
    # With precisions a = s^-2 the logarithm above is -1/2 times slope beta^2 - 2 centre beta +
    # offset; `square` is centre^2 - slope offset, written without its cancellation.
    a_negative, a_positive = negative**-2, positive**-2
    log_odds = jnp.log(ratio * positive / negative)
    slope = a_negative - a_positive
    centre = margin * (a_negative + a_positive)
    offset = slope * margin**2 - 2 * log_odds
    square = 4 * a_negative * a_positive * margin**2 + 2 * slope * log_odds
    return _quadratic(slope, centre, offset, square, margin)


def cauchy(margin: Array, negative: Array, positive: Array, ratio: Array) -> Minimum:
    """Returns the minimum, (...), for Cauchy noise (theory document T17, T19): see `gaussian`."""
    # The density is s / (s^2 + x^2) / pi, so equal weighted densities are a quadratic again.
    slope = positive - ratio * negative
    centre = margin * (positive + ratio * negative)
    rest = negative - ratio * positive
    offset = slope * margin**2 + positive * negative * rest
    square = positive * negative * (4 * ratio * margin**2 - slope * rest)
    return _quadratic(slope, centre, offset, square, margin)


def _quadratic(slope: Array, centre: Array, offset: Array, square: Array, margin: Array) -> Minimum:
    """Returns where slope beta^2 - 2 centre beta + offset turns from positive to negative.

    That is the root (centre - sqrt(square)) / slope, whatever the sign of the slope; it is finite
    at slope 0 too where margin > 0, which is where centre > 0.
    """
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


def scanned(
    margin: Array, negative: Array, positive: Array, ratio: Array, label: Array, alpha: Array
) -> tuple[Minimum, tuple[Array, Array]]:
    """Returns the minimum for symmetric stable noise, alpha in [0.1, 2] (theory document T17, T19).

    Arguments are t, s_-, s_+, R and the label, each (...), and the index, () or (...). alpha = 1
    and alpha = 2 take the closed forms by value; derivatives are implicit everywhere. With it, for
    the comparison with always answering `label`, without derivatives, the logarithms of the
    probabilities of `against_constant`.
    """
    # The search has no derivatives; the implicit function theorem, on `log_slope`, gives those of
    # the minimum: of any order, and in alpha through alpha = 1 and 2, where closed forms have none.
    problem = lax.stop_gradient((margin, negative, positive, ratio, label, alpha))
    beta, exists, *logs = _searched(*problem)
    beta = implicit_root(log_slope, beta, margin, negative, positive, ratio, alpha)
    return Minimum(jnp.where(exists, beta, 0), exists), (logs[0], logs[1])


def against_constant(
    beta: Array, label: Array, margin: Array, negative: Array, positive: Array
) -> Array:
    """Returns where the law's survival function is what a rule changes of a constant one, (2, ...).

    First what the finite intercept gets wrong in the class that the constant rule answers, then
    what it gets right in the other one.
    """
    on_positive, on_negative = (margin + beta) / positive, (margin - beta) / negative
    silent = label < 0
    wrong = jnp.where(silent, on_negative, on_positive)
    return jnp.stack([wrong, -jnp.where(silent, on_positive, on_negative)])


def _gaussian_of_index_two(
    margin: Array, negative: Array, positive: Array, ratio: Array
) -> Minimum:
    return gaussian(margin, math.sqrt(2) * negative, math.sqrt(2) * positive, ratio)


def log_slope(
    beta: Array, margin: Array, negative: Array, positive: Array, ratio: Array, alpha: Array
) -> Array:
    """Returns a number, (...), with the sign of the risk's slope in beta: see the module."""
    gaining, losing = _at_both(lambda x: stable.logpdf(x, alpha), beta, margin, negative, positive)
    return jnp.log(ratio * positive / negative) + losing - gaining


def _density_ratio(law: PreparedLaw, beta: Array, *classes: Array) -> Array:
    """Returns log f((t + beta) / s_+) - log f((t - beta) / s_-), fast; alpha < 2."""
    gaining, losing = _at_both(lambda x: line.density(law, x), beta, *classes)
    return log(gaining) - log(losing)


def _ratio_slope(law: PreparedLaw, beta: Array, *classes: Array) -> Array:
    gaining, losing = _at_both(lambda x: line.score(law, x), beta, *classes)
    _, negative, positive = classes
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
    # The classes sit at beta = -t and t: their union is symmetric, and so are the nodes. The first
    # of `right` is 0, shared by the halves; the class itself is in `inwards` and not again.
    right = jnp.concatenate([centre[None] - inwards[::-1], centre[None] + outwards[1:]])
    return jnp.concatenate([-right[:0:-1], right])


def _distances(count: int, reach: Array, unit: Array) -> Array:
    """Returns `count` distances, (count, ...), from 0 to unit sinh(reach)."""
    steps = jnp.linspace(0, 1, count, dtype=reach.dtype).reshape(-1, *[1] * reach.ndim)
    return unit[None] * jnp.sinh(steps * reach[None])


def _at_both(
    function: Callable[[Array], Array],
    beta: Array,
    margin: Array,
    negative: Array,
    positive: Array,
) -> tuple[Array, Array]:
    """Returns a function at (t + beta) / s_+ and (t - beta) / s_-."""
    arguments = jnp.broadcast_arrays((margin + beta) / positive, (margin - beta) / negative)
    # A loop over the two is compiled once; one array of both would not become a vector loop.
    first, second = lax.map(function, jnp.stack(arguments))
    return first, second


def leading(a: Array) -> Array:
    """Returns a, (...), with an axis in front, so that it meets arrays of nodes; () stays ()."""
    return a[None] if a.ndim else a


def inner_index(index: Array, nodes: Array) -> Array:
    """Returns the nearest index, (...), that has a neighbour on either side in (nodes, ...)."""
    return jnp.clip(index, 1, len(nodes) - 2)


def extremum_bracket(index: Array, nodes: Array) -> tuple[Array, Array]:
    """Returns the neighbours, (...) each, of the node of that index among (nodes, ...)."""
    low, high = (jnp.take_along_axis(nodes, (index + side)[None], 0)[0] for side in (-1, 1))
    return low, high


def _with_extrema(
    law: PreparedLaw, nodes: Array, heights: Array, *classes: Array
) -> tuple[Array, Array]:
    """Returns nodes and heights after moving the highest and the lowest node to the extrema.

    Without that a pair of stationary points could hide between two nodes.
    """
    indices = [inner_index(best(heights, 0), nodes) for best in (jnp.argmax, jnp.argmin)]
    ends = zip(*(extremum_bracket(index, nodes) for index in indices), strict=True)
    extrema = bracketed_search(lambda x: _ratio_slope(law, x, *classes), *map(jnp.stack, ends))
    values = _density_ratio(law, extrema, *classes)
    number = jnp.arange(len(nodes)).reshape(-1, *[1] * (nodes.ndim - 1))
    for index, extremum, value in zip(indices, extrema, values, strict=True):
        moved = number == index[None]
        nodes = jnp.where(moved, extremum[None], nodes)
        heights = jnp.where(moved, value[None], heights)
    return nodes, heights


def _candidates(
    law: PreparedLaw, nodes: Array, log_odds: Array, *classes: Array
) -> tuple[Array, Array]:
    """Returns the first and the last local minimum, (2, ...), and whether there is one."""
    nodes, heights = _with_extrema(law, nodes, _density_ratio(law, nodes, *classes), *classes)
    # The log odds enter here for the first time: ratios on an axis of their own share the scan.
    falling = heights > log_odds
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

    def slope(beta: Array) -> Array:
        return log_odds - _density_ratio(law, beta, *classes)

    return bracketed_search(slope, low, high), exists


def _search(
    margin: Array, negative: Array, positive: Array, ratio: Array, label: Array, alpha: Array
) -> tuple[Array, ...]:
    """Returns the minimum's fields and both logarithms of `scanned`; the law is set up once."""
    # A vmap leaves 0-d what it does not map; the index may stay so, and then sets up one law.
    rank = max(a.ndim for a in (margin, negative, positive, ratio, label, alpha))
    margin, negative, positive, ratio, label = (
        a.reshape((1,) * (rank - a.ndim) + a.shape)
        for a in (margin, negative, positive, ratio, label)
    )
    law = prepared.law(leading(alpha), "density", "slope", "survival")
    classes = tuple(map(leading, (margin, negative, positive)))
    nodes = scan_nodes(margin, negative, positive, alpha)
    log_odds = leading(log(ratio * positive / negative))
    candidates, exists = _candidates(law, nodes, log_odds, *classes)
    minimum = Minimum(_lesser(law, candidates, leading(ratio), *classes), exists)
    problem = margin, negative, positive, ratio
    for index, closed in ((1.0, cauchy(*problem)), (2.0, _gaussian_of_index_two(*problem))):
        minimum = Minimum(
            *(
                jnp.where(alpha == index, exact, scan)
                for exact, scan in zip(closed, minimum, strict=True)
            )
        )
    thresholds = against_constant(minimum.beta, label, *problem[:3])
    logs = lax.map(lambda x: line.log_survival(law, x), thresholds[:, None])[:, 0]
    return tuple(jnp.broadcast_arrays(*minimum, *logs))


_searched = batched(_search)


def _lesser(law: PreparedLaw, candidates: Array, ratio: Array, *classes: Array) -> Array:
    """Returns whichever of the two candidates, (2, ...), has the smaller risk."""
    miss, alarm = _at_both(lambda x: line.survival(law, x), candidates, *classes)
    risk = miss + ratio * alarm
    return jnp.where(risk[1] < risk[0], candidates[1], candidates[0])
