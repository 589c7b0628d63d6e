"""The optimal linear rule for Gaussian classes whose covariances differ in shape.

The optimum is the robust-optimal direction for some combination of the two covariances, of any
signs as long as it is positive definite, with the intercept that belongs to it: a search in one
angle (theory document T11; without a threat, Anderson and Bahadur 1962).
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import ndtr
from jax.typing import ArrayLike

from theory.numerics import dense
from theory.problem import LinearClassifier, Threat
from theory.rules import direction_correlated
from theory.rules.direction import norm_order
from theory.rules.intercept import optimal_shift, shift_risks
from theory.rules.risk import ClassRisks, dual_norm

_ANGLES, _NARROWINGS = 97, 60
_ENDS = 18.0  # on the logistic scale: 1.5e-8 of the interval of angles
_GOLDEN = (math.sqrt(5) - 1) / 2


def class_covariance_risks(
    means: Array, covariances: Array, classifier: LinearClassifier, threat: Threat | None = None
) -> ClassRisks:
    """Returns the natural or robust class risks when each class has its own covariance.

    Args:
        means: (2, d), in the order [negative, positive].
        covariances: (2, d, d), in the same order, positive definite.
        classifier: any linear rule; threat: any l_p ball, or None.

    References:
        theory document T1.
    """
    weight, bias = classifier
    loss = 0 if threat is None else threat.radius * dual_norm(threat, weight)
    length = jnp.sqrt(jnp.einsum("i,cij,j->c", weight, covariances, weight))
    labels = jnp.asarray([-1, 1], weight.dtype)
    margin = labels * (means @ weight + bias) - loss
    certain = jnp.where(labels * bias > 0, 0.0, 1.0)
    risks = ndtr(-margin / jnp.where(length > 0, length, 1))
    return ClassRisks(*jnp.where(length > 0, risks, certain))


def class_covariance_classifier(
    means: ArrayLike, covariances: ArrayLike, prior: ArrayLike, threat: Threat | None = None
) -> LinearClassifier:
    """Returns the linear rule of least risk for N(mean_y, covariance_y).

    Args:
        means: (2, d), in the order [negative, positive], not equal; vmap for more.
        covariances: (2, d, d), in the same order; nan if one is not positive definite.
        prior: P(y = +1) in (0, 1).
        threat: any l_p ball, or None.

    Returns:
        The best rule over 97 angles, refined about the best of them: the global optimum unless the
        risk has a minimum narrower than the grid. The derivative of its risk is exact to first
        order; that of the rule holds the angle fixed.

    Raises:
        InvalidInput: for another type of threat.

    References:
        andersonbahadur1962; new with a threat or a prior; theory document T11.

    >>> eye = jnp.eye(2)
    >>> rule = class_covariance_classifier([[-1.0, 0.0], [1.0, 0.0]], jnp.stack([eye, eye]), 0.5)
    >>> (rule.weight / rule.weight[0]).tolist(), round(float(rule.bias), 12)
    ([1.0, 0.0], 0.0)
    """
    covariances = jnp.asarray(covariances)
    dtype = covariances.dtype
    means, prior = jnp.asarray(means, dtype), jnp.asarray(prior, dtype)
    radius = jnp.zeros((), dtype) if threat is None else jnp.asarray(threat.radius, dtype)
    order = 2.0 if threat is None else norm_order(threat)
    return LinearClassifier._make(_solve(means, covariances, prior, radius, order))


@functools.partial(jax.jit, static_argnames="p")
def _solve(
    means: Array, covariances: Array, prior: Array, radius: Array, p: float
) -> tuple[Array, Array]:
    delta, centre = (means[1] - means[0]) / 2, (means[1] + means[0]) / 2
    ratio = (1 - prior) / prior

    low, high = _definite_angles(covariances)

    def rule(place: Array) -> tuple[Array, Array, Array]:
        # Dense towards both ends, where the optimum lies under strong imbalance.
        angle = low + (high - low) * jax.nn.sigmoid(place)
        mixed = jnp.cos(angle) * covariances[0] + jnp.sin(angle) * covariances[1]
        weight = direction_correlated.direction(delta, radius, mixed, p=p)[0]
        weight = weight / jnp.sqrt(jnp.sum(weight**2))
        margin = weight @ delta - radius * direction_correlated.dual_length(weight, p)
        scales = jnp.sqrt(jnp.einsum("i,cij,j->c", weight, covariances, weight))
        shift = optimal_shift(margin, scales, ratio)
        negative, positive = shift_risks(shift, margin, scales)
        bias = jnp.where(shift.trivial, 0, shift.beta) - weight @ centre
        constant = shift.label.astype(bias.dtype)
        weight = jnp.where(shift.trivial, 0, weight)
        risk = (1 - prior) * negative + prior * positive
        return (
            weight,
            jnp.where(shift.trivial, constant, bias),
            jnp.where(jnp.isnan(risk), jnp.inf, risk),
        )

    places = jnp.linspace(-_ENDS, _ENDS, _ANGLES, dtype=delta.dtype)
    best = jnp.argmin(lax.map(lambda place: rule(place)[2], places))
    bracket = places[jnp.maximum(best - 1, 0)], places[jnp.minimum(best + 1, _ANGLES - 1)]
    narrowed = lax.fori_loop(0, _NARROWINGS, lambda _, ends: _narrow(rule, *ends), bracket)
    weight, bias, _ = rule(lax.stop_gradient(sum(narrowed) / 2))
    return weight, bias


def _definite_angles(covariances: Array) -> tuple[Array, Array]:
    """Returns the interval of angles whose combination of the covariances is positive definite."""
    lower = dense.cholesky(covariances[0])
    half = dense.solve(lower, covariances[1])
    relative = dense.solve(lower, half.T)
    values, _ = dense.eigh(relative)
    return -jnp.arctan(1 / values[-1]), math.pi / 2 + jnp.arctan(values[0])


def _narrow(
    rule: Callable[[Array], tuple[Array, Array, Array]], low: Array, high: Array
) -> tuple[Array, Array]:
    """Returns the bracket after one step of golden-section search."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    lower, upper = lax.map(lambda angle: rule(angle)[2], jnp.stack([left, right]))
    return jnp.where(lower <= upper, low, left), jnp.where(lower <= upper, right, high)
