"""The closed form of what claims about squared risks speak of: regressions side by side."""

import jax

from theory.claims.claim import RegressionProblem
from theory.regression.risk import squared_risk


def squared_risks_of_arms(problem: RegressionProblem) -> tuple[jax.Array, ...]:
    """Returns the squared risk under attack of each arm of a problem, () each."""
    return tuple(squared_risk(problem.law, problem.weight, problem.threat))
