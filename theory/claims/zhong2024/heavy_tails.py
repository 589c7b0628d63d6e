"""Same-class mixup under heavy tails, where the theorem of Zhong and Tandon (2024) does not reach.

A mixed pair has the noise of one point times (lambda^alpha + (1 - lambda)^alpha)^(1 / alpha): less
for alpha > 1, the same for Cauchy noise, more for alpha < 1. All of it is new.
"""

import jax
import jax.numpy as jnp

from theory import stable
from theory.claims.claim import CLASS_RISKS, Axis, Claim, Failure, Problem, Source
from theory.claims.settings.mixup import COEFFICIENTS, KEY, SIZE, SPREAD, coefficient_axis
from theory.claims.settings.two_classes import HALF_GAP, LINF, fixed_rule, means, radius_axis
from theory.claims.settings.two_classes import stable as stable_classes
from theory.domain import Interval
from theory.problem import LinearClassifier, MixedPairs, StableMixture, prior_of_ratio
from theory.rules import risk as linear

UNEQUAL = 1.5
HEAVY_RATIO = 2.0
# Almost Gaussian, and so imbalanced that the intercept reaches the tail at moderate margins.
LIGHT_INDEX, LIGHT_RATIO = 1.9, 30.0


def _factor(coefficient: jax.Array, alpha: jax.Array) -> jax.Array:
    return (coefficient**alpha + (1 - coefficient) ** alpha) ** (1 / alpha)


def _mixed(alpha: jax.Array, coefficient: jax.Array, radius: jax.Array) -> Problem:
    classes = stable_classes(alpha, jnp.full_like(radius, UNEQUAL))
    return Problem(MixedPairs(classes, coefficient), fixed_rule(radius), LINF.ball(radius))


def _margins(alpha: jax.Array, radius: jax.Array) -> jax.Array:
    """Returns the robust margin of the fixed rule over the scale of each class, (2,)."""
    # Written out for the l_inf ball: the dual norm is the sum of sizes, the scale the alpha-norm.
    weight, bias = fixed_rule(radius)
    loss = radius * jnp.sum(jnp.abs(weight))
    scores = jnp.asarray([-1.0, 1.0], alpha.dtype) * (means(alpha) @ weight + bias)
    scale = jnp.sum(jnp.abs(weight) ** alpha) ** (1 / alpha)
    return (scores - loss) / (scale * jnp.asarray([1.0, UNEQUAL], alpha.dtype))


def mixed_stable_risks() -> Claim:
    """Returns the claim that mixing stable pairs keeps the law and changes its scale."""
    radius = 0.2

    def problem(coefficient: jax.Array, alpha: jax.Array) -> Problem:
        return _mixed(alpha, coefficient, jnp.full_like(alpha, radius))

    def predict(coefficient: jax.Array, alpha: jax.Array) -> tuple[jax.Array, ...]:
        margins = _margins(alpha, jnp.full_like(alpha, radius))
        negative, positive = stable.sf(margins / _factor(coefficient, alpha), alpha)
        return negative, positive

    return Claim(
        name="mixup-law-stable",
        statement="Same-class mixup of stable pairs multiplies both class scales by "
        "(lambda^alpha + (1 - lambda)^alpha)^(1 / alpha): it raises the risks of a rule for "
        "alpha < 1 and lowers them for alpha > 1.",
        source=Source(KEY, "T25 (new)"),
        axes=(
            coefficient_axis(*COEFFICIENTS),
            Axis("alpha", "stability index", (0.7, 1, 1.5, 2), Interval.parse("[0.1, 2]")),
        ),
        problem=problem,
        predict=predict,
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=("a rule that is not optimal", "unequal class scales", f"linf radius {radius}"),
    )


