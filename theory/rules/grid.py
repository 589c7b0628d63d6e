"""Class-wise risks of optimal rules on large parameter grids, in one call and flat memory."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from theory.problem import StableMixture, Threat
from theory.rules.direction import optimal_direction
from theory.rules.intercept import optimal_shift, shift_risks
from theory.rules.risk import ClassRisks, projection_scale


class GridRisks(NamedTuple):
    """Risks of the optimal robust rule, each (a, s, r, q).

    The axes are alphas, scale ratios, radii and imbalance ratios.

    Args:
        natural: class risks without a threat.
        robust: class risks under the threat that the rule was chosen for.
        trivial: the optimal rule is constant.
    """

    natural: ClassRisks
    robust: ClassRisks
    trivial: Array


@functools.partial(jax.jit, static_argnames="ball")
def optimal_risk_grid(
    half_gap: ArrayLike,
    ball: Callable[[Array], Threat],
    alphas: ArrayLike,
    scale_ratios: ArrayLike,
    radii: ArrayLike,
    ratios: ArrayLike,
) -> GridRisks:
    """Returns the risks of the optimal rule for every combination of four parameters.

    The direction is found once for each index and radius, the shape of the risk once for each
    index, scale ratio and radius, and only the intercept for every cell. Memory beyond the result
    is that of one block of radii x ratios.

    Args:
        half_gap: half the difference of the class means, (d,).
        ball: the type of threat as a function of its radius, (): L2Ball, say.
        alphas: stability indices in [0.1, 2], 1-d; 2 is a Gaussian of variance 2.
        scale_ratios: s_+ / s_- > 0 with s_- = 1, 1-d.
        radii: perturbation radii >= 0, 1-d.
        ratios: imbalance ratios R = P(y = -1) / P(y = +1) > 0, 1-d.

    Returns:
        Risks, nan in the cells of a parameter out of its domain.

    References:
        theory document T2, T16, T17, T19.

    >>> from theory.problem import L2Ball
    >>> one = jnp.ones(1)
    >>> risks = optimal_risk_grid(one, L2Ball, one, one, 0.5 * one, jnp.asarray([1.0, 3.0]))
    >>> risks.natural.positive[0, 0, 0].round(6).tolist()  # arccot(1) / pi, and always -1
    [0.25, 1.0]
    """
    alphas, scale_ratios, radii, ratios, half_gap = map(
        jnp.asarray, (alphas, scale_ratios, radii, ratios, half_gap)
    )
    means, one = jnp.stack([-half_gap, half_gap]), jnp.ones((), half_gap.dtype)

    def margins(alpha: Array, radius: Array) -> tuple[Array, Array]:
        mixture = StableMixture(means, jnp.stack([one, one]), one / 2, alpha)
        best = optimal_direction(mixture, ball(radius))
        natural = jnp.sum(best.weight * half_gap) / projection_scale(mixture, best.weight)
        return best.margin, natural

    def block(alpha: Array, margin: Array, natural: Array, scale_ratio: Array) -> GridRisks:
        scales = jnp.stack([one, scale_ratio])
        shift = optimal_shift(margin[:, None], scales, ratios[None], alpha)
        return GridRisks(
            shift_risks(shift, natural[:, None], scales, alpha),
            shift_risks(shift, margin[:, None], scales, alpha),
            shift.trivial,
        )

    # Loops, not vmaps: alpha stays 0-d, for which the stable law is fast, and one block of radii
    # and ratios is in memory at a time.
    def slab(alpha: Array) -> GridRisks:
        margin, natural = lax.map(lambda radius: margins(alpha, radius), radii)
        blocks: GridRisks = lax.map(
            lambda scale_ratio: block(alpha, margin, natural, scale_ratio), scale_ratios
        )
        return blocks

    risks: GridRisks = lax.map(slab, alphas)
    return risks
