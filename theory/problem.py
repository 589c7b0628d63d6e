"""The nouns of the toolkit: mixtures, linear classifiers and threat models. No formula is here.

All are NamedTuples of arrays and JAX pytrees: the type is static, the fields are traced. Called by
people, the constructors convert to one floating dtype and check shapes and values; inside `jit`
only shapes can be checked, and JAX's own rebuilding of a pytree checks nothing.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory.domain import (
    NON_NEGATIVE,
    NORM_ORDER,
    POSITIVE,
    PROBABILITY,
    REAL,
    STABILITY_INDEX,
    InvalidInput,
    require_inside,
)
from theory.noun import noun, require_shape, require_values

__all__ = [
    "GaussianMixture",
    "InvalidInput",
    "L1Ball",
    "L2Ball",
    "LinearClassifier",
    "LinfBall",
    "LpBall",
    "Mixture",
    "StableMixture",
    "Threat",
    "imbalance_ratio",
    "prior_of_ratio",
]


def _check_mixture(mixture: Any) -> None:
    means, scales = mixture.means, mixture.scales
    rows = means.ndim >= 2 and means.shape[-2] == 2 and means.shape[-1] >= 1
    require_shape("means", means, rows, "(..., 2, d) in the order [negative, positive], d >= 1")
    require_shape("scales", scales, scales.shape[-1:] == (2,), "(..., 2): [negative, positive]")
    require_values("means", means, REAL, "every class mean (finite)")
    require_values("scales", scales, POSITIVE, "every class scale")
    require_values("prior", mixture.prior, PROBABILITY, "the class prior P(y = +1)")


def _check_gaussian(mixture: "GaussianMixture") -> None:
    _check_mixture(mixture)
    covariance, dim = mixture.covariance, mixture.means.shape[-1]
    if covariance is None:
        return
    good = covariance.shape[-2:] == (dim, dim)
    require_shape("covariance", covariance, good, f"(..., d, d) with d = {dim}, as means say")
    require_values("covariance", covariance, REAL, "every entry (finite)")
    if not isinstance(covariance, jax.core.Tracer):
        matrix = np.asarray(covariance, float)
        asymmetry = np.abs(matrix - np.swapaxes(matrix, -1, -2)).max()
        rounding = 8 * jnp.finfo(covariance.dtype).eps * np.abs(matrix).max()
        if asymmetry > rounding:
            raise InvalidInput(f"covariance: must be symmetric, is off by {asymmetry:.3g}")
        smallest = np.linalg.eigvalsh(matrix).min()
        if not smallest > 0:
            raise InvalidInput(
                f"covariance: must be positive definite, its smallest eigenvalue is {smallest:.3g}"
            )


def _check_stable(mixture: "StableMixture") -> None:
    _check_mixture(mixture)
    require_values("alpha", mixture.alpha, STABILITY_INDEX, "the stability index")


def _check_classifier(classifier: "LinearClassifier") -> None:
    weight, bias = classifier
    require_shape("weight", weight, weight.ndim >= 1, "(..., d)")
    require_values("weight", weight, REAL, "every weight (finite)")
    require_values("bias", bias, REAL, "the bias (finite)")


def _check_radius(threat: Any) -> None:
    require_values("radius", threat.radius, NON_NEGATIVE, "the perturbation radius")


def _check_ball(threat: "LpBall") -> None:
    _check_radius(threat)
    require_inside("p", threat.p, NORM_ORDER, "the order of the norm")


@noun(_check_gaussian)
class GaussianMixture(NamedTuple):
    """Two Gaussian classes, x | y ~ N(mean_y, scale_y^2 * covariance).

    Args:
        means: class means, (..., 2, d), in the order [negative, positive].
        scales: class scales s_y > 0, (..., 2), in the same order.
        prior: P(y = +1) in (0, 1), (...).
        covariance: shared shape Sigma, (..., d, d), symmetric positive definite; None is identity.

    Raises:
        InvalidInput: naming the field, its value or shape, and what is allowed.
    """

    means: jax.Array
    scales: jax.Array
    prior: jax.Array
    covariance: jax.Array | None = None


@noun(_check_stable)
class StableMixture(NamedTuple):
    """Two classes with independent symmetric alpha-stable noise, x_i | y = mean_yi + scale_y * S_i.

    S_i has the characteristic function exp(-|t|^alpha): alpha = 1 is Cauchy, and alpha = 2 is
    N(0, 2), so a Gaussian of standard deviation sigma has scale sigma / sqrt(2).

    Args:
        means: class means (locations, where alpha <= 1), (..., 2, d), [negative, positive].
        scales: class scales > 0, (..., 2), in the same order.
        prior: P(y = +1) in (0, 1), (...).
        alpha: stability index in (0, 2], (...).

    Raises:
        InvalidInput: naming the field, its value or shape, and what is allowed.
    """

    means: jax.Array
    scales: jax.Array
    prior: jax.Array
    alpha: jax.Array


@noun(_check_classifier)
class LinearClassifier(NamedTuple):
    """The rule sign(weight . x + bias); a score of exactly zero is an error for both classes.

    Args:
        weight: (..., d), finite. All zeros is the constant rule sign(bias).
        bias: (...), finite.

    Raises:
        InvalidInput: naming the field, its value or shape, and what is allowed.
    """

    weight: jax.Array
    bias: jax.Array


@noun(_check_radius)
class L1Ball(NamedTuple):
    """Perturbations with ||delta||_1 <= radius, radius >= 0 of shape (...)."""

    radius: jax.Array


@noun(_check_radius)
class L2Ball(NamedTuple):
    """Perturbations with ||delta||_2 <= radius, radius >= 0 of shape (...)."""

    radius: jax.Array


@noun(_check_radius)
class LinfBall(NamedTuple):
    """Perturbations with ||delta||_inf <= radius, radius >= 0 of shape (...)."""

    radius: jax.Array


@noun(_check_ball, static=("p",))
class LpBall(NamedTuple):
    """Perturbations with ||delta||_p <= radius; p in [1, inf] is a static Python number."""

    radius: jax.Array
    p: float


Mixture = GaussianMixture | StableMixture
Threat = L1Ball | L2Ball | LinfBall | LpBall


def imbalance_ratio(prior: jax.Array) -> jax.Array:
    """Returns R = P(y = -1) / P(y = +1) for the class prior P(y = +1) in (0, 1).

    >>> imbalance_ratio(0.2)
    4.0
    """
    return (1 - prior) / prior


def prior_of_ratio(ratio: jax.Array) -> jax.Array:
    """Returns the class prior P(y = +1) = 1 / (1 + R) for the imbalance ratio R > 0.

    >>> prior_of_ratio(4.0)
    0.2
    """
    return 1 / (1 + ratio)
