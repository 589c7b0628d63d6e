"""Local maxima of smooth functions of a few variables, for problems that are not convex."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from theory.numerics import dense

_STEPS = 60


def ascend(f: Callable[..., Array], start: Array, *parameters: Array) -> tuple[Array, Array]:
    """Returns a local maximiser, (n,), of f(x, *parameters) and its value, ().

    Damped Newton steps on the absolute values of the curvatures; only steps upwards are taken.
    Nothing is certified, and the derivative of the result is zero.

    Args:
        f: a number, (), twice differentiable in x.
        start: where the search begins, (n,).
        parameters: what else f depends on, of any shapes.

    >>> top = jnp.asarray([1.0, 3.0])
    >>> x, value = ascend(lambda x, top: -jnp.sum((x - top) ** 2), jnp.zeros(2), top)
    >>> x.round(6).tolist(), round(float(value), 6)
    ([1.0, 3.0], -0.0)
    """
    start, parameters = lax.stop_gradient((start, parameters))

    def climb(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, value, damping = state
        # |curvature| turns a saddle's ascent direction the right way, where Newton's step would
        # lead to the saddle; damping shortens the step where the quadratic model is no good.
        gradient = jax.grad(f)(x, *parameters)
        curvature, axes = dense.eigh(jax.hessian(f)(x, *parameters))
        along = (axes.T @ gradient) / (jnp.abs(curvature) + damping)
        step = jnp.clip(axes @ along, -2, 2)  # in all uses x is of order one, or a logarithm
        higher = f(x + step, *parameters)
        better = higher > value
        # Levenberg and Marquardt's rule: bolder after a success, more careful after a failure.
        damping = jnp.where(better, 0.2 * damping, jnp.minimum(5 * damping, 1e3))
        return jnp.where(better, x + step, x), jnp.where(better, higher, value), damping

    state = start, f(start, *parameters), jnp.ones((), start.dtype)
    x, value, _ = lax.fori_loop(0, _STEPS, climb, state)
    return x, value
