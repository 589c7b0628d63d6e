"""The optimal linear rule for Gaussian classes whose covariances differ in shape.

The optimum is the robust-optimal direction for some combination of the two covariances, of any
signs as long as it is positive definite, with the intercept that belongs to it: a search in one
angle (theory document T11; without a threat, Anderson and Bahadur 1962). The reason is the
condition of the optimum: with margins m_y and scales s_y, its weight w satisfies

    (m_- / s_-^2 Sigma_- + m_+ / s_+^2 Sigma_+) w = 2 (Delta - z),    z in radius d||w||_q,

which is that of `theory.rules.direction_correlated` for one covariance. A class whose margin is
negative, as under strong imbalance, enters with a negative sign.
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
from theory.numerics.arguments import checked_arguments
from theory.problem import LinearClassifier, Threat
from theory.rules import direction_correlated
from theory.rules.direction import norm_order
from theory.rules.intercept import optimal_shift, shift_risks
from theory.rules.risk import ClassRisks, dual_norm

_ANGLES, _NARROWINGS = 97, 60
_ENDS = 18.0  # on the logistic scale: 1.5e-8 of the interval of angles
_GOLDEN = (math.sqrt(5) - 1) / 2
# Of a last step on the logistic scale. A search by values stops within 1e-7 of the minimum: a step
# that is longer comes from a kink, where Newton's method does not know the way.
_LONGEST = 1e-4


@checked_arguments
def class_covariance_risks(
    means: Array, covariances: Array, classifier: LinearClassifier, threat: Threat | None = None
) -> ClassRisks:
    """Returns the natural or robust class risks when each class has its own covariance.

    Args:
        means: (2, d), in the order [negative, positive].
        covariances: (2, d, d), in the same order, positive definite.
        classifier: any linear rule, weight (d,) and bias ().
        threat: any l_p ball of radius (), or None.

    Returns:
        Probabilities in [0, 1], both (); 0 and 1 for a rule of zero weight.

    Raises:
        InvalidInput: for another type of threat.

    References:
        hu2023accuracydisparity; theory document T1.

    >>> means, eye = jnp.asarray([[-1.0, 0.0], [1.0, 0.0]]), jnp.eye(2)
    >>> rule = LinearClassifier([1.0, 0.0], 0.0)
    >>> risks = class_covariance_risks(means, jnp.stack([eye, 4 * eye]), rule)
    >>> [round(float(r), 6) for r in risks]  # Phi(-1), Phi(-1/2)
    [0.158655, 0.308538]
    """
    weight, bias = classifier
    loss = 0 if threat is None else threat.radius * dual_norm(threat, weight)
    length = jnp.sqrt(jnp.einsum("i,cij,j->c", weight, covariances, weight))
    labels = jnp.asarray([-1, 1], weight.dtype)
    margin = labels * (means @ weight + bias) - loss
    # A constant rule: its score is the bias, which no perturbation moves; zero counts as an error.
    certain = jnp.where(labels * bias > 0, 0.0, 1.0)
    risks = ndtr(-margin / jnp.where(length > 0, length, 1))
    return ClassRisks(*jnp.where(length > 0, risks, certain))


@checked_arguments
def class_covariance_classifier(
    means: ArrayLike, covariances: ArrayLike, prior: ArrayLike, threat: Threat | None = None
) -> LinearClassifier:
    """Returns the linear rule of least risk for N(mean_y, covariance_y).

    Args:
        means: (2, d), in the order [negative, positive], not equal; vmap for more.
        covariances: (2, d, d), in the same order; nan if one is not positive definite.
        prior: P(y = +1) in (0, 1), ().
        threat: any l_p ball of radius (), or None.

    Returns:
        The best rule over 97 angles, refined about the best of them, weight (d,) of unit length and
        bias (): the global optimum unless the risk has a minimum narrower than the grid. Its angle
        is found to rounding where the risk is smooth in it, and to half of the digits where it has
        a kink. The derivative of its risk is exact to first order; that of the rule holds the angle
        fixed. Where a constant rule is best the weight is zero and the bias -1 or +1.

    Raises:
        InvalidInput: for another type of threat.

    References:
        andersonbahadur1962; new with a threat or a prior; theory document T11.

    >>> eye = jnp.eye(2)
    >>> rule = class_covariance_classifier([[-1.0, 0.0], [1.0, 0.0]], jnp.stack([eye, eye]), 0.5)
    >>> (rule.weight / rule.weight[0]).tolist(), round(float(rule.bias), 12)
    ([1.0, 0.0], 0.0)

    With axes of their own, at R = 2 against l_2 (by Newton's method in 40 digits 0.921855402550,
    0.387534020170, -0.253623053736).

    >>> from theory.problem import L2Ball
    >>> means = [[-1.0, -0.6], [1.0, 0.6]]
    >>> with jax.enable_x64(True):
    ...     shapes = jnp.asarray([[[0.5, -0.2], [-0.2, 1.2]], [[1.0, 0.4], [0.4, 0.6]]])
    ...     rule = class_covariance_classifier(means, shapes, 1 / 3, L2Ball(0.3))
    ...     rule.weight.round(6).tolist(), round(float(rule.bias), 6)
    ([0.921855, 0.387534], -0.253623)
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
    problem = _definite_angles(covariances), means, covariances, prior, radius
    # The search sees constants: derivatives through its loops would be computed to be thrown away.
    fixed = lax.stop_gradient(problem)

    def risk(logit: Array) -> Array:
        return _rule_at(logit, *fixed, p)[2]

    logits = jnp.linspace(-_ENDS, _ENDS, _ANGLES, dtype=means.dtype)
    best = jnp.argmin(lax.map(risk, logits))
    bracket = logits[jnp.maximum(best - 1, 0)], logits[jnp.minimum(best + 1, _ANGLES - 1)]
    narrowed = lax.fori_loop(0, _NARROWINGS, lambda _, ends: _narrow(risk, *ends), bracket)
    weight, bias, _ = _rule_at(_polished(risk, sum(narrowed) / 2), *problem, p)
    return weight, bias


