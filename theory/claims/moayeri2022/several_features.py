"""Claims on regressions with several features, whose optimum is a certified fit and no closed path.

Two core features of unequal weight, correlated with each other, and one spurious feature that is
correlated with both. The theory is re-derived, as in `regression`; `Source.result` says where.
"""

import jax
import jax.numpy as jnp
import numpy as np

from theory.claims.claim import (
    Axis,
    Claim,
    Failure,
    RegressionProblem,
    Source,
    arms,
    squared_risks,
)
from theory.claims.settings.two_classes import L2, LINF, Norm, radius_axis
from theory.domain import NON_NEGATIVE, POSITIVE, Interval
from theory.problem import Regression
from theory.regression.fit import break_even, fit, keep_or_drop, natural_radius, shift_cost
from theory.regression.risk import squared_risk

KEY = "moayeri2022explicit"
TRUE = np.array([1.0, -0.5, 0.0])
COVARIANCE = np.array([[1.0, 0.2, 0.6], [0.2, 1.0, 0.3], [0.6, 0.3, 1.5]])
# Where a covariance joins a core with the spurious feature: what a shift of the law changes.
COUPLES = (TRUE != 0)[:, None] != (TRUE != 0)[None, :]
ASSUMES = ("Gaussian features", "optimal intercept", "two core features and one spurious one")
# Two sizes: small steps see a slope, large ones that the minimum is global.
STEP = Axis("step", "size of the step", (0.05, 0.2), POSITIVE)
MOVES = tuple(f"w{feature} {way}" for feature in (1, 2, 3) for way in ("up", "down"))
MOVED = squared_risks("squared risk", MOVES, {name: {name: 1} for name in MOVES}, signed=False)


def _law(noise: jax.Array, factor: jax.Array | float = 1.0) -> Regression:
    """Returns the law, its core-spurious covariances times a factor."""
    covariance = jnp.asarray(COVARIANCE, noise.dtype)
    return Regression._make(
        (jnp.asarray(TRUE, noise.dtype), jnp.where(COUPLES, factor * covariance, covariance), noise)
    )


def _moved(
    law: Regression, weight: jax.Array, step: jax.Array, norm: Norm, radius: jax.Array
) -> RegressionProblem:
    """Returns the weights a step away from these, along each axis up and down, under attack."""
    # +1 and -1 along each axis in turn, as MOVES names them.
    moves = step * jnp.asarray(np.kron(np.eye(len(TRUE)), [[1.0], [-1.0]]), step.dtype)
    count = len(MOVES)
    return RegressionProblem(
        arms(*[law] * count), weight[None, :] + moves, norm.ball(jnp.stack([radius] * count))
    )


