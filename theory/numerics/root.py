"""Roots of elementwise functions inside a bracket, with derivatives of any order, implicitly.

Arrays of problems are solved together: the loop ends when the last of them has converged.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

Function = Callable[..., Array]

# Bisection alone takes up to 104 to reach epsilon^2 of the bracket, for a root at zero.
_MOST_STEPS = 128


def bracketed_root(f: Function, low: Array, high: Array, *parameters: Array) -> Array:
    """Returns the x between `low` and `high` at which f(x, *parameters) changes its sign.

    Args:
        f: elementwise and continuous in x; its value has the shape of x.
        low, high: the ends of the bracket, arrays of one shape and floating dtype.
        parameters: what else f depends on.

    Returns:
        The root to two units in the last place, where f can be evaluated that well. Without a
        change of sign it is the end at which f is smaller. Its
        derivative in the parameters is that of the root, to any order.

    References:
        chandrupatla1997root: inverse quadratic interpolation where it is safe, else bisection.

    >>> x = bracketed_root(lambda x, a: x * x - a, jnp.zeros(1), jnp.full(1, 5.0), jnp.full(1, 9.0))
    >>> x.tolist()
    [3.0]
    """
    fixed = lax.stop_gradient((low, high, *parameters))
    return implicit_root(f, bracketed_search(f, *fixed), *parameters)


def implicit_root(f: Function, root: Array, *parameters: Array) -> Array:
    """Returns `root`, (...), a zero of f(x, *parameters) found by any means, with its derivatives.

    By the implicit function theorem, dx = -(df/dp dp) / (df/dx), itself differentiable. f and its
    parameters are as for `bracketed_root`.

    The derivative is zero where f has no slope: there is no root there, or not one alone.
    """
    root = lax.stop_gradient(root)
    # f may close over traced values, which count as parameters.
    f, hidden = jax.closure_convert(f, root, *parameters)

    @jax.custom_jvp
    def solution(root: Array, *parameters: Array) -> Array:
        del parameters
        return root

    def tangent(
        primals: tuple[Array, ...], tangents: tuple[Array | SymbolicZero, ...]
    ) -> tuple[Array, Array]:
        # At `solution`, not at the bare root: then a derivative of this rule moves x too.
        x, given = solution(*primals), primals[1:]
        moving = [i for i, t in enumerate(tangents[1:]) if not isinstance(t, SymbolicZero)]

        # Only in the parameters that move: f may have no derivative in the others.
        def moved(*values: Array) -> Array:
            changed = dict(zip(moving, values, strict=True))
            value: Array = f(x, *(changed.get(i, p) for i, p in enumerate(given)))
            return value

        slope = jax.jvp(lambda x: f(x, *given), (x,), (jnp.ones_like(x),))[1]
        change = jax.jvp(moved, [given[i] for i in moving], [tangents[1 + i] for i in moving])[1]
        # Zero and not infinite where there is no slope: the end of a bracket without a root.
        regular = (slope != 0) & jnp.isfinite(slope)
        return x, jnp.where(regular, -change / jnp.where(regular, slope, 1), 0)

    solution.defjvp(tangent, symbolic_zeros=True)
    with_derivatives: Array = solution(root, *parameters, *hidden)
    return with_derivatives


def bracketed_search(f: Function, low: Array, high: Array, *parameters: Array) -> Array:
    """Returns the root of `bracketed_root`, (...), without a derivative, by Chandrupatla's method.

    Arguments are those of `bracketed_root`. The state is t, the fraction of the bracket to try
    next; a, the newest point; b, the other end of the bracket; c, the point that left it; f there;
    and the count of steps.

    References:
        chandrupatla1997root.
    """
    epsilon = jnp.finfo(low.dtype).eps
    # A root at zero has no last place: there a tolerance relative to the bracket ends the search.
    smallest = epsilon * epsilon * jnp.maximum(jnp.abs(low), jnp.abs(high))

    def spread(a: Array, b: Array, f_a: Array, f_b: Array) -> tuple[Array, Array, Array]:
        best = jnp.where(jnp.abs(f_a) < jnp.abs(f_b), a, b)
        tolerance = 2 * epsilon * jnp.abs(best) + smallest
        # A zero, a nan, or no change of sign.
        over = ~(jnp.sign(f_a) * jnp.sign(f_b) < 0)
        return best, tolerance, over | (jnp.abs(b - a) <= tolerance)

    def unfinished(state: tuple[Array, ...]) -> Array:
        _, a, b, _, f_a, f_b, _, step = state
        return (step < 2) | ((step < _MOST_STEPS) & ~jnp.all(spread(a, b, f_a, f_b)[2]))

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        t, a, b, c, f_a, f_b, _, step = state
        # The ends are evaluated here too, so that f is compiled once.
        first, second = step == 0, step == 1
        x = jnp.where(first, a, jnp.where(second, b, a + t * (b - a)))
        f_x = f(x, *parameters)
        # x takes the place of the end of its sign; that end, or the other, becomes the third point.
        same = jnp.sign(f_x) == jnp.sign(f_a)
        new = (x, jnp.where(same, b, a), jnp.where(same, a, b))
        f_new = (f_x, jnp.where(same, f_b, f_a), jnp.where(same, f_a, f_b))
        tolerance = spread(new[0], new[1], f_new[0], f_new[1])[1]
        moved = (_next_fraction(*new, *f_new, tolerance), *new, *f_new)
        known = jnp.where(first, f_x, f_a), jnp.where(second, f_x, f_b)
        started = (t, a, b, c, *known, known[1])
        # One that has converged keeps its state: in a batch it must not drift while others work.
        done = spread(a, b, f_a, f_b)[2]
        kept = (jnp.where(done, o, n) for o, n in zip(state, moved, strict=False))
        return (*(jnp.where(step < 2, s, k) for s, k in zip(started, kept, strict=True)), step + 1)

    half, zero = jnp.full_like(low, 0.5), jnp.zeros_like(low)
    start: tuple[Array, ...] = (half, low, high, high, zero, zero, zero, jnp.asarray(0))
    _, a, b, _, f_a, f_b, _, _ = lax.while_loop(unfinished, advance, start)
    return spread(a, b, f_a, f_b)[0]


def _next_fraction(
    a: Array, b: Array, c: Array, f_a: Array, f_b: Array, f_c: Array, tolerance: Array
) -> Array:
    """Returns how far from a towards b to try next: interpolating if that is safe, else half.

    Safe is Chandrupatla's criterion: the inverse quadratic through the three points is monotone
    between a and b. A margin at either end keeps the point a tolerance inside the bracket.
    """

    def ratio(over: Array, under: Array) -> Array:
        return over / jnp.where(under == 0, 1, under)

    xi, phi = ratio(a - b, c - b), ratio(f_a - f_b, f_c - f_b)
    safe = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi)
    first = ratio(f_a, f_b - f_a) * ratio(f_c, f_b - f_c)
    second = ratio(c - a, b - a) * ratio(f_a, f_c - f_a) * ratio(f_b, f_c - f_b)
    margin = jnp.minimum(ratio(tolerance, 2 * jnp.abs(b - a)), 0.5)
    return jnp.clip(jnp.where(safe, first + second, 0.5), margin, 1 - margin)
