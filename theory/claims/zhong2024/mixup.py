"""Claims of Zhong and Tandon (2024) on same-class mixup, robustness and class-wise risk.

Only the paper's abstract could be read: that mixup with adversarial training provably shrinks the
class-wise disparity in natural and in robust risk. The theorem is re-derived with its region; where
it is false the region is a claim of its own, in `zhong2024_limits` and `zhong2024_heavy_tails`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from theory.claims.claim import CLASS_RISKS, RISK, Axis, Claim, Estimand, Problem, Source
from theory.claims.settings.mixup import (
    COEFFICIENTS,
    KEY,
    SHAPE,
    SIZE,
    SPREAD,
    Setting,
    coefficient_axis,
    difference,
    direction_line,
    meeting_intercept,
    ratio_axis,
    trained,
    unequal_classes,
    variance_factor,
)
from theory.claims.settings.two_classes import L2, LINF, fixed_rule, gaussian, radius_axis
from theory.domain import POSITIVE, REAL, Interval
from theory.problem import MixedPairs, Mixture
from theory.rules import risk as linear
from theory.rules.risk import ClassRisks

# The class whose noise is larger, and which therefore fares worse without mixing.
WIDE = Estimand(
    "risk of the class of larger scale", ("positive",), lambda _: np.array([[0.0, 1.0]])
)
EVALUATIONS = (Setting(LINF, "natural"), Setting(LINF, "robust"))


def trained_risks(setting: Setting) -> Claim:
    """Returns the claim that the mixup-optimal rule's class risks have a closed form."""

    def problem(coefficient: jax.Array, radius: jax.Array) -> Problem:
        return setting.problem(coefficient, radius, jnp.ones_like(radius))

    def predict(coefficient: jax.Array, radius: jax.Array) -> tuple[jax.Array, ...]:
        return setting.risks(coefficient, radius, jnp.ones_like(radius))

    # At the margin and past it the trained rule is constant, and there is no intercept to speak of.
    inside = Interval(0, setting.norm.margin, False, True)
    return Claim(
        name=f"mixup-trained-risks-{setting.evaluation}",
        statement=f"On the original law the rule that is optimal on mixed data has the "
        f"{setting.evaluation} class risks Phi(-(m - beta) / s_-) and Phi(-(m + beta) / s_+), with "
        "beta the optimal intercept for log(R s_+ / s_-) times c = lambda^2 + (1 - lambda)^2.",
        source=Source(KEY, "T22 (re-derived)"),
        axes=(
            coefficient_axis(*COEFFICIENTS),
            radius_axis(0, 0.2, 0.4, 0.6, 0.8)._replace(domain=inside),
        ),
        problem=problem,
        predict=predict,
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=(SHAPE, "imbalance ratio 1", f"trained for an {setting.norm.name} threat"),
    )


def _pairs_risks(mixture: Mixture, coefficient: jax.Array, radius: jax.Array) -> Problem:
    return Problem(MixedPairs(mixture, coefficient), fixed_rule(radius), LINF.ball(radius))


def mixed_risks() -> Claim:
    """Returns the claim that mixing a pair multiplies the variance by the sum of squares."""
    spread = 1.5

    def problem(coefficient: jax.Array, radius: jax.Array) -> Problem:
        return _pairs_risks(gaussian(jnp.full_like(radius, spread)), coefficient, radius)

    def predict(coefficient: jax.Array, radius: jax.Array) -> tuple[jax.Array, ...]:
        # One law of smaller scale; what is simulated are pairs, each drawn and mixed.
        mixture = gaussian(jnp.full_like(radius, spread))
        mixture = mixture._replace(scales=mixture.scales * jnp.sqrt(variance_factor(coefficient)))
        return linear.class_risks(mixture, fixed_rule(radius), LINF.ball(radius))

    return Claim(
        name="mixup-law-gaussian",
        statement="Same-class mixup of Gaussian pairs keeps means and prior and multiplies both "
        "class variances by lambda^2 + (1 - lambda)^2, so it lowers the robust risks of a rule.",
        source=Source(KEY, "T22 (re-derived)"),
        axes=(coefficient_axis(*COEFFICIENTS), radius_axis(0, 0.3)),
        problem=problem,
        predict=predict,
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=("any covariance", "a rule that is not optimal", "unequal class scales"),
    )


def randomly_mixed_risks() -> Claim:
    """Returns the same claim for random coefficients: a Gaussian mixture of scales."""

    def problem(concentration: jax.Array, radius: jax.Array) -> Problem:
        mixture = gaussian(jnp.full_like(radius, 1.5))
        return Problem(
            MixedPairs(mixture, None, concentration), fixed_rule(radius), L2.ball(radius)
        )

    return Claim(
        name="mixup-law-random-coefficient",
        statement="With a coefficient of the law Beta(a, a) the mixed classes are mixtures of "
        "Gaussians of the scales (lambda^2 + (1 - lambda)^2)^(1/2), and class risks average over "
        "them.",
        source=Source(KEY, "T24 (new)"),
        axes=(
            Axis("concentration", "Beta parameter a", (0.1, 0.3, 1, 3, 10, 100), POSITIVE),
            radius_axis(0, 1),
        ),
        problem=problem,
        predict=lambda **parameters: linear.class_risks(*problem(**parameters)),
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=("any covariance", "a rule that is not optimal", "unequal class scales"),
    )