def certified_fit(norm: Norm) -> Claim:
    """Returns the claim that a step from the fit never lowers the risk below the dual bound."""

    def problem(radius: jax.Array, step: jax.Array, noise: jax.Array) -> RegressionProblem:
        law = _law(noise)
        return _moved(law, fit(law, norm.ball(radius)).weight, step, norm, radius)

    def predict(radius: jax.Array, step: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        optimum = fit(_law(noise), norm.ball(radius))
        return (optimum.risk - optimum.gap + 0 * step,) * len(MOVES)

    return Claim(
        name=f"certified-fit-is-optimal-{norm.name}",
        statement=f"No weights have less adversarial squared risk against {norm.name} than that of "
        "the fit minus its duality gap: a step along any axis leads nowhere below.",
        source=Source(KEY, "C2, C8"),
        axes=(
            radius_axis(0.1, 0.4, 0.8),
            STEP,
            Axis("noise", "standard deviation of y given x", (0.0, 0.5), NON_NEGATIVE),
        ),
        problem=problem,
        predict=predict,
        relation=">=",
        estimand=MOVED,
        assumptions=ASSUMES,
    )


def small_threats_change_nothing(norm: Norm) -> Claim:
    """Returns the claim that the true weights stay optimal, which holds up to a natural radius."""

    def radius_of(share: jax.Array) -> jax.Array:
        # Only the norm of the ball matters to the natural radius.
        return share * natural_radius(_law(0 * share), norm.ball(0 * share))

    def problem(share: jax.Array, step: jax.Array) -> RegressionProblem:
        law = _law(0 * share)
        return _moved(law, law.weight, step, norm, radius_of(share))

    def predict(share: jax.Array, step: jax.Array) -> tuple[jax.Array, ...]:
        law = _law(0 * share)
        risk = squared_risk(law, law.weight, norm.ball(radius_of(share)))
        return (risk + 0 * step,) * len(MOVES)

    return Claim(
        name=f"true-weights-survive-small-threats-{norm.name}",
        statement="Where y is a linear function of the features without noise, no step away from "
        f"the true weights lowers the adversarial squared risk against {norm.name}.",
        source=Source(KEY, "C4.d"),
        axes=(
            Axis(
                "share",
                "radius over the natural radius c / sqrt(min g' Sigma^-1 g)",
                (0.0, 0.5, 1.0, 2.0, 3.0),
                NON_NEGATIVE,
            ),
            STEP,
        ),
        problem=problem,
        predict=predict,
        relation=">=",
        estimand=MOVED,
        assumptions=(*ASSUMES, "no noise in y"),
        fails=Failure("past the natural radius, where shorter weights resist the attack better"),
    )


EVEN_ARMS = ("kept", "flipped", "kept, shifted", "dropped", "kept, attacked", "dropped, attacked")
EVEN = squared_risks(
    "difference of squared risks",
    EVEN_ARMS,
    {
        "standard, kept − dropped": {"kept, shifted": 1, "dropped": -1},
        "adversarial, kept − dropped": {"kept, attacked": 1, "dropped, attacked": -1},
        "standard, flipped − kept": {"flipped": 1, "kept": -1},
    },
    signed=True,
)


def break_even_shift(norm: Norm) -> Claim:
    """Returns the claim of how much of the correlation must survive for keeping to pay."""

    def problem(radius: jax.Array, noise: jax.Array) -> RegressionProblem:
        # Weights are those of the training law throughout; only the law that they meet changes.
        law, ball, none = _law(noise), norm.ball(radius), jnp.zeros_like(radius)
        both, factors = keep_or_drop(law, ball), break_even(law, ball)
        keep, drop = both.keep.weight, both.drop.weight
        shifted, attacked = _law(noise, factors.standard), _law(noise, factors.adversarial)
        return RegressionProblem(
            arms(law, _law(noise, -1.0), shifted, law, attacked, law),
            arms(keep, keep, keep, drop, keep, drop),
            norm.ball(jnp.stack([none, none, none, none, radius, radius])),
        )

    def predict(radius: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        # The factors are chosen so that two differences vanish; the third needs no factor.
        law, none = _law(noise), jnp.zeros_like(radius)
        flipped = _law(noise, -1.0).covariance
        return none, none, shift_cost(law, flipped, fit(law, norm.ball(radius)).weight)

    return Claim(
        name=f"spurious-break-even-{norm.name}",
        statement=f"Trained against {norm.name} with and without the spurious feature, a rule has "
        "the same standard, and the same adversarial risk once the core-spurious covariances are a "
        "break-even factor of those in training; a change of their sign costs "
        "(w_o - w)' (Sigma' - Sigma) (w_o - w) in standard risk.",
        source=Source(KEY, "C7 (factors new)"),
        axes=(
            # Where both shifted covariances are positive definite.
            radius_axis(0.1, 0.3, 0.5, 0.7)._replace(domain=Interval.parse("(0, 0.7]")),
            Axis(
                "noise", "standard deviation of y given x", (0.5, 1.0), Interval.parse("[0.3, 1]")
            ),
        ),
        problem=problem,
        predict=predict,
        relation="==",
        estimand=EVEN,
        assumptions=ASSUMES,
    )


CLAIMS = (certified_fit(LINF), small_threats_change_nothing(L2), break_even_shift(L2))
