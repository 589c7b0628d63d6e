"""Claims of Hu, Wu, Zhang and Zhao (ICML 2023) on robustness, imbalance and accuracy disparity.

Only the paper's abstract and code could be read, so its theorems are re-derived; `Source.result`
says which result of the theory document proves the sentence.
"""

import functools
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from theory.claims.claim import CLASS_RISKS, DISPARITY, RISK, Axis, Claim, Failure, Problem, Source
from theory.claims.settings.two_classes import (
    HALF_GAP,
    L1,
    L2,
    LINF,
    RATIO,
    SCALE_RATIO,
    WEIGHT,
    Norm,
    fixed_rule,
    gaussian,
    isotropic,
    radius_axis,
    radius_range,
    stable,
)
from theory.domain import Interval
from theory.problem import LinearClassifier, Mixture
from theory.rules import direction, optimal
from theory.rules import risk as linear

KEY = "hu2023accuracydisparity"
# Where `theory.stable` evaluates the law.
TABULATED = Interval.parse("[0.1, 2]")
SHAPE = "Gaussian, isotropic, equal class scales"
# For each noise its classes at a scale ratio, its name in words, and the result that covers it.
NOISES: dict[str, tuple[Callable[[jax.Array], Mixture], str, str]] = {
    "gaussian": (gaussian, "Gaussian noise of any covariance", "T1"),
    "cauchy": (
        functools.partial(stable, jnp.asarray(1.0)),
        "independent Cauchy noise",
        "T15, alpha = 1",
    ),
    "holtsmark": (
        functools.partial(stable, jnp.asarray(1.5)),
        "independent alpha-stable noise with alpha = 1.5 (Holtsmark)",
        "T15, alpha = 1.5",
    ),
}


def _closed_form(problem: Callable[..., Problem]) -> Callable[..., tuple[jax.Array, ...]]:
    # Of the very problem that is simulated: neither can drift away from the other.
    return lambda **parameters: linear.class_risks(*problem(**parameters))


def robust_risk(law: str, norm: Norm) -> Claim:
    """Returns the claim that the class-wise robust risk of any linear rule is F at its margin."""
    mixture, noise, result = NOISES[law]

    def problem(radius: jax.Array, scale_ratio: jax.Array) -> Problem:
        # A rule that is optimal for nothing: about an optimum a wrong radius or scale hardly shows.
        return Problem(mixture(scale_ratio), fixed_rule(radius), norm.ball(radius))

    return Claim(
        name=f"{law}-robust-risk-{norm.name}",
        statement=f"Under {noise} the class-wise robust risk of a linear rule against an "
        f"{norm.name} threat is F((radius ||w||_q - y (w . mu_y + b)) / (s_y scale(w))).",
        source=Source(KEY, result),
        axes=(radius_range(norm.largest), SCALE_RATIO),
        problem=problem,
        predict=_closed_form(problem),
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=("a rule that is not optimal", "unequal class scales"),
    )


def stable_risk() -> Claim:
    """Returns the same claim for every stability index."""

    def problem(alpha: jax.Array, radius: jax.Array) -> Problem:
        return Problem(stable(alpha, jnp.ones_like(radius)), fixed_rule(radius), L2.ball(radius))

    return Claim(
        name="stable-robust-risk",
        statement="For every stability index the class-wise robust risk of a linear rule is the "
        "stable distribution function at the robust margin over (sum |w_i|^alpha)^(1/alpha).",
        source=Source(KEY, "T15"),
        axes=(
            Axis("alpha", "stability index", (0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2), TABULATED),
            radius_axis(0, 1),
        ),
        problem=problem,
        predict=_closed_form(problem),
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=("a rule that is not optimal", "equal class scales"),
    )


def _optimum(norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array) -> Problem:
    mixture, threat = isotropic(imbalance_ratio), norm.ball(radius)
    return Problem(mixture, optimal.optimal_classifier(mixture, threat), threat)


def _margin(norm: Norm, radius: jax.Array) -> jax.Array:
    return direction.optimal_direction(isotropic(jnp.ones_like(radius)), norm.ball(radius)).margin


