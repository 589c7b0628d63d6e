"""Quantiles of the symmetric stable law by Newton steps on the log-odds of the upper tail."""

import math

import jax.numpy as jnp
from jax import Array, lax

from theory.numerics.elementary import horner
from theory.stable import kernel
from theory.stable.kernel import PreparedLaw
from theory.stable.layout import GAUSSIAN_FROM

_MAX_STEPS = 10  # six suffice from alpha = 0.1 to 2 in float64, four for most alpha
_LONGEST = 1.5


def normal_quantile(p: Array) -> Array:
    """Return the upper p-quantile of N(0, 2) to 7e-4, p <= 1/2 (Hastings 1955, sheet 68)."""
    t = jnp.sqrt(-2 * jnp.log(p))
    top = 2.515517 + t * (0.802853 + t * 0.010328)
    bottom = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return math.sqrt(2) * (t - top / bottom)


def first_guess(law: PreparedLaw, p: Array, centre: Array) -> Array:
    """Return x with P(X > x) near p, to about 20% whatever alpha and p.

    Below alpha = 1.5, the power-law quantile times (1 - 2p), which is right at p -> 0, times a
    factor that makes it right at p -> 1/2 as well. Above, the larger of the power-law and the
    Gaussian quantile, or the linear law near zero.
    """
    tail = kernel.zones(law, "survival")[-1]
    log_tail = jnp.log(law.tail_factor * horner(tail, -jnp.ones_like(law.alpha)))
    power_law = jnp.exp((log_tail - jnp.log(p)) / law.alpha)
    log_match = -jnp.log(2 * law.mode) - (math.log(2) + log_tail) / law.alpha
    blend = power_law * 2 * centre * jnp.exp(2 * p * log_match)
    core = jnp.where(p < 0.35, jnp.maximum(normal_quantile(p), power_law), centre / law.mode)
    return jnp.where(law.alpha < GAUSSIAN_FROM, blend, core)


def newton_step(law: PreparedLaw, p: Array, centre: Array, x: Array) -> Array:
    """Return the change of ln x in one step on ln(sf/central), nearly linear in ln x."""
    survival, central = kernel.survival(law, x), kernel.central(law, x)
    error = jnp.log(survival / p) - jnp.log(central / centre)
    return error * 2 * survival * central / kernel.density(law, x, times_x=True)


def upper_quantile(law: PreparedLaw, p: Array) -> Array:
    """Return x >= 0 with P(X > x) = p for 0 <= p <= 1/2, and nan for other p.

    `law` needs all three tables. Inverts 1/2 - p = P(0 < X <= x) where p is near 1/2: x is
    relatively accurate at both ends. p below the smallest normal number counts as 0.
    """
    inside = (p >= jnp.finfo(p.dtype).tiny) & (p < 0.5)
    target = jnp.where(inside, p, 0.25)
    centre = 0.5 - target
    start = first_guess(law, target, centre)
    solvable = jnp.isfinite(start)
    tolerance = math.sqrt(jnp.finfo(p.dtype).eps) / 16  # Newton squares the error

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        count, longest, _ = state
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
