"""Does the machinery see errors? Wrong formulas are planted and must all be rejected."""

from typing import NamedTuple

from sims.sweep import file as sweep_file
from sims.sweep import verdict
from sims.sweep.plan import make_plan
from sims.sweep.run import Progress, sweep
from theory.claims.controls import controls
from theory.claims.registry import find

# Few points and many trials: enough to see a scale that is 1 % off under Cauchy noise.
GRIDS = {
    "radius": (0.5, 1.0, 2.2),
    "scale_ratio": (1.5,),
    "imbalance_ratio": (0.4, 5.0),
    "coefficient": (0.5, 0.8),
    "alpha": (0.7, 1.5),
    "distance": (0.5, 2.0),
    "stability_index": (1.0,),
    "far_distance": (4.0,),
    "closeness": (0.5,),
    "angle": (10.0, 40.0),
}
TRIALS = 3_000_000


class ControlOutcome(NamedTuple):
    """One formula judged; `planted` is empty for the true one."""

    claim: str
    planted: str
    rejected: bool

    @property
    def passed(self) -> bool:
        """Whether a planted error was rejected, or the true formula was not."""
        return self.rejected == bool(self.planted)


def self_test(level: float = 1e-3, progress: Progress | None = None) -> list[ControlOutcome]:
    """Returns how the true and the planted formulas fared against the same counts.

    Args:
        level: chance that any of the true formulas is rejected.
        progress: called with the share done, in [0, 1].
    """
    outcomes = []
    planted = controls()
    for done, (name, wrongs) in enumerate(planted.items()):
        claim = find(name)
        inside = {
            axis.name: [v for v in GRIDS.get(axis.name, ()) if axis.domain.contains(v)]
            for axis in claim.axes
        }
        grid = {name: values for name, values in inside.items() if values}
        share = level / len(planted)
        counts = sweep(claim, grid, trials=TRIALS, chunk=2**20, level=share)
        outcomes.append(ControlOutcome(name, "", verdict.summarise(counts).contradicted > 0))
        for wrong in wrongs:
            # The counts do not depend on the formula, so one sweep judges all of them.
            fresh = sweep_file.empty(make_plan(wrong.claim, grid, trials=TRIALS))
            judged = verdict.judge(
                counts.assign(theory=fresh["theory"], fails=fresh["fails"]), wrong.claim, share
            )
            rejected = verdict.summarise(judged).contradicted > 0
            outcomes.append(ControlOutcome(name, wrong.error, rejected))
        if progress is not None:
            progress((done + 1) / len(planted))
    return outcomes
