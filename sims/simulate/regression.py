"""Squared losses of a linear regression under attack: sample, perturb, predict, add up.

Every coordinate of every point is drawn and moved inside the ball; no norm of the weights and no
radius is subtracted from anything.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sims.random import draws
from sims.simulate import attack
from sims.simulate.two_classes import BLOCK, count, over_blocks
from theory.problem import Threat

# Blocks of one call: its sums come back block by block, for the host to add in their order.
MOST_BLOCKS = 32


class SquaredSums(NamedTuple):
    """Sums over the finite draws of each block, (blocks, arms), and counts of the others, (arms,).

    Args:
        losses: of (y - weight . (x + delta))^2.
        residuals: of (y - weight . x)^2, before the attack.
        responses: of y^2.
        nonfinite: draws whose loss is not a finite number; they are in no sum.
    """

    losses: jax.Array
    residuals: jax.Array
    responses: jax.Array
    nonfinite: jax.Array


class _Draws(NamedTuple):
    """Squares of each draw, (draws,)."""

    losses: jax.Array
    residuals: jax.Array
    responses: jax.Array


def _squares(
    white: jax.Array,
    true_weight: jax.Array,
    factor: jax.Array,
    noise: jax.Array,
    weight: jax.Array,
    step: jax.Array,
) -> _Draws:
    """Returns the squares of draws made from white noise, (draws, d + 1)."""
    size = weight.size
    x = _product(white[:, :size], factor.T)
    y = _product(x, true_weight) + noise * white[:, size]
    before = y - _product(x, weight)
    # Against the sign of the residual, so that its magnitude grows by weight . step.
    side = jnp.where(before >= 0, 1, -1).astype(weight.dtype)
    after = y - _product(x - side[:, None] * step[None, :], weight)
    return _Draws(after**2, before**2, y**2)


@jax.jit
def steps(threat: Threat, weight: jax.Array) -> jax.Array:
    """Returns the points of the balls where weight . delta is largest, (arms, d).

    Args:
        threat: the balls, radius (arms,).
        weight: (arms, d).
    """
    return jax.vmap(lambda ball, w: ball.radius * attack.steepest(ball, w))(threat, weight)


def squared_sums(
    key: jax.Array,
    true_weight: jax.Array,
    covariance: jax.Array,
    noise: jax.Array,
    weight: jax.Array,
    step: jax.Array,
    trials: jax.Array | int,
    first_block: jax.Array | int = 0,
) -> SquaredSums:
    """Returns sums of squares over draws that all arms share, block by block.

    A block's sums depend on its number and the key alone, so that added in the order of the blocks
    they are the same bits however the trials were cut.

    Args:
        key: a JAX key; block b draws from fold_in(key, b).
        true_weight: of y = true_weight . x + noise * N(0, 1), (arms, d).
        covariance: of x, (arms, d, d), positive definite; another makes every draw non-finite.
        noise: standard deviation of y given x, (arms,).
        weight: the weights under attack, (arms, d).
        step: the attack, (arms, d): x moves by it against the sign of its residual.
        trials: draws, at most 32 blocks of 4096; may be traced.
        first_block: the block to start from; may be traced.
    """
    factors = jax.lax.map(jnp.linalg.cholesky, covariance)
    arms, size, dtype = *weight.shape, weight.dtype

    def add(
        key_of_block: jax.Array, index: jax.Array, wanted: jax.Array, sums: SquaredSums
    ) -> SquaredSums:
        white = draws.normal(key_of_block, (BLOCK, size + 1), dtype)
        squares = jax.vmap(_squares, (None, 0, 0, 0, 0, 0))(
            white, true_weight, factors, noise, weight, step
        )
        finite = jnp.isfinite(squares.losses + squares.residuals + squares.responses)
        losses, residuals, responses = (
            old.at[index].set(jnp.sum(jnp.where(wanted & finite, new, 0), axis=-1))
            for old, new in zip(sums[:3], squares, strict=True)
        )
        # Not added: one infinite loss would hide all others in the sum of its block.
        bad = sums.nonfinite + count(wanted & ~finite)
        return SquaredSums(losses, residuals, responses, bad)

    none = jnp.zeros((MOST_BLOCKS, arms), dtype)
    empty = SquaredSums(none, none, none, jnp.zeros(arms, jnp.int32))
    sums: SquaredSums = over_blocks(add, empty, key, trials, first_block)
    return sums


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
