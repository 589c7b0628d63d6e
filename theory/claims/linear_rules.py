"""Claims on linear rules that no paper of the others makes: other shapes, and another loss.

Classes whose covariances differ in shape have an optimum of their own; and the rule that gradient
training on the adversarial logistic loss converges to is not the one of least robust risk.
"""

import jax
import jax.numpy as jnp
import numpy as np

from theory.claims.claim import (
    DISPARITY,
    Axis,
    Claim,
    Estimand,
    Failure,
    MulticlassProblem,
    Problem,
    Source,
)
from theory.claims.settings.two_classes import EVEN, HALF_GAP, L2, Norm, radius_axis
from theory.domain import Interval
from theory.problem import GaussianClasses, GaussianMixture, LinearScores
from theory.rules import risk as linear
from theory.rules.class_covariance import class_covariance_classifier, class_covariance_risks
from theory.rules.intercept import optimal_shift
from theory.rules.logistic import logistic_classifier
from theory.rules.optimal import optimal_classifier

# Two ellipses that lie across each other, in the plane, where an angle names every direction.
GAP = np.array([1.0, 0.4])
COVARIANCES = np.array([[[1.5, 0.6], [0.6, 0.5]], [[0.4, -0.2], [-0.2, 1.0]]])
PRIOR = 0.25
# Several classes have no prior, so that of these two stands in the weights of their errors.
WEIGHTED_RISK = Estimand(
    "risk at P(y = +1) = 0.25", ("risk",), lambda _: np.array([[1 - PRIOR, PRIOR]])
)
RADIUS = 0.5


def _ellipses(like: jax.Array) -> GaussianClasses:
    gap = jnp.asarray(GAP, like.dtype)
    return GaussianClasses(jnp.stack([-gap, gap]), jnp.asarray(COVARIANCES, like.dtype))


def best_of_all_angles(norm: Norm) -> Claim:
    """Returns the claim that no direction beats the optimum for two covariances.

    Each direction has the intercept that is best for it, so that the whole family is tried.
    """

    def problem(angle: jax.Array, radius: jax.Array) -> MulticlassProblem:
        classes, threat = _ellipses(angle), norm.ball(radius)
        turned = jnp.deg2rad(angle)
        weight = jnp.stack([jnp.cos(turned), jnp.sin(turned)])
        margin = jnp.sum(weight * classes.means[1]) - radius * linear.dual_norm(threat, weight)
        scales = jnp.sqrt(jnp.einsum("i,cij,j->c", weight, classes.covariances, weight))
        shift = optimal_shift(margin, scales, jnp.asarray((1 - PRIOR) / PRIOR, angle.dtype))
        weight = jnp.where(shift.trivial, 0, weight)
        bias = jnp.where(shift.trivial, shift.label.astype(angle.dtype), shift.beta)
        # The sign of w . x + b is the larger of two scores, of which one is zero.
        scores = LinearScores(
            jnp.stack([jnp.zeros_like(weight), weight]), jnp.stack([jnp.zeros_like(bias), bias])
        )
        return MulticlassProblem(classes, scores, threat)

    def predict(angle: jax.Array, radius: jax.Array) -> tuple[jax.Array]:
        classes, threat = _ellipses(angle), norm.ball(radius)
        best = class_covariance_classifier(*classes, PRIOR, threat)
        negative, positive = class_covariance_risks(*classes, best, threat)
        return ((1 - PRIOR) * negative + PRIOR * positive + 0 * angle,)

    return Claim(
        name=f"class-covariances-best-angle-{norm.name}",
        statement=f"Between Gaussian classes of different covariances no direction has less "
        f"{norm.name}-robust risk, with its best intercept, than the robust-optimal direction of "
        "some combination of the two covariances.",
        source=Source("andersonbahadur1962", "the admissible rules; T11 (new with a threat)"),
        axes=(
            Axis(
                "angle",
                "angle of the rule in the plane, degrees",
                (-40.0, -10.0, 20.0, 35.0, 50.0, 70.0, 90.0, 120.0),
                Interval(-180.0, 180.0),
            ),
            radius_axis(0.0, 0.2, 0.4),
        ),
        problem=problem,
        predict=predict,
        relation=">=",
        estimand=WEIGHTED_RISK,
        assumptions=("Gaussian classes in the plane", f"P(y = +1) = {PRIOR:g}"),
    )


def logistic_training_is_fairer() -> Claim:
    """Returns the claim that the logistic loss is fairer than the robust risk, and where it is not.

    Both rules have the robust-optimal direction, so that all of it is the intercept.
    """

    def mixture_of(margin: jax.Array, scale_ratio: jax.Array) -> GaussianMixture:
        """Returns balanced classes that the attack leaves this margin."""
        along = jnp.asarray(HALF_GAP / np.linalg.norm(HALF_GAP), margin.dtype)
        gap = (margin + RADIUS) * along
        scales = jnp.stack([jnp.ones_like(scale_ratio), scale_ratio])
        return GaussianMixture(jnp.stack([-gap, gap]), scales, EVEN)

    def problem(margin: jax.Array, scale_ratio: jax.Array) -> Problem:
        # A convex loss has one minimiser: where gradient training ends is known without running it.
        mixture, threat = mixture_of(margin, scale_ratio), L2.ball(jnp.full_like(margin, RADIUS))
        return Problem(mixture, logistic_classifier(mixture, threat), threat)

    def predict(margin: jax.Array, scale_ratio: jax.Array) -> tuple[jax.Array]:
        mixture, threat = mixture_of(margin, scale_ratio), L2.ball(jnp.full_like(margin, RADIUS))
        return (linear.disparity(mixture, optimal_classifier(mixture, threat), threat),)

    return Claim(
        name="logistic-training-is-fairer",
        statement="The rule that adversarial logistic training converges to has at most the robust "
        "accuracy disparity of the rule of least robust risk.",
        source=Source("madry2018", "adversarial training, with a convex loss; T10 (new)"),
        axes=(
            Axis(
                "margin",
                "robust margin, in standard deviations of the negative class",
                (0.2, 0.5, 1.0, 2.0, 3.0, 4.5),
                Interval.parse("(0, 8]"),
            ),
            Axis(
                "scale_ratio",
                "scale of the positive over that of the negative class",
                (1.5, 3.0, 8.0),
                Interval.parse("[1, 10]"),
            ),
        ),
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=DISPARITY,
        assumptions=("Gaussian, isotropic, balanced", f"l2 threat of radius {RADIUS:g}"),
        fails=Failure(
            "where one class is much wider than the other and the attack leaves them apart: at a "
            "scale ratio of 5 from a margin of some 3 standard deviations of the narrow class on"
        ),
    )


CLAIMS = (best_of_all_angles(L2), logistic_training_is_fairer())
