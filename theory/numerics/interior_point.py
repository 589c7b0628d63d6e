"""Small convex quadratic programs by a primal-dual interior-point method."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from theory.numerics import dense

Point = tuple[Array, Array, Array]

_STEPS = 40  # more than any problem needs; a fixed number keeps a batch in step


def solve_quadratic(
    quadratic: Array, linear: Array, rows: Array, limits: Array, start: Array | None = None
) -> tuple[Array, Array, Array]:
    """Returns the minimiser of x' quadratic x / 2 - linear . x subject to rows x <= limits.

    Mehrotra's predictor and corrector, a fixed number of steps; of all points passed, that which
    violates the optimality conditions least. It carries no derivatives.

    Args:
        quadratic: (n, n), positive semidefinite, and definite on the directions no row bounds.
        linear: (n,).
        rows, limits: (m, n) and (m,).
        start: a point strictly inside; zero if None.

    Returns:
        The minimiser, (n,); the multipliers and what each constraint has left, (m,), both > 0.

    References:
        mehrotra1992implementation.

    >>> one = jnp.ones((1, 1))  # (x - 2)^2 / 2 subject to x <= 1
    >>> x, multiplier, room = solve_quadratic(one, jnp.asarray([2.0]), one, jnp.ones(1))
    >>> x.round(6).tolist(), multiplier.round(6).tolist()
    ([1.0], [1.0])
    """
    x = jnp.zeros_like(linear) if start is None else start

    def step_to_boundary(value: Array, change: Array) -> Array:
        # 0.995 of the way: multipliers and room stay positive, which every division needs.
        shrinking = change < 0
        reach = jnp.where(shrinking, -value / jnp.where(shrinking, change, -1), jnp.inf)
        return jnp.minimum(1, 0.995 * jnp.min(reach))

    size = 1 + jnp.max(jnp.abs(linear))

    def residuals(x: Array, multiplier: Array, room: Array) -> tuple[Array, Array, Array]:
        dual = quadratic @ x - linear + rows.T @ multiplier
        primal = rows @ x + room - limits
        complementarity = jnp.mean(multiplier * room)
        violation = jnp.max(jnp.abs(dual)) + jnp.max(jnp.abs(primal)) + complementarity
        return dual, primal, jnp.where(jnp.isfinite(violation), violation / size, jnp.inf)

    def improve(_: int, progress: tuple[Point, Point, Array]) -> tuple[Point, Point, Array]:
        state, best, least = progress
        multiplier, room = state[1:]
        dual, primal = residuals(*state)[:2]
        # Newton's equations with room and multipliers eliminated: n unknowns, positive definite.
        weight = multiplier / room
        matrix = quadratic + (rows.T * weight[None]) @ rows

        def newton(target: Array) -> tuple[Array, Array, Array]:
            pull = rows.T @ ((multiplier * primal - target) / room)
            dx = dense.solve(matrix, -dual - pull)
            droom = -primal - rows @ dx
            return dx, (-target - multiplier * droom) / room, droom

        # The predictor: straight for complementarity zero (Mehrotra's affine scaling step).
        centre = jnp.mean(multiplier * room)
        dmultiplier, droom = newton(multiplier * room)[1:]
        trial = jnp.minimum(
            step_to_boundary(multiplier, dmultiplier), step_to_boundary(room, droom)
        )
        # The corrector: as far as the predictor got, cubed, is how far to aim; the product of its
        # changes is what its linear model left out.
        ahead = jnp.mean((multiplier + trial * dmultiplier) * (room + trial * droom))
        aim = (ahead / centre) ** 3 * centre
        changes = newton(multiplier * room + dmultiplier * droom - aim)
        length = jnp.minimum(
            step_to_boundary(multiplier, changes[1]), step_to_boundary(room, changes[2])
        )
        new = jax.tree.map(lambda old, change: old + length * change, state, changes)
        # Past convergence the system is singular, and a step may lead anywhere.
        violation = residuals(*new)[2]
        better = violation < least
        best = jax.tree.map(lambda n, o: jnp.where(better, n, o), new, best)
        return new, best, jnp.minimum(violation, least)

    point: Point = (x, jnp.ones_like(limits), limits - rows @ x)
    start_at = point, point, jnp.full_like(size, jnp.inf)
    best: Point = lax.fori_loop(0, _STEPS, improve, start_at)[1]
    return best
