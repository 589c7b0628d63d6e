"""One core and one spurious feature: the regressions that several claims share.

y = x_C + noise, sd(x_C) = 1 and corr(x_C, x_S) = 0.75, so that the rule of least squares is the
weights (1, 0) and the covariances of y with the features are 1 and 0.75 sd(x_S).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from theory.claims.claim import Axis, RegressionProblem, arms
from theory.claims.settings.two_classes import Norm
from theory.domain import NON_NEGATIVE, POSITIVE
from theory.problem import Regression, Threat
from theory.regression.pair import pair_weights
from theory.regression.paths import MEAN_SIZE
from theory.regression.risk import ball_order, polar_norm, root_of_square, times
from theory.rules.risk import dual_norm

CORRELATION = 0.75
# Variance of the noise that is put on the spurious feature to see whether a rule listens to it.
EXTRA = 4.0
NOISE = 0.5
STEPS = 60
SCALE = Axis(
    "scale_ratio", "standard deviation of the spurious over the core feature", (0.8, 2.0), POSITIVE
)
SPREAD = Axis("noise", "standard deviation of y given x", (NOISE,), NON_NEGATIVE)


def pair(
    scale_ratio: jax.Array, noise: jax.Array, correlation: float = CORRELATION, extra: float = 0.0
) -> Regression:
    """Returns the law, with this correlation and this extra variance of the spurious feature.

    Args:
        scale_ratio: standard deviation of the spurious over the core feature, ().
        noise: standard deviation of y given x, ().
        correlation: of the two features.
        extra: variance that is added to the spurious one.
    """
    one, covariance = jnp.ones_like(scale_ratio), correlation * scale_ratio
    rows = jnp.stack([one, covariance]), jnp.stack([covariance, scale_ratio**2 + extra])
    return Regression._make((jnp.stack([one, 0 * one]), jnp.stack(rows), noise))


def trained(law: Regression, threat: Threat) -> jax.Array:
    """Returns the weights of least adversarial squared risk of a pair, (2,).

    The closed path at the penalty kappa that belongs to the radius, by bisection:
    kappa (s + c eps N) = eps s (c s + eps N) (theory document C2, C3).
    """
    # Not `pair_fit`: the claims need an optimum of their own, compiled in a fraction of the time.
    order = ball_order(threat)
    (a, b), (_, d) = law.covariance
    largest = polar_norm(order, times(law.covariance, law.weight))

    def at(share: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns penalty and weights at this share of the way."""
        rest = jnp.maximum(1 - share, np.finfo(share.dtype).eps)
        penalty = (a + d) * share / rest if order == 2 else share * largest
        return penalty, pair_weights(law, penalty, threat)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        penalty, weight = at(middle)
        core, spurious = law.weight - weight
        s = root_of_square(a * core**2 + 2 * b * core * spurious + d * spurious**2 + law.noise**2)
        norm = dual_norm(threat, weight)
        kappa = penalty * norm if order == 2 else penalty
        push = threat.radius * norm
        early = kappa * (s + MEAN_SIZE * push) < threat.radius * s * (MEAN_SIZE * s + push)
        return jnp.where(early, middle, low), jnp.where(early, high, middle)

    ends = jnp.zeros_like(a), jnp.ones_like(a)
    low, _ = jax.lax.fori_loop(0, STEPS, halve, ends)
    return at(low)[1]


# Of the rule trained at the radius: standard and adversarial risk on the law that it was trained
# on, standard risk after the correlation has changed its sign, and with noise of variance 4 on the
# spurious feature.
TRAINED = ("standard", "adversarial", "flipped", "noisy")


@functools.cache
def trained_arms(norm: Norm) -> Callable[..., RegressionProblem]:
    """Returns the problem of a trained rule on four laws: one function for all claims of a norm."""

    def problem(radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array) -> RegressionProblem:
        law, none = pair(scale_ratio, noise), jnp.zeros_like(radius)
        weight = trained(law, norm.ball(radius))
        flipped = pair(scale_ratio, noise, -CORRELATION)
        laws = arms(law, law, flipped, pair(scale_ratio, noise, extra=EXTRA))
        radii = jnp.stack([none, radius, none, none])
        return RegressionProblem(laws, arms(*[weight] * 4), norm.ball(radii))

    return problem


def kept_and_dropped(norm: Norm) -> Callable[..., RegressionProblem]:
    """Returns the problem of training with the spurious feature, and with the core one alone."""

    def problem(radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array) -> RegressionProblem:
        law, none = pair(scale_ratio, noise), jnp.zeros_like(radius)
        kept = trained(law, norm.ball(radius))
        dropped = trained(pair(scale_ratio, noise, 0.0), norm.ball(radius))
        radii = jnp.stack([none, radius, none, radius])
        return RegressionProblem(
            arms(*[law] * 4), arms(kept, kept, dropped, dropped), norm.ball(radii)
        )

    return problem


def moved(norm: Norm) -> Callable[..., RegressionProblem]:
    """Returns the problem of weights a step away from the trained ones, up and down, attacked."""

    def problem(
        radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array, step: jax.Array
    ) -> RegressionProblem:
        law = pair(scale_ratio, noise)
        weight = trained(law, norm.ball(radius))
        moves = step * jnp.asarray([[1, 0], [-1, 0], [0, 1], [0, -1]], step.dtype)
        radii = jnp.stack([radius] * 4)
        return RegressionProblem(arms(*[law] * 4), weight[None, :] + moves, norm.ball(radii))

    return problem
