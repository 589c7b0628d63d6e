"""Balls around inputs, cut to the bounds of inputs: exact projections, random starts, steps.

Inputs are (B, ...), bounds are two numbers, and the radius of a threat is one number or one for
each sample. Every input lies inside the bounds, so that zero is always an allowed perturbation.
"""

import functools
import math

import jax
import jax.numpy as jnp

from nets.attacks.attack import Bounds, inside, radius_of
from nets.attacks.threats import is_cube, named_norm
from sims.simulate.attack import steepest
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall, LpBall, Threat

_ORDER: dict[type, float] = {L1Ball: 1.0, L2Ball: 2.0, LinfBall: math.inf}


def project(threat: Threat, x_new: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns the points of ball and box that are nearest to x_new in the Euclidean norm.

    Args:
        threat: a ball of norm 1, 2 or infinity; radius () or (B,).
        x_new: any points, (B, ...).
        x: the centres, (B, ...), inside the bounds.
        bounds: (low, high); either may be infinite.

    Returns:
        (B, ...). The box holds exactly, the ball up to rounding: half a unit in the last place of
        x for each coordinate, and for l2 and l1 that of a sum over the dimension.

    Raises:
        InvalidInput: for a ball of another norm.

    References:
        With delta = x_new - x and the box [l, u] of perturbations, which holds zero, the nearest
        point is clip(s delta, l, u) for l2 and clip(sign(delta) max(|delta| - t, 0), l, u) for
        l1, with one number s in [0, 1] or t >= 0: the multiplier of the ball (Lagrange; Croce and
        Hein 2021, croce2021l1, for l1).
    """
    if is_cube(threat):
        radius = radius_of(threat, x)
        return inside(jnp.clip(x_new, x - radius, x + radius), bounds)
    flat = x.reshape(x.shape[0], -1)
    delta = x_new.reshape(flat.shape) - flat
    kept = _project(threat, delta, radius_of(threat, flat), bounds[0] - flat, bounds[1] - flat)
    return inside(flat + kept, bounds).reshape(x.shape)


@functools.singledispatch
def _project(
    threat: Threat, delta: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Returns the nearest perturbations of ball and box [low, high], all (B, d); radius (., 1)."""
    raise InvalidInput(f"threat = {threat!r}: must be a ball of norm 1, 2 or infinity")


@_project.register
def _(
    threat: L2Ball, delta: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    return jnp.clip(l2_multiplier(delta, radius, low, high, largest=1.0) * delta, low, high)


@_project.register
def _(
    threat: L1Ball, delta: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    magnitude = jnp.abs(delta)
    room = jnp.where(delta > 0, high, -low)
    threshold = _l1_threshold(magnitude, room, radius)
    return jnp.sign(delta) * jnp.clip(magnitude - threshold, 0, room)


@_project.register
def _(
    threat: LpBall, delta: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    return _project(named_norm(threat), delta, radius, low, high)


def l2_multiplier(
    delta: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array, largest: float
) -> jax.Array:
    """Returns the largest s <= `largest` for which ||clip(s delta, low, high)||_2 <= radius.

    Where no coordinate is clipped s is radius / ||delta||. Coordinates that s clips stay clipped
    for every larger s, so solving for s with the clipped ones held, again and again, ascends to
    the answer and ends after finitely many rounds, in practice less than ten.

    Args:
        delta: (B, d).
        radius: (B, 1) or (1, 1), >= 0.
        low, high: (B, d), low <= 0 <= high.
        largest: 1, or infinity.

    Returns:
        (B, 1); `largest` where the ball does not bind.
    """
    # In units of the largest entry, so that squares neither overflow nor vanish.
    size = jnp.max(jnp.abs(delta), -1, keepdims=True)
    unit = delta / jnp.where(size > 0, size, 1)
    limit = jnp.where(size > 0, largest * size, 0)
    bound = jnp.where(unit > 0, high, low)

    def solve(scale: jax.Array) -> jax.Array:
        held = jnp.abs(scale * unit) >= jnp.abs(bound)
        spent = jnp.sum(jnp.where(held, bound, 0) ** 2, -1, keepdims=True)
        free = jnp.sum(jnp.where(held, 0, unit) ** 2, -1, keepdims=True)
        left = jnp.maximum(radius**2 - spent, 0)
        answer = jnp.sqrt(left / jnp.where(free > 0, free, 1))
        return jnp.clip(jnp.where(free > 0, answer, jnp.inf), scale, jnp.maximum(limit, scale))

    def body(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return state[1], solve(state[1])

    zero = jnp.zeros_like(size)
    scale = jax.lax.while_loop(lambda s: jnp.any(s[0] < s[1]), body, (zero, solve(zero)))[1]
    return jnp.where(size > 0, scale / jnp.where(size > 0, size, 1), jnp.full_like(size, largest))


def _l1_threshold(magnitude: jax.Array, room: jax.Array, radius: jax.Array) -> jax.Array:
    """Returns the smallest t >= 0 for which sum_i min(max(m_i - t, 0), room_i) <= radius, (B, 1).

    Bisection finds the piece on which the sum is linear in t, as finely as the dtype can tell;
    one linear equation then gives t.
    """

    def size(t: jax.Array) -> jax.Array:
        return jnp.sum(jnp.clip(magnitude - t, 0, room), -1, keepdims=True)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = 0.5 * (ends[0] + ends[1])
        outside = size(middle) > radius
        return jnp.where(outside, middle, ends[0]), jnp.where(outside, ends[1], middle)

    bits = jnp.finfo(magnitude.dtype).nmant + 2
    top = jnp.max(magnitude, -1, keepdims=True)
    low, high = jax.lax.fori_loop(0, bits, halve, (jnp.zeros_like(top), top))
    # On the piece around the upper end, free coordinates are neither zero nor at the box.
    rest = magnitude - high
    free = (rest >= 0) & (rest < room)
    count = jnp.sum(free, -1, keepdims=True).astype(magnitude.dtype)
    slack = radius - size(high)
    exact = high - slack / jnp.maximum(count, 1)
    found = jnp.clip(jnp.where(count > 0, exact, high), low, high)
    return jnp.where(size(jnp.zeros_like(top)) > radius, found, 0)


def random_start(threat: Threat, keys: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns points drawn uniformly from the ball around each x, then projected to the box.

    Args:
        threat: a ball of norm 1, 2 or infinity; radius () or (B,).
        keys: typed keys, (B,), one for each sample.
        x: the centres, (B, ...), inside the bounds.
        bounds: (low, high).

    Returns:
        (B, ...), inside ball and box. Row i depends on keys[i], x[i] and its radius alone.

    References:
        Barthe, Guedon, Mendelson and Naor 2005 (barthe2005ball) for the uniform law of l_p balls.
    """
    size = math.prod(x.shape[1:])
    unit = jax.vmap(lambda key: _uniform(threat, key, size, x.dtype))(keys)
    flat = x.reshape(x.shape[0], -1)
    return inside(flat + radius_of(threat, flat) * unit, bounds).reshape(x.shape)


@functools.singledispatch
def _uniform(threat: Threat, key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    """Returns a point drawn uniformly from the unit ball, (size,)."""
    raise InvalidInput(f"threat = {threat!r}: must be a ball of norm 1, 2 or infinity")


@_uniform.register
def _(threat: LinfBall, key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    return jax.random.uniform(key, (size,), dtype, -1, 1)


@_uniform.register
def _(threat: L2Ball, key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    direction, radial = jax.random.split(key)
    point = jax.random.normal(direction, (size,), dtype)
    height = jax.random.exponential(radial, (), dtype)
    return point / jnp.sqrt(jnp.sum(point**2) + 2 * height)


@_uniform.register
def _(threat: L1Ball, key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    sign, place = jax.random.split(key)
    spacing = jax.random.exponential(place, (size + 1,), dtype)
    return jax.random.rademacher(sign, (size,), dtype) * spacing[:-1] / jnp.sum(spacing)


@_uniform.register
def _(threat: LpBall, key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    return _uniform(named_norm(threat), key, size, dtype)


def steepest_ascent(threat: Threat, gradient: jax.Array) -> jax.Array:
    """Returns, for each sample, the point of the unit ball furthest along its gradient, (B, ...).

    The direction that `sims` uses for linear rules: the sign for linf, the gradient over its
    length for l2, the largest entry alone for l1; zero for a gradient of zero.
    """
    flat = gradient.reshape(gradient.shape[0], -1)
    return jax.vmap(lambda g: steepest(threat, g))(flat).reshape(gradient.shape)


def norm(threat: Threat, delta: jax.Array) -> jax.Array:
    """Returns the size of each perturbation in the norm of the threat, (B,), for (B, ...)."""
    p = threat.p if isinstance(threat, LpBall) else _ORDER[type(threat)]
    return jnp.linalg.norm(delta.reshape(delta.shape[0], -1), ord=p, axis=-1)
