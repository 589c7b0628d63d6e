"""Local maxima of smooth functions of a few variables, for problems that are not convex."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from theory.numerics import dense

_STEPS = 60


def ascend(f: Callable[..., Array], start: Array, *parameters: Array) -> tuple[Array, Array]:
    """Returns a local maximiser of f(x, *parameters) reached from `start`, (n,), and its value.

    Damped Newton steps on the absolute values of the curvatures; only steps upwards are taken.
    Nothing is certified, and the derivative of the result is zero.
    """
    start, parameters = lax.stop_gradient((start, parameters))

    def climb(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, value, damping = state
        gradient = jax.grad(f)(x, *parameters)
        curvature, axes = dense.eigh(jax.hessian(f)(x, *parameters))
        along = (axes.T @ gradient) / (jnp.abs(curvature) + damping)
        step = jnp.clip(axes @ along, -2, 2)
        higher = f(x + step, *parameters)
        better = higher > value
        damping = jnp.where(better, 0.2 * damping, jnp.minimum(5 * damping, 1e3))
        return jnp.where(better, x + step, x), jnp.where(better, higher, value), damping

    state = start, f(start, *parameters), jnp.ones((), start.dtype)
    x, value, _ = lax.fori_loop(0, _STEPS, climb, state)
    return x, value
