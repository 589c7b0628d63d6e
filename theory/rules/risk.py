"""Class-wise natural and robust risk of any linear classifier, in closed form.

The worst perturbation of a linear score moves it by the radius times the dual norm of the weight,
and the projection of the noise on the weight stays in the law's family, so each class risk is one
value of its distribution function (theory document T1 and T15; Hu et al. 2023).
"""

import functools
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr

from theory import stable
from theory.domain import InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.numerics.norms import power_norm
from theory.numerics.noun import require_kind, require_shape
from theory.problem import (
    EllipticalStableMixture,
    GaussianMixture,
    L1Ball,
    L2Ball,
    Law,
    LinearClassifier,
    LinfBall,
    LpBall,
    StableMixture,
    Threat,
)

LAWS, THREATS = get_args(Law), get_args(Threat)


class ClassRisks(NamedTuple):
    """Misclassification probability of each class, or the logarithm of it, each (...)."""

    negative: jax.Array
    positive: jax.Array


@functools.singledispatch
def dual_norm(threat: Threat, weight: jax.Array) -> jax.Array:
    """Returns max of weight . delta over ||delta||_p <= 1: the dual norm ||weight||_q, (...).

    Args:
        threat: the ball; only its norm matters here, not its radius.
        weight: any real numbers, (..., d).

    Raises:
        InvalidInput: for another type of threat.

    >>> dual_norm(LinfBall(1.0), jnp.asarray([3.0, -4.0])).tolist()
    7.0
    """
    raise InvalidInput(f"threat = {threat!r}: must be an L1Ball, L2Ball, LinfBall or LpBall")


@dual_norm.register
def _(threat: L1Ball, weight: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(weight), -1)


@dual_norm.register
def _(threat: L2Ball, weight: jax.Array) -> jax.Array:
    return power_norm(weight, 2.0)


@dual_norm.register
def _(threat: LinfBall, weight: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(weight), -1)


@dual_norm.register
def _(threat: LpBall, weight: jax.Array) -> jax.Array:
    # q = inf for p = 1 and q = 1 for p = inf, where p / (p - 1) says nothing.
    if threat.p == 1:
        return jnp.max(jnp.abs(weight), -1)
    return power_norm(weight, threat.p / (threat.p - 1) if threat.p < jnp.inf else 1.0)


@functools.singledispatch
def projection_scale(mixture: Law, weight: jax.Array) -> jax.Array:
    """Returns the scale of weight . noise at unit class scale, (...).

    sqrt(w' Sigma w) for a Gaussian or elliptical mixture, (sum |w_i|^alpha)^(1/alpha) for a stable
    one of independent coordinates.

    Args:
        mixture: its shape or index alone matters here.
        weight: any real numbers, (..., d).

    Raises:
        InvalidInput: for another type of mixture.

    >>> cauchy = StableMixture([[-1.0, 0.0], [1.0, 0.0]], [1.0, 1.0], 0.5, 1.0)
    >>> projection_scale(cauchy, jnp.asarray([3.0, -4.0])).tolist()
    7.0
    """
    raise InvalidInput(f"mixture = {mixture!r}: must be a GaussianMixture or a StableMixture")


@projection_scale.register
def _(mixture: GaussianMixture, weight: jax.Array) -> jax.Array:
    return _elliptical_norm(weight, mixture.covariance)


@projection_scale.register
def _(mixture: EllipticalStableMixture, weight: jax.Array) -> jax.Array:
    return _elliptical_norm(weight, mixture.dispersion)


def _elliptical_norm(weight: jax.Array, matrix: jax.Array | None) -> jax.Array:
    """Returns sqrt(w' matrix w) over the last axis, for the identity if `matrix` is None."""
    if matrix is None:
        return power_norm(weight, 2.0)
    # In units of the largest weight, so that squares cannot overflow or vanish.
    largest = jnp.max(jnp.abs(weight), -1, keepdims=True)
    unit = weight / jnp.where(largest > 0, largest, 1)
    square = jnp.einsum(
        "...i,...ij,...j->...", unit, matrix, unit, precision=jax.lax.Precision.HIGHEST
    )
    return largest[..., 0] * jnp.sqrt(jnp.where(square > 0, square, 1))


@projection_scale.register
def _(mixture: StableMixture, weight: jax.Array) -> jax.Array:
    return power_norm(weight, mixture.alpha)


@functools.singledispatch
def log_projection_cdf(mixture: Law, margin: jax.Array) -> jax.Array:
    """Returns the logarithm of `projection_cdf`, (...), finite where that underflows.

    Arguments are those of `projection_cdf`.

    Raises:
        InvalidInput: for another type of mixture.
    """
    raise InvalidInput(f"mixture = {mixture!r}: must be a GaussianMixture or a StableMixture")


@functools.singledispatch
def projection_cdf(mixture: Law, margin: jax.Array) -> jax.Array:
    """Returns the distribution function of the unit-scale projection at `margin`, (...).

    Args:
        mixture: the law whose noise is projected.
        margin: any real numbers, (...).

    Raises:
        InvalidInput: for another type of mixture.
    """
    raise InvalidInput(f"mixture = {mixture!r}: must be a GaussianMixture or a StableMixture")


