"""The probability of an intersection of half-spaces under a standard normal vector.

Exact for one or two half-spaces in any dimension, and for any number in one or two dimensions (an
interval; a polygon, whose edges each contribute two values of Owen's function T). Otherwise a
randomised lattice rule on the sequence of conditional distributions (Genz 1992).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri

from theory.domain import InvalidInput
from theory.numerics.bivariate import normal_wedge
from theory.numerics.norms import power_norm

_FAR = 40.0  # a standard normal variable is never there, in double precision
_FLAT = 1e-12  # a unit row whose new direction is this short has none
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


class Halfspaces(NamedTuple):
    """The points z with normals . z + offsets > 0 in every row.

    Args:
        normals: unit vectors, (m, d); zero together with an infinite offset: always, or never.
        offsets: signed distances of the origin, positive inside, (m,).
    """

    normals: Array
    offsets: Array


class Estimate(NamedTuple):
    """A random estimate and its standard error, each (...)."""

    value: Array
    error: Array


@jax.jit
def probability(spaces: Halfspaces) -> Array:
    """Returns P(Z in every half-space), (), exact to a few units of the dtype's epsilon.

    Args:
        spaces: normals (m, d) and offsets (m,), with m <= 2 or d <= 2.

    Raises:
        InvalidInput: for more than two half-spaces in more than two dimensions.

    References:
        plackett1954; owen1956tables.

    >>> quadrant = Halfspaces(jnp.eye(2), jnp.zeros(2))
    >>> round(float(probability(quadrant)), 12)
    0.25
    """
    count, dim = spaces.normals.shape
    # The first case that fits: each is exact, and costs more than the one before.
    if count == 1:
        tail: Array = ndtr(spaces.offsets[0])
        return tail
    if dim == 1:
        return _interval(spaces)
    if count == 2:
        return _wedge(spaces)
    if dim == 2:
        return _polygon(spaces)
    raise InvalidInput(
        f"classes = {count + 1} in {dim} dimensions: exact only up to 3 classes or 2 dimensions; "
        "use the estimate, which takes a key"
    )


def _interval(spaces: Halfspaces) -> Array:
    slope, offset = spaces.normals[:, 0], spaces.offsets
    low = jnp.max(jnp.where(slope > 0, -offset, -jnp.inf))
    high = jnp.min(jnp.where(slope < 0, offset, jnp.inf))
    never = jnp.any(offset == -jnp.inf)  # a zero normal: no bound shows it
    # In the upper tail the survival functions keep what the distribution functions lose.
    upper = low > 0
    inside = jnp.where(upper, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
    return jnp.where(never | (low >= high), 0, inside)


def _wedge(spaces: Halfspaces) -> Array:
    a, b = spaces.normals
    # The angle between unit vectors that is accurate at both ends.
    apart, along = power_norm(a - b, 2.0), power_norm(a + b, 2.0)
    angle = 2 * jnp.arctan2(apart, jnp.where(apart + along > 0, along, 1))
    wedge: Array = normal_wedge(spaces.offsets[0], spaces.offsets[1], angle)
    return wedge


def _polygon(spaces: Halfspaces) -> Array:
    """Returns the probability by the flux through the edges of a field of divergence phi.

    P = [origin inside] - sum over edges of T(h, t_2 / h) - T(h, t_1 / h), with h the signed
    distance of the origin and t_1 to t_2 the edge along its line.
    """
    # Each edge lies on line i, at the parameters t where every other half-plane admits it: those
    # with a positive slope bound t from below, with a negative one from above.
    normals, offsets = spaces
    never = jnp.any(offsets == -jnp.inf)
    h = jnp.clip(offsets, -_FAR, _FAR)
    slope, level, opposed = _lines(normals, h)
    itself = jnp.eye(h.size, dtype=bool)
    absent = jnp.all(normals == 0, -1)  # with offset +inf: bounds nothing, and has no edge
    free = itself | absent[None, :]
    parallel = slope == 0
    crossing = -level / jnp.where(parallel, 1, slope)
    low = jnp.max(jnp.where((slope > 0) & ~free, crossing, -_FAR), 1)
    high = jnp.min(jnp.where((slope < 0) & ~free, crossing, _FAR), 1)
    # A parallel line hides line i if that lies outside of its half-plane. Of equal lines the first
    # one counts, and of opposed ones at the same place neither: nothing is between them.
    before = jnp.arange(h.size)[None, :] < jnp.arange(h.size)[:, None]
    hidden = parallel & ~free & ((level < 0) | ((level == 0) & (before | opposed)))
    shown = ~jnp.any(hidden, 1) & (low < high) & ~absent
    edge = _flux(h, jnp.clip(high, -_FAR, _FAR)) - _flux(h, jnp.clip(low, -_FAR, _FAR))
    inside = jnp.all(h >= 0).astype(h.dtype)
    # An edge through the origin counts half on either side: take it as inside.
    total = inside - jnp.sum(jnp.where(shown, edge, 0))
    return jnp.where(never, 0, jnp.clip(total, 0, 1))


def _lines(normals: Array, h: Array) -> tuple[Array, Array, Array]:
    """Returns what row j asks on line i, slope t + level > 0, and whether their normals oppose.

    Line i is -h_i n_i + t along_i. Both numbers come from n_j - n_i, or n_j + n_i where they
    oppose: lines that almost coincide must agree on where they cross.
    """
    asking, along = normals[None], normals[:, None]
    opposed = jnp.einsum("id,jd->ij", normals, normals) < 0
    sign = jnp.where(opposed, -1, 1).astype(h.dtype)
    turn = sign[..., None] * asking - along
    slope = sign * (along[..., 0] * turn[..., 1] - along[..., 1] * turn[..., 0])
    # Added zeros give both the shape (m, m) of the pairs.
    h_along, h_asking = h[:, None] + 0 * sign, h[None, :] + 0 * sign
    # h_j - h_i n_i . n_j, with n_i . n_j = sign (1 - |turn|^2 / 2) for unit vectors.
    level = h_asking - sign * h_along + sign * h_along * jnp.sum(turn * turn, -1) / 2
    return slope, level, opposed


def _flux(h: Array, t: Array) -> Array:
    """Returns Owen's T(h, t / h), odd in h and in t, with h = 0 taken as the limit from above."""
    # For t > h Owen's relation T(h, t / h) + T(t, h / t) = (Phi(h) Phi(-t) + Phi(-h) Phi(t)) / 2
    # exchanges the two, so that the quadrature's range never exceeds slope 1.
    sign = jnp.where(h < 0, -1, 1) * jnp.where(t < 0, -1, 1)
    p, q = jnp.abs(h), jnp.abs(t)
    swapped = q > p
    big, small = jnp.where(swapped, q, p), jnp.where(swapped, p, q)
    within = _owen(big, small)
    total = (ndtr(p) * ndtr(-q) + ndtr(-p) * ndtr(q)) / 2
    return sign.astype(h.dtype) * jnp.where(swapped, total - within, within)


