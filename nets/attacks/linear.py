"""The exact attack on linear networks: the worst point of ball and box, for every norm.

Where inputs have no bounds the perturbation is the one that `sims` uses for linear rules.
"""

import functools
import math

import jax
import jax.numpy as jnp

from nets.attacks.attack import (
    AttackResult,
    Bounds,
    Target,
    inside,
    radius_of,
    require_classes,
    require_valid,
    rows,
)
from nets.attacks.ball import l2_multiplier, steepest_ascent
from nets.attacks.losses import margin, misclassified
from nets.attacks.threats import named_norm
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearClassifier, LinearScores, LinfBall, LpBall, Threat


def worst(threat: Threat, gradient: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns the perturbation of ball and box that is furthest along the gradient, (B, ...).

    With the box [l, u] of perturbations, linf takes clip(radius sign(g), l, u), l2 takes
    clip(s g, l, u) with the s that meets the ball (one multiplier), and l1 spends the radius on
    the coordinates in the order of |g|, each as far as the box lets it (a continuous knapsack,
    Dantzig 1957).

    Args:
        threat: the ball, radius () or (B,); of any norm where there are no bounds, otherwise 1, 2
            or infinity.
        gradient: what to ascend, (B, ...).
        x: the centres, (B, ...), inside the bounds.
        bounds: (low, high).

    Raises:
        InvalidInput: for a ball of another norm with bounds.

    >>> import jax.numpy as jnp
    >>> from theory.problem import L1Ball
    >>> g, x = jnp.asarray([[3.0, -2.0]]), jnp.asarray([[0.75, 0.5]])
    >>> worst(L1Ball(0.5), g, x, (0.0, 1.0)).tolist()
    [[0.25, -0.25]]
    """
    if bounds == (-math.inf, math.inf):
        return radius_of(threat, x) * steepest_ascent(threat, gradient)
    flat, g = x.reshape(x.shape[0], -1), gradient.reshape(x.shape[0], -1)
    delta = _worst(threat, g, radius_of(threat, flat), bounds[0] - flat, bounds[1] - flat)
    return delta.reshape(x.shape)


@functools.singledispatch
def _worst(
    threat: Threat, gradient: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Returns the worst perturbation inside the box [low, high], all (B, d); radius (., 1)."""
    raise InvalidInput(f"threat = {threat!r}: must be an L1Ball, L2Ball, LinfBall or LpBall")


@_worst.register
def _(
    threat: LinfBall, gradient: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    return jnp.clip(radius * jnp.sign(gradient), low, high)


@_worst.register
def _(
    threat: L2Ball, gradient: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    scale = l2_multiplier(gradient, radius, low, high, largest=math.inf)
    # An infinite scale means that the whole box is inside the ball.
    moved = jnp.where(gradient == 0, 0, jnp.where(gradient == 0, 1, gradient) * scale)
    return jnp.clip(moved, low, high)


@_worst.register
def _(
    threat: L1Ball, gradient: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    order = jnp.argsort(-jnp.abs(gradient), axis=-1)
    room = jnp.where(gradient > 0, high, -low)
    # A room wider than the radius is as good as infinite, and can be summed.
    room = jnp.where(gradient == 0, 0, jnp.minimum(room, radius))
    sorted_room = jnp.take_along_axis(room, order, -1)
    before = jnp.cumsum(sorted_room, -1) - sorted_room
    spent = jnp.clip(radius - before, 0, sorted_room)
    place = jnp.argsort(order, axis=-1)
    return jnp.sign(gradient) * jnp.take_along_axis(spent, place, -1)


@_worst.register
def _(
    threat: LpBall, gradient: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    return _worst(named_norm(threat), gradient, radius, low, high)


def two_classes(classifier: LinearClassifier) -> LinearScores:
    """Returns the rule sign(weight . x + bias) as scores (0, weight . x + bias): labels 0 and 1."""
    weight, bias = classifier
    zero = jnp.zeros_like(weight)
    return LinearScores(jnp.stack([zero, weight]), jnp.stack([jnp.zeros_like(bias), bias]))


def logits(scores: LinearScores, x: jax.Array) -> jax.Array:
    """Returns weights . x + biases, (B, K), for inputs of any shape (B, ...)."""
    flat = x.reshape(x.shape[0], -1)
    product = jnp.matmul(flat, scores.weights.T, precision=jax.lax.Precision.HIGHEST)
    return product + scores.biases[None]


def exact(scores: LinearScores, target: Target) -> AttackResult:
    """Returns the worst point of ball and box for each sample: success is exact, not a bound.

    For each class other than the label the lead over the label is linear in x and has its worst
    point in closed form; the worst of these points is returned.

    Args:
        scores: the linear network, weights (K, d) and biases (K,), d entries in each sample.
        target: inputs (B, ...), labels (B,), bounds, and a ball: of any norm where the bounds are
            (-inf, inf), otherwise 1, 2 or infinity.

    Returns:
        The attack; its loss is the margin, max_{j != y} z_j - z_y.

    Raises:
        InvalidInput: naming the argument.

    References:
        hu2023accuracydisparity for two classes without bounds; theory document T1.
    """
    x, y, threat, bounds = require_valid(target)
    size = math.prod(x.shape[1:])
    if scores.weights.shape[-1] != size:
        raise InvalidInput(
            f"weights.shape = {scores.weights.shape}: must be (K, {size}), as x {x.shape} says"
        )
    clean = logits(scores, x)
    require_classes(clean, y)
    wrong, number = misclassified(clean, y), scores.weights.shape[0]

    def toward(shift: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        other = (y + shift.astype(y.dtype)) % number
        gradient = scores.weights[other] - scores.weights[y]
        moved = inside(x + worst(threat, gradient.reshape(x.shape), x, bounds), bounds)
        lead = margin(logits(scores, moved), y)
        better = lead > best[1]
        return jnp.where(rows(better, x), moved, best[0]), jnp.where(better, lead, best[1])

    start = (x, jnp.full_like(clean[:, 0], -jnp.inf))
    x_adv = jax.lax.fori_loop(1, number, toward, start)[0]
    x_adv = jnp.where(rows(wrong, x), x, x_adv)
    found = logits(scores, x_adv)
    return AttackResult(x_adv, misclassified(found, y), margin(found, y))
