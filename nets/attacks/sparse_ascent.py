"""The inner loop of Auto-PGD for l1: sparse steps whose number of coordinates adapts itself.

Croce and Hein 2021: a step moves the coordinates of largest gradient, two thirds as many as the
best point so far has moved; while that number falls the step is kept long, otherwise it shrinks.
Unlike in the reference implementation, the projection has the dtype of x, and what rounding leaves
of a coordinate is not counted as a coordinate that moved. As there, coordinates that the bounds
hold are not passed over: where they are many a run stops short, even of the worst point of a linear
network, which PGD of nets.attacks.gradient finds.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nets.attacks.ascent import Ascent, begin, evaluate, record
from nets.attacks.attack import Logits, Target, radius_of, rows
from nets.attacks.ball import project
from nets.attacks.losses import Loss
from nets.attacks.scale import wide_dtype, widened

_SHRINK = 1.5  # of the step where the support does not fall, and of the support in a step
_SHORTEST = 10.0  # the radius over the shortest step


class _SparseState(NamedTuple):
    """One run in the middle.

    Args:
        seen: where it has been.
        x, gradient: the present points and the gradient there, (B, ...).
        step: the l1 length of a step, (B, 1, ...).
        share: share of the coordinates that a step moves, (B,).
        support: coordinates that the best point had moved at the last check, (B,).
    """

    seen: Ascent
    x: jax.Array
    gradient: jax.Array
    step: jax.Array
    share: jax.Array
    support: jax.Array


def ascend_sparsely(
    logits_fn: Logits, loss: Loss, target: Target, start: jax.Array, *, steps: int = 100
) -> Ascent:
    """Returns where one run of l1 Auto-PGD from given starting points has been.

    Args:
        logits_fn, loss, steps: as for nets.attacks.ascent.ascend_adaptively.
        target: centres (B, ...), labels (B,), bounds, and an L1Ball.
        start: where to begin, (B, ...), inside ball and bounds.

    Returns:
        Where it has been; its points lie inside ball and bounds, by exact projection onto both.

    References:
        croce2021l1, whose code is part of that of croce2020autoattack.
    """
    x, y, threat, bounds = target
    # A check after every 4 % of the steps, whatever was found in between.
    every, radius = max(int(0.04 * steps), 1), radius_of(threat, x)
    size, axes = math.prod(x.shape[1:]), tuple(range(1, x.ndim))

    # Steps of equal size bring thresholds that equal an entry: rounding must not count as moving.
    least = 16 * jnp.finfo(x.dtype).eps * radius

    def support_of(point: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(point - x) > least, axes).astype(wide_dtype(x.dtype))

    def body(i: jax.Array, state: _SparseState) -> _SparseState:
        step = state.step * _signs_of_largest(state.gradient, state.share)
        moved = project(threat, state.x + step, x, bounds)
        gradient, value, wrong = evaluate(logits_fn, loss, moved, y)
        seen = record(state.seen, moved, gradient, value, wrong)
        # One predicate for the batch: all samples are checked at the same steps.
        adapted: _SparseState = jax.lax.cond(
            (i + 1) % every == 0,
            lambda: _adapt(state, seen, moved, gradient, radius, support_of(seen.best)),
            lambda: state._replace(seen=seen, x=moved, gradient=gradient),
        )
        return adapted

    seen, gradient = begin(logits_fn, loss, start, y)
    full = jnp.broadcast_to(radius, x.shape[:1] + (1,) * (x.ndim - 1))
    support = support_of(start)
    # The first step is as long as the radius and moves two thirds of what the start has moved.
    state = _SparseState(seen, start, gradient, full, support / size / _SHRINK, support)
    end: _SparseState = jax.lax.fori_loop(0, steps, body, state)
    return end.seen


def _adapt(
    state: _SparseState,
    seen: Ascent,
    moved: jax.Array,
    gradient: jax.Array,
    radius: jax.Array,
    support: jax.Array,
) -> _SparseState:
    """Returns the state after a check: a long step from the best point where the support fell.

    Args:
        state: before the step.
        seen: with the point that the step reached.
        moved: that point, (B, ...).
        gradient: of the loss there, (B, ...).
        radius: (B, 1, ...) or (1, ...).
        support: coordinates that the best point has moved, (B,).
    """
    size = math.prod(moved.shape[1:])
    # Algorithm 1 of the paper: while the best points grow sparser (by 5 % and more) the search is
    # not over, so the step goes back to full length, from the best point. Otherwise it shrinks, in
    # place, as in a search that closes in, down to a tenth of the radius.
    fell = rows(support < 0.95 * state.support, moved)
    step = jnp.where(fell, radius, jnp.maximum(state.step / _SHRINK, radius / _SHORTEST))
    return _SparseState(
        seen=seen,
        x=jnp.where(fell, seen.best, moved),
        gradient=jnp.where(fell, seen.best_gradient, gradient),
        step=step,
        share=support / size / _SHRINK,
        support=support,
    )


def _signs_of_largest(gradient: jax.Array, share: jax.Array) -> jax.Array:
    """Returns the signs of the largest entries over their number, (B, ...); a share (B,) of all."""
    flat = widened(gradient).reshape(gradient.shape[0], -1)
    size = jnp.abs(flat)
    # By a quantile of the sorted sizes, since top_k wants a number that is static and the same for
    # all samples. Entries that tie with the quantile move too.
    place = jnp.clip((1 - share) * flat.shape[1], 0, flat.shape[1] - 1).astype(jnp.int32)
    smallest = jnp.take_along_axis(jnp.sort(size, -1), place[:, None], -1)
    signs = jnp.where(size >= smallest, jnp.sign(flat), 0)
    count = jnp.sum(jnp.abs(signs), -1, keepdims=True)
    # 1e-10 as in the reference: a gradient of zero makes a step of zero.
    return (signs / (count + 1e-10)).reshape(gradient.shape).astype(gradient.dtype)
