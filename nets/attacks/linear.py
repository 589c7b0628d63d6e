"""The exact attack on linear networks: the worst point of ball and box, for every norm.

Where inputs have no bounds the perturbation is the one that `sims` uses for linear rules.
"""

import math
from collections.abc import Callable

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
from nets.attacks.best import judge
from nets.attacks.losses import margin, misclassified
from nets.attacks.scale import widened
from nets.attacks.threats import named_norm
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearClassifier, LinearScores, LinfBall, Threat


def worst(threat: Threat, gradient: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns the perturbation of ball and box that is furthest along the gradient, (B, ...).

    With the box [l, u] of perturbations, linf takes clip(radius sign(g), l, u), l2 takes
    clip(s g, l, u) with the s that meets the ball (one multiplier), and l1 spends the radius on
    the coordinates in the order of |g|, each as far as the box lets it (a continuous knapsack).

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
    furthest = _FURTHEST[type(named_norm(threat))]
    flat, g = (widened(values).reshape(x.shape[0], -1) for values in (x, gradient))
    delta = furthest(g, radius_of(threat, flat), bounds[0] - flat, bounds[1] - flat)
    return delta.reshape(x.shape).astype(x.dtype)


def _furthest_cube(
    gradient: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Returns the worst perturbation of ball and box [low, high], all (B, d); radius (., 1)."""
    return jnp.clip(radius * jnp.sign(gradient), low, high)


def _furthest_l2(
    gradient: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Returns the worst perturbation, as `_furthest_cube`: the gradient, scaled and clipped."""
    scale = l2_multiplier(gradient, radius, low, high, largest=math.inf)
    # An infinite scale means that the whole box is inside the ball; times 0 it would be nan.
    moved = jnp.where(gradient == 0, 0, jnp.where(gradient == 0, 1, gradient) * scale)
    return jnp.clip(moved, low, high)


def _furthest_l1(
    gradient: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Returns the worst perturbation, as `_furthest_cube`: a continuous knapsack."""
    order = jnp.argsort(-jnp.abs(gradient), axis=-1)
    room = jnp.where(gradient > 0, high, -low)
    # A room wider than the radius is as good as infinite, and can be summed.
    room = jnp.where(gradient == 0, 0, jnp.minimum(room, radius))
    sorted_room = jnp.take_along_axis(room, order, -1)
    # What the steeper coordinates have spent is gone; the rest goes as far as the box lets it.
    before = jnp.cumsum(sorted_room, -1) - sorted_room
    spent = jnp.clip(radius - before, 0, sorted_room)
    # The inverse of a permutation is the order that sorts it.
    place = jnp.argsort(order, axis=-1)
    return jnp.sign(gradient) * jnp.take_along_axis(spent, place, -1)


_FURTHEST: dict[type, Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]] = {
    LinfBall: _furthest_cube,
    L2Ball: _furthest_l2,
    L1Ball: _furthest_l1,
}


def two_classes(classifier: LinearClassifier) -> LinearScores:
    """Returns the rule sign(weight . x + bias) as scores (0, weight . x + bias): labels 0 and 1.

    Args:
        classifier: weight (d,) and bias ().

    Returns:
        Weights (2, d) and biases (2,).
    """
    weight, bias = classifier
    zero = jnp.zeros_like(weight)
    return LinearScores(jnp.stack([zero, weight]), jnp.stack([jnp.zeros_like(bias), bias]))


def logits(scores: LinearScores, x: jax.Array) -> jax.Array:
    """Returns weights . x + biases, (B, K), for inputs of any shape (B, ...).

    Args:
        scores: weights (K, d) and biases (K,).
        x: (B, ...), d entries in each sample.
    """
    flat = x.reshape(x.shape[0], -1)
    # In full precision: accelerators would round the inputs of a product in float32 to fewer bits,
    # and an exact attack that is not exact is of no use.
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
        The result; its loss is the margin, max_{j != y} z_j - z_y.

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

    # Towards y + 1, ..., y + K - 1 modulo K: one loop for samples of different labels.
    def toward(shift: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        other = (y + shift.astype(jnp.int32)) % number
        gradient = scores.weights[other] - scores.weights[y]
        moved = inside(x + worst(threat, gradient.reshape(x.shape), x, bounds), bounds)
        lead = margin(logits(scores, moved), y)
        better = lead > best[1]
        return jnp.where(rows(better, x), moved, best[0]), jnp.where(better, lead, best[1])

    start = (x, jnp.full_like(clean[:, 0], -jnp.inf))
    x_adv = jax.lax.fori_loop(1, number, toward, start)[0]
    x_adv = jnp.where(rows(wrong, x), x, x_adv)
    # Judged anew at the point that is returned, so that flag and loss are those of this very point.
    return judge(x_adv, logits(scores, x_adv), y, margin)
