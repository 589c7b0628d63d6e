"""Claims of Lee et al. (DAFA, ICLR 2024): class distance and robust fairness, where they hold.

The paper's theorem statements could not be read, only its abstract, reviews and code: statements
are reconstructed, and `Source.result` says which result of the theory document proves the sentence.
Two Gaussian classes at a distance, in sds of the negative class; the positive class is K times as
wide; balanced, l_2 threat, optimal linear rule of the given loss weights.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from theory.claims.claim import CLASS_RISKS, DISPARITY, Axis, Claim, Failure, Problem, Source
from theory.domain import NON_NEGATIVE, POSITIVE, Interval
from theory.fairness import distance_fairness
from theory.fairness.distance import Budgets, transferred_errors
from theory.fairness.distance import class_errors as closed_form
from theory.problem import GaussianMixture, L2Ball
from theory.rules.optimal import class_budget_classifier, optimal_classifier

KEY = "lee2024dafa"
EVEN = jnp.asarray(0.5)
ALONG = np.array([0.48, -0.36, 0.64, 0.48])  # a unit vector
RADIUS = 0.5
SHAPE = "Gaussian, isotropic, balanced, l_2 threat of radius 0.5, optimal linear rule"
WIDE = Interval(1.0, math.inf, True, True)
DISTANCE = Axis(
    "distance",
    "distance that the attack leaves between the classes, sds of the negative class",
    (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
    NON_NEGATIVE,
)
SCALE_RATIO = Axis(
    "scale_ratio", "scale of the positive over that of the negative class", (1.5, 2.5), WIDE
)


def _mixture(distance: jax.Array, scale_ratio: jax.Array, weight: jax.Array) -> GaussianMixture:
    """Returns classes whose robust distance is `distance`; `weight` is rho, put into the prior."""
    # An attack of the radius brings both classes closer, each by it.
    gap = (distance + 2 * RADIUS) * jnp.asarray(ALONG, distance.dtype)
    scales = jnp.stack([jnp.ones_like(scale_ratio), scale_ratio])
    return GaussianMixture(jnp.stack([0 * gap, gap]), scales, 1 / (1 + weight))


def _trained(distance: jax.Array, scale_ratio: jax.Array, weight: jax.Array) -> Problem:
    """Returns the rule of least weighted robust risk, its loss weights apart from the prior."""
    mixture, threat = (
        _mixture(distance, scale_ratio, weight),
        L2Ball(jnp.asarray(RADIUS, distance.dtype)),
    )
    rule = optimal_classifier(mixture, threat)
    # Loss weights act on training as a prior does; what is simulated is balanced all the same.
    return Problem(mixture._replace(prior=EVEN), rule, threat)


def _equal(distance: jax.Array, scale_ratio: jax.Array) -> Problem:
    return _trained(distance, scale_ratio, jnp.ones_like(scale_ratio))


def _errors(distance: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(closed_form(distance, scale_ratio))


# A claim on the rule of equal weights; a claim that says more replaces what differs.
_claim = functools.partial(
    Claim, axes=(DISTANCE, SCALE_RATIO), problem=_equal, assumptions=(SHAPE,)
)


def class_errors() -> Claim:
    """Returns the claim that the class errors of the optimal rule have their closed form."""
    return _claim(
        name="distance-class-errors",
        statement="The robust class errors of the optimal linear rule are Phi(-u_-) and "
        "Phi(-u_+) with K u_+ + u_- = distance and u_-^2 - u_+^2 = 2 log K.",
        source=Source(KEY, "theory document A2 (rho = 1)"),
        predict=_errors,
        relation="==",
        estimand=CLASS_RISKS,
    )


def disparity_grows() -> Claim:
    """Returns the claim that closer classes are less fairly treated, as a bound by a larger gap."""

    def farther(distance: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array]:
        there = closed_form(distance + 0.5, scale_ratio)
        return (there.positive - there.negative,)

    return _claim(
        name="distance-raises-disparity",
        statement="Classes at a distance have at least the robust accuracy disparity that they "
        "would have 0.5 sds farther apart.",
        source=Source(KEY, "theorem (reconstructed); theory document A4.a"),
        predict=farther,
        relation=">=",
        estimand=DISPARITY,
        assumptions=(SHAPE, "the sentence is about the difference: the ratio tends to K, not to 1"),
    )


def _rises(distance: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns where an error exceeds the one at distance zero: u_- is back at that distance."""
    # (k - 1)(k + 1) for k^2 - 1, which cancels near equal scales.
    k = scale_ratio
    least = jnp.sqrt(2 * (k - 1) * (k + 1) * jnp.log(k))
    back = 2 * k * least / ((k - 1) * (k + 1))
    return (distance > 0) & (distance < back), jnp.zeros_like(distance, bool)


def every_error_falls() -> Claim:
    """Returns the claim that distance helps every class, with the region where it is false."""

    def touching(distance: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array, ...]:
        errors = closed_form(0 * distance, scale_ratio)
        return tuple(errors)

    return _claim(
        name="distance-lowers-every-error",
        statement="Both classes have at most the robust error that they have at distance zero.",
        source=Source(KEY, "reading of the abstract; theory document A4.c"),
        predict=touching,
        relation="<=",
        estimand=CLASS_RISKS,
        fails=Failure(
            "the narrow class's error rises with distance up to sqrt(2 log K) and is back where it "
            "was at 2 K sqrt(2 log(K) / (K^2 - 1))",
            _rises,
        ),
    )


