"""The bivariate normal distribution function to machine precision, also at correlation near one.

Plackett's integral over the angle theta between the two coordinates, cos(theta) = r: the plain one
for moderate angles, and for small ones the one that starts from r = 1, on panels that shrink
geometrically because its integrand changes at an angle of order |h - k|.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from theory.numerics.broadcast import broadcast

# Below this angle the plain integrand is too peaked for 64 nodes; 0.925 is where Genz's code for
# the same probability changes its formula.
_SMALL = math.acos(0.925)
_FAR = 40.0  # a standard normal variable is never there, in double precision
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_PANELS = 30  # the smallest is 2^-30 of the angle: below it the integrand is 0 or nearly constant


def _graded_rule() -> tuple[np.ndarray, np.ndarray]:
    """Returns nodes and weights on [0, 1]: 16 Gauss-Legendre nodes in each of 30 dyadic panels."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    high = 2.0 ** -np.arange(_PANELS)
    low = np.append(high[1:], 0)
    half = ((high - low) / 2)[:, None]
    return (low[:, None] + half * (nodes + 1)).ravel(), (half * weights).ravel()


_GRADED_NODES, _GRADED_WEIGHTS = _graded_rule()


def bivariate_normal_cdf(h: ArrayLike, k: ArrayLike, r: ArrayLike) -> Array:
    """Returns P(X <= h, Y <= k) for standard normal X and Y of correlation r.

    Args:
        h, k: any numbers, infinite ones included, (...).
        r: correlation in [-1, 1], (...); outside nan.

    Returns:
        In [0, 1], with an absolute error of about one unit of the dtype's epsilon at every r: it is
        the angle arccos(r) that is kept, not rounded to 0 or pi. Derivatives of any order are
        exact; the one in r is infinite or nan at r = +-1.

    References:
        plackett1954; owen1956tables.

    >>> round(float(bivariate_normal_cdf(0.0, 0.0, 0.5)), 6)  # 1/4 + asin(r) / (2 pi)
    0.333333
    """
    # The angle between the coordinates from half of it, tan^2 = (1 - r) / (1 + r): arccos(r) would
    # lose half of the digits near r = +-1.
    h, k, r = broadcast(h, k, r)
    inside = (r >= -1) & (r <= 1)
    r = jnp.where(inside, r, 0)
    angle = 2 * jnp.arctan2(jnp.sqrt(1 - r), jnp.sqrt(1 + r))
    return jnp.where(inside, normal_wedge(h, k, angle), jnp.nan)


@jax.custom_jvp
@jax.jit
def normal_wedge(h: Array, k: Array, angle: Array) -> Array:
    """Returns P(a . Z <= h, b . Z <= k) for unit vectors a and b at this angle in [0, pi].

    The same probability as `bivariate_normal_cdf` at r = cos(angle), but its derivative in the
    angle is bounded by 1 / (2 pi), so that rounding of the angle never matters.

    Args:
        h, k: any numbers, infinite ones included, (...).
        angle: in [0, pi], (...); all three of one shape and floating dtype.

    Returns:
        In [0, 1], (...); nan where h or k is.

    References:
        plackett1954.

    >>> zero = jnp.zeros(())
    >>> round(float(normal_wedge(zero, zero, jnp.asarray(jnp.pi / 4))), 6)
    0.375
    """
    known = ~(jnp.isnan(h) | jnp.isnan(k))
    h, k = (jnp.clip(jnp.where(known, x, 0), -_FAR, _FAR) for x in (h, k))
    # Both roads are taken everywhere, each at an angle clipped to where it is good.
    obtuse = angle > math.pi - _SMALL
    plain = _moderate(h, k, jnp.clip(angle, _SMALL, math.pi - _SMALL))
    acute = jnp.clip(jnp.where(obtuse, math.pi - angle, angle), 0, _SMALL)
    # Near opposite coordinates: P(X <= h, Y <= k) = P(X <= h) - P(X <= h, -Y <= -k).
    near = _from_equality(h, jnp.where(obtuse, -k, k), acute)
    near = jnp.where(obtuse, ndtr(h) - near, near)
    value = jnp.where(obtuse | (angle < _SMALL), near, plain)
    return jnp.where(known, jnp.clip(value, 0, 1), jnp.nan)