def _owen(h: Array, t: Array) -> Array:
    """Returns T(h, t / h) for 0 <= t <= h, (m,): Owen's integral over [0, slope], by 40 nodes."""
    slope = t / jnp.where(h > 0, h, 1)
    nodes = jnp.asarray((_NODES + 1) / 2, h.dtype)
    weights = jnp.asarray(_WEIGHTS / 2, h.dtype)
    x = nodes[:, None] * slope[None]
    square = 1 + x * x
    values = jnp.exp(-(h * h)[None] * square / 2) / square
    return slope * jnp.tensordot(weights, values, 1) / (2 * math.pi)


@functools.partial(jax.jit, static_argnames=("points", "shifts"))
def estimate_probability(key: Array, spaces: Halfspaces, points: int, shifts: int) -> Estimate:
    """Returns a randomised lattice estimate of P(Z in every half-space) and its standard error.

    The half-spaces are taken in the order of their offsets; the normals are turned into triangular
    form, so that each coordinate but the last has one bound, and the last has all that are left:
    rows that depend on each other, or outnumber the dimensions, need nothing special.

    Args:
        key: of the random shifts, a JAX key, ().
        spaces: normals (m, d) and offsets (m,), any m and d.
        points: of the Richtmyer lattice, with the tent transformation.
        shifts: independent random shifts, at least 2; the error is that of their mean.

    Returns:
        Both ().

    References:
        genz1992numerical.
    """
    # Genz's ordering: the least likely half-spaces first, which leaves the rest little to vary.
    order = jnp.argsort(spaces.offsets)
    normals, offsets = spaces.normals[order], jnp.clip(spaces.offsets[order], -_FAR, _FAR)
    # An orthogonal turn leaves a standard normal vector as it is; R' is the normals after it.
    lower = jnp.linalg.qr(normals.T, mode="r").T  # (m, rank)
    rank = lower.shape[1]
    sign = jnp.where(jnp.diagonal(lower) < 0, -1, 1).astype(lower.dtype)
    lower = lower * sign[None]
    never = jnp.any(spaces.offsets == -jnp.inf)
    dims = max(rank - 1, 1)
    # Richtmyer's generators, the square roots of primes: irrational, and independent of each other.
    steps = jnp.asarray(np.sqrt(_primes(dims)) % 1, lower.dtype)
    lattice = (jnp.arange(1, points + 1, dtype=lower.dtype)[:, None] * steps[None]) % 1

    def once(key: Array) -> Array:
        moved = (lattice + jax.random.uniform(key, (1, dims), lower.dtype)) % 1
        # The tent makes the integrand periodic, for which lattices are a degree better.
        tent = jnp.abs(2 * moved - 1)
        return jnp.mean(jax.vmap(lambda u: _conditional_product(lower, offsets, u))(tent))

    values = jax.lax.map(once, jax.random.split(key, shifts))
    error = jnp.std(values, ddof=1) / math.sqrt(shifts)
    return Estimate(*(jnp.where(never, 0, x) for x in (jnp.mean(values), error)))