def optimal_intercept() -> Claim:
    """Returns the claim that on mixed data no other intercept has a smaller robust risk."""
    radius = 0.4

    def problem(offset: jax.Array, coefficient: jax.Array) -> Problem:
        ones = jnp.ones_like(offset)
        best = trained(LINF, coefficient, 2 * ones, radius * ones)
        # Judged on the mixed law, for which the rule is optimal; on the original one it is not.
        moved = best.classifier._replace(bias=best.classifier.bias + offset)
        return Problem(MixedPairs(unequal_classes(2 * ones), coefficient), moved, best.threat)

    def predict(offset: jax.Array, coefficient: jax.Array) -> tuple[jax.Array]:
        line, square = (
            direction_line(LINF, jnp.full_like(offset, radius)),
            variance_factor(coefficient),
        )
        margin = line.margin(radius)
        intercept, deviation = meeting_intercept(margin, 2.0, square), jnp.sqrt(square)
        negative = ndtr((intercept - margin) / deviation)
        positive = ndtr(-(intercept + margin) / (SPREAD * deviation))
        return ((2 * negative + positive) / 3,)

    return Claim(
        name="mixup-optimal-intercept",
        statement="On mixed data no intercept gives the robust direction a smaller robust risk "
        "than that of log(R s_+ / s_-) times lambda^2 + (1 - lambda)^2 (equality at offset 0).",
        source=Source(KEY, "T22 (re-derived)"),
        axes=(
            Axis("offset", "intercept minus the optimal one", (-2, -1, -0.5, 0, 0.5, 1, 2), REAL),
            coefficient_axis(0.5, 0.8),
        ),
        problem=problem,
        predict=predict,
        relation=">=",
        estimand=RISK,
        assumptions=(SHAPE, "imbalance ratio 2", f"linf radius {radius:g}"),
    )


def disparity_shrinks(setting: Setting) -> Claim:
    """Returns the published theorem where it is one: mixup shrinks the disparity."""
    radius = 0.3

    def problem(coefficient: jax.Array, imbalance_ratio: jax.Array) -> Problem:
        return setting.problem(coefficient, jnp.full_like(coefficient, radius), imbalance_ratio)

    def predict(coefficient: jax.Array, imbalance_ratio: jax.Array) -> tuple[jax.Array, ...]:
        # A coefficient of one is training without mixing.
        plain = setting.risks(
            jnp.ones_like(coefficient), jnp.full_like(coefficient, radius), imbalance_ratio
        )
        return jnp.abs(difference(plain)), jnp.abs(difference(plain))

    return Claim(
        name=f"mixup-shrinks-disparity-{setting.evaluation}",
        statement=f"Robust training on mixed data leaves at most the {setting.evaluation} accuracy "
        "disparity, in size, of robust training on the data themselves (equality without mixing).",
        source=Source(KEY, "abstract; T23"),
        axes=(
            coefficient_axis(*COEFFICIENTS),
            ratio_axis(Interval.parse("[0.5, inf)"), 0.5, 1, 3, 30),
        ),
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=SIZE,
        assumptions=(
            SHAPE,
            f"means {setting.separation:g} times those of the other claims",
            f"R s_+ >= s_-, trained for {setting.norm.name} radius {radius:g}",
        ),
    )


def wide_class_gains() -> Claim:
    """Returns the claim that mixup lowers the robust risk of the class that fares worse."""
    return _effect(
        "mixup-helps-the-wide-class",
        "Robust training on mixed data gives the class of larger scale, which fares worse, at most "
        "the robust risk of training on the data themselves.",
        "<=",
        WIDE,
        lambda risks, _: risks.positive,
    )


def overall_risk_pays() -> Claim:
    """Returns the claim that mixup costs overall robust risk on the original law."""
    return _effect(
        "mixup-costs-overall-risk",
        "The rule trained on mixed data has at least the overall robust risk, on the original law, "
        "of the rule trained on the data themselves: fairness has a price.",
        ">=",
        RISK,
        lambda risks, ratio: (ratio * risks.negative + risks.positive) / (1 + ratio),
    )


def _effect(
    name: str,
    statement: str,
    relation: str,
    estimand: Estimand,
    value: Callable[[ClassRisks, jax.Array], jax.Array],
) -> Claim:
    """Returns the claim that compares a robust risk after mixing with that before."""
    setting, radius = EVALUATIONS[1], 0.4

    def problem(coefficient: jax.Array, imbalance_ratio: jax.Array) -> Problem:
        return setting.problem(coefficient, jnp.full_like(coefficient, radius), imbalance_ratio)

    def predict(coefficient: jax.Array, imbalance_ratio: jax.Array) -> tuple[jax.Array]:
        at = jnp.full_like(coefficient, radius)
        plain = setting.risks(jnp.ones_like(coefficient), at, imbalance_ratio)
        return (value(plain, imbalance_ratio),)

    return Claim(
        name=name,
        statement=statement,
        source=Source(KEY, "T23 (new)"),
        axes=(
            coefficient_axis(*COEFFICIENTS),
            ratio_axis(Interval.parse("[0.5, inf)"), 1, 3),
        ),
        problem=problem,
        predict=predict,
        relation="<=" if relation == "<=" else ">=",
        estimand=estimand,
        assumptions=(SHAPE, f"R s_+ >= s_-, trained for {setting.norm.name} radius {radius:g}"),
    )


CLAIMS = (
    *(
        claim
        for setting in EVALUATIONS
        for claim in (trained_risks(setting), disparity_shrinks(setting._replace(separation=1.5)))
    ),
    mixed_risks(),
    randomly_mixed_risks(),
    optimal_intercept(),
    wide_class_gains(),
    overall_risk_pays(),
)
