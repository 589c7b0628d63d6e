"""The inner loop of Auto-PGD for linf and l2: steps with momentum whose size halves by itself.

The schedule and its peculiarities are those of the reference implementation by Croce and Hein, so
that results can be compared with published ones. Five are not obvious from the paper:

- the first window counts a rise at its first step whenever the loss there is positive, because
  the loss is compared with a row of zeros, not with the loss of the starting point;
- after a return to the best point, momentum still points there from the last point before;
- the misclassified point that is returned is the last one seen, not the one of largest loss;
- the starting point can be the best point, but it never counts as a step that raised the loss;
- no step is taken as stuck at the first check.

The size of the step has the dtype of x: a run in float64 is one in float64 throughout.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nets.attacks.attack import Bounds, Logits, Target, inside, radius_of, rows
from nets.attacks.ball import project
from nets.attacks.losses import Loss, misclassified
from nets.attacks.scale import TINY, over_length, units, wide_dtype, widened
from theory.domain import InvalidInput
from theory.problem import L2Ball, LinfBall

# rho of the paper: share of rises among the steps of a window below which the step is halved.
RISING = 0.75
# alpha of the paper: share of a step that is new, the rest points as the last move did.
_MOMENTUM = 0.75

_Map = Callable[[jax.Array], jax.Array]


class Ascent(NamedTuple):
    """Where one run of Auto-PGD has been.

    Args:
        best: the point of largest loss, (B, ...), the starting point included.
        best_gradient: the gradient of the loss there, (B, ...).
        loss: the loss there, (B,).
        adversarial: the last point that was misclassified, else the starting point, (B, ...).
        adversarial_loss: the loss there, (B,).
        broken: whether any point was misclassified, (B,).
    """

    best: jax.Array
    best_gradient: jax.Array
    loss: jax.Array
    adversarial: jax.Array
    adversarial_loss: jax.Array
    broken: jax.Array


class _AscentState(NamedTuple):
    """One run in the middle; the names of the paper's Algorithm 1 in brackets.

    Args:
        seen: where it has been [x_max, f_max].
        x, before: the present points [x^(k)] and those before [x^(k-1)], (B, ...).
        gradient: at x, (B, ...).
        step: the length of a step [eta], (B, 1, ...).
        last_loss: after the last step, (B,).
        rises: steps of this window that raised the loss, (B,).
        halved: whether the step was halved at the last check, (B,).
        checked_loss: the largest loss at the last check, (B,).
    """

    seen: Ascent
    x: jax.Array
    before: jax.Array
    gradient: jax.Array
    step: jax.Array
    last_loss: jax.Array
    rises: jax.Array
    halved: jax.Array
    checked_loss: jax.Array


def windows(steps: int) -> npt.NDArray[np.int32]:
    """Returns the length of the window that a check closes after each step, else 0, (steps,).

    Windows have 22 % of the steps, then 3 % less each time, down to 6 %: the checkpoints w_j of the
    paper, in whole steps as its code rounds them.

    References:
        croce2020autoattack.

    >>> windows(100).nonzero()[0] + 1
    array([22, 41, 57, 70, 80, 87, 93, 99])
    """
    length, shortest, shrink = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    closes, at = np.zeros(steps, np.int32), length
    while at <= steps:
        closes[at - 1] = length
        length = max(length - shrink, shortest)
        at += length
    return closes


def ascend_adaptively(
    logits_fn: Logits, loss: Loss, target: Target, start: jax.Array, *, steps: int = 100
) -> Ascent:
    """Returns where one run of Auto-PGD from given starting points has been.

    Args:
        logits_fn: logits (B, K) of inputs (B, ...).
        loss: of logits and labels, (B,), to be made large.
        target: centres (B, ...), labels (B,), bounds, and an L2Ball or LinfBall.
        start: where to begin, (B, ...), inside ball and bounds.
        steps: number of steps, >= 1; the loss is evaluated once more than that.

    Returns:
        Where it has been; all its points lie inside ball and bounds. For l2, as in the reference, a
        point is scaled into the ball and then clipped, which is not the nearest point of both.

    Raises:
        InvalidInput: for a ball of another norm, or what the loss refuses.

    References:
        croce2020autoattack.
    """
    x, y = target.x, target.y
    closes, radius = jnp.asarray(windows(steps)), radius_of(target.threat, x)
    seen, gradient = begin(logits_fn, loss, start, y)
    keep, towards = _geometry(target)
    # At first a step crosses the whole ball [eta = 2 epsilon]; a radius a sample, a step a sample.
    size = jnp.broadcast_to(2 * radius, x.shape[:1] + (1,) * (x.ndim - 1))
    none = jnp.zeros(x.shape[:1], bool)

    def body(i: jax.Array, state: _AscentState) -> _AscentState:
        stepped = keep(state.x + state.step * towards(state.gradient))
        # Kept inside twice, as published: the step, and its mixture with the last move.
        moved = keep(_with_momentum(stepped, state.x, state.before, i > 0))
        gradient, value, wrong = evaluate(logits_fn, loss, moved, y)
        seen = record(state.seen, moved, gradient, value, wrong)
        return _adapt(state, seen, moved, gradient, value, closes[i])

    state = _AscentState(
        seen=seen,
        x=start,
        before=start,
        gradient=gradient,
        step=size,
        # Zero, not the loss at the start: the first of the peculiarities above.
        last_loss=jnp.zeros_like(seen.loss),
        rises=jnp.zeros(x.shape[:1], jnp.int32),
        # As if halved before, so that the first check finds nobody stuck: the last of them.
        halved=~none,
        checked_loss=seen.loss,
    )
    end: _AscentState = jax.lax.fori_loop(0, steps, body, state)
    return end.seen


def _adapt(
    state: _AscentState,
    seen: Ascent,
    moved: jax.Array,
    gradient: jax.Array,
    value: jax.Array,
    window: jax.Array,
) -> _AscentState:
    """Returns the state after a step; a check closes a window of that length, none if it is 0.

    Args:
        state: before the step.
        seen: with the point that the step reached.
        moved: that point, (B, ...).
        gradient, value: of the loss there, (B, ...), and the loss, (B,).
        window: length of the window that ends here, (), int32.
    """
    rises = state.rises + (value > state.last_loss).astype(jnp.int32)
    # Condition 1: the loss rose in too few steps of the window. In float32 whatever x has, so that
    # the comparison with 0.75 w, which can be an equality, falls alike in every precision.
    oscillates = rises.astype(jnp.float32) <= RISING * window.astype(jnp.float32)
    # Condition 2: neither the step nor the largest loss has changed since the last check.
    stuck = ~state.halved & (state.checked_loss >= seen.loss)
    check = window > 0
    halve = check & (oscillates | stuck)
    # Who halves the step begins again from the best point, with the gradient that was found there:
    # no evaluation is spent on it. `before` is not reset, see the second peculiarity.
    back = rows(halve, moved)
    return _AscentState(
        seen=seen,
        x=jnp.where(back, seen.best, moved),
        before=state.x,
        gradient=jnp.where(back, seen.best_gradient, gradient),
        step=jnp.where(back, state.step / 2, state.step),
        last_loss=value,
        rises=jnp.where(check, 0, rises),
        halved=jnp.where(check, halve, state.halved),
        checked_loss=jnp.where(check, seen.loss, state.checked_loss),
    )


def _geometry(target: Target) -> tuple[_Map, _Map]:
    """Returns what brings points (B, ...) back inside, and the direction of a step of length 1."""
    x, _, threat, bounds = target
    if isinstance(threat, LinfBall):
        return lambda point: project(threat, point, x, bounds), jnp.sign
    if isinstance(threat, L2Ball):
        radius = radius_of(threat, x)
        return (
            lambda point: _scale_and_clip(point, x, radius, bounds),
            lambda gradient: over_length(gradient)[0],
        )
    raise InvalidInput(f"threat = {threat!r}: must be an L2Ball or LinfBall")


def _with_momentum(
    stepped: jax.Array, here: jax.Array, before: jax.Array, moving: jax.Array
) -> jax.Array:
    """Returns the step mixed with the last move, (B, ...); there is no momentum unless `moving`."""
    share = jnp.where(moving, jnp.asarray(_MOMENTUM, here.dtype), jnp.asarray(1, here.dtype))
    # In the order of operations of the reference: x + (z - x) a + (x - x_before) (1 - a).
    return here + (stepped - here) * share + (here - before) * (1 - share)


def _scale_and_clip(point: jax.Array, x: jax.Array, radius: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns points scaled into the ball, then clipped, (B, ...); radius (B, 1, ...) or (1, ...).

    Not the nearest point of both, which `project` finds: published results are those of this one.
    """
    unit, length = over_length(point - x)
    kept = x + unit * jnp.minimum(radius, length)
    return inside(kept, bounds)