def mixing_cauchy_changes_nothing() -> Claim:
    """Returns the claim that no rule can tell mixed Cauchy data from the data themselves."""

    def problem(coefficient: jax.Array, radius: jax.Array) -> Problem:
        return _mixed(jnp.ones_like(radius), coefficient, radius)

    def predict(coefficient: jax.Array, radius: jax.Array) -> tuple[jax.Array, ...]:
        # Cauchy tails are arctangents: nothing of `theory.stable` is in this closed form.
        margins = _margins(jnp.ones_like(radius), radius) + 0 * coefficient
        negative, positive = jnp.arctan2(1, margins) / jnp.pi
        return negative, positive

    return Claim(
        name="mixup-law-cauchy",
        statement="Same-class mixup of Cauchy data is Cauchy data: every rule has the same natural "
        "and robust class risks on both, so that training on mixed data changes nothing.",
        source=Source(KEY, "T25 (new)"),
        axes=(coefficient_axis(*COEFFICIENTS), radius_axis(0, 0.4)),
        problem=problem,
        predict=predict,
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=("a rule that is not optimal", "unequal class scales"),
    )


def _intercept(
    margin: jax.Array,
    spread: jax.Array | float,
    ratio: jax.Array | float,
    alpha: jax.Array,
    factor: jax.Array,
) -> jax.Array:
    """Returns where R f((t - b) / g) / g = f((t + b) / (K g)) / (K g), with K the ratio of scales.

    Between the two class centres one density rises and the other falls, so it is the only one.
    """

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        b = (low + high) / 2
        where = jnp.stack([(margin - b) / factor, (margin + b) / (spread * factor)])
        negative, positive = stable.logpdf(where, alpha)
        below = jnp.log(ratio * spread) + negative < positive
        return jnp.where(below, b, low), jnp.where(below, high, b)

    # A bit a step, and some: float64 is halved to rounding, float32 all the more.
    ends: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(0, 60, halve, (-margin, margin))
    return ends[0]


def mixed_disparity(
    margin: jax.Array,
    spread: jax.Array | float,
    ratio: jax.Array | float,
    alpha: jax.Array,
    coefficient: jax.Array,
) -> jax.Array:
    """Returns the disparity, at its training margin, of the rule that is optimal on mixed data.

    Args:
        margin: robust margin in units of the scale of the negative class, ().
        spread: ratio of the class scales, positive over negative, ().
        ratio: imbalance ratio, such that no constant rule is better, ().
        alpha: stability index, ().
        coefficient: of the pairs, ().
    """
    b = _intercept(margin, spread, ratio, alpha, _factor(coefficient, alpha))
    # One call for both classes: the stable law is what takes long to compile.
    negative, positive = stable.sf(jnp.stack([margin - b, (margin + b) / spread]), alpha)
    disparity: jax.Array = positive - negative
    return disparity


MARGIN = "robust margin, in units of the scale of the negative class"
STATEMENT = (
    "{} robust training on mixed data leaves at most the robust accuracy disparity, in size, of "
    "training on the data themselves."
)