log_projection_cdf.register(GaussianMixture, lambda _, margin: log_ndtr(margin))
projection_cdf.register(GaussianMixture, lambda _, margin: ndtr(margin))
for _law in (StableMixture, EllipticalStableMixture):
    # By symmetry log cdf(m) is logsf(-m): the stable law has one logarithm.
    log_projection_cdf.register(_law, lambda law, margin: stable.logsf(-margin, law.alpha))
    projection_cdf.register(_law, lambda law, margin: stable.cdf(margin, law.alpha))


def _standardised_margins(
    mixture: Law, classifier: LinearClassifier, threat: Threat | None
) -> ClassRisks:
    """Returns, for each class, the argument of the distribution function; +-inf for zero weight."""
    _require_fitting(mixture, classifier, threat)
    # HIGHEST: accelerators would otherwise round means and weights to a few bits.
    weight, bias = classifier
    scores = jnp.einsum(
        "...cd,...d->...c", mixture.means, weight, precision=jax.lax.Precision.HIGHEST
    )
    loss = 0.0 if threat is None else threat.radius * dual_norm(threat, weight)
    scale = projection_scale(mixture, weight)
    # A zero weight makes a constant rule; dividing by its scale of 0 would give nan, or, once it is
    # behind a `where`, a nan gradient.
    constant = scale == 0

    def argument(label: int, score: jax.Array, class_scale: jax.Array) -> jax.Array:
        margin = loss - label * (score + bias)
        certain = jnp.where(label * bias > 0, -jnp.inf, jnp.inf)
        return jnp.where(constant, certain, margin / (class_scale * jnp.where(constant, 1, scale)))

    scales = mixture.scales
    return ClassRisks(
        argument(-1, scores[..., 0], scales[..., 0]), argument(1, scores[..., 1], scales[..., 1])
    )


def _require_fitting(mixture: Law, classifier: LinearClassifier, threat: Threat | None) -> None:
    """Raises InvalidInput for another type of argument, or a weight of another dimension."""
    require_kind("mixture", mixture, *LAWS)
    require_kind("classifier", classifier, LinearClassifier)
    if threat is not None:
        require_kind("threat", threat, *THREATS)
    dim = jnp.shape(mixture.means)[-1:]
    good = jnp.shape(classifier.weight)[-1:] == dim
    require_shape("weight", classifier.weight, good, f"(..., d) with d = {dim[0]}, as means say")


@checked_arguments
def class_risks(
    mixture: Law, classifier: LinearClassifier, threat: Threat | None = None
) -> ClassRisks:
    """Returns the natural (no threat) or robust risk of each class.

    r_y = F((radius ||w||_q - y (w . mu_y + b)) / (s_y scale(w))). A score of exactly zero counts
    as an error for both classes; with zero weight the rule is constant and no radius matters.

    Args:
        mixture: Gaussian or stable, fields broadcast over leading axes; `MixedPairs` of such,
            once `theory.fairness.mixup` is imported.
        classifier: any linear rule.
        threat: the perturbations allowed, or None for the natural risk.

    Returns:
        Probabilities in [0, 1], (...): each accurate relative to its size when small; nan for a
        stability index below 0.1.

    Raises:
        InvalidInput: for another type of argument, or a weight of another dimension.

    References:
        hu2023accuracydisparity; theory document T1 (Gaussian), T15 (stable).

    >>> from theory.problem import GaussianMixture, L2Ball, LinearClassifier
    >>> mixture = GaussianMixture(means=[[-1.0], [1.0]], scales=[1.0, 1.0], prior=0.5)
    >>> rule = LinearClassifier(weight=[1.0], bias=0.0)
    >>> [float(r) for r in class_risks(mixture, rule, L2Ball(1.0))]
    [0.5, 0.5]
    """
    margins = _standardised_margins(mixture, classifier, threat)
    return ClassRisks(*(projection_cdf(mixture, margin) for margin in margins))


@checked_arguments
def log_class_risks(
    mixture: Law, classifier: LinearClassifier, threat: Threat | None = None
) -> ClassRisks:
    """Returns the logarithms of `class_risks`, (...), finite where the risks underflow.

    Arguments and references are those of `class_risks`.
    """
    margins = _standardised_margins(mixture, classifier, threat)
    return ClassRisks(*(log_projection_cdf(mixture, margin) for margin in margins))


@checked_arguments
def risk(mixture: Law, classifier: LinearClassifier, threat: Threat | None = None) -> jax.Array:
    """Returns the natural or robust risk: the class risks weighted by the class prior, (...).

    Arguments and references are those of `class_risks`.
    """
    negative, positive = class_risks(mixture, classifier, threat)
    return (1 - mixture.prior) * negative + mixture.prior * positive


@checked_arguments
def disparity(
    mixture: Law, classifier: LinearClassifier, threat: Threat | None = None
) -> jax.Array:
    """Returns the signed accuracy disparity, risk of the positive minus risk of the negative class.

    Positive when the positive class fares worse (theory document T0), in [-1, 1], (...). Arguments
    are those of `class_risks`.

    References:
        hu2023accuracydisparity.
    """
    negative, positive = class_risks(mixture, classifier, threat)
    return positive - negative