def _least_risk(norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array) -> tuple[jax.Array]:
    # Written out, not by `linear.risk`, as this formula is what the claim is about.
    margin, prior = _margin(norm, radius), isotropic(imbalance_ratio).prior
    shift = jnp.log(imbalance_ratio) / (2 * jnp.where(margin > 0, margin, 1))
    least = (1 - prior) * ndtr(-shift - margin) + prior * ndtr(shift - margin)
    return (jnp.where(margin > 0, least, jnp.minimum(prior, 1 - prior)),)


def optimal_risk(norm: Norm) -> Claim:
    """Returns the claim that the optimal rule's robust risk has a closed form in the margin."""
    return Claim(
        name=f"robust-optimal-risk-{norm.name}",
        statement=f"The least robust risk against an {norm.name} threat is "
        "pi_+ Phi(log R / (2 kappa) - kappa) + pi_- Phi(-log R / (2 kappa) - kappa) with kappa the "
        "largest robust margin, and the constant rule's once kappa <= 0.",
        source=Source(KEY, "T3 and T4"),
        axes=(RATIO, radius_axis(0.2 * norm.largest, 0.5 * norm.largest)),
        problem=functools.partial(_optimum, norm),
        predict=functools.partial(_least_risk, norm),
        relation="==",
        estimand=RISK,
        assumptions=(SHAPE,),
    )


def optimal_direction(norm: Norm) -> Claim:
    """Returns the claim that turning the rule away from the robust-optimal direction only costs."""

    def problem(degrees: jax.Array, radius: jax.Array) -> Problem:
        best = _optimum(norm, jnp.ones_like(radius), radius)
        along = best.classifier.weight / jnp.linalg.norm(best.classifier.weight)
        # The rule turns in the plane of the optimum and a direction across it. At R = 1 the best
        # intercept is the same in every direction, so the bias stays.
        across = jnp.asarray(WEIGHT, radius.dtype)
        across -= jnp.sum(across * along) * along
        turn = degrees * (math.pi / 180)
        weight = jnp.cos(turn) * along + jnp.sin(turn) * across / jnp.linalg.norm(across)
        return best._replace(classifier=LinearClassifier(weight, best.classifier.bias))

    def predict(degrees: jax.Array, radius: jax.Array) -> tuple[jax.Array]:
        return _least_risk(norm, jnp.ones_like(degrees), radius)

    # At the margin and past it no direction is better than a constant rule.
    inside = Interval(0, norm.margin, False, True)
    return Claim(
        name=f"robust-optimal-direction-{norm.name}",
        statement=f"No direction has a smaller balanced {norm.name}-robust risk than the "
        "robust-optimal one (equality at angle zero).",
        source=Source(KEY, "T3"),
        axes=(
            Axis(
                "degrees",
                "angle between the rule and the robust-optimal direction, degrees",
                (-60, -30, -15, 0, 15, 30, 60),
                Interval(-180, 180),
            ),
            radius_axis(0.2 * norm.largest, 0.5 * norm.largest)._replace(domain=inside),
        ),
        problem=problem,
        predict=predict,
        relation=">=",
        estimand=RISK,
        assumptions=(SHAPE, "imbalance ratio 1"),
    )


def tail_bound(norm: Norm) -> Claim:
    """Returns the claim that the least balanced robust risk is below the Gaussian tail bound."""

    def problem(radius: jax.Array) -> Problem:
        return _optimum(norm, jnp.ones_like(radius), radius)

    def predict(radius: jax.Array) -> tuple[jax.Array]:
        return (jnp.exp(-(jnp.maximum(_margin(norm, radius), 0) ** 2) / 2) / 2,)

    return Claim(
        name=f"robust-risk-bound-{norm.name}",
        statement=f"The least balanced {norm.name}-robust risk is at most exp(-kappa^2 / 2) / 2 "
        "with kappa the largest robust margin (equality at kappa = 0).",
        source=Source("boucheron2013concentration", "Gaussian tail bound, exercise 2.7"),
        # To just past the margin, where the bound is attained.
        axes=(radius_range(1.1 * norm.margin),),
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=RISK,
        assumptions=(SHAPE, "imbalance ratio 1"),
    )


