"""A claim: one falsifiable sentence of one paper, with all that is needed to test it.

Here are the data alone, and no formula: what a claim says at a point is computed by `evaluate`, and
`registry` knows them all. A theorem is added in one module of `theory.claims`: a `problem`, a
`predict`, and a `Claim` in its tuple CLAIMS. Listing, domain checks, sweep, verdict, figure,
statistical test and BibTeX come with it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from theory.domain import Interval, InvalidInput, require_known
from theory.problem import GaussianClasses, Law, LinearClassifier, LinearScores, Regression, Threat

__all__ = [
    "CLASS_RISKS",
    "DISPARITY",
    "RISK",
    "Axis",
    "Claim",
    "Estimand",
    "Failure",
    "MulticlassProblem",
    "Problem",
    "RegressionProblem",
    "Source",
    "SquaredRisks",
    "TargetedProblem",
    "arms",
    "squared_risks",
]

Relation = Literal["==", "<=", ">="]


class Problem(NamedTuple):
    """What is simulated: a law, a linear rule and a threat model (None: natural risk)."""

    mixture: Law
    classifier: LinearClassifier
    threat: Threat | None = None


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


class Source(NamedTuple):
    """Where a claim comes from: a key of references.bib and the result's name or number."""

    key: str
    result: str


class Axis(NamedTuple):
    """One parameter of a claim.

    Args:
        name: the keyword under which `problem` and `predict` take it.
        meaning: what it is, with its unit or what it is measured in.
        default: the grid of an unqualified sweep.
        domain: where the claim is made.
    """

    name: str
    meaning: str
    default: tuple[float, ...]
    domain: Interval

    def grid(self, values: Any) -> np.ndarray:
        """Returns `values` as this axis's grid: float64 (n,), rounded to 12 digits, in their order.

        The rounding makes a point the same point in every grid that holds it.

        Raises:
            InvalidInput: for no value, a value outside the domain, or a value given twice.
        """
        # By decimal digits, so that 0.1 + 0.2 and 0.3 are one point, with one key and one count.
        grid = np.array([float(f"{value:.12g}") for value in values], float)
        outside = grid[~self.domain.contains(grid)]
        if outside.size:
            raise InvalidInput(
                f"{self.name} = {outside[0]:g}: {self.meaning} must lie in {self.domain}"
            )
        if not grid.size:
            raise InvalidInput(f"{self.name} = (): its grid needs at least one value")
        if len(set(grid.tolist())) < len(grid):
            raise InvalidInput(f"{self.name} = {grid.tolist()}: its grid holds a value twice")
        return grid


class Estimand(NamedTuple):
    """What a claim speaks of: linear combinations of the two class risks.

    Args:
        name: a short name for listings and axis labels.
        components: the names of the quantities.
        weights: prior -> (components, labels), the weights of the [negative, positive] class risks.
        range: between what the quantities lie, for axis labels.
        labels: the names of what is simulated side by side.
    """

    name: str
    components: tuple[str, ...]
    weights: Callable[[float], np.ndarray]
    range: str = "[0, 1]"
    labels: tuple[str, ...] = ("negative", "positive")


CLASS_RISKS = Estimand("class-wise risk", ("negative", "positive"), lambda _: np.eye(2))
RISK = Estimand("risk", ("risk",), lambda prior: np.array([[1 - prior, prior]]))
DISPARITY = Estimand(
    "accuracy disparity", ("disparity",), lambda _: np.array([[-1.0, 1.0]]), "[-1, 1]"
)


class Failure(NamedTuple):
    """Where the published form of a claim is false; there, the opposite is what is tested.

    Args:
        where: the region in words.
        region: keyword parameters, () each -> a boolean, (), for each component of the estimand.
            None: where the closed form of what is simulated lies beyond the bound by more than
            rounding.
    """

    where: str
    region: Callable[..., tuple[jax.Array, ...]] | None = None


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


def arms(*rows: Any) -> Any:
    """Returns pytrees of one structure stacked along a new leading axis of arms."""
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *rows)


@dataclasses.dataclass(frozen=True)
class Claim:
    """One falsifiable sentence.

    Args:
        name: lower-case words joined by hyphens.
        statement: the sentence.
        source: paper and result.
        axes: the parameters, the first one drawn along the abscissa.
        problem: keyword parameters, () each -> what is simulated: a `Problem`, `MulticlassProblem`,
            `TargetedProblem` or `RegressionProblem`.
        predict: keyword parameters, () each -> the closed form of each component, (), in order.
        relation: how the simulated quantity relates to the closed form.
        estimand: what the quantities are.
        assumptions: under what the sentence is made.
        fails: where its published form is false, or None.
    """

    name: str
    statement: str
    source: Source
    axes: tuple[Axis, ...]
    problem: Callable[..., Any]
    predict: Callable[..., tuple[jax.Array, ...]]
    relation: Relation
    estimand: Estimand
    assumptions: tuple[str, ...] = ()
    fails: Failure | None = None

    def axis(self, name: str) -> Axis:
        """Returns the axis of that name.

        Raises:
            InvalidInput: for an unknown name, listing the nearest.
        """
        require_known(f"axis of {self.name}", name, [axis.name for axis in self.axes])
        return next(axis for axis in self.axes if axis.name == name)
