"""The problems of the claims on mixup, and closed forms written out for them.

One direction and two class scales: nothing here uses the formulas of `theory.fairness.mixup`, whose
rules the claims judge.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from theory.claims.claim import Axis, Estimand, Problem
from theory.claims.settings.two_classes import HALF_GAP, L2, Norm, means
from theory.domain import UNIT_INTERVAL, Interval
from theory.fairness import mixup
from theory.problem import GaussianMixture, prior_of_ratio
from theory.rules.risk import ClassRisks

KEY = "zhong2024"
# Scale of the positive over that of the negative class.
SPREAD = 2.0
SHAPE = f"Gaussian, isotropic, class scales 1 and {SPREAD:g}"
COEFFICIENTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# |d| <= x says d <= x and -d <= x: both are linear in the class risks.
SIZE = Estimand(
    "accuracy disparity in size",
    ("disparity", "minus disparity"),
    lambda _: np.array([[-1.0, 1.0], [1.0, -1.0]]),
    "[-1, 1]",
)


def coefficient_axis(*values: float) -> Axis:
    """Returns the axis of the mixing coefficient; one and zero are no mixing."""
    return Axis("coefficient", "mixing coefficient of a pair", values, UNIT_INTERVAL)


def ratio_axis(domain: Interval, *ratios: float) -> Axis:
    """Returns the axis of the imbalance ratio on a domain."""
    return Axis("imbalance_ratio", "imbalance ratio P(y = -1) / P(y = +1)", ratios, domain)


def unequal_classes(imbalance_ratio: jax.Array, separation: float = 1.0) -> GaussianMixture:
    """Returns isotropic Gaussian classes of scales 1 and `SPREAD`, at the imbalance ratio R, ()."""
    scales, centres = jnp.asarray([1.0, SPREAD], imbalance_ratio.dtype), means(imbalance_ratio)
    return GaussianMixture(separation * centres, scales, prior_of_ratio(imbalance_ratio))


class DirectionMargin(NamedTuple):
    """A direction: its margin without a threat, and what a unit of radius takes off it, () each."""

    natural: jax.Array
    loss: jax.Array

    def margin(self, radius: jax.Array | float) -> jax.Array:
        """Returns the margin that a radius leaves, in units of the noise, ()."""
        return self.natural - radius * self.loss


def direction_line(norm: Norm, radius: jax.Array, separation: float = 1.0) -> DirectionMargin:
    """Returns the direction trained for a radius, (): the mean difference, shortened for l_inf."""
    gap = separation * jnp.asarray(HALF_GAP, radius.dtype)
    if norm is L2:
        return DirectionMargin(jnp.linalg.norm(gap), jnp.ones_like(radius))
    weight = jnp.maximum(gap - radius, 0)
    length = jnp.linalg.norm(weight)
    return DirectionMargin(jnp.sum(weight * gap) / length, jnp.sum(weight) / length)


def meeting_intercept(margin: jax.Array, ratio: jax.Array | float, square: jax.Array) -> jax.Array:
    """Returns where the densities of the mixed classes meet, weighted by the prior.

    (t - b)^2 - ((t + b) / K)^2 = 2 c log(R K), with c the square of the mixed scale.

    Args:
        margin: t, in units of the noise, ().
        ratio: R, ().
        square: c, ().
    """
    # The smaller root: where the two densities meet between the class means.
    curve, middle = 1 - SPREAD**-2, margin * (1 + SPREAD**-2)
    odds = 2 * square * jnp.log(ratio * SPREAD)
    root = jnp.sqrt(middle**2 - curve * (curve * margin**2 - odds))
    return (middle - root) / curve


def line_risks(
    line: DirectionMargin, radius: jax.Array | float, intercept: jax.Array
) -> ClassRisks:
    """Returns the class risks on the original law of an intercept, in units of the noise, ()."""
    margin = line.margin(radius)
    return ClassRisks(ndtr(intercept - margin), ndtr(-(intercept + margin) / SPREAD))


def variance_factor(coefficient: jax.Array) -> jax.Array:
    """Returns lambda^2 + (1 - lambda)^2, by which mixing multiplies a variance, ()."""
    return coefficient**2 + (1 - coefficient) ** 2


def difference(risks: ClassRisks) -> jax.Array:
    """Returns the signed accuracy disparity, ()."""
    return risks.positive - risks.negative


def trained(
    norm: Norm,
    coefficient: jax.Array,
    ratio: jax.Array,
    radius: jax.Array,
    separation: float = 1.0,
) -> Problem:
    """Returns the rule trained robustly on mixed data, on the original law and under its threat.

    Args:
        norm: of the threat.
        coefficient: of the mixed pairs, ().
        ratio: imbalance ratio, ().
        radius: of the threat in training and evaluation, ().
        separation: by what the class means are multiplied.
    """
    mixture, threat = unequal_classes(ratio, separation), norm.ball(radius)
    return Problem(mixture, mixup.mixed_classifier(mixture, threat, coefficient), threat)


class Setting(NamedTuple):
    """A problem and its closed forms: what a rule is trained for, and how it is evaluated."""

    norm: Norm
    evaluation: str
    separation: float = 1.0

    def problem(self, coefficient: jax.Array, radius: jax.Array, ratio: jax.Array) -> Problem:
        """Returns the trained rule, evaluated with its own threat or with none; arguments ()."""
        robust = trained(self.norm, coefficient, ratio, radius, self.separation)
        return robust if self.evaluation == "robust" else robust._replace(threat=None)

    def risks(self, coefficient: jax.Array, radius: jax.Array, ratio: jax.Array) -> ClassRisks:
        """Returns the class risks of that rule in closed form; arguments and risks ()."""
        line = direction_line(self.norm, radius, self.separation)
        intercept = meeting_intercept(line.margin(radius), ratio, variance_factor(coefficient))
        return line_risks(line, radius if self.evaluation == "robust" else 0.0, intercept)
