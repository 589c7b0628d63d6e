"""What claims about several classes speak of: an argmax rule and its errors, or whom attacks reach.

The labels of the estimand are the classes, or pairs "y to j" row by row without the diagonal.
"""

from typing import NamedTuple

import jax
import numpy as np

from theory import multiclass
from theory.claim import Estimand, closed_risks, component_weights
from theory.problem import GaussianClasses, LinearScores, Threat


class MulticlassProblem(NamedTuple):
    """What is simulated: how often each class is misclassified under attack."""

    classes: GaussianClasses
    scores: LinearScores
    threat: Threat | None = None


class TargetedProblem(NamedTuple):
    """What is simulated: how often an attack makes class j score at least as high as class y."""

    classes: GaussianClasses
    scores: LinearScores
    threat: Threat | None = None


@closed_risks.register
def _(problem: MulticlassProblem) -> tuple[jax.Array, ...]:
    return tuple(1 - multiclass.robust_accuracies(*problem))


@closed_risks.register
def _(problem: TargetedProblem) -> tuple[jax.Array, ...]:
    reachable = multiclass.attack_targets(*problem).reachable
    return tuple(reachable[~np.eye(len(reachable), dtype=bool)])


@component_weights.register(MulticlassProblem)
@component_weights.register(TargetedProblem)
def _(problems: MulticlassProblem | TargetedProblem, estimand: Estimand) -> np.ndarray:
    weights = estimand.weights(np.nan)
    return np.broadcast_to(weights, (len(problems.classes.means), *weights.shape))