def narrow_class_peak() -> Claim:
    """Returns the claim that the narrow class's error is bounded at every distance."""

    def peak(distance: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
        bound = distance_fairness.peak_error(scale_ratio)[0]
        return bound, jnp.ones_like(distance)

    return _claim(
        name="narrow-class-error-peak",
        statement="The robust error of the narrow class is at most Phi(-sqrt(2 log K)) at every "
        "distance (equality at sqrt(2 log K)); nothing bounds that of the wide class.",
        source=Source(KEY, "theory document A4.c"),
        predict=peak,
        relation="<=",
        estimand=CLASS_RISKS,
    )


def fair_weight() -> Claim:
    """Returns the claim that a loss weight of K makes the errors equal, wherever it is true."""

    def problem(distance: jax.Array, scale_ratio: jax.Array) -> Problem:
        # `_trained` takes negative over positive; the fair weight is positive over negative.
        return _trained(distance, scale_ratio, 1 / distance_fairness.fair_weight(scale_ratio))

    def predict(distance: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Too close, the rule trained with that weight always answers the wide class.
        close = distance < distance_fairness.least_fair_distance(scale_ratio)
        fair = distance_fairness.fair_error(distance, scale_ratio)
        return jnp.where(close, 1, fair), jnp.where(close, 0, fair)

    return Claim(
        name="fair-loss-weight",
        statement="A loss weight of K on the wide class makes both robust errors "
        "Phi(-distance / (K + 1)), from the distance (K + 1) Phi^-1(K / (K + 1)) on; closer, the "
        "trained rule always answers the wide class.",
        source=Source(KEY, "theory document A4.h, corrected"),
        axes=(DISTANCE._replace(default=(0.3, 0.9, 1.6, 2.5, 3.5, 5.0)), SCALE_RATIO),
        problem=problem,
        predict=predict,
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=(SHAPE,),
    )


def _widened(multiplier: jax.Array, scale_ratio: jax.Array) -> Problem:
    """Returns the rule trained with a larger radius for the wide class, at distance 2."""
    mixture = _mixture(2 + 0 * scale_ratio, scale_ratio, jnp.ones_like(scale_ratio))
    plain, wide = L2Ball(RADIUS + 0 * multiplier), L2Ball(RADIUS * multiplier)
    return Problem(mixture, class_budget_classifier(mixture, plain, wide), plain)


def larger_margin() -> Claim:
    """Returns the claim that a larger radius helps the hard class, with the errors it gives."""

    def predict(multiplier: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array, ...]:
        cost = RADIUS + 0 * multiplier
        budgets = Budgets(cost, multiplier * RADIUS)
        return tuple(transferred_errors(2 + 2 * RADIUS, scale_ratio, budgets, cost))

    return Claim(
        name="larger-margin-class-errors",
        statement="Training the wide class with a multiple of the radius gives the class errors "
        "of the threshold at the shorter distance; past the distance sqrt(2 log K) a larger "
        "multiple raises the wide class's error again.",
        source=Source(KEY, "adversarial margins of the method; theory document A3, A4.i"),
        axes=(
            Axis(
                "multiplier",
                "training radius of the wide class over that of the other",
                (1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
                POSITIVE,
            ),
            SCALE_RATIO,
        ),
        problem=_widened,
        predict=predict,
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=(SHAPE, "distance 2 at the radius of the threat"),
    )


def wider_is_worse() -> Claim:
    """Returns the claim that unequal variance makes disparity, with the region where it falls."""

    def half_as_wide(scale_ratio: jax.Array, distance: jax.Array) -> tuple[jax.Array]:
        errors = closed_form(distance, scale_ratio / 2)
        return (errors.positive - errors.negative,)

    def falling(scale_ratio: jax.Array, distance: jax.Array) -> tuple[jax.Array]:
        errors = closed_form(distance, scale_ratio)
        return (errors.positive - errors.negative < half_as_wide(scale_ratio, distance)[0],)

    return _claim(
        name="unequal-variance-raises-disparity",
        statement="The robust accuracy disparity is at least that at half the scale ratio and the "
        "same distance.",
        source=Source("xu2021robust", "reading of the theorems; theory document A4.e"),
        axes=(
            SCALE_RATIO._replace(default=(2.0, 2.8, 4.0, 8.0, 16.0, 64.0), domain=Interval(2, 1e4)),
            DISTANCE._replace(default=(0.0, 1.0, 12.0)),
        ),
        predict=half_as_wide,
        relation=">=",
        estimand=DISPARITY,
        fails=Failure(
            "once the scale ratio is some way past exp(distance^2 / 2): the disparity peaks and "
            "falls back to 1/2",
            falling,
        ),
    )


CLAIMS = (
    class_errors(),
    disparity_grows(),
    every_error_falls(),
    narrow_class_peak(),
    fair_weight(),
    larger_margin(),
    wider_is_worse(),
)
