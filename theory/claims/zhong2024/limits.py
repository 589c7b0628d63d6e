"""Where the theorem of Zhong and Tandon (2024) on mixup and disparity ends, for Gaussian classes.

Each claim is the published sentence taken beyond the region in which it is a theorem, with the
part of its grid where it is false; there the simulation is to refute it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from theory.claims.claim import Axis, Claim, Failure, Problem, Source
from theory.claims.settings.mixup import (
    KEY,
    SHAPE,
    SIZE,
    SPREAD,
    Setting,
    coefficient_axis,
    difference,
    direction_line,
    line_risks,
    meeting_intercept,
    ratio_axis,
    trained,
    unequal_classes,
    variance_factor,
)
from theory.claims.settings.two_classes import L2, LINF, radius_axis
from theory.domain import Interval
from theory.problem import MixedPairs

# The disparity of the rule trained with a coefficient, in closed form.
Disparity = Callable[..., jax.Array]


def _grows(
    name: str,
    beyond: str,
    where: str,
    result: str,
    axes: tuple[Axis, Axis],
    problem: Callable[..., Problem],
    disparity: Disparity,
    assumptions: tuple[str, ...],
) -> Claim:
    """Returns the published sentence in a setting where it may fail.

    `disparity` and `problem` take the coefficient and one more parameter.
    """

    def predict(coefficient: jax.Array, **other: jax.Array) -> tuple[jax.Array, ...]:
        before = jnp.abs(disparity(jnp.ones_like(coefficient), **other))
        return before, before

    def wider(coefficient: jax.Array, **other: jax.Array) -> tuple[jax.Array, ...]:
        after = disparity(coefficient, **other)
        before = jnp.abs(disparity(jnp.ones_like(coefficient), **other))
        # SIZE bounds the disparity from both sides: the one that it breaks depends on its sign.
        mixing = (coefficient > 0) & (coefficient < 1)
        return mixing & (after > before), mixing & (-after > before)

    return Claim(
        name=name,
        statement=f"{beyond} training on mixed data leaves at most the accuracy disparity, in "
        "size, of training on the data themselves.",
        source=Source(KEY, result),
        axes=axes,
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=SIZE,
        assumptions=assumptions,
        fails=Failure(where, wider),
    )


def rare_narrow_class() -> Claim:
    """Returns the sentence where the class of smaller scale is a small minority."""
    setting, radius = Setting(LINF, "natural"), 0.6

    def problem(coefficient: jax.Array, imbalance_ratio: jax.Array) -> Problem:
        return setting.problem(coefficient, jnp.full_like(coefficient, radius), imbalance_ratio)

    def disparity(coefficient: jax.Array, imbalance_ratio: jax.Array) -> jax.Array:
        at = jnp.full_like(coefficient, radius)
        return difference(setting.risks(coefficient, at, imbalance_ratio))

    return _grows(
        "mixup-shrinks-disparity-rare-narrow-class",
        "Where the class of smaller scale is rare, too,",
        "natural disparity and R s_+ < s_-: mixing draws the intercept towards the rare class, and "
        "at the natural margin it is beyond the fair one already",
        "abstract; T23, F1",
        (coefficient_axis(0.5, 0.6, 0.7, 0.8, 1), ratio_axis(Interval.parse("[0.4, 1]"), 0.4, 1)),
        problem,
        disparity,
        (SHAPE, f"trained for linf radius {radius:g}, evaluated without a threat"),
    )


def stronger_attack() -> Claim:
    """Returns the sentence for an attack stronger than the one trained against."""
    radius = 0.2

    def problem(test_radius: jax.Array, coefficient: jax.Array) -> Problem:
        ones = jnp.ones_like(coefficient)
        return trained(LINF, coefficient, ones, radius * ones)._replace(
            threat=LINF.ball(test_radius)
        )

    def disparity(coefficient: jax.Array, test_radius: jax.Array) -> jax.Array:
        # Direction and intercept are those of the training radius; only the margin is tested anew.
        line = direction_line(LINF, jnp.full_like(coefficient, radius))
        intercept = meeting_intercept(line.margin(radius), 1.0, variance_factor(coefficient))
        return difference(line_risks(line, test_radius, intercept))

    meaning = "radius of the attack that the rule is tested with"
    return _grows(
        "mixup-shrinks-disparity-stronger-attack",
        "Against a stronger attack than the one trained for, too,",
        "test radius well above the training radius: the disparity changes its sign and grows",
        "abstract; T23, F2",
        (
            Axis(
                "test_radius",
                meaning,
                (0, 0.2, 0.5, 0.8, 1.1, 1.4, 2.5),
                Interval.parse("[0, inf)"),
            ),
            coefficient_axis(0.5, 0.75),
        ),
        problem,
        disparity,
        (SHAPE, f"imbalance ratio 1, trained for linf radius {radius:g}"),
    )


def mixed_law() -> Claim:
    """Returns the sentence on the mixed data themselves, for radii across the margin."""

    def problem(radius: jax.Array, coefficient: jax.Array) -> Problem:
        ones = jnp.ones_like(radius)
        rule = trained(L2, coefficient, ones, radius)
        return rule._replace(mixture=MixedPairs(unequal_classes(ones), coefficient))

    def disparity(coefficient: jax.Array, radius: jax.Array) -> jax.Array:
        margin, square = direction_line(L2, radius).margin(radius), variance_factor(coefficient)
        intercept, deviation = meeting_intercept(margin, 1.0, square), jnp.sqrt(square)
        # On the mixed law both scales shrink with the intercept that was chosen for them.
        positive = ndtr(-(intercept + margin) / (SPREAD * deviation))
        return positive - ndtr((intercept - margin) / deviation)

    return _grows(
        "mixup-shrinks-disparity-mixed-law",
        "On the mixed data, too,",
        "radius past the margin ||Delta||_p, where no direction has a positive robust margin",
        "abstract; T23, F3",
        (radius_axis(0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4), coefficient_axis(0.5, 0.75)),
        problem,
        disparity,
        (SHAPE, "imbalance ratio 1, evaluated on mixed data under the l2 threat trained for"),
    )


CLAIMS = (
    rare_narrow_class(),
    stronger_attack(),
    mixed_law(),
)