def heavier_than_cauchy() -> Claim:
    """Returns the published sentence for alpha <= 1, where mixing adds noise or does nothing."""
    radius, ratio = 0.2, HEAVY_RATIO

    def problem(coefficient: jax.Array, alpha: jax.Array, margin: jax.Array) -> Problem:
        # For alpha <= 1 the best direction is the coordinate in which the classes differ most.
        weight = jnp.zeros_like(means(alpha)[0]).at[0].set(1)
        intercept = _intercept(margin, SPREAD, ratio, alpha, _factor(coefficient, alpha))
        centres = means(alpha) * ((margin + radius) / float(HALF_GAP[0]))
        scales = jnp.asarray([1.0, SPREAD], alpha.dtype)
        classes = StableMixture(
            centres, scales, prior_of_ratio(jnp.asarray(ratio, alpha.dtype)), alpha
        )
        return Problem(
            classes, LinearClassifier(weight, intercept), LINF.ball(jnp.full_like(alpha, radius))
        )

    def predict(
        coefficient: jax.Array, alpha: jax.Array, margin: jax.Array
    ) -> tuple[jax.Array, ...]:
        before = jnp.abs(
            mixed_disparity(margin, SPREAD, ratio, alpha, jnp.ones_like(alpha) + 0 * coefficient)
        )
        return before, before

    def grows(coefficient: jax.Array, alpha: jax.Array, margin: jax.Array) -> tuple[jax.Array, ...]:
        wider = (alpha < 1) & (coefficient > 0) & (coefficient < 1) & (margin > 0)
        return wider, jnp.zeros_like(wider)

    return Claim(
        name="mixup-shrinks-disparity-heavy-tails",
        statement=STATEMENT.format("Under tails at least as heavy as Cauchy's, too,"),
        source=Source(KEY, "abstract; T25, F4"),
        axes=(
            coefficient_axis(0.5, 0.7, 1),
            Axis("alpha", "stability index", (0.6, 0.8, 1), Interval.parse("[0.6, 1]")),
            # From here on the optimum on mixed data is finite for every coefficient.
            Axis("margin", MARGIN, (1, 15), Interval.parse("[1, inf)")),
        ),
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=SIZE,
        assumptions=(
            f"independent stable noise, class scales 1 and {SPREAD:g}",
            f"imbalance ratio {ratio:g}, linf radius {radius:g} in training and test",
        ),
        fails=Failure("alpha < 1: mixing adds noise and widens the disparity; none at 1", grows),
    )


def lighter_than_cauchy() -> Claim:
    """Returns the published sentence for 1 < alpha < 2, which needs classes that overlap enough."""
    index, ratio = LIGHT_INDEX, LIGHT_RATIO

    def problem(margin: jax.Array, coefficient: jax.Array) -> Problem:
        alpha, half_gap = jnp.full_like(margin, index), means(margin)[1]
        unit = jnp.ones(2, margin.dtype)
        prior = prior_of_ratio(jnp.asarray(ratio, alpha.dtype))
        classes = StableMixture(means(margin), unit, prior, alpha)
        # The direction of largest margin over the scale of its projection, at scale one.
        weight = half_gap ** (1 / (index - 1))
        weight /= linear.projection_scale(classes, weight)
        classes = classes._replace(means=classes.means * (margin / jnp.sum(weight * half_gap)))
        intercept = _intercept(margin, 1.0, ratio, alpha, _factor(coefficient, alpha))
        return Problem(classes, LinearClassifier(weight, intercept))

    def at(margin: jax.Array, coefficient: jax.Array) -> jax.Array:
        alpha = jnp.full_like(margin, index)
        return mixed_disparity(margin, 1.0, ratio, alpha, coefficient)

    def predict(margin: jax.Array, coefficient: jax.Array) -> tuple[jax.Array, ...]:
        before = jnp.abs(at(margin, jnp.ones_like(coefficient)))
        return before, before

    def grows(margin: jax.Array, coefficient: jax.Array) -> tuple[jax.Array, ...]:
        after, before = jax.lax.map(
            lambda c: at(margin, c), jnp.stack([coefficient, jnp.ones_like(coefficient)])
        )
        wider = (after > before) & (coefficient > 0) & (coefficient < 1)
        return wider, jnp.zeros_like(wider)

    return Claim(
        name="mixup-shrinks-disparity-separated",
        statement=STATEMENT.format("Under tails lighter than Cauchy's, too,"),
        source=Source(KEY, "abstract; T25, F4"),
        axes=(
            Axis("margin", MARGIN, (2.5, 3, 3.5, 4, 5, 6, 8), Interval.parse("[2.5, inf)")),
            coefficient_axis(0.5, 0.75),
        ),
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=SIZE,
        assumptions=(
            f"independent stable noise with alpha = {index:g}, equal class scales",
            f"imbalance ratio {ratio:g}, no threat",
        ),
        fails=Failure(
            "classes further apart than a margin of some 4 scales: at the intercept the tail is no "
            "longer Gaussian, and less noise moves it further out",
            grows,
        ),
    )


CLAIMS = (
    mixed_stable_risks(),
    mixing_cauchy_changes_nothing(),
    heavier_than_cauchy(),
    lighter_than_cauchy(),
)