def _rule_at(
    logit: Array,
    interval: tuple[Array, Array],
    means: Array,
    covariances: Array,
    prior: Array,
    radius: Array,
    p: float,
) -> tuple[Array, Array, Array]:
    """Returns the best weight, (d,), and bias for one angle, and their risk, infinite for nan.

    The angle is a share sigmoid(logit) of its interval: equal steps of the logit are dense towards
    both ends, where the optimum lies under strong imbalance.
    """
    delta, centre = (means[1] - means[0]) / 2, (means[1] + means[0]) / 2
    ratio = (1 - prior) / prior
    low, high = interval
    angle = low + (high - low) * jax.nn.sigmoid(logit)
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


def _definite_angles(covariances: Array) -> tuple[Array, Array]:
    """Returns the interval of angles whose combination of the covariances is positive definite."""
    # In coordinates where the first is the identity, cos I + sin L is positive definite while
    # cos + sin l > 0 for the least and the largest eigenvalue l.
    lower = dense.cholesky(covariances[0])
    half = dense.solve(lower, covariances[1])
    relative = dense.solve(lower, half.T)
    values, _ = dense.eigh(relative)
    return -jnp.arctan(1 / values[-1]), math.pi / 2 + jnp.arctan(values[0])


def _polished(risk: Callable[[Array], Array], logit: Array) -> Array:
    """Returns the minimiser after one step of Newton's method on the slope of the risk.

    By values alone a minimiser is known to half of the digits: there the risk is flat to rounding.
    """

    def slope(logit: Array) -> Array:
        gradient: Array = jax.jvp(risk, (logit,), (jnp.ones_like(logit),))[1]
        return gradient

    gradient, curvature = jax.jvp(slope, (logit,), (jnp.ones_like(logit),))
    step = gradient / jnp.where(curvature > 0, curvature, 1)
    # A comparison with nan is false: no step without finite derivatives.
    sound = (curvature > 0) & (jnp.abs(step) < _LONGEST)
    return logit - jnp.where(sound, step, 0)


def _narrow(risk: Callable[[Array], Array], low: Array, high: Array) -> tuple[Array, Array]:
    """Returns the bracket after one step of golden-section search."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    # Both points anew, as no step may hang on a comparison that rounding has decided before.
    lower, upper = lax.map(risk, jnp.stack([left, right]))
    return jnp.where(lower <= upper, low, left), jnp.where(lower <= upper, right, high)