def evaluate(
    logits_fn: Logits, loss: Loss, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the gradient at x, (B, ...), the loss and whether each sample is misclassified, (B,).

    Where the reference would stall, the gradient alone is mended: entries that are not finite
    become zero, since a point that is not finite is no input, and where a sample still stands a
    gradient below 1e-12 is given in units of the power of two below its largest entry. The loss has
    the dtype of x, or float32 where that has 16 bits.
    """

    def total(points: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = logits_fn(points)
        values = loss(logits, y)
        return jnp.sum(values), (values, misclassified(logits, y))

    gradient, (values, wrong) = jax.grad(total, has_aux=True)(x)
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
    size = widened(jnp.max(jnp.abs(gradient), tuple(range(1, x.ndim)), keepdims=True))
    lost = (size < TINY) & (size > 0) & ~rows(wrong, x)
    # By a power of two, which leaves the direction to the last bit, and only what is lost.
    larger = jnp.where(lost, units(size)[1], 1).astype(x.dtype)
    return gradient * larger, values.astype(wide_dtype(x.dtype)), wrong


def begin(
    logits_fn: Logits, loss: Loss, start: jax.Array, y: jax.Array
) -> tuple[Ascent, jax.Array]:
    """Returns the Ascent that has seen the starting points only, (B, ...), and their gradients."""
    gradient, value, wrong = evaluate(logits_fn, loss, start, y)
    return Ascent(start, gradient, value, start, value, wrong), gradient


def record(
    seen: Ascent, x: jax.Array, gradient: jax.Array, value: jax.Array, wrong: jax.Array
) -> Ascent:
    """Returns the Ascent that has also seen the points x, (B, ...).

    Args:
        seen: so far.
        x, gradient: the points and the gradient of the loss there, (B, ...).
        value: the loss there, (B,).
        wrong: whether they are misclassified, (B,).
    """
    # A loss that is nan is never better. The adversarial point is the last one all the same.
    better = value > seen.loss
    return Ascent(
        best=jnp.where(rows(better, x), x, seen.best),
        best_gradient=jnp.where(rows(better, x), gradient, seen.best_gradient),
        loss=jnp.where(better, value, seen.loss),
        adversarial=jnp.where(rows(wrong, x), x, seen.adversarial),
        adversarial_loss=jnp.where(wrong, value, seen.adversarial_loss),
        broken=seen.broken | wrong,
    )
