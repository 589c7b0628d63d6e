"""Negative controls: closed forms that are wrong on purpose and must be rejected.

They belong to no paper and are never registered; `python -m sims --self-test` judges them against
the same counts as the claims they distort.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from theory import linear
from theory.claim import Claim, Problem, find
from theory.problem import GaussianMixture, L1Ball, LinfBall, Mixture


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
    mixture: Mixture = problem.mixture
    if isinstance(mixture, GaussianMixture):
        return problem._replace(mixture=mixture._replace(scales=mixture.scales * 2**0.5))
    return problem._replace(mixture=mixture._replace(alpha=mixture.alpha + 0.05))


def _scale_off(problem: Problem) -> Problem:
    mixture = problem.mixture
    return problem._replace(mixture=mixture._replace(scales=mixture.scales * 1.01))


def _same(problem: Problem) -> Problem:
    return problem


def _swapped(problem: Problem) -> tuple[jax.Array, ...]:
    negative, positive = linear.class_risks(*problem)
    return positive, negative


PLANTS: tuple[tuple[str, Callable[[Problem], Problem], Callable[..., tuple]], ...] = (
    ("radius 5 % small", _radius_small, lambda problem: linear.class_risks(*problem)),
    ("wrong dual norm", _wrong_norm, lambda problem: linear.class_risks(*problem)),
    ("wrong law", _wrong_law, lambda problem: linear.class_risks(*problem)),
    ("scale 1 % off", _scale_off, lambda problem: linear.class_risks(*problem)),
    ("swapped classes", _same, _swapped),
)
EQUALITIES = ("gaussian-robust-risk-l2", "cauchy-robust-risk-linf", "holtsmark-robust-risk-l2")


def _distorted(
    claim: Claim, distort: Callable[[Problem], Problem], evaluate: Callable[..., tuple]
) -> Claim:
    return dataclasses.replace(claim, predict=lambda **p: evaluate(distort(claim.problem(**p))))


def _multiplied(claim: Claim, factor: float) -> Claim:
    """The claim with its bound multiplied by a factor."""
    return dataclasses.replace(
        claim, predict=lambda **p: tuple(factor * bound for bound in claim.predict(**p))
    )


@functools.cache
def controls() -> dict[str, tuple[Control, ...]]:
    """Returns, for the name of each distorted claim, what is planted in it."""
    planted = {
        name: tuple(Control(error, _distorted(find(name), how, law)) for error, how, law in PLANTS)
        for name in EQUALITIES
    }
    direction, bound = find("robust-optimal-direction-linf"), find("robust-risk-bound-l2")
    published = find("robustness-costs-every-class-l2")
    return planted | {
        direction.name: (Control("least risk 5 % high", _multiplied(direction, 1.05)),),
        bound.name: (Control("bound 10 % low", _multiplied(bound, 0.9)),),
        published.name: (
            Control(
                "published form claimed everywhere", dataclasses.replace(published, fails=None)
            ),
        ),
    }
