"""Robust accuracy from class distances alone, and weighted thresholds between classes on a line.

For isotropic classes, the nearest-mean rule and an l_2 threat only the pairwise distances of the
class means matter. The average distance of a class does not order class errors. The distance to the
*nearest* class does better, and the sum of the pairwise errors better still, but neither orders all
of them: `theory.claims.lee2024.classes` shows where (theory document A6.c-h, corrected).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from theory.domain import NON_NEGATIVE, POSITIVE, REAL, InvalidInput
from theory.numerics.bivariate import normal_wedge
from theory.numerics.broadcast import broadcast
from theory.numerics.noun import of_arrays, require_shape, require_values

# How far below zero, in units of the largest, an eigenvalue may come out: distances that were
# rounded to nine digits are forgiven.
_SLACK = 1e-9
# Gauss and Legendre's rule on panels two wide: the normal density is nothing outside of [-12, 12].
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_PANELS = np.linspace(-12, 12, 13)


class LineRule(NamedTuple):
    """Thresholds between neighbouring classes on a line.

    Args:
        thresholds: (K - 1,), nan where `coupled`.
        coupled: the training radii leave no gap, or no interval, between some neighbours, so that
            thresholds no longer decouple.
    """

    thresholds: Array
    coupled: Array


def _gram(distances: Array) -> Array:
    """Returns the inner products of the class means about their centre, (K, K)."""
    # Classical scaling: minus half of the squared distances, centred in rows and columns.
    square = distances * distances
    rows, columns = jnp.mean(square, 1)[:, None], jnp.mean(square, 0)[None]
    centred = square - rows - columns + jnp.mean(square)
    return -centred / 2


def _require_euclidean(distances: Array) -> None:
    shape = distances.ndim == 2 and distances.shape[0] == distances.shape[1] >= 2
    require_shape("distances", distances, shape, "(K, K), K >= 2")
    require_values("distances", distances, NON_NEGATIVE, "every distance")
    if isinstance(distances, jax.core.Tracer):
        return
    # Values are known from here on; inside `jit` only the shape was checked.
    values = np.asarray(distances, float)
    if (np.diagonal(values) != 0).any():
        raise InvalidInput("distances: the diagonal, distances of classes to themselves, must be 0")
    rounding = 8 * jnp.finfo(distances.dtype).eps * values.max()
    asymmetry = np.abs(values - values.T).max()
    if asymmetry > rounding:
        raise InvalidInput(f"distances: must be symmetric, are off by {asymmetry:.3g}")
    eigenvalues = np.linalg.eigvalsh(np.asarray(_gram(distances), float))
    slack = max(_SLACK, 64 * float(jnp.finfo(distances.dtype).eps)) * max(eigenvalues[-1], 1e-300)
    if eigenvalues[0] < -slack:
        raise InvalidInput(
            "distances: no points in any space have these distances; the Gram matrix has the "
            f"eigenvalue {eigenvalues[0]:.3g}"
        )


@of_arrays("distances")
def means_of_distances(distances: ArrayLike) -> Array:
    """Returns class means with the given pairwise distances, centred, (K, K - 1).

    Args:
        distances: (K, K), symmetric, with a zero diagonal.

    Raises:
        InvalidInput: if they are not the distances of any points (not Euclidean).

    References:
        theory document A6.c (classical scaling).

    >>> means = means_of_distances([[0.0, 2.0], [2.0, 0.0]])
    >>> round(abs(float(means[0, 0] - means[1, 0])), 6)
    2.0
    """
    (values,) = broadcast(jnp.asarray(distances))
    _require_euclidean(values)
    # Centred, the Gram matrix is singular: its least eigenvalue, 0, needs no coordinate.
    eigenvalues, vectors = jnp.linalg.eigh(_gram(values))
    means: Array = (vectors * jnp.sqrt(jnp.maximum(eigenvalues, 0))[None])[:, 1:]
    return means


@of_arrays("distances", "scales", "radius")
def distance_accuracies(distances: ArrayLike, scales: ArrayLike, radius: ArrayLike) -> Array:
    """Returns the robust accuracy of each of two or three classes from their distances, (K,).

    P(Z_j <= (d_yj / 2 - radius) / s_y for all j), Z_j and Z_l as correlated as the directions from
    y to j and to l. More classes: `means_of_distances` and `theory.multiclass.risk`.

    Args:
        distances: between class means, (K, K), symmetric, zero diagonal. A class with a twin at
            distance 0 has accuracy 0.
        scales: standard deviation of each class, > 0, (K,).
        radius: of the l_2 ball, >= 0, ().

    Raises:
        InvalidInput: for distances that are not Euclidean, more than three classes, or a value out
            of range.

    References:
        lee2024dafa on class distances; new; theory document A6.c.

    >>> accuracy = distance_accuracies([[0.0, 2.0], [2.0, 0.0]], [1.0, 0.5], 0.5)  # Phi(.5), Phi(1)
    >>> [round(float(a), 6) for a in accuracy]
    [0.691462, 0.841345]
    """
    (values,) = broadcast(jnp.asarray(distances))
    _require_euclidean(values)
    scales, radius = (jnp.asarray(x).astype(values.dtype) for x in (scales, radius))
    count = values.shape[0]
    require_shape("scales", scales, scales.shape == (count,), f"({count},), as distances say")
    require_values("scales", scales, POSITIVE, "every class scale")
    require_values("radius", radius, NON_NEGATIVE, "the perturbation radius")
    if count > 3:
        raise InvalidInput(f"distances.shape = {values.shape}: two or three classes only")
    h = jnp.where(values > 0, (values / 2 - radius) / scales[:, None], -jnp.inf)
    if count == 2:
        return ndtr(jnp.stack([h[0, 1], h[1, 0]]))
    # Two half-spaces for each class, whose normals point to the other two: a wedge.
    y, j, m = jnp.asarray([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    angle = _angle(values[y, j], values[y, m], values[j, m])
    accuracies: Array = normal_wedge(h[y, j], h[y, m], angle)
    return accuracies


def _angle(a: Array, b: Array, opposite: Array) -> Array:
    """Returns the angle between sides a and b of a triangle, accurate also for needles (Kahan)."""
    # Kahan's formula for needle-like triangles: the parentheses are the method, and the order of
    # the sums must stay. Degenerate triangles have the angle 0 or pi, and no slope there.
    a, b = jnp.maximum(a, b), jnp.minimum(a, b)
    c = opposite
    near = jnp.where(b >= c, c - (a - b), b - (a - c))
    above = jnp.maximum(((a - b) + c) * near, 0)
    below = jnp.maximum((a + (b + c)) * ((a - c) + b), 0)
    positive = (above > 0) & (below > 0)
    half = jnp.arctan(jnp.sqrt(jnp.where(positive, above, 1) / jnp.where(positive, below, 1)))
    end = jnp.where(above > 0, math.pi, 0.0).astype(half.dtype)
    return jnp.where(positive, 2 * half, end)


@of_arrays("distance", "scale", "radius", "classes")
def simplex_accuracy(
    distance: ArrayLike, scale: ArrayLike, radius: ArrayLike, classes: ArrayLike
) -> Array:
    """Returns the robust accuracy of each of K equidistant classes, nearest-mean rule against l_2.

    The integral of phi(u) Phi(sqrt(2) h - u)^(K - 1), h = (distance / 2 - radius) / scale.

    Args:
        distance: between any two class means, > 0, (...).
        scale: standard deviation of the class, > 0, (...).
        radius: of the l_2 ball, >= 0, (...).
        classes: K >= 2, any real, (...).

    Returns:
        Accurate to 1e-14 for K up to some thousands, nan out of domain.

    References:
        new; theory document A6.c.

    >>> round(float(simplex_accuracy(2.0, 1.0, 1.0, 5)), 6)  # h = 0: one of five, by symmetry
    0.2
    """
    distance, scale, radius, classes = broadcast(distance, scale, radius, classes)
    valid = (distance > 0) & (scale > 0) & (radius >= 0) & (classes >= 2)
    h = (distance / 2 - radius) / jnp.where(valid, scale, 1)
    half = (_PANELS[1:] - _PANELS[:-1])[:, None] / 2
    nodes = jnp.asarray((_PANELS[:-1, None] + half * (_NODES + 1)).ravel(), h.dtype)
    weights = jnp.asarray((half * _WEIGHTS).ravel(), h.dtype)

    # The power of the distribution function by its logarithm, which is accurate where that is near
    # 1 and K large, and where it underflows.
    def integrand(u: Array) -> Array:
        log_cdf = jax.scipy.special.log_ndtr(math.sqrt(2) * h - u)
        return norm.pdf(u) * jnp.exp((classes - 1) * log_cdf)

    total = jnp.tensordot(weights, jax.vmap(integrand)(nodes), 1)
    return jnp.where(valid, total, jnp.nan)


@of_arrays("means", "scale", "weights", "radii")
def line_thresholds(
    means: ArrayLike, scale: ArrayLike, weights: ArrayLike, radii: ArrayLike
) -> LineRule:
    """Returns the thresholds of least weighted robust error between classes on a line.

    Each lies where the weighted densities of its two neighbours, shifted towards each other by
    their training radii, are equal.

    Args:
        means: increasing, (K,).
        scale: the common standard deviation, > 0, ().
        weights: class weights times priors, > 0, (K,).
        radii: training radius of each class, >= 0, (K,).

    Raises:
        InvalidInput: for means that do not increase, or a value out of range.

    References:
        new; theory document A6.f.

    >>> rule = line_thresholds([0.0, 2.0], 1.0, [jnp.e, 1.0], [0.5, 0.5])  # 1 + log(e) / 1
    >>> rule.thresholds.tolist(), bool(rule.coupled)
    ([2.0], False)
    """
    named = {"means": (means, REAL), "weights": (weights, POSITIVE), "radii": (radii, NON_NEGATIVE)}
    arrays = broadcast(*(jnp.asarray(value) for value, _ in named.values()))
    for array, (name, (_, domain)) in zip(arrays, named.items(), strict=True):
        require_shape(name, array, array.ndim == 1 and array.size >= 2, "(K,), K >= 2")
        require_values(name, array, domain, f"every one of the {name}")
    means, weights, radii = arrays
    scale = jnp.asarray(scale).astype(means.dtype)
    require_values("scale", scale, POSITIVE, "the class scale")
    if not isinstance(means, jax.core.Tracer) and (np.diff(np.asarray(means)) <= 0).any():
        raise InvalidInput(f"means = {np.asarray(means).tolist()}: must increase")
    # An attack carries each class towards its neighbour by the radius: those are the means that the
    # threshold has to part, and where they cross there is none.
    left, right = (means + radii)[:-1], (means - radii)[1:]
    gap = right - left
    open_gap = gap > 0
    tilt = jnp.log(weights[:-1] / weights[1:]) / jnp.where(open_gap, gap, 1)
    thresholds = (left + right) / 2 + scale * scale * tilt
    # A class whose interval is shorter than twice its radius is always wrong: then its thresholds
    # no longer trade with one neighbour alone.
    room = jnp.diff(thresholds) > 2 * radii[1:-1]
    coupled = ~(jnp.all(open_gap) & jnp.all(room))
    return LineRule(jnp.where(coupled, jnp.nan, thresholds), coupled)


@of_arrays("thresholds", "means", "scale", "radius")
def line_accuracies(
    thresholds: ArrayLike, means: ArrayLike, scale: ArrayLike, radius: ArrayLike
) -> Array:
    """Returns the robust accuracy of each class of a rule by thresholds on a line, (K,).

    Class i owns the interval between its thresholds, shrunk by the radius at both ends; nothing is
    left of one shorter than twice the radius.

    Args:
        thresholds: increasing, (K - 1,).
        means: (K,).
        scale: standard deviations, > 0, () or (K,).
        radius: >= 0, ().

    Returns:
        Probabilities in [0, 1].

    References:
        new; theory document A6.b, A6.f.

    >>> [round(float(a), 6) for a in line_accuracies([0.0], [-1.0, 1.5], 1.0, 0.5)]
    [0.691462, 0.841345]
    """
    means = jnp.asarray(means)
    thresholds, scale, radius = (
        jnp.asarray(x).astype(means.dtype) for x in (thresholds, scale, radius)
    )
    end = jnp.full(1, jnp.inf, means.dtype)
    low = (jnp.concatenate([-end, thresholds]) + radius - means) / scale
    high = (jnp.concatenate([thresholds, end]) - radius - means) / scale
    # In the upper tail the survival functions keep what the distribution functions lose.
    upper = low > 0
    inside = jnp.where(upper, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
    return jnp.where(low < high, inside, 0)


@of_arrays("margin", "gain")
def boundary_shift(margin: ArrayLike, gain: ArrayLike) -> tuple[Array, Array]:
    """Returns how far to move a boundary to cut one class's error by `gain`, and what it costs.

    The boundary lies `margin` sds from both class means; moving it by t raises the sum of the two
    errors by Phi(-(margin - t)) - Phi(-margin) - gain, about gain^2 margin / phi(margin): the near
    boundary is the cheaper one.

    Args:
        margin: in standard deviations, any real, (...).
        gain: in [0, Phi(-margin)), all there is to gain, (...).

    Returns:
        The shift in standard deviations and the rise of the sum of errors, both (...); nan for a
        gain out of its domain.

    References:
        lee2024dafa, the example of its section 4 in exact form; new; theory document A6.g.

    >>> shift, cost = boundary_shift(1.0, ndtr(-1.0) - ndtr(-2.0))
    >>> round(float(shift), 4), bool(abs(cost - (0.5 + ndtr(-2.0) - 2 * ndtr(-1.0))) < 1e-6)
    (1.0, True)
    """
    h, gain = broadcast(margin, gain)
    error = ndtr(-h)
    valid = (gain < error) & (gain >= 0)
    shift = -ndtri(jnp.where(valid, error - gain, 0.5)) - h
    cost = ndtr(shift - h) - error - gain
    return jnp.where(valid, shift, jnp.nan), jnp.where(valid, cost, jnp.nan)
