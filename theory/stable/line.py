"""The symmetric stable law on the whole line, at a law that is set up once for many evaluations.

`stable` sets it up in every call: as many times in a program as that calls it.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from theory.stable import kernel

Evaluation = Callable[[kernel.PreparedLaw, Array], Array]


def _reflected(value: Evaluation, reflect: Callable[[Array], Array]) -> Evaluation:
    """Return a function on the line from a kernel's on x >= 0, by `reflect` at x < 0."""

    def on_line(law: kernel.PreparedLaw, x: Array) -> Array:
        at_distance = value(law, jnp.where(x < 0, -x, x))
        return jnp.where(x < 0, reflect(at_distance), at_distance)

    return on_line


def log_survival(law: kernel.PreparedLaw, x: Array) -> Array:
    """Return log P(X > x)."""
    return kernel.log_survival(law, jnp.where(x < 0, -x, x), x < 0)


density = _reflected(kernel.density, jnp.positive)
log_density = _reflected(kernel.log_density, jnp.positive)
descent = _reflected(kernel.descent, jnp.negative)  # minus the derivative of the density
score = _reflected(kernel.score, jnp.negative)
survival = _reflected(kernel.survival, lambda s: 1 - s)
central = _reflected(kernel.central, jnp.negative)
