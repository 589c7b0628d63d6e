"""DAFA in the Gaussian model: from a warmed-up rule to class weights to the errors they lead to.

The distance to the optimal rule's threshold, times a logit scale, is a binary softmax. Its mean
over an attacked class is a logistic-normal integral, the similarity matrix of
`theory.weights.dafa`; weights from it enter the loss, the training radii, or both (Lee et al. 2024;
theory document A5).
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from theory.domain import require_known
from theory.fairness.distance import Budgets, optimal_margins, transferred_errors
from theory.numerics.broadcast import broadcast
from theory.numerics.noun import of_arrays
from theory.rules.risk import ClassRisks

Scheme = Literal["loss", "radius", "both"]

# Enough for a sigmoid 50 times as steep as the normal density is wide, on each side of its step.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
_FAR = 12.0  # beyond it the normal density is below 1e-31


@of_arrays("mean", "sd")
def logistic_normal_mean(mean: ArrayLike, sd: ArrayLike) -> Array:
    """Returns E sigmoid(mean + sd Z) for a standard normal Z, accurate to 1e-13 for sd <= 50.

    Args:
        mean: any real, (...).
        sd: in [0, 50], (...); outside nan.

    References:
        Gauss-Legendre on both sides of the sigmoid's step; theory document A5.

    >>> float(logistic_normal_mean(0.0, 3.0).round(9))
    0.5
    """
    mean, sd = broadcast(mean, sd)
    step = jnp.clip(-mean / jnp.where(sd > 0, sd, 1), -_FAR, _FAR)
    # Where the sigmoid steps is only where the panels meet: it carries no derivative.
    step = jax.lax.stop_gradient(step)

    def panel(low: Array, high: Array) -> Array:
        half = (high - low) / 2

        def integrand(node: Array) -> Array:
            z = low + half * (1 + node)
            return norm.pdf(z) * jax.nn.sigmoid(mean + sd * z)

        values = jax.vmap(integrand)(jnp.asarray(_NODES, mean.dtype))
        return half * jnp.tensordot(jnp.asarray(_WEIGHTS, mean.dtype), values, 1)

    end = jnp.full_like(step, _FAR)
    value = panel(-end, step) + panel(step, end)
    return jnp.where((sd >= 0) & (sd <= 50), value, jnp.nan)


@of_arrays("distance", "scale_ratio", "logit_scale")
def warm_up_similarity(
    distance: ArrayLike, scale_ratio: ArrayLike, logit_scale: ArrayLike
) -> Array:
    """Returns the similarity matrix of the optimal rule of equal weights, (..., 2, 2), [-, +].

    Args:
        distance: delta, the robust distance over s_-, (...); see `theory.fairness.distance`.
        scale_ratio: K = s_+ / s_- > 0, (...).
        logit_scale: the rule's logit per s_- of distance to the threshold, in (0, 50 / K], (...).

    Returns:
        Rows of sum one; nan where the rule is constant.

    References:
        lee2024dafa; new; theory document A5.
    """
    delta, k, gamma = broadcast(distance, scale_ratio, logit_scale)
    margins = optimal_margins(delta, k)

    def recognised(margin: Array, spread: Array) -> Array:
        # A constant rule has infinite margins, of which a softmax says nothing.
        finite = jnp.isfinite(margin)
        value = logistic_normal_mean(jnp.where(finite, margin, 0) * spread, spread)
        return jnp.where(finite & (spread > 0), value, jnp.nan)

    # The logit's mean and standard deviation over a class: its margin and one, in sds of the class,
    # times the logit for each of them.
    negative, positive = (
        recognised(margins.negative, gamma),
        recognised(margins.positive, gamma * k),
    )
    rows = [jnp.stack([negative, 1 - negative], -1), jnp.stack([1 - positive, positive], -1)]
    return jnp.stack(rows, -2)


@of_arrays("clean_distance", "scale_ratio", "cost", "weights")
def weighted_errors(
    clean_distance: ArrayLike,
    scale_ratio: ArrayLike,
    cost: ArrayLike,
    weights: ArrayLike,
    scheme: Scheme = "both",
) -> ClassRisks:
    """Returns the robust class errors of the rule trained with class weights.

    Args:
        clean_distance: delta_0, at radius zero, over s_-, (...).
        scale_ratio: K = s_+ / s_- > 0, (...).
        cost: of the attack at test time and, unweighted, in training; sds of s_-, (...).
        weights: of the [negative, positive] class, > 0, (..., 2).
        scheme: what they multiply: the "loss", the training "radius", or "both" as in DAFA.

    Raises:
        InvalidInput: for an unknown scheme.

    References:
        lee2024dafa; new; theory document A5.

    >>> errors = weighted_errors(4.0, 2.0, 0.5, jnp.asarray([1.0, 2.0]), "loss")  # Phi(-3 / 3)
    >>> [round(float(error), 6) for error in errors]
    [0.158655, 0.158655]
    """
    require_known("scheme", scheme, get_args(Scheme))
    weights = jnp.asarray(weights)
    of_class = weights[..., 0], weights[..., 1]
    clean, k, cost, minus, plus = broadcast(clean_distance, scale_ratio, cost, *of_class)
    # What a scheme leaves alone has the values of training without weights.
    ratio = jnp.ones_like(k) if scheme == "radius" else minus / plus
    trained = (cost, cost) if scheme == "loss" else (minus * cost, plus * cost)
    return transferred_errors(clean, k, Budgets(*trained), cost, ratio)
