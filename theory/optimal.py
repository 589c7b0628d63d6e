"""Optimal natural and robust linear rules for Gaussian mixtures with isotropic noise.

The direction maximises the robust margin and does not depend on the prior or the class scales;
the intercept alone answers to them (theory document T2-T5).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from theory.linear import dual_norm, power_norm
from theory.problem import (
    GaussianMixture,
    InvalidInput,
    L2Ball,
    LinearClassifier,
    LinfBall,
    Mixture,
    Threat,
    imbalance_ratio,
)


class Direction(NamedTuple):
    """A weight vector, (..., d), and its robust margin in units of the projection's scale, (...).

    The margin is (w . Delta - radius ||w||_q) / ||w||_2, with Delta half the difference of means.
    """

    weight: jax.Array
    margin: jax.Array


class Shift(NamedTuple):
    """The intercept beta in units of the projection's scale, (...), and whether none is optimal.

    `trivial`: a constant rule is optimal; then `label` (-1 or +1) is what it answers.
    """

    beta: jax.Array
    trivial: jax.Array
    label: jax.Array


@functools.singledispatch
def _maximiser(threat: Threat, delta: jax.Array) -> jax.Array:
    raise InvalidInput(
        f"threat = {type(threat).__name__}: the robust-optimal direction is available for L2Ball "
        "and LinfBall"
    )


@_maximiser.register
def _(threat: L2Ball, delta: jax.Array) -> jax.Array:
    return delta


@_maximiser.register
def _(threat: LinfBall, delta: jax.Array) -> jax.Array:
    excess = jnp.abs(delta) - jnp.expand_dims(threat.radius, -1)
    inside = jnp.sign(delta) * jnp.maximum(excess, 0)
    # Past the largest coordinate every margin is negative and the least bad rule is one coordinate.
    best = jax.nn.one_hot(jnp.argmax(excess, -1), delta.shape[-1], dtype=delta.dtype)
    beyond = jnp.max(excess, -1, keepdims=True) <= 0
    return jnp.where(beyond, jnp.sign(delta) * best, inside)


def optimal_direction(mixture: Mixture, threat: Threat | None = None) -> Direction:
    """Returns the direction of largest robust margin, for isotropic Gaussian noise.

    Args:
        mixture: Gaussian without a covariance; the class means must differ.
        threat: L2Ball, LinfBall, or None for the natural rule.

    Returns:
        The direction and its margin; the margin is nan where the class means coincide.

    Raises:
        InvalidInput: for another law, a covariance, or another threat.

    References:
        bhagoji2019lowerbounds; dan2020sharp; theory document T3 (b), (d) and its edges.
    """
    _require_isotropic(mixture)
    delta = (mixture.means[..., 1, :] - mixture.means[..., 0, :]) / 2
    threat = L2Ball(jnp.zeros(delta.shape[:-1], delta.dtype)) if threat is None else threat
    weight = _maximiser(threat, delta)
    robust = jnp.sum(weight * delta, -1) - threat.radius * dual_norm(threat, weight)
    return Direction(weight, robust / power_norm(weight, 2.0))


def _require_isotropic(mixture: Mixture) -> None:
    if not isinstance(mixture, GaussianMixture) or mixture.covariance is not None:
        raise InvalidInput(
            f"mixture = {type(mixture).__name__}: the optimal rule is available for a "
            "GaussianMixture without a covariance"
        )


def optimal_shift(margin: jax.Array, scales: jax.Array, ratio: jax.Array) -> Shift:
    """Returns the intercept that minimises the Gaussian risk at a given margin, in closed form.

    Args:
        margin: t, the margin in units of the projection's scale, any real, (...).
        scales: class scales [negative, positive], (..., 2).
        ratio: imbalance ratio R = P(y = -1) / P(y = +1) > 0, (...).

    Returns:
        The only local minimum, and whether a constant rule does at least as well: never for equal
        scales and a positive margin, always for equal scales and margin <= 0. Decided on
        logarithms, so it is right where both risks round to the same number.

    References:
        theory document T4 (equal scales), T5 (unequal scales; new for general ratio and margin).

    >>> shift = optimal_shift(1.0, jnp.ones(2), jnp.e)
    >>> float(shift.beta), bool(shift.trivial)
    (-0.5, False)
    """
    margin, ratio = jnp.asarray(margin), jnp.asarray(ratio)
    negative, positive = scales[..., 0], scales[..., 1]
    a_negative, a_positive = negative**-2, positive**-2
    log_odds = jnp.log(ratio * positive / negative)
    slope = a_negative - a_positive
    centre = margin * (a_negative + a_positive)
    offset = slope * margin**2 - 2 * log_odds
    square = 4 * a_negative * a_positive * margin**2 + 2 * slope * log_odds
    root = jnp.sqrt(jnp.where(square > 0, square, 0))
    # Each of the two equal forms of the root loses accuracy where the other keeps it.
    forward, curved = margin > 0, slope != 0
    beta = jnp.where(
        forward,
        offset / jnp.where(forward, centre + root, 1),
        (centre - root) / jnp.where(curved, slope, 1),
    )
    equal = ~curved
    label = jnp.where(equal, jnp.where(ratio >= 1, -1, 1), jnp.where(slope > 0, 1, -1))
    log_ratio = jnp.log(ratio)
    miss_positive = log_ndtr(-(margin + beta) / positive)
    miss_negative = log_ratio + log_ndtr(-(margin - beta) / negative)
    hit_positive = log_ndtr((margin + beta) / positive)
    hit_negative = log_ratio + log_ndtr((margin - beta) / negative)
    constant_wins = jnp.where(
        slope > 0, miss_positive >= hit_negative, miss_negative >= hit_positive
    )
    trivial = jnp.where(equal, margin <= 0, (square < 0) | constant_wins)
    return Shift(beta, trivial, label)


def optimal_classifier(mixture: Mixture, threat: Threat | None = None) -> LinearClassifier:
    """Returns the linear rule of least natural (no threat) or robust risk.

    Where no direction is worth following the rule is constant: zero weight, bias -1 or +1.

    Args:
        mixture: Gaussian without a covariance, any class scales and prior.
        threat: L2Ball, LinfBall, or None.

    Raises:
        InvalidInput: for another law, a covariance, or another threat.

    References:
        hu2023accuracydisparity; theory document T2-T5.
    """
    direction = optimal_direction(mixture, threat)
    shift = optimal_shift(direction.margin, mixture.scales, imbalance_ratio(mixture.prior))
    centre = jnp.mean(mixture.means, -2)
    scale = power_norm(direction.weight, 2.0)
    bias = shift.beta * scale - jnp.sum(direction.weight * centre, -1)
    weight = jnp.where(jnp.expand_dims(shift.trivial, -1), 0, direction.weight)
    return LinearClassifier(weight, jnp.where(shift.trivial, shift.label.astype(bias.dtype), bias))
