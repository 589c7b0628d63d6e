"""The direction of largest robust margin, for every law and every l_p ball.

It answers neither to the prior nor to the class scales, whatever the noise: those move the
intercept alone (theory document T2).
"""

import enum
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from theory.domain import InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.problem import (
    EllipticalStableMixture,
    GaussianMixture,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    Mixture,
    StableMixture,
    Threat,
)
from theory.rules import direction_correlated, direction_independent
from theory.rules.risk import dual_norm, projection_scale


class Quality(enum.IntEnum):
    """How good a direction is known to be."""

    EXACT = 0  # a closed form, or a bracketed root, of the global optimum
    CERTIFIED = 1  # a convex program: `gap` bounds what is missing
    HEURISTIC = 2  # local searches of a problem that is not convex, or a gap that is not small
    DEGENERATE = 3  # the class means coincide


class Direction(NamedTuple):
    """A weight vector, (..., d), and what is known of it.

    Args:
        weight: the direction; its length means nothing.
        margin: kappa = (w . Delta - radius ||w||_q) / scale(w), (...), Delta half the difference
            of the class means; not positive from radius ||Delta||_p on.
        gap: an upper bound, by duality, on what any other direction could add to the margin, up to
            rounding; nan where there is none (no positive margin, or not convex), (...).
        flag: a `Quality`, (...).
    """

    weight: Array
    margin: Array
    gap: Array
    flag: Array


@checked_arguments
def optimal_direction(mixture: Mixture, threat: Threat | None = None) -> Direction:
    """Returns the direction of largest robust (or, with no threat, natural) margin.

    Exact: independent noise (Gaussian or stable) with 1 <= alpha <= 2 and any l_p inside the
    margin, and with any alpha against l_1 and l_inf; a Gaussian or elliptical law of any covariance
    against l_2. Certified: a covariance against any other l_p. From radius ||Delta||_p on, where
    unequal class scales can still make the least negative margin useful, exact for l_inf, for l_2
    with Gaussian or elliptical noise, and for l_1 with independent noise. Heuristic elsewhere:
    alpha < 1 against 1 < p < inf, and the rest beyond the margin.

    On ties with alpha <= 1 many directions are optimal: alpha = 1 shares the weight, the limit
    from above, and alpha < 1 takes the first coordinate.

    Args:
        mixture: any law, fields broadcast over leading axes with the radius; class means differ.
        threat: any ball, or None.

    Returns:
        The direction, differentiable but for weights flagged heuristic, whose derivative is zero;
        nan and DEGENERATE where the means coincide or a parameter is out of its domain.

    Raises:
        InvalidInput: for another type of mixture or threat.

    References:
        bhagoji2019lowerbounds; dan2020sharp; hu2023accuracydisparity; theory document T3, T16.

    >>> mixture = StableMixture([[0.0, 0.0], [4.0, -3.0]], [1.0, 1.0], 0.5, 1.5)
    >>> best = optimal_direction(mixture, LinfBall(1.0))  # the squares of 1 and -1/2
    >>> round(float(best.weight[1] / best.weight[0]), 6), int(best.flag)
    (-0.25, 0)
    """
    if not isinstance(mixture, GaussianMixture | StableMixture | EllipticalStableMixture):
        raise InvalidInput(
            f"mixture = {mixture!r}: must be a GaussianMixture, StableMixture or "
            "EllipticalStableMixture"
        )
    delta = (mixture.means[..., 1, :] - mixture.means[..., 0, :]) / 2
    # A ball of radius zero has any norm; l_2 has a closed form against every law but the stable.
    threat = L2Ball(jnp.zeros((), delta.dtype)) if threat is None else threat
    if isinstance(mixture, StableMixture):
        weight, bound, flag = _independent(mixture, threat, delta)
    else:
        weight, bound, flag = _elliptical(mixture, threat, delta)
    strength = jnp.sum(weight * delta, -1) - threat.radius * dual_norm(threat, weight)
    margin = strength / projection_scale(mixture, weight)
    # A bound below the margin is rounding. What it proves does not depend on derivatives.
    gap = jnp.maximum(jax.lax.stop_gradient(bound - margin), 0)
    # A solver's claim does not count, its certificate does: half of the digits must be proved.
    loose = gap > jnp.sqrt(jnp.finfo(gap.dtype).eps) * (1 + jnp.abs(margin))
    flag = jnp.where(loose, int(Quality.HEURISTIC), flag)
    known = jnp.isfinite(margin) & (threat.radius >= 0)
    weight, margin, gap = (
        jnp.where(k, value, jnp.nan)
        for k, value in ((known[..., None], weight), (known, margin), (known, gap))
    )
    return Direction(weight, margin, gap, jnp.where(known, flag, int(Quality.DEGENERATE)))


