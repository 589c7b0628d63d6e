"""Claims on class risks, tested where the risks are too small to count."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from sims.rare import risks as rare
from sims.stats import interval
from sims.sweep.plan import SweepPlan, make_plan
from sims.sweep.run import Progress
from sims.sweep.single_precision import require_simulable
from theory.claims import evaluate
from theory.claims.claim import CLASS_RISKS, Claim, Problem
from theory.domain import InvalidInput
from theory.problem import GaussianMixture, StableMixture


class Checked(NamedTuple):
    """One class risk of one grid point, simulated and claimed.

    Args:
        where: values of the axes and name of the class, as text.
        theory: what the claim says.
        risks: what was simulated at the point.
        label: which class of it, 0 or 1.
    """

    where: str
    theory: float
    risks: rare.RareRisks
    label: int

    def __str__(self) -> str:
        estimate = self.risks.estimate[self.label]
        verdict = "contradicted" if self.contradicted else "inside" if self.usable else "spoiled"
        return (
            f"{self.where}: {estimate:.4g} in [{self.low:.4g}, {self.high:.4g}], closed form "
            f"{self.theory:.4g}: {verdict}"
        )

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return float(self.risks.low[self.label])

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return float(self.risks.high[self.label])

    @property
    def usable(self) -> bool:
        """Whether no draw is spoiled."""
        return not self.risks.spoiled.any()

    @property
    def contradicted(self) -> bool:
        """Whether the interval excludes the claim."""
        return self.usable and not self.low <= self.theory <= self.high

    @property
    def detectable(self) -> float:
        """The smallest error of the claim that would have been seen, relative to it."""
        reach = max(self.high - self.theory, self.theory - self.low)
        return reach / self.theory if self.theory > 0 else np.inf


def check(
    claim: Claim,
    grid: Mapping[str, Sequence[float]] | None = None,
    *,
    trials: int = 2**20,
    seed: int = 0,
    level: float = 1e-3,
    progress: Progress | None = None,
) -> list[Checked]:
    """Returns the class risks of a claim at each point of a grid, by importance sampling.

    All intervals hold together with probability at least 1 - `level` (Bonferroni).

    Args:
        claim: one that equates the class risks of a linear rule under Gaussian noise, or stable
            noise of independent coordinates, with a closed form.
        grid: values for some axes; the others keep their default grid.
        trials: points of each class at each grid point.
        seed: in [0, 2^32).
        level: error probability of the whole check, in (0, 1).
        progress: called after each point with the share done.

    Raises:
        InvalidInput: for another kind of claim or bad arguments, before any draw.
    """
    interval.require_level(level)
    plan, problems = require_checkable(claim, grid, trials=trials, seed=seed)
    theory, checked = evaluate.closed_form(claim, plan.points), []
    for point in range(len(theory)):
        here = jax.tree.map(lambda field, i=point: np.float32(field[i]), problems)
        rule = here.mixture, here.classifier, here.threat
        # As in a sweep: float32 whatever the session's default, and the same key of a point.
        with jax.enable_x64(False):
            risks = rare.rare_class_risks(plan.key(point), *rule, trials, level / len(theory))
        values = " ".join(f"{name}={column[point]:g}" for name, column in plan.points.items())
        for label, name in enumerate(CLASS_RISKS.labels):
            checked.append(Checked(f"{values} {name}", float(theory[point, label]), risks, label))
        if progress is not None:
            progress((point + 1) / len(theory))
    return checked


def require_checkable(
    claim: Claim, grid: Mapping[str, Sequence[float]] | None, *, trials: int, seed: int
) -> tuple[SweepPlan, Problem]:
    """Returns the plan and the problems of all its points, for the arguments of `check`.

    Raises:
        InvalidInput: if `check` would.
    """
    plan = make_plan(claim, grid, trials=trials, seed=seed)
    refused = f"claim = {claim.name!r}: rare risks are for "
    if claim.estimand != CLASS_RISKS or claim.relation != "==" or claim.fails is not None:
        raise InvalidInput(
            f"{refused}claims that equate the class risks of a linear rule with a closed form; "
            f"this one says {claim.estimand.name} {claim.relation}"
        )
    require_simulable(claim, plan.points)
    problems = evaluate.problems(claim, plan.points)
    if not isinstance(problems, Problem):
        raise InvalidInput(f"{refused}linear rules of two classes, not {type(problems).__name__}")
    if not isinstance(problems.mixture, GaussianMixture | StableMixture):
        law = type(problems.mixture).__name__
        raise InvalidInput(f"{refused}a GaussianMixture or a StableMixture, not {law}")
    return plan, problems


def summary(checked: Sequence[Checked]) -> tuple[str, bool]:
    """Returns the verdict on a claim as a sentence, and whether the claim agrees."""
    spoiled = sum(int(c.risks.spoiled[c.label]) for c in checked)
    if spoiled:
        return f"no verdict: {spoiled} draws were not finite or too heavy for their bound", False
    wrong = sum(c.contradicted for c in checked)
    if wrong:
        return f"contradicted at {wrong} of {len(checked)} points", False
    errors, smallest = [c.detectable for c in checked], min(c.theory for c in checked)
    text = (
        f"not contradicted: a relative error of ±{max(errors):.2g} at any of {len(checked)} points "
        f"(±{min(errors):.2g} at the sharpest) would have been seen, of risks down to "
        f"{smallest:.2g}"
    )
    return text, True