MAJORITY_NEGATIVE = RATIO._replace(domain=Interval.parse("[1, inf)"))


def _trained(norm: Norm) -> Callable[..., Problem]:
    """Returns the problem of a rule trained for the threat and evaluated without it."""
    return lambda **parameters: _optimum(norm, **parameters)._replace(threat=None)


def _standard_risks(imbalance_ratio: jax.Array, radius: jax.Array) -> linear.ClassRisks:
    mixture = isotropic(imbalance_ratio + 0 * radius)
    return linear.class_risks(mixture, optimal.optimal_classifier(mixture))


def _standard_disparity(imbalance_ratio: jax.Array, radius: jax.Array) -> tuple[jax.Array]:
    negative, positive = _standard_risks(imbalance_ratio, radius)
    return (positive - negative,)


def _majority_gains(
    norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns which class gains: the majority (negative) one, once log R exceeds a threshold."""
    standard, robust = (
        direction.optimal_direction(isotropic(imbalance_ratio), threat)
        for threat in (None, norm.ball(radius))
    )
    # The threshold of T6.5 from its own terms: `majority_gain_threshold` is not asked.
    half_gap = jnp.asarray(HALF_GAP, radius.dtype)
    natural_margin = jnp.sum(robust.weight * half_gap) / jnp.linalg.norm(robust.weight)
    pull = 1 / robust.margin - 1 / standard.margin
    excess = jnp.log(imbalance_ratio) * pull - 2 * (standard.margin - natural_margin)
    # With no margin left the robust rule is the constant -1, which never misses the majority.
    gains = (robust.margin <= 0) | ((radius > 0) & (excess > 0) & (imbalance_ratio > 1))
    return gains, jnp.zeros_like(gains)


def disparity_rises(norm: Norm) -> Claim:
    """Returns the claim that robust training raises the natural disparity of imbalanced classes."""
    return Claim(
        name=f"imbalance-raises-disparity-{norm.name}",
        statement="Trained robustly on imbalanced classes, the optimal rule has at least the "
        "natural accuracy disparity of the standard one (equality at radius 0).",
        source=Source(KEY, "abstract; T6.1"),
        axes=(MAJORITY_NEGATIVE, radius_axis(0.3 * norm.largest, 0.6 * norm.largest)),
        problem=_trained(norm),
        predict=_standard_disparity,
        relation=">=",
        estimand=DISPARITY,
        assumptions=(SHAPE,),
    )


def every_class_pays(norm: Norm) -> Claim:
    """Returns the claim that every class pays for robustness, with the region where it is false."""
    where = (
        "the majority class gains once log R > 2 (kappa_0 - T) / (1/kappa - 1/kappa_0); with "
        "isotropic noise and an l2 threat that is every imbalanced problem"
    )
    return Claim(
        name=f"robustness-costs-every-class-{norm.name}",
        statement="Robust training raises the natural risk of every class, the abstract's "
        "'degrades the standard accuracy on all classes' read without its decomposition.",
        source=Source(KEY, "abstract; T6.5"),
        axes=(MAJORITY_NEGATIVE, radius_axis(0.3 * norm.largest, 0.6 * norm.largest)),
        problem=_trained(norm),
        predict=_standard_risks,
        relation=">=",
        estimand=CLASS_RISKS,
        assumptions=(SHAPE,),
        fails=Failure(where, functools.partial(_majority_gains, norm)),
    )


CLAIMS = (
    *(robust_risk(law, norm) for law, norm in itertools.product(NOISES, (L1, L2, LINF))),
    stable_risk(),
    *(
        claim(norm)
        for claim in (
            optimal_risk,
            optimal_direction,
            tail_bound,
            disparity_rises,
            every_class_pays,
        )
        for norm in (L2, LINF)
    ),
)
