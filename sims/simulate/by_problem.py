"""What is added up for each kind of problem, and the intervals that follow.

Class errors are counted; squared losses are summed. A kind of problem is a type: `Problem`,
`MulticlassProblem` or `TargetedProblem` with an `Estimand`, `RegressionProblem` with
`SquaredRisks`.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from sims.simulate import multiclass, regression, two_classes
from sims.stats import interval, squared_risk
from sims.stats.interval import Bounds
from theory.claims.claim import (
    Estimand,
    MulticlassProblem,
    Problem,
    RegressionProblem,
    SquaredRisks,
    TargetedProblem,
)
from theory.domain import InvalidInput


class Total(NamedTuple):
    """A running total of each label at each point: its dtype and what it is."""

    dtype: type
    meaning: str


class RiskEstimates(NamedTuple):
    """The estimated risk of each label, and its interval, (*axes, label)."""

    risk: np.ndarray
    bounds: Bounds


class AttackedRegression(NamedTuple):
    """A `RegressionProblem` with its attack as points, so that one executable serves all norms.

    Args:
        law: of points and responses, one row for each arm.
        weight: the weights under attack, (arms, d).
        step: what the attack adds to a point, up to its sign, (arms, d).
    """

    law: Any
    weight: jax.Array
    step: jax.Array


@functools.singledispatch
def with_attack_points(problem: Any) -> Any:
    """Returns what `simulate` takes for a problem: most are taken as they are."""
    return problem


@with_attack_points.register
def _(problem: RegressionProblem) -> AttackedRegression:
    step = regression.steps(problem.threat, problem.weight)
    return AttackedRegression(problem.law, problem.weight, step)


@functools.singledispatch
def simulate(
    problem: Any, key: jax.Array, trials: jax.Array, first_block: jax.Array
) -> two_classes.ErrorCounts | regression.SquaredSums:
    """Returns what a range of blocks adds to the totals of a problem.

    Args:
        problem: as `with_attack_points` returns it.
        key: of the point; block b draws from fold_in(key, b).
        trials: points of each label, (), at most `trials_per_call`.
        first_block: the block to start from, ().

    Returns:
        for each total but `trials` what to add, (labels,) or, one block after another,
        (blocks, labels).

    Raises:
        InvalidInput: for a problem of another kind.
    """
    raise InvalidInput(f"problem = {problem!r}: not of a kind that claims speak of")


@simulate.register
def _(
    problem: Problem, key: jax.Array, trials: jax.Array, first_block: jax.Array
) -> two_classes.ErrorCounts:
    return two_classes.class_errors(key, *problem, trials, first_block)


@simulate.register
def _(
    problem: MulticlassProblem, key: jax.Array, trials: jax.Array, first_block: jax.Array
) -> two_classes.ErrorCounts:
    return multiclass.class_errors(multiclass.target_counts(key, *problem, trials, first_block))


@simulate.register
def _(
    problem: TargetedProblem, key: jax.Array, trials: jax.Array, first_block: jax.Array
) -> two_classes.ErrorCounts:
    return multiclass.reached_targets(multiclass.target_counts(key, *problem, trials, first_block))


@simulate.register
def _(
    problem: AttackedRegression, key: jax.Array, trials: jax.Array, first_block: jax.Array
) -> regression.SquaredSums:
    law = problem.law
    return regression.squared_sums(
        key,
        law.weight,
        law.covariance,
        law.noise,
        problem.weight,
        problem.step,
        trials,
        first_block,
    )


@functools.singledispatch
def trials_per_call(estimand: Estimand) -> int:
    """Returns how many trials one call of `simulate` can take."""
    return 2**30  # counts of one call are int32


@trials_per_call.register
def _(estimand: SquaredRisks) -> int:
    return regression.MOST_BLOCKS * two_classes.BLOCK


@functools.singledispatch
def totals(estimand: Estimand) -> dict[str, Total]:
    """Returns the totals that a result file holds, by name."""
    return {
        "errors": Total(np.int64, "points misclassified"),
        "nonfinite": Total(np.int64, "points not finite"),
        "trials": Total(np.int64, "points of the class drawn"),
    }


@totals.register
def _(estimand: SquaredRisks) -> dict[str, Total]:
    squares = {
        "losses": "losses",
        "residuals": "residuals before the attack",
        "responses": "responses",
    }
    counts = {"nonfinite": Total(np.int64, "draws not finite"), "trials": Total(np.int64, "draws")}
    sums = {name: Total(np.float64, f"sum of squared {what}") for name, what in squares.items()}
    return sums | counts


def add(total: np.ndarray, added: jax.Array) -> None:
    """Adds what `simulate` returned for one total, block by block, so that rounding is the same.

    Args:
        total: changed in place, (labels,).
        added: (labels,) or, one block after another, (blocks, labels).
    """
    for block in np.asarray(added, total.dtype).reshape(-1, total.size):
        total += block


@functools.singledispatch
def estimates(estimand: Estimand, dataset: xr.Dataset, level: float) -> RiskEstimates:
    """Returns the risk of each label with intervals that miss any with chance at most `level`.

    The level is shared equally (Bonferroni). Where the data decided when to stop, the intervals
    hold at every number of trials.

    Args:
        estimand: of the dataset's claim.
        dataset: the totals.
        level: error probability in (0, 1).

    Returns:
        risks and bounds, (*axes, label).
    """
    errors, trials = dataset["errors"].values, dataset["trials"].values
    method = interval.confidence_sequence if dataset.until_width else interval.clopper_pearson
    return RiskEstimates(_rates(errors, trials), method(errors, trials, level / trials.size))


@estimates.register
def _(estimand: SquaredRisks, dataset: xr.Dataset, level: float) -> RiskEstimates:
    sums = squared_risk.Squares(*(dataset[k].values for k in squared_risk.Squares._fields))
    trials = dataset["trials"].values
    share = level / np.full(trials.shape, trials.size)
    if dataset.until_width:
        # Look k gets 1 / (k (k + 1)) of the level; all of them together get one.
        looks = np.maximum(trials // int(dataset.attrs["chunk"]), 1)
        share = share / (looks * (looks + 1))
    bounds = squared_risk.squared_risk_interval(sums, trials, share)
    return RiskEstimates(_rates(sums.losses, trials), bounds)


def _rates(total: np.ndarray, trials: np.ndarray) -> np.ndarray:
    # nan where nothing was drawn.
    with np.errstate(invalid="ignore"):
        rates: np.ndarray = total / trials
    return rates
