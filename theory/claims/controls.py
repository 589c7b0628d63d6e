"""Negative controls: closed forms that are wrong on purpose and must be rejected.

They belong to no paper and are never registered; `python -m sims --self-test` judges them against
the same counts as the claims they distort.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from theory.claims.claim import Claim, Problem
from theory.claims.lee2024.two_classes import RADIUS
from theory.claims.moayeri2022 import classification
from theory.claims.registry import find
from theory.claims.settings.two_classes import L2
from theory.fairness.distance import class_errors
from theory.problem import GaussianMixture, L1Ball, LinfBall, MixedPairs, Mixture
from theory.regression.risk import squared_risk
from theory.rules import risk as linear

Distortion = Callable[[Problem], Problem]
ClosedForm = Callable[[Problem], tuple[jax.Array, ...]]


class Control(NamedTuple):
    """A claim made wrong in one way."""

    error: str
    claim: Claim


def _radius_small(problem: Problem) -> Problem:
    threat = problem.threat
    return problem._replace(threat=threat and threat._replace(radius=0.95 * threat.radius))


def _wrong_norm(problem: Problem) -> Problem:
    """The norm of the ball where its dual belongs."""
    threat = problem.threat
    if isinstance(threat, LinfBall):
        return problem._replace(threat=L1Ball(threat.radius))
    return problem._replace(threat=threat and LinfBall(threat.radius))


def _wrong_law(problem: Problem) -> Problem:
    """The neighbouring law: N(0, 2) for N(0, 1), and a stability index 0.05 too high."""
    mixture: Any = problem.mixture
    if isinstance(mixture, GaussianMixture):
        return problem._replace(mixture=mixture._replace(scales=mixture.scales * 2**0.5))
    return problem._replace(mixture=mixture._replace(alpha=mixture.alpha + 0.05))


def _scale_off(problem: Problem) -> Problem:
    """Both class scales 1 % too large."""
    mixture: Any = problem.mixture
    return problem._replace(mixture=mixture._replace(scales=mixture.scales * 1.01))


def _same(problem: Problem) -> Problem:
    return problem


def _swapped(problem: Problem) -> tuple[jax.Array, ...]:
    """The risk of each class under the name of the other."""
    negative, positive = linear.class_risks(*problem)
    return positive, negative


# Each an error that a careful author could make, as small as a self-test of seconds can still see.
PLANTS: tuple[tuple[str, Distortion, ClosedForm], ...] = (
    ("radius 5 % small", _radius_small, lambda problem: linear.class_risks(*problem)),
    ("wrong dual norm", _wrong_norm, lambda problem: linear.class_risks(*problem)),
    ("wrong law", _wrong_law, lambda problem: linear.class_risks(*problem)),
    ("scale 1 % off", _scale_off, lambda problem: linear.class_risks(*problem)),
    ("swapped classes", _same, _swapped),
)
# Where a norm other than the alpha-norm would be taken for the scale of a projection.
STABLE = ("cauchy-robust-risk-linf", "holtsmark-robust-risk-l2")
# Claims whose published form fails somewhere: without that region they must be contradicted.
FAILING = (
    "robustness-costs-every-class-l2",
    "mixup-shrinks-disparity-rare-narrow-class",
    "distance-lowers-every-error",
    "spurious-reliance-grows-l2",
    "linf-relies-on-larger-scale-only-four-cores",
    "radius-raises-class-gap",
    "average-distance-orders-errors",
)
EQUALITIES = ("gaussian-robust-risk-l2", "cauchy-robust-risk-linf", "holtsmark-robust-risk-l2")


def _distorted(claim: Claim, distort: Distortion, evaluate: ClosedForm) -> Claim:
    """The claim with the closed form of another problem than the one that is simulated."""
    return dataclasses.replace(claim, predict=lambda **p: evaluate(distort(claim.problem(**p))))


def _multiplied(claim: Claim, factor: float) -> Claim:
    """The claim with its bound multiplied by a factor."""
    return dataclasses.replace(
        claim, predict=lambda **p: tuple(factor * bound for bound in claim.predict(**p))
    )


def _mixed(claim: Claim, law: Callable[[MixedPairs], Mixture]) -> Claim:
    """The claim with another law for the mixed pairs."""

    def predict(**parameters: jax.Array) -> tuple[jax.Array, ...]:
        problem = claim.problem(**parameters)
        assert isinstance(problem.mixture, MixedPairs)
        return linear.class_risks(law(problem.mixture), problem.classifier, problem.threat)

    return dataclasses.replace(claim, predict=predict)


def _two_norm(pairs: MixedPairs) -> Mixture:
    """The factor of Gaussian pairs where that of stable ones belongs."""
    weight = jnp.asarray(pairs.coefficient)
    factor = jnp.sqrt(weight**2 + (1 - weight) ** 2)
    return pairs.original._replace(scales=factor * pairs.original.scales)


def _with_scales_swapped(problem: Problem) -> Problem:
    """The same rule and pairs of the classes with each other's scale."""
    mixture: Any = problem.mixture
    if isinstance(mixture, MixedPairs):
        original: Any = _with_scales_swapped(problem._replace(mixture=mixture.original)).mixture
        return problem._replace(mixture=mixture._replace(original=original))
    return problem._replace(mixture=mixture._replace(scales=mixture.scales[::-1]))