@checked_arguments
def norm_order(threat: Threat) -> float:
    """Returns p for an l_p ball, a Python number: it selects the solver at compile time.

    Raises:
        InvalidInput: for another type of threat.

    >>> norm_order(L1Ball(0.5))
    1.0
    """
    if isinstance(threat, LpBall):
        return float(threat.p)
    for ball, order in ((L1Ball, 1.0), (L2Ball, 2.0), (LinfBall, float("inf"))):
        if isinstance(threat, ball):
            return order
    raise InvalidInput(f"threat = {threat!r}: must be an L1Ball, L2Ball, LinfBall or LpBall")


def _batched(
    solve: Callable[..., tuple[Array, Array, Array]], signature: str, *arguments: Array
) -> tuple[Array, Array, Array]:
    """Returns `solve` over the leading axes of its arguments, which may differ in rank."""
    # `vectorize` broadcasts axes by position from the right; ranks are made equal beforehand, so
    # that each argument may leave out leading axes that another has.
    cores = [core.count("d") for core in signature.split("),(")]
    leading = [jnp.ndim(a) - core for a, core in zip(arguments, cores, strict=True)]
    rank = max(leading)
    aligned = [
        jnp.reshape(a, (1,) * (rank - axes) + jnp.shape(a))
        for a, axes in zip(arguments, leading, strict=True)
    ]
    solution: tuple[Array, Array, Array] = jnp.vectorize(
        solve, signature=f"{signature}->(d),(),()"
    )(*aligned)
    return solution


def _independent(
    mixture: StableMixture, threat: Threat, delta: Array
) -> tuple[Array, Array, Array]:
    """Returns weight, upper bound on the margin, and `Quality`."""
    order = norm_order(threat)
    solve = functools.partial(direction_independent.direction, p=order)
    alpha = jnp.where((mixture.alpha > 0) & (mixture.alpha <= 2), mixture.alpha, jnp.nan)
    weight, bound, exact = _batched(solve, "(d),(),()", delta, threat.radius, alpha)
    return weight, bound, jnp.where(exact, int(Quality.EXACT), int(Quality.HEURISTIC))


def _elliptical(
    mixture: GaussianMixture | EllipticalStableMixture, threat: Threat, delta: Array
) -> tuple[Array, Array, Array]:
    """Returns weight, upper bound on the margin, and `Quality`."""
    matrix = mixture.covariance if isinstance(mixture, GaussianMixture) else mixture.dispersion
    order = norm_order(threat)
    if matrix is None:
        # The stable solver at index 2, with closed forms that a traced index would not allow.
        two = jnp.asarray(2, delta.dtype)
        alone = functools.partial(
            direction_independent.direction, alpha=two, p=order, gaussian=True
        )
        weight, bound, exact = _batched(alone, "(d),()", delta, threat.radius)
        otherwise = jnp.full(bound.shape, int(Quality.HEURISTIC))
    else:
        together = functools.partial(direction_correlated.direction, p=order)
        weight, bound, exact = _batched(together, "(d),(),(d,d)", delta, threat.radius, matrix)
        otherwise = jnp.where(jnp.isnan(bound), int(Quality.HEURISTIC), int(Quality.CERTIFIED))
    return weight, bound, jnp.where(exact, int(Quality.EXACT), otherwise)
