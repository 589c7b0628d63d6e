"""Claims of Moayeri, Banihashem and Feizi (NeurIPS 2022) on spurious features, for regression.

Only the paper's abstract could be read, so its theory is re-derived; `Source.result` says which
result of the theory document proves the sentence. What is simulated are squared risks: reliance on
the spurious feature is seen as what a shift of it costs, on the same draws.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from theory.claims.claim import Axis, Claim, Failure, RegressionProblem, Source, arms, squared_risks
from theory.claims.settings.pair_regressions import (
    CORRELATION,
    EXTRA,
    SCALE,
    SPREAD,
    TRAINED,
    kept_and_dropped,
    moved,
    pair,
    trained,
    trained_arms,
)
from theory.claims.settings.two_classes import (
    COVARIANCE,
    HALF_GAP,
    L1,
    L2,
    LINF,
    WEIGHT,
    Norm,
    radius_axis,
)
from theory.domain import NON_NEGATIVE, Interval
from theory.problem import Regression
from theory.regression.pair import Block, block_pair, block_regression, flip_cost
from theory.regression.risk import squared_risk

KEY = "moayeri2022explicit"
RADII = {
    "l1": (0.0, 0.3, 0.6, 1.0, 1.8, 2.6),
    "l2": (0.0, 0.2, 0.5, 0.8, 1.2, 1.8),
    "linf": (0.0, 0.2, 0.4, 0.6, 0.9, 1.5),
}
ASSUMES = ("Gaussian features", "optimal intercept", "one core and one spurious feature")
# The radius up to which reliance is compared with its growth in proportion to the radius.
REFERENCE = 0.8
# Core features, and the covariance of each with the spurious one at scale one: 4 * 0.45 > 1.
CORES, SHARED = 4, 0.45


# Components are linear in the arms, which see the same draws: differences lose most of their noise.
FIXED = squared_risks(
    "squared risk",
    ("standard", "adversarial"),
    {"standard": {"standard": 1}, "adversarial": {"adversarial": 1}},
    signed=False,
)
RISKS = squared_risks(
    "squared risk",
    TRAINED,
    {"adversarial": {"adversarial": 1}, "after the flip": {"flipped": 1}},
    signed=False,
)
COSTS = squared_risks(
    "rise of the squared risk",
    TRAINED,
    {
        "correlation flipped": {"flipped": 1, "standard": -1},
        "noise on the spurious": {"noisy": 1, "standard": -1},
    },
    signed=True,
)
RELIANCE = squared_risks(
    "rise of the squared risk",
    TRAINED,
    {"noise on the spurious": {"noisy": 1, "standard": -1}},
    signed=True,
)
# flipped - standard >= standard - noise^2, with what is random on one side.
PRICE = squared_risks(
    "flipped minus twice the standard squared risk",
    TRAINED,
    {"flipped − 2 standard": {"flipped": 1, "standard": -2}},
    signed=True,
)
KEPT = squared_risks(
    "squared risk with minus without the spurious feature",
    ("standard, all", "adversarial, all", "standard, core", "adversarial, core"),
    {
        "adversarial": {"adversarial, all": 1, "adversarial, core": -1},
        "standard": {"standard, all": 1, "standard, core": -1},
    },
    signed=True,
)
MOVES = ("core up", "core down", "spurious up", "spurious down")
MOVED = squared_risks("squared risk", MOVES, {name: {name: 1} for name in MOVES}, signed=False)


def _fixed_rule(norm: Norm, radius: jax.Array, noise: jax.Array) -> RegressionProblem:
    """Returns a rule that is optimal for nothing, on eight correlated features."""
    true, covariance, weight = (
        jnp.asarray(v, radius.dtype) for v in (HALF_GAP, COVARIANCE, WEIGHT / 2)
    )
    law = Regression._make((true, covariance, noise))
    radii = jnp.stack([jnp.zeros_like(radius), radius])
    return RegressionProblem(arms(law, law), arms(weight, weight), norm.ball(radii))


def fixed_risk(norm: Norm) -> Claim:
    """Returns the claim that the squared risk of any rule under attack has its closed form."""
    problem = functools.partial(_fixed_rule, norm)

    def predict(radius: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(squared_risk(*problem(radius, noise)))

    return Claim(
        name=f"adversarial-squared-risk-{norm.name}",
        statement=f"Against {norm.name} the adversarial squared risk of a linear regression is "
        "s^2 + 2 sqrt(2 / pi) radius s ||w||_q + radius^2 ||w||_q^2, s the deviation of its "
        "residual.",
        source=Source(KEY, "C1"),
        axes=(
            radius_axis(*(value / 2 for value in RADII[norm.name])),
            SPREAD._replace(default=(0.0, 1.0)),
        ),
        problem=problem,
        predict=predict,
        relation="==",
        estimand=FIXED,
        assumptions=("Gaussian features", "optimal intercept"),
    )


def _on_trained_pair(norm: Norm) -> functools.partial[Claim]:
    """Returns what makes a claim on the trained pair, which may replace what differs."""
    return functools.partial(
        Claim,
        axes=(radius_axis(*RADII[norm.name]), SCALE, SPREAD),
        problem=trained_arms(norm),
        assumptions=ASSUMES,
    )


def trained_risk(norm: Norm) -> Claim:
    """Returns the claim that a trained pair lies on its closed path, by its risks."""

    def predict(
        radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, ...]:
        # Standard risk of the same weights once the correlation has its other sign.
        law, ball = pair(scale_ratio, noise), norm.ball(radius)
        weight = trained(law, ball)
        after = pair(scale_ratio, noise, -CORRELATION)
        return squared_risk(law, weight, ball), squared_risk(after, weight)

    return _on_trained_pair(norm)(
        name=f"trained-squared-risk-{norm.name}",
        statement=f"Adversarial training against {norm.name} gives a pair of features the weights "
        "of its closed path: with them it has this adversarial risk, and this standard risk when "
        "the correlation of core and spurious feature has changed its sign.",
        source=Source(KEY, "C3, C7"),
        predict=predict,
        relation="==",
        estimand=RISKS,
    )


def shift_costs(norm: Norm, when: str) -> Claim:
    """Returns the claim of what a shift of the spurious feature costs the trained rule."""

    def predict(
        radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, ...]:
        law = pair(scale_ratio, noise)
        weight = trained(law, norm.ball(radius))
        return flip_cost(law, weight), EXTRA * weight[1] ** 2

    return _on_trained_pair(norm)(
        name=f"spurious-shift-cost-{norm.name}",
        statement=f"After training against {norm.name} a change of sign of the correlation b costs "
        "4 |b| (theta - w_C) |w_S|, and noise of variance v on the spurious feature v w_S^2: "
        f"{when}.",
        source=Source(KEY, "C3, C7, the paper's claim (iii)"),
        predict=predict,
        relation="==",
        estimand=COSTS,
    )


def growth(norm: Norm) -> Claim:
    """Returns the claim that training makes a rule rely on the spurious feature from the start."""

    def predict(
        radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, ...]:
        # From the start: at least in proportion to the radius, so that no radius is without effect.
        reference = norm.ball(jnp.full_like(radius, REFERENCE))
        weight = trained(pair(scale_ratio, noise), reference)
        return (EXTRA * (radius / REFERENCE * weight[1]) ** 2,)

    return _on_trained_pair(norm)(
        name=f"spurious-reliance-grows-{norm.name}",
        statement=f"Training against {norm.name} makes the rule rely on the spurious feature, its "
        f"weight growing at least in proportion to the radius up to {REFERENCE:g}.",
        source=Source(KEY, "C4, the paper's claim (i)"),
        axes=(
            Axis(
                "radius",
                "perturbation radius, in units of the inputs",
                (0.0, 0.2, 0.4, 0.6),
                Interval(0.0, REFERENCE),
            ),
            SCALE,
            SPREAD._replace(default=(0.1, 0.5)),
        ),
        predict=predict,
        relation=">=",
        estimand=RELIANCE,
        fails=Failure(
            "with little noise in y at small radii: without any, training changes nothing up to "
            "the radius sqrt(2 / pi) sd(x_C | x_S)"
        ),
    )


def _nothing(radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
    return (jnp.zeros_like(radius),)


def larger_scale_only(
    cores: str, problem: Callable[..., RegressionProblem], assumes: str, where: str | None
) -> Claim:
    """Returns the claim that l_inf training ignores spurious features of smaller scale."""
    return Claim(
        name=f"linf-relies-on-larger-scale-only-{cores}",
        statement="Training against linf gives no weight to a spurious feature whose scale is at "
        "most that of every core feature: noise on it costs nothing.",
        source=Source(KEY, "C3, C5, C6, the paper's claim (ii)"),
        axes=(
            radius_axis(0.2, 0.5, 0.8),
            SCALE._replace(default=(0.4, 0.7, 1.0), domain=Interval(0.0, 1.0, open_low=True)),
            SPREAD,
        ),
        problem=problem,
        predict=_nothing,
        relation="<=",
        estimand=RELIANCE,
        assumptions=("Gaussian features", "optimal intercept", assumes),
        fails=None if where is None else Failure(where),
    )


def _four_cores(radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array) -> RegressionProblem:
    """Returns four independent core features that share a spurious one, trained as a pair."""
    one, none = jnp.ones_like(radius), jnp.zeros_like(radius)

    def block(sign: float, extra: float) -> Block:
        coupling = sign * SHARED * scale_ratio
        return Block(CORES, 1, one, none, scale_ratio**2 + extra, none, coupling, one, noise)

    # By the pair that it is equivalent to (C6): a closed path for a fit in five dimensions.
    twin, back = block_pair(block(1, 0), LINF.ball(radius))
    core, spurious = trained(twin, LINF.ball(radius)) * back
    weight = jnp.stack([core] * CORES + [spurious])
    laws = [block_regression(b) for b in (block(1, 0), block(1, 0), block(-1, 0), block(1, EXTRA))]
    radii = jnp.stack([none, radius, none, none])
    return RegressionProblem(arms(*laws), arms(*[weight] * 4), LINF.ball(radii))


def doubled_price(norm: Norm, where: str) -> Claim:
    """Returns the claim that a flipped correlation doubles the price of adversarial training."""

    def predict(
        radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, ...]:
        # See PRICE; training without an attack has the standard risk noise^2.
        return (-(noise**2),)

    return _on_trained_pair(norm)(
        name=f"flip-doubles-price-{norm.name}",
        statement=f"Training against {norm.name} reduces distributional robustness: a change of "
        "sign of the correlation at least doubles what it costs in standard risk.",
        source=Source(KEY, "C7, the paper's claim (iii)"),
        predict=predict,
        relation=">=",
        estimand=PRICE,
        fails=Failure(where),
    )


def keeping_helps(norm: Norm) -> Claim:
    """Returns the claim that a spurious feature helps while its correlation is preserved."""

    def predict(
        radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, ...]:
        return jnp.zeros_like(radius), jnp.zeros_like(radius)

    return _on_trained_pair(norm)(
        name=f"preserved-correlation-helps-{norm.name}",
        statement=f"Where the correlation is preserved, training against {norm.name} with the "
        "spurious feature gives no larger adversarial, and no larger standard risk than without.",
        source=Source(KEY, "C7, the paper's claim (iii), converse"),
        problem=kept_and_dropped(norm),
        predict=predict,
        relation="<=",
        estimand=KEPT,
        fails=Failure("standard risk at small radii, where the spurious feature raises it"),
    )


def optimal(norm: Norm) -> Claim:
    """Returns the claim that no weights near those of the closed path have a smaller risk."""

    def predict(
        radius: jax.Array, scale_ratio: jax.Array, noise: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, ...]:
        law, ball = pair(scale_ratio, noise), norm.ball(radius)
        least = squared_risk(law, trained(law, ball), ball)
        return least, least, least, least

    return _on_trained_pair(norm)(
        name=f"trained-weights-are-optimal-{norm.name}",
        statement=f"The weights of the closed path have the least adversarial squared risk against "
        f"{norm.name}: a step along either axis lowers it nowhere.",
        source=Source(KEY, "C2, C3"),
        axes=(
            Axis("step", "size of the step", (0.05, 0.15, 0.4), NON_NEGATIVE),
            radius_axis(*RADII[norm.name][1:4:2]),
            SCALE,
            SPREAD,
        ),
        problem=moved(norm),
        predict=predict,
        relation=">=",
        estimand=MOVED,
    )


RISES = "with noise in y something at every radius at which any feature is used"
WHEN_SHIFTS_COST = (
    (L1, RISES),
    (L2, RISES),
    (LINF, "nothing at any radius where |corr| sd(x_S) <= sd(x_C)"),
)
CLAIMS = (
    *(
        claim
        for norm, when in WHEN_SHIFTS_COST
        for claim in (fixed_risk(norm), trained_risk(norm), shift_costs(norm, when))
    ),
    growth(L1),
    growth(L2),
    larger_scale_only("one-core", trained_arms(LINF), "one core feature", None),
    larger_scale_only(
        "four-cores",
        _four_cores,
        "four independent core features, each correlated by 0.45 with the spurious one",
        "where the covariance with each of k core features exceeds their variance / k: here from "
        "the scale ratio 5 / 9 on",
    ),
    doubled_price(L2, "at large radii, where the rule gives up the core feature as well"),
    doubled_price(
        LINF,
        "at every radius where |corr| sd(x_S) <= sd(x_C), as the spurious weight is zero; else at "
        "large radii",
    ),
    keeping_helps(L2),
    optimal(L2),
    optimal(LINF),
)