def _mixup_controls() -> dict[str, tuple[Control, ...]]:
    gaussian, stable = find("mixup-law-gaussian"), find("mixup-law-stable")
    trained = find("mixup-trained-risks-robust")
    unmixed = dataclasses.replace(
        trained, predict=lambda coefficient, **p: trained.predict(coefficient=0 * coefficient, **p)
    )
    missing = "variance without the cross term"
    return {
        gaussian.name: (
            Control(missing, _mixed(gaussian, lambda pairs: pairs.original)),
            _scales_swapped(gaussian),
        ),
        trained.name: (Control(missing, unmixed), _scales_swapped(trained)),
        stable.name: (Control("2-norm for the alpha-norm", _mixed(stable, _two_norm)),),
    }


def _scales_swapped(claim: Claim) -> Control:
    return Control(
        "class scales swapped",
        _distorted(claim, _with_scales_swapped, lambda problem: linear.class_risks(*problem)),
    )


def _in_two_norm(problem: Problem) -> Problem:
    """Noise scaled by ||w||_2 where the scale of a stable projection is ||w||_alpha."""
    mixture: Any = problem.mixture
    factor = jnp.linalg.norm(problem.classifier.weight) / linear.projection_scale(
        mixture, problem.classifier.weight
    )
    return problem._replace(mixture=mixture._replace(scales=factor * mixture.scales))


def _optimum_controls() -> dict[str, tuple[Control, ...]]:
    """The intercept of the optimal rule, turned over in two ways."""
    claim = find("stable-optimal-risks-linf")

    def inverted(imbalance_ratio: jax.Array, **p: jax.Array) -> tuple[jax.Array, ...]:
        return claim.predict(imbalance_ratio=1 / imbalance_ratio, **p)

    def turned(**parameters: jax.Array) -> tuple[jax.Array, ...]:
        problem = claim.problem(**parameters)
        rule = problem.classifier
        return linear.class_risks(problem.mixture, rule._replace(bias=-rule.bias), problem.threat)

    return {
        claim.name: (
            Control("R inverted", dataclasses.replace(claim, predict=inverted)),
            Control("intercept of the wrong sign", dataclasses.replace(claim, predict=turned)),
        )
    }


