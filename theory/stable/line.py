"""The symmetric stable law on the whole line, at a law that is set up once for many evaluations.

`stable` sets it up in every call: as many times in a program as that calls it.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from theory.stable import kernel
from theory.stable.prepared import PreparedLaw

Evaluation = Callable[[PreparedLaw, Array], Array]


def _reflected(value: Evaluation, reflect: Callable[[Array], Array]) -> Evaluation:
    """Returns a function on the line from a kernel's on x >= 0, by `reflect` at x < 0.

    Of a law and x, (...), to (...), as is everything below.
    """

    def on_line(law: PreparedLaw, x: Array) -> Array:
        # Not jnp.abs: its derivative at 0 is 0, and that of the law must be the one from the right.
        at_distance = value(law, jnp.where(x < 0, -x, x))
        return jnp.where(x < 0, reflect(at_distance), at_distance)

    return on_line


def log_survival(law: PreparedLaw, x: Array) -> Array:
    """Returns log P(X > x), (...), for any real x, (...)."""
    # Not `_reflected`: log(1 - p) of the value log p would lose what is small at x << 0.
    return kernel.log_survival(law, jnp.where(x < 0, -x, x), x < 0)


density = _reflected(kernel.density, jnp.positive)
log_density = _reflected(kernel.log_density, jnp.positive)
descent = _reflected(kernel.descent, jnp.negative)  # minus the derivative of the density
score = _reflected(kernel.score, jnp.negative)
survival = _reflected(kernel.survival, lambda s: 1 - s)
central = _reflected(kernel.central, jnp.negative)