def _moderate(h: Array, k: Array, angle: Array) -> Array:
    """Returns the probability by integration from independence, at angle pi / 2."""
    # Plackett's integral over the correlation, r = sin(t): then sqrt(1 - r^2) cancels against dr.
    reach = (math.pi / 2 - angle) / 2

    def integrand(node: Array) -> Array:
        t = reach * (1 + node)
        cosine = jnp.cos(t)
        return jnp.exp(-(h * h + k * k - 2 * h * k * jnp.sin(t)) / (2 * cosine * cosine))

    return ndtr(h) * ndtr(k) + reach * _integral(integrand, _NODES, _WEIGHTS, h) / (2 * math.pi)


def _from_equality(h: Array, k: Array, angle: Array) -> Array:
    """Returns the probability by integration from equal coordinates, at angle 0."""
    # h^2 + k^2 - 2 h k cos(u) = (h - k)^2 + 2 h k (1 - cos(u)), over 2 sin(u)^2: the two terms of
    # the exponent, neither of which cancels as u -> 0.
    gap = (h - k) * (h - k) / 2

    def integrand(node: Array) -> Array:
        u = angle * node
        sine = jnp.sin(u)
        square = sine * sine
        exponent = gap / jnp.where(square > 0, square, 1) + h * k / (1 + jnp.cos(u))
        # At u = 0: the density of unequal coordinates is nothing, that of equal ones is finite.
        limit = jnp.where(gap > 0, 0, jnp.exp(-h * k / 2))
        return jnp.where(square > 0, jnp.exp(-exponent), limit)

    lost = angle * _integral(integrand, _GRADED_NODES, _GRADED_WEIGHTS, h) / (2 * math.pi)
    return ndtr(jnp.minimum(h, k)) - lost


def _integral(
    integrand: Callable[[Array], Array], nodes: np.ndarray, weights: np.ndarray, like: Array
) -> Array:
    """Returns the weighted sum of the integrand over the nodes, all at once, in a given dtype."""
    values = jax.vmap(integrand)(jnp.asarray(nodes, like.dtype))
    return jnp.tensordot(jnp.asarray(weights, like.dtype), values, 1)


@normal_wedge.defjvp
def _wedge_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """d/dh is phi(h) P(b . Z <= k | a . Z = h), d/dangle minus the density at the corner."""
    # A rule of its own: clips and `where`s would give wrong slopes, and quadrature costly ones.
    h, k, angle = primals
    dh, dk, dangle = tangents
    value = normal_wedge(h, k, angle)
    near, far = (jnp.clip(x, -_FAR, _FAR) for x in (h, k))
    offset = _conditional(near, far, angle)
    slope = norm.pdf(h) * ndtr(offset) * dh
    slope += norm.pdf(k) * ndtr(_conditional(far, near, angle)) * dk
    density = jnp.exp(-(near * near + offset * offset) / 2) / (2 * math.pi)
    return value, slope - density * dangle


def _conditional(h: Array, k: Array, angle: Array) -> Array:
    """Returns (k - h cos(angle)) / sin(angle), without cancellation at either end."""
    # k - h cos = (k - h) + h (1 - cos), and (1 - cos) / sin = tan(angle / 2); mirrored if obtuse.
    sine = jnp.sin(angle)
    acute = angle < math.pi / 2
    half = jnp.tan(jnp.where(acute, angle, math.pi - angle) / 2)
    gap, turn = jnp.where(acute, k - h, k + h), jnp.where(acute, h, -h) * half
    safe = jnp.where(sine > 0, sine, 1)
    at_end = jnp.where(gap == 0, 0, jnp.where(gap > 0, jnp.inf, -jnp.inf)).astype(gap.dtype)
    return jnp.where(sine > 0, gap / safe + turn, at_end)
