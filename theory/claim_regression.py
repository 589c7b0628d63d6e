"""What claims about squared risks speak of: linear regressions under attack, side by side.

Where a classification claim has two classes, a regression claim has arms: the same draws under
several laws, weights or radii. Everything else of a claim is as it is for class risks.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from theory.claim import Estimand, closed_risks, component_weights
from theory.problem import Threat
from theory.regression import Regression, squared_risk


class RegressionProblem(NamedTuple):
    """What is simulated: the squared loss of some weights under attack, one row for each arm.

    Args:
        law: y = weight . x + noise, with fields (arms, d), (arms, d, d) and (arms,).
        weight: the weights under attack, (arms, d).
        threat: the perturbations allowed, radius (arms,); zero is no attack.
    """

    law: Regression
    weight: jax.Array
    threat: Threat


class SquaredRisks(Estimand):
    """An `Estimand` whose labels are arms and whose weights multiply squared risks."""


def squared_risks(
    name: str, labels: tuple[str, ...], components: dict[str, dict[str, float]], signed: bool
) -> SquaredRisks:
    """Returns the estimand of some linear combinations of squared risks.

    Args:
        name: for listings and axis labels.
        labels: the arms, in the order of the problem's rows.
        components: for each quantity the weight of the arms that it uses.
        signed: whether it can be negative, for axis labels.

    >>> estimand = squared_risks("cost", ("now", "then"), {"cost": {"then": 1, "now": -1}}, True)
    >>> estimand.weights(np.nan).tolist()
    [[-1.0, 1.0]]
    """
    weights = np.array([[row.get(k, 0) for k in labels] for row in components.values()], float)
    span = "(−∞, ∞)" if signed else "[0, ∞)"
    return SquaredRisks(name, tuple(components), lambda _: weights, span, labels)


@closed_risks.register
def _(problem: RegressionProblem) -> tuple[jax.Array, ...]:
    return tuple(squared_risk(problem.law, problem.weight, problem.threat))


@component_weights.register
def _(problems: RegressionProblem, estimand: Estimand) -> np.ndarray:
    weights = estimand.weights(np.nan)
    return np.broadcast_to(weights, (len(problems.weight), *weights.shape))


def arms(*rows: Any) -> Any:
    """Returns pytrees of one structure stacked along a new leading axis of arms."""
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *rows)
