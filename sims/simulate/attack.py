"""Worst-case perturbations of a linear rule, built as points of the input space."""

import functools

import jax
import jax.numpy as jnp

from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearClassifier, LinfBall, LpBall, Threat


@functools.singledispatch
def steepest(threat: Threat, weight: jax.Array) -> jax.Array:
    """Returns a point of the unit ball where weight . delta is largest, (d,); zero for zero weight.

    Args:
        threat: the ball; only its norm matters here, not its radius.
        weight: (d,).

    Raises:
        InvalidInput: for a threat that is no ball.
    """
    raise InvalidInput(f"threat = {threat!r}: must be an L1Ball, L2Ball, LinfBall or LpBall")


@steepest.register
def _(threat: L1Ball, weight: jax.Array) -> jax.Array:
    # One of several largest entries; any point between them reaches as far.
    largest = jnp.argmax(jnp.abs(weight))
    return jnp.zeros_like(weight).at[largest].set(jnp.sign(weight[largest]))


@steepest.register
def _(threat: L2Ball, weight: jax.Array) -> jax.Array:
    # At least 1 but for a weight of zeros, so that the guard changes no direction.
    unit = _relative(weight)
    return unit / jnp.maximum(jnp.linalg.norm(unit), 1)


@steepest.register
def _(threat: LinfBall, weight: jax.Array) -> jax.Array:
    return jnp.sign(weight)


@steepest.register
def _(threat: LpBall, weight: jax.Array) -> jax.Array:
    if threat.p == 1:
        return steepest(L1Ball(threat.radius), weight)
    if threat.p == jnp.inf:
        return steepest(LinfBall(threat.radius), weight)
    # In units of the largest entry a power near p = 1 underflows only where it does not matter.
    power = jnp.abs(_relative(weight)) ** (1 / (threat.p - 1))
    length = jnp.maximum(jnp.sum(power**threat.p), 1) ** (1 / threat.p)
    return jnp.sign(weight) * power / length


def _relative(weight: jax.Array) -> jax.Array:
    """Returns the weight in units of its largest entry; zero stays zero."""
    largest = jnp.max(jnp.abs(weight))
    return weight / jnp.where(largest > 0, largest, 1)


def perturb(
    threat: Threat | None, classifier: LinearClassifier, x: jax.Array, y: jax.Array
) -> jax.Array:
    """Returns the points moved, within the ball, the furthest against their labels.

    Args:
        threat: the ball, or None to leave the points where they are.
        classifier: the rule under attack.
        x: points, (..., d).
        y: labels -1 or +1, (...).

    Returns:
        x - y * radius * g, (..., d), with g in the unit ball and weight . g as large as it can be.
    """
    if threat is None:
        return x
    step = threat.radius * steepest(threat, classifier.weight)
    return x - y[..., None] * jnp.expand_dims(step, range(x.ndim - 1))


def score(classifier: LinearClassifier, x: jax.Array) -> jax.Array:
    """Returns weight . x + bias at each point (..., d), (...)."""
    # HIGHEST: accelerators would round the factors, and points near the boundary change sides.
    return jnp.matmul(x, classifier.weight, precision=jax.lax.Precision.HIGHEST) + classifier.bias


def errs(scores: jax.Array, y: jax.Array) -> jax.Array:
    """Returns whether each point is misclassified, (...); a score of exactly zero counts."""
    return y * scores <= 0
