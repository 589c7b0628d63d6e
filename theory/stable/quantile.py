"""Quantiles of the symmetric stable law by Newton steps on the log-odds of the upper tail.

ln(sf / (1/2 - sf)) is nearly linear in ln x: its slope is -1 at x -> 0 and -alpha at x -> inf. So
Newton's method in ln x converges fast from a guess that is 20% off.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from theory.numerics.elementary import horner
from theory.stable import kernel
from theory.stable.layout import GAUSSIAN_FROM
from theory.stable.prepared import PreparedLaw

_MAX_STEPS = 10  # six suffice from alpha = 0.1 to 2 in float64, four for most alpha
_LONGEST = 1.5  # of a step in ln x: a guard, as a full step may overshoot where the line bends


def normal_quantile(p: Array) -> Array:
    """Returns the upper p-quantile of N(0, 2), (...), to 7e-4, for p in (0, 1/2], (...).

    References:
        hastings1955approximations: sheet 68, whose constants these are.
    """
    t = jnp.sqrt(-2 * jnp.log(p))
    top = 2.515517 + t * (0.802853 + t * 0.010328)
    bottom = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return math.sqrt(2) * (t - top / bottom)


def first_guess(law: PreparedLaw, p: Array, centre: Array) -> Array:
    """Returns x, (...), with P(X > x) near p, to about 20% whatever alpha and p.

    `centre` is 1/2 - p, which the caller has without cancellation.

    Below alpha = 1.5, the power-law quantile times (1 - 2p), which is right at p -> 0, times a
    factor that makes it right at p -> 1/2 as well. Above, the larger of the power-law and the
    Gaussian quantile, or the linear law near zero.
    """
    # The tail's polynomial at t = -1, which is x = inf: the constant of the power law.
    tail = kernel.zones(law, "survival")[-1]
    log_tail = jnp.log(law.tail_factor * horner(tail, -jnp.ones_like(law.alpha)))
    power_law = jnp.exp((log_tail - jnp.log(p)) / law.alpha)
    log_match = -jnp.log(2 * law.mode) - (math.log(2) + log_tail) / law.alpha
    blend = power_law * 2 * centre * jnp.exp(2 * p * log_match)
    core = jnp.where(p < 0.35, jnp.maximum(normal_quantile(p), power_law), centre / law.mode)
    return jnp.where(law.alpha < GAUSSIAN_FROM, blend, core)


def newton_step(law: PreparedLaw, p: Array, centre: Array, x: Array) -> Array:
    """Returns the change of ln x, (...), in one step on ln(sf/central), nearly linear in ln x."""
    survival, central = kernel.survival(law, x), kernel.central(law, x)
    error = jnp.log(survival / p) - jnp.log(central / centre)
    # -1 over the slope: d ln(sf / central) / d ln x = -x f (1 / sf + 1 / central), and sf + central
    # is 1/2. x f, not f: where alpha is small it is representable long after f is not.
    return error * 2 * survival * central / kernel.density(law, x, times_x=True)


def upper_quantile(law: PreparedLaw, p: Array) -> Array:
    """Returns x >= 0, (...), with P(X > x) = p for 0 <= p <= 1/2, (...), and nan for other p.

    `law` needs all three tables. Inverts 1/2 - p = P(0 < X <= x) where p is near 1/2: x is
    relatively accurate at both ends. p below the smallest normal number counts as 0.
    """
    inside = (p >= np.finfo(p.dtype).tiny) & (p < 0.5)
    # Anything solvable in place of what is not, so that the loop does not wait for it.
    target = jnp.where(inside, p, 0.25)
    centre = 0.5 - target
    start = first_guess(law, target, centre)
    solvable = jnp.isfinite(start)  # not so where x overflows, or alpha is nan
    tolerance = math.sqrt(np.finfo(p.dtype).eps) / 16  # Newton squares the error

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        count, longest, _ = state
        # All elements take as many steps as the slowest; further ones change nothing.
        return (count < _MAX_STEPS) & (longest > tolerance)

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, _, x = state
        step = jnp.where(solvable, newton_step(law, target, centre, x), 0)
        step = jnp.clip(step, -_LONGEST, _LONGEST)
        return count + 1, jnp.max(jnp.abs(step), initial=0), x * jnp.exp(step)

    state = jnp.int32(0), jnp.asarray(jnp.inf, p.dtype), jnp.where(solvable, start, 1)
    x = lax.while_loop(unfinished, advance, state)[2]
    x = jnp.where(inside, jnp.where(solvable, x, start), jnp.where(p < 0.25, jnp.inf, 0))
    return jnp.where((p >= 0) & (p <= 0.5), x, jnp.nan) + 0 * law.alpha