def _distance_controls() -> dict[str, tuple[Control, ...]]:
    """Class errors at a distance: the attack moves both classes, and the wide one is weighted."""
    errors, fair = find("distance-class-errors"), find("fair-loss-weight")

    def one_sided(distance: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(errors.predict(distance=distance + RADIUS, scale_ratio=scale_ratio))

    def swapped(distance: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(class_errors(distance, scale_ratio, scale_ratio))

    return {
        errors.name: (
            Control("half of twice the radius", dataclasses.replace(errors, predict=one_sided)),
        ),
        fair.name: (Control("weights swapped", dataclasses.replace(fair, predict=swapped)),),
    }


def _spurious_controls() -> dict[str, tuple[Control, ...]]:
    """The correlation of label and attribute with the wrong sign: the other group's risk."""
    claim = find("spurious-conflicting-natural-risk-l2")
    other = classification.trained_risk(L2, "aligned", attacked=False)
    wrong = dataclasses.replace(claim, predict=other.predict)
    return {claim.name: (Control("correlation of the wrong sign", wrong),)}


def _regression_controls() -> dict[str, tuple[Control, ...]]:
    """Squared risks with the wrong norm, without the cross term, and on the law before the flip."""
    fixed, shifted = find("adversarial-squared-risk-linf"), find("trained-squared-risk-l2")

    def wrong_norm(**parameters: jax.Array) -> tuple[jax.Array, ...]:
        law, weight, threat = fixed.problem(**parameters)
        return tuple(squared_risk(law, weight, L1Ball(threat.radius)))

    def without_cross_term(**parameters: jax.Array) -> tuple[jax.Array, ...]:
        law, weight, threat = fixed.problem(**parameters)
        push = threat.radius * linear.dual_norm(threat, weight)
        return tuple(squared_risk(law, weight) + push**2)

    def unflipped(**parameters: jax.Array) -> tuple[jax.Array, ...]:
        problem = shifted.problem(**parameters)
        standard, adversarial, _, _ = squared_risk(*problem)
        return adversarial, standard

    return {
        fixed.name: (
            Control("wrong dual norm", dataclasses.replace(fixed, predict=wrong_norm)),
            Control(
                "no cross term 2 c radius s N",
                dataclasses.replace(fixed, predict=without_cross_term),
            ),
        ),
        shifted.name: (
            Control(
                "correlation of the wrong sign", dataclasses.replace(shifted, predict=unflipped)
            ),
        ),
    }


def _class_controls() -> dict[str, tuple[Control, ...]]:
    """Three classes on a line: the attack's cost, the middle class's other side, who is reached."""
    errors, share = find("line-class-errors"), find("attacks-dilute-the-similar-class")

    def weaker(radius: jax.Array, far_distance: jax.Array) -> tuple[jax.Array, ...]:
        return errors.predict(radius=0.95 * radius, far_distance=far_distance)

    def one_sided(radius: jax.Array, far_distance: jax.Array) -> tuple[jax.Array, ...]:
        far, _, near = errors.predict(radius=radius, far_distance=far_distance)
        return far, near, near

    return {
        errors.name: (
            Control("radius 5 % small", dataclasses.replace(errors, predict=weaker)),
            Control("one side of the middle class", dataclasses.replace(errors, predict=one_sided)),
        ),
        share.name: (
            Control("attacks prefer the similar class", dataclasses.replace(share, relation="<=")),
        ),
    }


def _everywhere(name: str) -> tuple[str, tuple[Control, ...]]:
    """The published form of a claim, without the region where it fails."""
    wrong = dataclasses.replace(find(name), fails=None)
    return name, (Control("published form claimed everywhere", wrong),)


@functools.cache
def controls() -> dict[str, tuple[Control, ...]]:
    """Returns, for the name of each distorted claim, what is planted in it."""
    planted = {
        name: tuple(Control(error, _distorted(find(name), how, law)) for error, how, law in PLANTS)
        for name in EQUALITIES
    }
    for name in STABLE:
        wrong = _distorted(find(name), _in_two_norm, lambda problem: linear.class_risks(*problem))
        planted[name] += (Control("2-norm for the alpha-norm", wrong),)
    direction, bound = find("robust-optimal-direction-linf"), find("robust-risk-bound-l2")
    angle = find("spurious-best-angle-linf")
    return (
        planted
        | {
            direction.name: (Control("least risk 5 % high", _multiplied(direction, 1.05)),),
            angle.name: (Control("least risk 5 % high", _multiplied(angle, 1.05)),),
            bound.name: (Control("bound 10 % low", _multiplied(bound, 0.9)),),
        }
        | _optimum_controls()
        | _mixup_controls()
        | _distance_controls()
        | _spurious_controls()
        | _regression_controls()
        | _class_controls()
        | dict(map(_everywhere, FAILING))
    )
