"""Balls around inputs, cut to the bounds of inputs: exact projections, random starts, steps.

Inputs are (B, ...), bounds are two numbers, and the radius of a threat is one number or one for
each sample. Every input lies inside the bounds, so that zero is always an allowed perturbation.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from nets.attacks.attack import Bounds, inside, radius_of
from nets.attacks.scale import widened
from nets.attacks.threats import named_norm, norm_order
from sims.simulate.attack import steepest
from theory.problem import L1Ball, L2Ball, LinfBall, Threat


def project(threat: Threat, x_new: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns the points of ball and box that are nearest to x_new in the Euclidean norm.

    With delta = x_new - x and the box [l, u] of perturbations, which holds zero, the nearest point
    is clip(s delta, l, u) for l2 and clip(sign(delta) max(|delta| - t, 0), l, u) for l1, with one
    number s in [0, 1] or t >= 0, the multiplier of the ball.

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
        croce2021l1 for l1; new for l2.
    """
    threat = named_norm(threat)
    if isinstance(threat, LinfBall):
        # By the ends x - r and x + r, so that a point inside comes back bit for bit, which
        # x + (x_new - x) need not do.
        radius = radius_of(threat, x)
        return inside(jnp.clip(x_new, x - radius, x + radius), bounds)
    flat = widened(x).reshape(x.shape[0], -1)
    delta = widened(x_new).reshape(flat.shape) - flat
    nearest = _NEAREST[type(threat)]
    kept = nearest(delta, radius_of(threat, flat), bounds[0] - flat, bounds[1] - flat)
    # Cut again, since x + (high - x) may round to more than high.
    return inside((flat + kept).astype(x.dtype), bounds).reshape(x.shape)


def _nearest_l2(delta: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Returns the nearest perturbations of ball and box [low, high], all (B, d); radius (., 1)."""
    # The Lagrangian |z - delta|^2 + m (|z|^2 - r^2) separates: z_i = delta_i / (1 + m), clipped.
    return jnp.clip(l2_multiplier(delta, radius, low, high, largest=1.0) * delta, low, high)


def _nearest_l1(delta: jax.Array, radius: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Returns the nearest perturbations, as `_nearest_l2`: thresholded softly, then clipped."""
    # A coordinate never moves away from where it points, so only the side of the box ahead counts.
    magnitude = jnp.abs(delta)
    room = jnp.where(delta > 0, high, -low)
    threshold = _l1_threshold(magnitude, room, radius)
    return jnp.sign(delta) * jnp.clip(magnitude - threshold, 0, room)


_NEAREST: dict[type, Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]] = {
    L2Ball: _nearest_l2,
    L1Ball: _nearest_l1,
}


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
        """Returns the scale at which the ball binds if just what `scale` clips is clipped."""
        held = jnp.abs(scale * unit) >= jnp.abs(bound)
        spent = jnp.sum(jnp.where(held, bound, 0) ** 2, -1, keepdims=True)
        free = jnp.sum(jnp.where(held, 0, unit) ** 2, -1, keepdims=True)
        left = jnp.maximum(radius**2 - spent, 0)
        # The inner where keeps 0 / 0 out of the branch that the outer one does not take.
        answer = jnp.sqrt(left / jnp.where(free > 0, free, 1))
        # Never below `scale`: rounding of the sums must not send the ascent back into a cycle.
        return jnp.clip(jnp.where(free > 0, answer, jnp.inf), scale, jnp.maximum(limit, scale))

    def body(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return state[1], solve(state[1])

    zero = jnp.zeros_like(size)
    # Until no row of the batch moves; a row that has ended solves for the same scale again, so what
    # it returns does not depend on its company.
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

    # One halving for each bit of the mantissa, and two for the rounding of the ends: a fixed number
    # in place of a tolerance, so that every row takes the same steps in any batch.
    bits = jnp.finfo(magnitude.dtype).nmant + 2
    top = jnp.max(magnitude, -1, keepdims=True)
    low, high = jax.lax.fori_loop(0, bits, halve, (jnp.zeros_like(top), top))
    # On the piece around the upper end, free coordinates are neither zero nor at the box.
    rest = magnitude - high
    free = (rest >= 0) & (rest < room)
    count = jnp.sum(free, -1, keepdims=True).astype(magnitude.dtype)
    slack = radius - size(high)
    exact = high - slack / jnp.maximum(count, 1)
    threshold = jnp.clip(jnp.where(count > 0, exact, high), low, high)
    # A perturbation that lies inside the ball is left alone, to the last bit.
    return jnp.where(size(jnp.zeros_like(top)) > radius, threshold, 0)


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
        barthe2005ball, for the uniform law of l_p balls.
    """
    size, draw = math.prod(x.shape[1:]), _UNIFORM[type(named_norm(threat))]
    unit = jax.vmap(lambda key: draw(key, size, x.dtype))(keys)
    flat = x.reshape(x.shape[0], -1)
    return inside(flat + radius_of(threat, flat) * unit, bounds).reshape(x.shape)


def _uniform_cube(key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    """Returns a point drawn uniformly from the unit ball of linf, (size,)."""
    return jax.random.uniform(key, (size,), dtype, -1, 1)


def _uniform_l2(key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    """Returns a point drawn uniformly from the unit ball of l2, (size,)."""
    # Barthe et al.: g / (sum |g_i|^p + e)^(1/p) with density exp(-|g|^p) and e exponential. For
    # p = 2 normal g of variance 1 are sqrt(2) times those, hence the 2 before e.
    direction, radial = jax.random.split(key)
    point = widened(jax.random.normal(direction, (size,), dtype))
    height = widened(jax.random.exponential(radial, (), dtype))
    return (point / jnp.sqrt(jnp.sum(point**2) + 2 * height)).astype(dtype)


def _uniform_l1(key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    """Returns a point drawn uniformly from the unit ball of l1, (size,)."""
    # The same with p = 1: |g_i| are exponential, and one more of them is what is left over.
    sign, place = jax.random.split(key)
    spacing = widened(jax.random.exponential(place, (size + 1,), dtype))
    point = jax.random.rademacher(sign, (size,), spacing.dtype) * spacing[:-1] / jnp.sum(spacing)
    return point.astype(dtype)


_UNIFORM: dict[type, Callable[[jax.Array, int, jnp.dtype], jax.Array]] = {
    LinfBall: _uniform_cube,
    L2Ball: _uniform_l2,
    L1Ball: _uniform_l1,
}


def steepest_ascent(threat: Threat, gradient: jax.Array) -> jax.Array:
    """Returns, for each sample, the point of the unit ball furthest along its gradient, (B, ...).

    The direction that `sims` uses for linear rules: the sign for linf, the gradient over its
    length for l2, the largest entry alone for l1; zero for a gradient of zero.
    """
    flat = widened(gradient).reshape(gradient.shape[0], -1)
    points = jax.vmap(lambda g: steepest(threat, g))(flat)
    return points.reshape(gradient.shape).astype(gradient.dtype)


def norm(threat: Threat, delta: jax.Array) -> jax.Array:
    """Returns the size of each perturbation in the norm of the threat, (B,), for (B, ...).

    In float32 of perturbations of 16 bits, in which squares are lost.
    """
    flat = widened(delta).reshape(delta.shape[0], -1)
    return jnp.asarray(jnp.linalg.norm(flat, ord=norm_order(threat), axis=-1))
