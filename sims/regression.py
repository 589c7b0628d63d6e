"""Squared losses of a linear regression under attack: sample, perturb, predict, average.

Every coordinate of every point is drawn and moved inside the ball; no norm of the weights and no
radius is subtracted from anything.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sims import attack, draws
from theory.problem import Threat

BLOCK = 4096


class SquaredLosses(NamedTuple):
    """The mean of the squared loss over all draws, and how many there were."""

    mean: jax.Array
    trials: int


def squared_losses(
    key: jax.Array,
    true_weight: jax.Array,
    covariance: jax.Array,
    noise: jax.Array,
    weight: jax.Array,
    threat: Threat | None,
    blocks: int,
) -> SquaredLosses:
    """Returns the mean of (y - weight . (x + delta))^2 with the worst delta of each draw.

    Args:
        key: a JAX key; block b draws from fold_in(key, b).
        true_weight: of y = true_weight . x + noise * N(0, 1), (d,).
        covariance: of x, (d, d), positive definite.
        noise: standard deviation of y given x, ().
        weight: the weights under attack, (d,).
        threat: the perturbations allowed, or None.
        blocks: how many blocks of 4096 draws.
    """
    factor = jnp.linalg.cholesky(covariance)
    size, dtype = weight.size, weight.dtype

    def block(index: jax.Array) -> jax.Array:
        white = draws.normal(jax.random.fold_in(key, index), (BLOCK, size + 1), dtype)
        x = _product(white[:, :size], factor.T)
        y = _product(x, true_weight) + noise * white[:, size]
        if threat is not None:
            side = jnp.where(y - _product(x, weight) >= 0, 1, -1).astype(dtype)
            x = x - threat.radius * side[:, None] * attack.steepest(threat, weight)[None, :]
        return jnp.mean((y - _product(x, weight)) ** 2)

    means = jax.lax.map(block, jnp.arange(blocks, dtype=jnp.uint32))
    return SquaredLosses(jnp.mean(means), blocks * BLOCK)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def plausible_range(
    risk: float, deviation: float, trials: int, false_alarm: float
) -> tuple[float, float]:
    """Returns between what the mean loss lies if `risk` and `deviation` are right.

    The root of the mean of (|r| + b)^2 is a function of the n residuals that changes no faster
    than their distance over sqrt(n), so for Gaussian residuals it is within
    s sqrt(2 log(2 / false_alarm) / n) of its mean, and its variance is at most s^2 / n. No
    approximation is made.

    Args:
        risk: the expected squared loss.
        deviation: s, the standard deviation of the residual before the attack.
        trials: n, independent draws.
        false_alarm: probability with which a right risk is left outside, at most.

    References:
        boucheron2013concentration, Theorems 3.20 and 5.6.

    >>> plausible_range(4.0, 0.0, 10, 1e-6)
    (4.0, 4.0)
    """
    reach = deviation * math.sqrt(2 * math.log(2 / false_alarm) / trials)
    low = math.sqrt(max(risk - deviation**2 / trials, 0)) - reach
    return max(low, 0) ** 2, (math.sqrt(risk) + reach) ** 2
