"""The nouns of the toolkit: mixtures, linear classifiers and threat models. No formula is here.

All are NamedTuples of arrays and JAX pytrees: the type is static, the fields are traced. Called by
people, the constructors convert to one floating dtype and check shapes and values; inside `jit`
only shapes can be checked, and JAX's own rebuilding of a pytree checks nothing. The check of each
noun stands above it. A field of shape (...) broadcasts with the leading axes of the others.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from theory.domain import (
    NON_NEGATIVE,
    NORM_ORDER,
    POSITIVE,
    PROBABILITY,
    REAL,
    STABILITY_INDEX,
    UNIT_INTERVAL,
    Interval,
    InvalidInput,
    require_inside,
    require_known,
)
from theory.numerics.noun import (
    checked_namedtuple,
    require_positive_definite,
    require_precision,
    require_semidefinite,
    require_shape,
    require_values,
)

__all__ = [
    "NON_NEGATIVE",
    "POSITIVE",
    "UNIT_INTERVAL",
    "EllipticalStableMixture",
    "GaussianClasses",
    "GaussianMixture",
    "Interval",
    "InvalidInput",
    "L1Ball",
    "L2Ball",
    "Law",
    "LinearClassifier",
    "LinearScores",
    "LinfBall",
    "LpBall",
    "MixedPairs",
    "Mixture",
    "Regression",
    "StableMixture",
    "Threat",
    "imbalance_ratio",
    "prior_of_ratio",
    "require_inside",
    "require_known",
]


def _check_mixture(mixture: Any) -> None:
    # Shapes before values: a shape that is wrong explains itself, its values would not.
    means, scales = mixture.means, mixture.scales
    rows = means.ndim >= 2 and means.shape[-2] == 2 and means.shape[-1] >= 1
    require_shape("means", means, rows, "(..., 2, d) in the order [negative, positive], d >= 1")
    require_shape("scales", scales, scales.shape[-1:] == (2,), "(..., 2): [negative, positive]")
    require_precision("means", means)
    require_values("means", means, REAL, "every class mean (finite)")
    require_values("scales", scales, POSITIVE, "every class scale")
    require_values("prior", mixture.prior, PROBABILITY, "the class prior P(y = +1)")


def _check_shape_matrix(name: str, mixture: Any, matrix: jax.Array | None) -> None:
    means, scales, prior = mixture.means, mixture.scales, mixture.prior
    require_positive_definite(name, matrix, means.shape[-1])
    alone = means.ndim == 2 and scales.ndim == 1 and jnp.ndim(prior) == 0
    # Nothing else says that these are two problems: one matrix a class is what people mean.
    if matrix is not None and alone and matrix.shape[:-2] == (2,):
        raise InvalidInput(
            f"{name}.shape = {matrix.shape}: must be (d, d), shared by both classes; one for each "
            "is for theory.rules.class_covariance.class_covariance_classifier, and a batch of two "
            "problems gives means (2, 2, d) as well"
        )


def _check_gaussian(mixture: "GaussianMixture") -> None:
    _check_mixture(mixture)
    _check_shape_matrix("covariance", mixture, mixture.covariance)


@checked_namedtuple(_check_gaussian)
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


def _check_stable(mixture: Any) -> None:
    _check_mixture(mixture)
    require_values("alpha", mixture.alpha, STABILITY_INDEX, "the stability index")


@checked_namedtuple(_check_stable)
class StableMixture(NamedTuple):
    """Two classes with independent symmetric alpha-stable noise, x_i | y = mean_yi + scale_y * S_i.

    S_i has the characteristic function exp(-|t|^alpha): alpha = 1 is Cauchy, and alpha = 2 is
    N(0, 2), so a Gaussian of standard deviation sigma has scale sigma / sqrt(2).

    Args:
        means: class means (locations, where alpha <= 1), (..., 2, d), [negative, positive].
        scales: class scales > 0, (..., 2), in the same order.
        prior: P(y = +1) in (0, 1), (...).
        alpha: stability index in [0.1, 2], (...); a traced one outside gives nan.

    Raises:
        InvalidInput: naming the field, its value or shape, and what is allowed.
    """

    means: jax.Array
    scales: jax.Array
    prior: jax.Array
    alpha: jax.Array


def _check_elliptical(mixture: "EllipticalStableMixture") -> None:
    _check_stable(mixture)
    _check_shape_matrix("dispersion", mixture, mixture.dispersion)


@checked_namedtuple(_check_elliptical)
class EllipticalStableMixture(NamedTuple):
    """Two classes with elliptical stable noise, x | y = mean_y + scale_y * S.

    S has the characteristic function exp(-(t' Sigma t)^(alpha/2)): a Gaussian of random size, whose
    coordinates are dependent whatever Sigma. alpha = 2 is a Gaussian of covariance 2 Sigma.

    Args:
        means, scales, prior, alpha: as for `StableMixture`.
        dispersion: Sigma, (..., d, d), symmetric positive definite; None is identity.

    Raises:
        InvalidInput: naming the field, its value or shape, and what is allowed.
    """

    means: jax.Array
    scales: jax.Array
    prior: jax.Array
    alpha: jax.Array
    dispersion: jax.Array | None = None


def _check_pairs(pairs: "MixedPairs") -> None:
    # Which of the two is None is part of the pytree's structure, so this holds inside `jit` too.
    coefficient, concentration = pairs.coefficient, pairs.concentration
    if (coefficient is None) == (concentration is None):
        raise InvalidInput("coefficient, concentration: one of them must be given, not both")
    if coefficient is not None:
        require_values("coefficient", coefficient, UNIT_INTERVAL, "the mixing coefficient")
    if concentration is not None:
        require_values("concentration", concentration, POSITIVE, "the Beta parameter")


@checked_namedtuple(_check_pairs)
class MixedPairs(NamedTuple):
    """Same-class mixup, lambda x + (1 - lambda) x' for independent points x, x' of one class.

    Args:
        original: the law of the points, a mixture of one of the types above.
        coefficient: lambda in [0, 1], (...); None if it is drawn for each pair.
        concentration: a > 0, (...), of the law Beta(a, a) that it is drawn from, otherwise None.

    Raises:
        InvalidInput: unless one of the last two is given, and inside its domain.
    """

    original: "Mixture"
    coefficient: jax.Array | None
    concentration: jax.Array | None = None

    @property
    def means(self) -> jax.Array:
        """The class means, (..., 2, d), which mixing leaves as they are."""
        return self.original.means

    @property
    def scales(self) -> jax.Array:
        """The class scales, (..., 2), of the points before they are mixed."""
        return self.original.scales

    @property
    def prior(self) -> jax.Array:
        """P(y = +1), (...), which mixing leaves as it is."""
        return self.original.prior


def _check_classifier(classifier: "LinearClassifier") -> None:
    weight, bias = classifier
    require_shape("weight", weight, weight.ndim >= 1, "(..., d)")
    require_precision("weight", weight)
    require_values("weight", weight, REAL, "every weight (finite)")
    require_values("bias", bias, REAL, "the bias (finite)")


@checked_namedtuple(_check_classifier)
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


def _check_classes(classes: "GaussianClasses") -> None:
    means, covariances = classes
    require_shape("means", means, means.ndim == 2 and means.shape[0] >= 2, "(K, d), K >= 2")
    require_values("means", means, REAL, "every class mean (finite)")
    count, dim = means.shape
    good = covariances.shape == (count, dim, dim)
    require_shape("covariances", covariances, good, f"({count}, {dim}, {dim}), as means say")
    require_positive_definite("covariances", covariances, dim)


@checked_namedtuple(_check_classes)
class GaussianClasses(NamedTuple):
    """K Gaussian classes, x | y ~ N(mean_y, covariance_y).

    Args:
        means: (K, d).
        covariances: (K, d, d), symmetric positive definite.

    Raises:
        InvalidInput: naming the field, its value or shape, and what is allowed.
    """

    means: jax.Array
    covariances: jax.Array


def _check_scores(scores: "LinearScores") -> None:
    weights, biases = scores
    require_shape("weights", weights, weights.ndim == 2 and weights.shape[0] >= 2, "(K, d), K >= 2")
    require_shape("biases", biases, biases.shape == weights.shape[:1], "(K,), as weights say")
    require_values("weights", weights, REAL, "every weight (finite)")
    require_values("biases", biases, REAL, "every bias (finite)")


@checked_namedtuple(_check_scores)
class LinearScores(NamedTuple):
    """The rule argmax_k w_k . x + b_k; a tie for the largest score counts as an error.

    Args:
        weights: (K, d), finite.
        biases: (K,), finite.

    Raises:
        InvalidInput: naming the field, its value or shape, and what is allowed.
    """

    weights: jax.Array
    biases: jax.Array


def _check_regression(problem: Any) -> None:
    weight, covariance = problem.weight, problem.covariance
    require_shape("weight", weight, weight.ndim >= 1 and weight.shape[-1] >= 1, "(..., d), d >= 1")
    good = covariance.shape[-2:] == (weight.shape[-1],) * 2
    require_shape("covariance", covariance, good, "(..., d, d), d as weight says")
    require_values("weight", weight, REAL, "every true weight (finite)")
    require_values("covariance", covariance, REAL, "every entry (finite)")
    require_values("noise", problem.noise, NON_NEGATIVE, "the standard deviation of the noise")
    require_semidefinite("covariance", covariance)


@checked_namedtuple(_check_regression)
class Regression(NamedTuple):
    """The law y = weight . x + noise * N(0, 1) with x of covariance Sigma, up to means.

    Args:
        weight: true weights w_o, (..., d); zero marks a spurious feature.
        covariance: Sigma, (..., d, d), symmetric positive semidefinite.
        noise: standard deviation sigma >= 0 of y given x, (...).

    Raises:
        InvalidInput: naming the field, its value or shape, and what is allowed.
    """

    weight: jax.Array
    covariance: jax.Array
    noise: jax.Array


def _check_radius(threat: Any) -> None:
    require_values("radius", threat.radius, NON_NEGATIVE, "the perturbation radius")


@checked_namedtuple(_check_radius)
class L1Ball(NamedTuple):
    """Perturbations with ||delta||_1 <= radius, radius >= 0 of shape (...)."""

    radius: jax.Array


@checked_namedtuple(_check_radius)
class L2Ball(NamedTuple):
    """Perturbations with ||delta||_2 <= radius, radius >= 0 of shape (...)."""

    radius: jax.Array


@checked_namedtuple(_check_radius)
class LinfBall(NamedTuple):
    """Perturbations with ||delta||_inf <= radius, radius >= 0 of shape (...)."""

    radius: jax.Array


def _check_ball(threat: "LpBall") -> None:
    _check_radius(threat)
    require_inside("p", threat.p, NORM_ORDER, "the order of the norm")


@checked_namedtuple(_check_ball, static=("p",))
class LpBall(NamedTuple):
    """Perturbations with ||delta||_p <= radius, radius >= 0 of shape (...).

    p in [1, inf] is a static Python number, part of the pytree's structure.
    """

    radius: jax.Array
    p: float


Mixture = GaussianMixture | StableMixture | EllipticalStableMixture
# What can be sampled and has class risks.
Law = Mixture | MixedPairs
Threat = L1Ball | L2Ball | LinfBall | LpBall


def imbalance_ratio(prior: jax.Array) -> jax.Array:
    """Returns R = P(y = -1) / P(y = +1), (...), for the class prior P(y = +1) in (0, 1), (...).

    >>> imbalance_ratio(0.2)
    4.0
    """
    return (1 - prior) / prior


def prior_of_ratio(ratio: jax.Array) -> jax.Array:
    """Returns the class prior P(y = +1) = 1 / (1 + R), (...), for the imbalance ratio R > 0, (...).

    >>> prior_of_ratio(4.0)
    0.2
    """
    return 1 / (1 + ratio)
