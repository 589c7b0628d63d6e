"""Three verdicts on a claimed law: contradicted, agrees within a tolerance, or undecided.

A pass without power is not a pass: a law agrees only where every confidence sequence lies inside
the tolerance. Since all evidence is valid at any time, counting stops at the first verdict.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from sims.noise import thresholds
from sims.random import keys
from sims.stats import e_values, interval
from sims.stats.e_values import LogEValues, Tails
from theory.domain import InvalidInput

CONTRADICTED, AGREES, UNDECIDED = "contradicted", "agrees", "undecided"


class NoiseReport(NamedTuple):
    """A verdict, what it rests on, and the draws it took.

    Args:
        verdict: "contradicted", "agrees" (within the tolerance) or "undecided".
        against: what contradicted the claim: thresholds by number, directions by name, "bins".
        trials: draws.
        widest: the largest relative distance from the claim to an end of its confidence sequence,
            the tolerance that these draws support.
    """

    verdict: str
    against: tuple[str, ...]
    trials: int
    widest: float


def judge(
    tails: Tails, counts: np.ndarray, trials: int, *, tolerance: float, level: float = 1e-4
) -> NoiseReport:
    """Returns the verdict on the claim after any number of draws.

    Args:
        tails: the claim.
        counts: draws beyond each threshold, (K,).
        trials: draws.
        tolerance: relative error of a tail probability that is called agreement, > 0.
        level: total chance of a false alarm over all looks, in (0, 1).

    Raises:
        InvalidInput: for a tolerance or level out of range, or impossible counts.
    """
    if not tolerance > 0:
        raise InvalidInput(f"tolerance = {tolerance}: a relative error, must be positive")
    interval.require_level(level)
    against = contradictions(e_values.weigh(tails, counts, trials), level)
    # The confidence sequence inverts the e-value of a single threshold, so it has the same share.
    share = level / (2 * tails.beyond.size)
    bounds = interval.confidence_sequence(counts, np.asarray(trials), share)
    ends = np.stack([bounds.low, bounds.high]) / tails.beyond - 1
    widest = float(np.max(np.abs(ends)))
    verdict = CONTRADICTED if against else AGREES if widest <= tolerance else UNDECIDED
    return NoiseReport(verdict, against, trials, widest)


def contradictions(evidence: LogEValues, level: float) -> tuple[str, ...]:
    """Returns what contradicts the claim: thresholds by number, directions by name, "bins".

    Half of the level is spent on single thresholds, a quarter on the directions, a quarter on all
    bins together, so the chance that a true claim is ever contradicted is at most `level`.
    """
    # Ville: an e-value ever exceeds 1 / share with chance at most its share of the level.
    bar = -np.log(level)
    cells = np.flatnonzero(evidence.cells > bar + np.log(2 * evidence.cells.size))
    directions = [
        name
        for name, value in evidence.directions.items()
        if value > bar + np.log(4 * len(evidence.directions))
    ]
    bins = ["bins"] if evidence.bins > bar + np.log(4) else []
    return (*(f"threshold {k}" for k in cells), *directions, *bins)


def validate(
    key: jax.Array,
    alpha: float | None,
    tails: Tails,
    *,
    tolerance: float,
    most: int = 2**30,
    chunk: int = 2**24,
    level: float = 1e-4,
    progress: Callable[[float], None] | None = None,
) -> NoiseReport:
    """Returns the first verdict on the tails of the sampled law, looking after every chunk.

    Args:
        key: a typed Threefry key; counts depend on it and the number of draws, not on `chunk`.
        alpha: stability index of the law that is drawn, in (0, 2]; None is N(0, 1).
        tails: what is claimed of it.
        tolerance, level: as for `judge`.
        most: draws after which an undecided run ends, a multiple of `thresholds.BLOCK`.
        chunk: draws between two looks, a multiple of `thresholds.BLOCK`.
        progress: called after each chunk with the share of `most`.

    Raises:
        InvalidInput: naming the argument, its value and what is allowed, before any draw.
    """
    keys.require_threefry(key)
    for name, value in (("most", most), ("chunk", chunk)):
        if value < thresholds.BLOCK or value % thresholds.BLOCK:
            raise InvalidInput(
                f"{name} = {value}: must be a positive multiple of {thresholds.BLOCK}"
            )
    # No draws, no verdict: this refuses a bad tolerance or level before anything is drawn.
    judge(tails, np.zeros(tails.beyond.size, np.int64), 0, tolerance=tolerance, level=level)
    report = None
    for trials, counts in _looks(key, alpha, tails, most, chunk):
        report = judge(tails, counts, trials, tolerance=tolerance, level=level)
        if progress is not None:
            progress(trials / most)
        if report.verdict != UNDECIDED:
            break
    assert report is not None
    return report


def _looks(
    key: jax.Array, alpha: float | None, tails: Tails, most: int, chunk: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields draws so far and the counts beyond each threshold."""
    counts, done = np.zeros(tails.thresholds.size, np.int64), 0
    while done < most:
        size = min(chunk, most - done)
        counts = counts + thresholds.count_beyond(key, alpha, tails.thresholds, done, size)
        done += size
        yield done, counts
