"""Attacks that follow the gradient of a loss: one step (FGSM) and many projected steps (PGD)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from nets.attacks.attack import (
    AttackResult,
    Bounds,
    Logits,
    Target,
    checked,
    fold,
    inside,
    keys_of,
    radius_of,
    require_count,
    require_valid,
    rows,
)
from nets.attacks.ball import project, random_start, steepest_ascent
from nets.attacks.best import judge, replace
from nets.attacks.losses import Loss, cross_entropy
from nets.attacks.scale import widened
from nets.attacks.threats import is_l1
from theory.domain import POSITIVE, InvalidInput, require_inside
from theory.problem import Threat


class Start(Protocol):
    """Where an attack begins."""

    def __call__(
        self, threat: Threat, keys: jax.Array, x: jax.Array, bounds: Bounds, /
    ) -> jax.Array:
        """Returns points (B, ...) of ball and bounds around x, from one typed key a sample."""


def at_input(threat: Threat, keys: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns x, (B, ...): the start of an attack without randomness; keys may be anything."""
    del threat, keys, bounds
    return x


def near_input(threat: Threat, keys: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns x + 0.001 N(0, 1), projected: the start of TRADES, (B, ...), with keys (B,).

    References:
        zhang2019trades.
    """
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
    return project(threat, x + 0.001 * noise, x, bounds)


def direction(
    threat: Threat, gradient: jax.Array, x: jax.Array, bounds: Bounds, share: float
) -> jax.Array:
    """Returns the direction in which an ascent moves from x, (B, ...).

    The sign of the gradient for linf and the gradient over its length for l2. For l1 it is the
    gradient on the given share of coordinates where it is largest, over its l1 length there.
    Coordinates that the box holds do not count, and keep their gradient besides, so that the
    projection leaves them where they are: then the worst point of a linear network is a fixed
    point of the ascent, which it is not for steps of equal size.

    Args:
        threat: a ball of norm 1, 2 or infinity.
        gradient: (B, ...). An entry that is not finite is taken as zero.
        x: the present points, (B, ...), inside the bounds.
        bounds: (low, high).
        share: share of coordinates that a step of an l1 attack moves, in (0, 1].

    References:
        tramer2019multiple and croce2021l1 for sparse steps (theirs are of equal size).
    """
    gradient = _finite(gradient)
    if not is_l1(threat):
        return steepest_ascent(threat, gradient)
    flat = widened(gradient).reshape(x.shape[0], -1)
    size = jnp.abs(flat)
    # Held by the box: the step would leave it, and the projection would undo the step.
    held = jnp.where(gradient > 0, x >= bounds[1], x <= bounds[0]).reshape(flat.shape)
    count = max(1, math.ceil(share * flat.shape[1]))
    free = jnp.where(held, 0, size)
    top = jax.lax.top_k(free, count)[0]
    # By the value of the last one that counts, not by its place: entries that tie with it all move.
    kept = jnp.where(held | (free >= top[:, -1:]), flat, 0)
    # In units of the largest entry, so that the sum of tiny gradients does not vanish.
    unit = kept / jnp.where(top[:, :1] > 0, top[:, :1], 1)
    length = jnp.sum(jnp.where(held, 0, jnp.abs(unit)), -1, keepdims=True)
    return (unit / jnp.maximum(length, 1)).reshape(x.shape).astype(gradient.dtype)


class Move(NamedTuple):
    """One move of an ascent: how far along the gradient, and the ball to be in afterwards.

    Args:
        threat: a ball of norm 1, 2 or infinity, radius () or (B,).
        step: length of the move in units of the radius, () or (B,).
    """

    threat: Threat
    step: jax.Array | float = 0.25


def ascend(
    objective: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    x: jax.Array,
    threat: Threat,
    bounds: Bounds = (0.0, 1.0),
    *,
    steps: int = 10,
    step: jax.Array | float = 0.25,
    share: float = 0.05,
) -> jax.Array:
    """Returns where projected gradient ascent ends: the inner loop of adversarial training.

    Nothing is remembered on the way and no sample is left out, whichever way it is classified.

    Args:
        objective: what to increase, a function from inputs (B, ...) to one value a sample, (B,):
            a loss of logits, or a divergence from the logits of x (TRADES).
        start: where to begin, (B, ...), inside ball and bounds.
        x: the centres of the balls, (B, ...).
        threat: a ball of norm 1, 2 or infinity, radius () or (B,).
        bounds: (low, high).
        steps: number of steps, >= 0.
        step: length of a step in units of the radius, () or (B,).
        share: see `direction`.

    References:
        madry2018.
    """

    def plain(points: jax.Array, carry: None) -> tuple[jax.Array, None]:
        return objective(points), carry

    moves = [Move(threat, step)]
    return ascend_with(plain, None, start, x, moves, bounds, steps=steps, share=share)[0]


def ascend_with(
    objective: Callable[[jax.Array, Any], tuple[jax.Array, Any]],
    carry: Any,
    start: jax.Array,
    x: jax.Array,
    moves: Sequence[Move],
    bounds: Bounds = (0.0, 1.0),
    *,
    steps: int = 10,
    share: float = 0.05,
) -> tuple[jax.Array, Any]:
    """Returns where an ascent ends whose objective leaves something behind, and what it left.

    What is left is the running statistics of batch normalisation, for one, where each step of the
    attack updates them. Several moves share one gradient and follow each other.

    Args:
        objective: a function of inputs (B, ...) and `carry` that returns one value a sample, (B,),
            and what takes the place of `carry`.
        carry: any pytree to begin with.
        start, x, bounds, steps, share: as in `ascend`.
        moves: those of each step, in their order.
    """
    lengths = [_length(threat, step, x) for threat, step in moves]

    # The gradient of the sum is that of each sample, as no sample's value depends on another's.
    def total(points: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        values, left = objective(points, carry)
        return jnp.sum(values), left

    def body(_: int, state: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        points, carry = state
        slope, carry = jax.grad(total, has_aux=True)(points, carry)
        # All moves of a step go along the gradient at its beginning: one backward pass a step.
        for (threat, _step), length in zip(moves, lengths, strict=True):
            moved = points + length * direction(threat, slope, points, bounds, share)
            points = project(threat, moved, x, bounds)
        return points, carry

    end: tuple[jax.Array, Any] = jax.lax.fori_loop(0, steps, body, (start, carry))
    return end


def _length(threat: Threat, step: jax.Array | float, x: jax.Array) -> jax.Array:
    """Returns the length of a step in the units of x, so shaped that it broadcasts against x."""
    return rows(jnp.asarray(step).astype(x.dtype), x) * radius_of(threat, x)


def _finite(gradient: jax.Array) -> jax.Array:
    """Returns the gradient with 0 where it is not finite: such an entry says nowhere to go."""
    return jnp.where(jnp.isfinite(gradient), gradient, 0)


def _better(new: AttackResult, old: AttackResult) -> AttackResult:
    """Returns the better of two points: a success first, and among equals the larger loss.

    A loss that is nan never replaces a finite one, since it compares as false.
    """
    alike = new.success == old.success
    return replace(jnp.where(alike, new.loss > old.loss, new.success), new, old)


def _slope(
    logits_fn: Logits, loss: Loss, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, AttackResult]:
    """Returns the gradient of each sample's loss, (B, ...), and what x is worth."""

    def total(points: jax.Array) -> tuple[jax.Array, AttackResult]:
        here = judge(points, logits_fn(points), y, loss)
        return jnp.sum(here.loss), here

    # One forward pass gives the gradient and, as it goes along, whether the point is a success.
    gradient, here = jax.grad(total, has_aux=True)(x)
    return gradient, here


def _result(clean: AttackResult, best: AttackResult) -> AttackResult:
    """Returns the attack; samples that were wrong before it are returned as they were."""
    return replace(~clean.success, best, clean)


def fgsm(
    key: jax.Array, logits_fn: Logits, target: Target, *, loss: Loss = cross_entropy
) -> AttackResult:
    """Returns the fast gradient attack: one step of the full radius, steepest in the norm.

    The step with a random start that is used in training is `pgd` with one step.

    Args:
        key: not used; there so that every attack is called in the same way.
        logits_fn: any function from inputs (B, ...) to logits (B, K).
        target: inputs (B, ...), labels (B,), a ball of any norm, and bounds, to which the step is
            cut after it is taken.
        loss: what to increase, from `nets.attacks.losses` or alike.

    Returns:
        The result. x_adv is the end of the step even if x has the larger loss.

    Raises:
        InvalidInput: naming the argument.

    References:
        goodfellow2015.
    """
    del key
    x, y, threat, bounds = require_valid(target)
    logits_fn = checked(logits_fn)
    gradient, clean = _slope(logits_fn, loss, x, y)
    # Cut to the box after the step, as published, and not projected: the step ends on the sphere of
    # its ball already, and cutting to a box that holds x leaves no ball of x.
    moved = inside(x + radius_of(threat, x) * steepest_ascent(threat, _finite(gradient)), bounds)
    return _result(clean, judge(moved, logits_fn(moved), y, loss))


def pgd(
    key: jax.Array,
    logits_fn: Logits,
    target: Target,
    *,
    steps: int = 20,
    step: jax.Array | float = 0.25,
    restarts: int = 1,
    loss: Loss = cross_entropy,
    start: Start = random_start,
    share: float = 0.05,
) -> AttackResult:
    """Returns the projected gradient attack: the best point of all steps of all restarts.

    Best, not last: a misclassified point is better than one that is not, and among equals the
    one of larger loss. The start and x itself take part. Row i of the result depends on row i of
    the arguments and its key alone, whichever batch it is in.

    Args:
        key: one typed key, or one for each sample, (B,); restart r folds r into it.
        logits_fn: any function from inputs (B, ...) to logits (B, K), each row from its row.
        target: inputs (B, ...), labels (B,), bounds, and a ball of norm 1, 2 or infinity.
        steps: number of steps in each restart, >= 0.
        step: length of a step in units of the radius, > 0, () or (B,).
        restarts: number of starts, >= 1.
        loss: what to increase, from `nets.attacks.losses` or alike.
        start: `random_start`, `at_input`, `near_input`, or any function of the same arguments.
        share: share of coordinates that a step of an l1 attack moves, in (0, 1].

    Raises:
        InvalidInput: naming the argument.

    References:
        madry2018; see `direction` for l1.
    """
    x, y, threat, bounds = require_valid(target)
    _require_settings(steps, step, restarts, share)
    logits_fn = checked(logits_fn)
    keys = keys_of(key, x.shape[0])
    clean = judge(x, logits_fn(x), y, loss)
    length = _length(threat, step, x)

    def move(_: int, state: tuple[jax.Array, AttackResult]) -> tuple[jax.Array, AttackResult]:
        points, best = state
        gradient, here = _slope(logits_fn, loss, points, y)
        moved = points + length * direction(threat, gradient, points, bounds, share)
        # `here` is where this step began: its gradient pass has judged it, so no point costs twice.
        return project(threat, moved, x, bounds), _better(here, best)

    def restart(number: jax.Array, best: AttackResult) -> AttackResult:
        begin = start(threat, fold(keys, number), x, bounds)
        points, best = jax.lax.fori_loop(0, steps, move, (begin, best))
        # The end of the last step, which no gradient pass has seen.
        return _better(judge(points, logits_fn(points), y, loss), best)

    return _result(clean, jax.lax.fori_loop(0, restarts, restart, clean))


def _require_settings(steps: Any, step: Any, restarts: Any, share: float) -> None:
    require_count("steps", steps, 0)
    require_count("restarts", restarts, 1)
    if not isinstance(step, jax.core.Tracer):
        require_inside("step", step, POSITIVE, "the step in units of the radius")
    if not 0 < share <= 1:
        raise InvalidInput(f"share = {share}: must lie in (0, 1]")
