"""Linear regression under attack: adversarial squared risk, its minimiser and its thresholds.

Inputs are Gaussian with covariance Sigma, y = w_o . x + noise, and the intercept is the best one,
so only Sigma, w_o and the noise matter. Features with zero true weight are spurious: training
against an attack may use them all the same (theory document C1-C8; Moayeri et al. 2022).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import ndtr

from theory.domain import InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.problem import L1Ball, L2Ball, LinfBall, Regression, Threat
from theory.regression.paths import MEAN_SIZE
from theory.rules.direction import norm_order
from theory.rules.risk import dual_norm

_BALLS: dict[float, Callable[[Any], Threat]] = {1.0: L1Ball, 2.0: L2Ball, float("inf"): LinfBall}
# The order of the ball whose dual norm is ||.||_p, so that `dual_norm` serves for both.
_POLAR = {1.0: float("inf"), 2.0: 2.0, float("inf"): 1.0}


@checked_arguments
def times(matrix: Array, vector: Array) -> Array:
    """Returns matrix @ vector in full precision, (..., d)."""
    return jnp.einsum("...ij,...j->...i", matrix, vector, precision=lax.Precision.HIGHEST)


@checked_arguments
def root_of_square(square: Array) -> Array:
    """Returns the square root of what is not negative, (...), whose derivative at zero is zero."""
    # Both branches of a where are differentiated: sqrt must not see the zero.
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


@checked_arguments
def deviation(problem: Regression, weight: Array) -> Array:
    """Returns s, the standard deviation of the residual y - weight . x, (...).

    >>> problem = Regression([2.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], 3.0)
    >>> round(float(deviation(problem, jnp.asarray([0.0, 2 * 3**0.5]))), 5)
    5.0
    """
    error = problem.weight - weight
    square = jnp.sum(error * times(problem.covariance, error), -1)
    # A quadratic form of a singular covariance can round to just below zero.
    return root_of_square(jnp.maximum(square, 0) + problem.noise**2)


@checked_arguments
def squared_risk(
    problem: Regression, weight: Array, threat: Threat | None = None, offset: Array | float = 0.0
) -> Array:
    """Returns E max (y - w . (x + delta) - intercept)^2 over the ball: (|r| + radius ||w||_q)^2.

    Args:
        problem: the law; for a shifted law pass that one, with the weights trained on the other.
        weight: any weights, (..., d).
        threat: the perturbations allowed, or None for the standard risk.
        offset: mean of the residual, (...); zero is the optimal intercept.

    Returns:
        s^2 + m^2 + 2 radius N E|r| + radius^2 N^2, with s the deviation and m the offset, (...).

    References:
        moayeri2022explicit; theory document C1.

    >>> problem = Regression([1.0], [[1.0]], 0.0)
    >>> float(squared_risk(problem, jnp.asarray([1.0]), L2Ball(0.5), offset=1.0))  # (1 + 0.5)^2
    2.25
    """
    s = deviation(problem, weight)
    mean = jnp.asarray(offset, s.dtype)
    standard = s * s + mean * mean
    if threat is None:
        return standard
    positive = s > 0
    scaled = mean / jnp.where(positive, s, 1)
    # E|r| of r ~ N(m, s^2), a folded normal; without residual it is |m|.
    size = s * MEAN_SIZE * jnp.exp(-scaled * scaled / 2) + mean * (1 - 2 * ndtr(-scaled))
    size = jnp.where(positive, size, jnp.abs(mean))
    push = threat.radius * dual_norm(threat, weight)
    risk: Array = standard + 2 * push * size + push * push
    return risk


@checked_arguments
def ball_order(threat: Threat) -> float:
    """Returns p, static, of an l_1, l_2 or l_inf ball.

    Raises:
        InvalidInput: for another type or order.
    """
    order = norm_order(threat)
    if order not in _BALLS:
        raise InvalidInput(f"threat = {threat!r}: must be an l_1, l_2 or l_inf ball")
    return order


@checked_arguments
def ball(order: float, radius: Array) -> Threat:
    """Returns the l_p ball of that order and radius, (...)."""
    return _BALLS[order](radius)


@checked_arguments
def polar_norm(order: float, vector: Array) -> Array:
    """Returns the norm ||vector||_p that defines the ball, (...)."""
    return dual_norm(ball(_POLAR[order], jnp.zeros((), vector.dtype)), vector)


@checked_arguments
def zero_radius(problem: Regression, threat: Threat) -> Array:
    """Returns eps_0, from which on no feature is worth using and the optimal weights are zero.

    sqrt(pi/2) ||Cov(x, y)||_p / sd(y); only the norm of `threat` matters. nan where y is constant.

    References:
        moayeri2022explicit; theory document C4.a.

    >>> problem = Regression([3.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], 4.0)
    >>> round(float(zero_radius(problem, L2Ball(0.0))), 6)  # 1.253314 * 3 / 5
    0.751988
    """
    moment = times(problem.covariance, problem.weight)
    # What is left of y by no weights at all is y: their residual is of its standard deviation.
    spread = deviation(problem, jnp.zeros_like(problem.weight))
    radius: Array = polar_norm(ball_order(threat), moment) / (MEAN_SIZE * spread)
    return radius


@checked_arguments
def optimality_multiplier(problem: Regression, weight: Array, threat: Threat) -> Array:
    """Returns kappa = eps s (c s + eps N) / (s + c eps N) at the weights, c = sqrt(2 / pi), (...).

    The weights are optimal if and only if Sigma (w_o - w) is kappa times a subgradient of the dual
    norm; without noise and at w = w_o kappa is zero.

    References:
        moayeri2022explicit; theory document C2.

    >>> problem = Regression([1.0], [[1.0]], 0.0)
    >>> round(float(optimality_multiplier(problem, jnp.asarray([0.0]), L2Ball(2.0))), 6)  # 2 c s
    1.595769
    """
    s, push = deviation(problem, weight), threat.radius * dual_norm(threat, weight)
    return multiplier(threat.radius, s, push)


@checked_arguments
def multiplier(radius: Array, s: Array, push: Array) -> Array:
    """Returns kappa = eps s (c s + push) / (s + c push), push = eps N; zero if s = push = 0, (...).

    Args:
        radius: eps >= 0, (...).
        s: standard deviation of the residual, >= 0, (...).
        push: how far the attack moves a prediction, >= 0, (...).
    """
    under = s + MEAN_SIZE * push
    kappa: Array = radius * s * (MEAN_SIZE * s + push) / jnp.where(under > 0, under, 1)
    return kappa
