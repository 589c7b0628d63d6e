"""What counts say about a claim: simultaneous exact intervals, and what they would have seen."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from sims.simulate import by_problem
from sims.sweep import file as sweep_file
from theory.claims.claim import Claim

AGREES, CONTRADICTED, NO_VERDICT = 0, 1, 2
OPPOSITE = {"<=": ">=", ">=": "<="}


class Summary(NamedTuple):
    """A claim's verdict in numbers.

    Args:
        points: tested quantities, grid points times components.
        contradicted: how many of them contradict what is claimed there.
        nonfinite: draws that were not finite; any of them forbids a verdict.
        sharpest, bluntest: the smallest and largest over the points of the smallest error of the
            closed form that would have been seen.
        failing, refuted: quantities where the published form is known to fail, and at how many
            of them these counts alone refute it.
    """

    claim: str
    relation: str
    points: int
    contradicted: int
    nonfinite: int
    sharpest: float
    bluntest: float
    failing: int
    refuted: int
    level: float

    @property
    def agrees(self) -> bool:
        """Whether there is a verdict and it is not a contradiction."""
        return self.points > 0 and not self.contradicted and not self.nonfinite

    @property
    def text(self) -> str:
        """The verdict as a sentence."""
        if self.nonfinite:
            return f"no verdict: {self.nonfinite} draws were not finite"
        if not self.points:
            return "no verdict: nothing was counted"
        if self.contradicted:
            return f"contradicted at {self.contradicted} of {self.points} points"
        refuted = f"; published form refuted at {self.refuted} of {self.failing} failing points"
        return f"not contradicted: {self.power}" + (refuted if self.failing else "")

    @property
    def power(self) -> str:
        """The smallest error of the closed form that would have been seen, as a sentence."""
        if self.relation == "==":
            return (
                f"an error of ±{self.bluntest:.2g} at any of {self.points} points "
                f"(±{self.sharpest:.2g} at the sharpest) would have been seen"
            )
        return (
            f"a bound sharper by {self.sharpest:.2g} would have been seen to fail at the "
            f"tightest of {self.points} points"
        )


def judge(dataset: xr.Dataset, claim: Claim, level: float) -> xr.Dataset:
    """Returns the dataset with estimate, interval, detectable error and verdict of each quantity.

    The intervals of all simulated risks hold together with probability at least 1 - `level`
    (Bonferroni over points and labels: for class risks Clopper-Pearson for a fixed budget, a
    confidence sequence where the data decided when to stop; for squared risks
    `sims.stats.squared_risk`), and so do those of any combination of them.
    Where the claim's published form fails, an inequality is tested in its opposite direction.

    Raises:
        InvalidInput: for an exploratory dataset.
    """
    sweep_file.require_admissible(claim.name, dataset)
    estimate, low, high = _quantities(dataset, claim, level)
    theory, fails = dataset["theory"].values, dataset["fails"].values.astype(bool)
    published = _excluded(claim.relation, theory, low, high)
    opposite = _excluded(OPPOSITE.get(claim.relation, ""), theory, low, high)
    # Without a closed form nothing is claimed, and a claim without content is no agreement.
    wrong = np.where(fails, opposite, published) | np.isnan(theory)
    # A counted non-finite draw, or no draw at all, supports nothing about its point.
    spoiled = (dataset["nonfinite"].values.sum(-1) > 0) | (dataset["trials"].values.min(-1) == 0)
    verdict = np.where(spoiled[..., None], NO_VERDICT, np.where(wrong, CONTRADICTED, AGREES))
    dims = dataset["theory"].dims
    flags = {"flag_values": [0, 1, 2], "flag_meanings": "agrees contradicted no_verdict"}
    return dataset.assign(
        estimate=(dims, estimate),
        low=(dims, low),
        high=(dims, high),
        detectable=(dims, _detectable(claim.relation, theory, low, high, fails)),
        refuted=(dims, (published & fails).astype(np.int8)),
        verdict=(dims, verdict.astype(np.int8), flags),
    ).assign_attrs(level=level)


def _quantities(
    dataset: xr.Dataset, claim: Claim, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns estimate, low and high end of each component, (*axes, component)."""
    risks, bounds = by_problem.estimates(claim.estimand, dataset, level)
    weights = dataset["weights"].values

    def combine(where_positive: np.ndarray, where_negative: np.ndarray) -> np.ndarray:
        # A negative weight takes the other end of its risk's interval.
        chosen = np.where(weights > 0, where_positive[..., None, :], where_negative[..., None, :])
        with np.errstate(invalid="ignore"):  # without a draw an interval may be infinite
            return np.sum(np.where(weights == 0, 0, weights * chosen), axis=-1)

    return combine(risks, risks), combine(*bounds), combine(bounds.high, bounds.low)


def _excluded(relation: str, theory: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns whether the interval excludes the relation; the empty relation excludes nothing."""
    above = (low > theory) & (relation in ("<=", "=="))
    below = (high < theory) & (relation in (">=", "=="))
    excluded: np.ndarray = above | below
    return excluded


def _detectable(
    relation: str, theory: np.ndarray, low: np.ndarray, high: np.ndarray, fails: np.ndarray
) -> np.ndarray:
    """Returns by how much the closed form would have had to be off to be contradicted."""
    up, down = np.abs(high - theory), np.abs(theory - low)
    one_sided = {"<=": down, ">=": up, "==": np.maximum(up, down)}
    usual = one_sided[relation]
    # Where the published form fails, the opposite relation is what is tested.
    tested = one_sided.get(OPPOSITE.get(relation, ""), usual)
    detectable: np.ndarray = np.where(fails, tested, usual)
    return detectable


def summarise(dataset: xr.Dataset) -> Summary:
    """Returns the verdict of a judged dataset in numbers, over the points that were counted.

    Raises:
        InvalidInput: for an exploratory dataset.
    """
    sweep_file.require_admissible(dataset.attrs.get("claim", "dataset"), dataset)
    counted = (dataset["trials"].values.min(-1) > 0)[..., None]
    verdict = dataset["verdict"].values
    seen = dataset["detectable"].values[np.broadcast_to(counted, verdict.shape)]
    return Summary(
        claim=dataset.claim,
        relation=dataset.relation,
        points=seen.size,
        contradicted=int((verdict == CONTRADICTED).sum()),
        nonfinite=int(dataset["nonfinite"].sum()),
        sharpest=float(seen.min()) if seen.size else np.nan,
        bluntest=float(seen.max()) if seen.size else np.nan,
        failing=int((dataset["fails"].values.astype(bool) & counted).sum()),
        refuted=int(dataset["refuted"].sum()),
        level=dataset.level,
    )