def _conditional_product(lower: Array, offsets: Array, uniform: Array) -> Array:
    """Returns the probability with all coordinates but the last drawn from inside their bounds."""
    rank = lower.shape[1]

    def draw(state: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        """Row i alone bounds coordinate i, from below; without a slope it is decided already."""
        score, chance = state
        slope = lower[i, i]
        flat = slope <= _FLAT
        bound = jnp.where(flat, -_FAR, -score[i] / jnp.where(flat, 1, slope))
        inside = ndtr(-bound)
        # By the survival function, which stays accurate where `inside` is tiny.
        tail = jnp.clip(inside * (1 - uniform[i]), jnp.finfo(lower.dtype).tiny, 1)
        drawn = jnp.clip(-ndtri(tail), -_FAR, _FAR)
        chance = chance * jnp.where(flat & (score[i] <= 0), 0, inside)
        return (score + lower[:, i] * drawn, chance), None

    start = offsets, jnp.ones((), lower.dtype)
    (score, chance), _ = jax.lax.scan(draw, start, jnp.arange(rank - 1))
    # All rows that are left bound the last coordinate, from either side: an interval.
    slope, left = lower[rank - 1 :, rank - 1], score[rank - 1 :]
    flat = jnp.abs(slope) <= _FLAT
    bound = -left / jnp.where(flat, 1, slope)
    low = jnp.max(jnp.where((slope > 0) & ~flat, bound, -_FAR))
    high = jnp.min(jnp.where((slope < 0) & ~flat, bound, _FAR))
    possible = ~jnp.any(flat & (left <= 0)) & (low < high)
    return chance * jnp.where(possible, ndtr(high) - ndtr(low), 0)


def _primes(count: int) -> np.ndarray:
    """Returns the first primes, (count,)."""
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % prime for prime in primes):
            primes.append(candidate)
        candidate += 1
    return np.array(primes, float)
