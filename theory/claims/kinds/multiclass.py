"""The closed form of what claims about several classes speak of: errors, or whom attacks reach."""

import jax
import numpy as np

from theory.claims.claim import MulticlassProblem, TargetedProblem
from theory.multiclass import risk as multiclass


def class_errors(problem: MulticlassProblem) -> tuple[jax.Array, ...]:
    """Returns the robust error of each of the K classes, () each."""
    return tuple(1 - multiclass.robust_accuracies(*problem))


def reached_targets(problem: TargetedProblem) -> tuple[jax.Array, ...]:
    """Returns how often each class is reached from each other one, row by row, K (K - 1) of ()."""
    reachable = multiclass.attack_targets(*problem).reachable
    return tuple(reachable[~np.eye(len(reachable), dtype=bool)])
