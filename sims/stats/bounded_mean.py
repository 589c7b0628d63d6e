"""Exact interval for the mean of bounded variables from sums over blocks, on the host in float64.

A block's contribution to the evidence is weighed by what the blocks before it showed, so that
small variances pay although none is known beforehand; nothing is approximated.
"""

import numpy as np

from sims.stats.interval import Bounds, require_level
from theory.domain import InvalidInput

# Before the first block: this many observations of mean 1/2 and variance 1/4.
_PRIOR = 1 / 16


def bounded_mean_interval(
    counts: np.ndarray, totals: np.ndarray, squares: np.ndarray, level: float
) -> Bounds:
    """Returns the interval that misses the mean of variables in [0, 1] with chance at most `level`.

    For xi >= -1 and 0 <= l < 1, exp(l xi - psi(l) xi^2) <= 1 + l xi with psi(l) = -log(1 - l) - l
    (fan2015exponential, Lemma 4.1). Let V >= 0 have mean m. With xi = (V - c) / c, c > 0, and rate
    r = l / c, therefore

        E exp(r (V - m) - psi(r c) / c^2 (V - c)^2) <= (1 + r (m - c)) exp(r (c - m)) <= 1,

    and for V <= 1 the same holds of c - V, with 1 - c in the place of the two c inside psi / c^2.
    The product over draws, with r and c of each block chosen from the blocks before it, is a
    supermartingale that starts at 1; by Markov's inequality it exceeds 2 / level with chance at
    most level / 2. Solved for m, that is each end. It holds for any number of blocks.

    Args:
        counts: draws of each block, (blocks,), in the order drawn, all positive.
        totals: sums of V over each block, (blocks, ...).
        squares: sums of V^2, the same shape.
        level: error probability in (0, 1), half of it on each side.

    Returns:
        bounds in [0, 1], (...).

    Raises:
        InvalidInput: for a level outside (0, 1), no block, or sums that variables in [0, 1] cannot
            have.

    References:
        waudbysmith2024estimating, Theorem 2 (predictable plug-in empirical Bernstein interval).

    >>> counts = np.full(64, 1000)
    >>> bounds = bounded_mean_interval(counts, counts * 0.5, counts * 0.25, 1e-6)  # all are 1/2
    >>> bool(0.499 < bounds.low < 0.5 < bounds.high < 0.501)
    True
    """
    require_level(level)
    counts, totals, squares = (np.asarray(a, float) for a in (counts, totals, squares))
    if not counts.size or np.any(counts <= 0):
        raise InvalidInput("counts: needs at least one block, and a draw in each")
    counts = counts.reshape(-1, *([1] * (totals.ndim - 1)))
    # V^2 <= V up to the rounding of the sums.
    if not np.all((squares >= 0) & (squares <= totals * (1 + 1e-4)) & (totals <= counts)):
        raise InvalidInput("totals, squares: must be those of variables in [0, 1]")
    share = np.log(2 / level)
    centre, variance = _plug_in(counts, totals, squares)
    # Best for this variance and all draws; any rate that is known before the block is valid.
    rate = np.sqrt(2 * share / (np.maximum(variance, 1e-300) * counts.sum()))
    # The sum of (V - c)^2 of each block, from its sums alone.
    around = squares - 2 * centre * totals + counts * centre**2
    low = _end(-1, centre, rate, counts, totals, around, share)
    high = _end(1, 1 - centre, rate, counts, totals, around, share)
    return Bounds(np.clip(low, 0, 1), np.clip(high, 0, 1))


def _plug_in(
    counts: np.ndarray, totals: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance as they look before each block."""

    def before(sums: np.ndarray, prior: float) -> np.ndarray:
        return np.cumsum(np.concatenate([np.full_like(sums[:1], prior), sums[:-1]]), axis=0)

    number = before(counts, _PRIOR)
    mean = before(totals, _PRIOR / 2) / number
    return mean, before(squares, _PRIOR / 2) / number - mean**2


def _end(
    side: int,
    reach: np.ndarray,
    rate: np.ndarray,
    counts: np.ndarray,
    totals: np.ndarray,
    around: np.ndarray,
    share: float,
) -> np.ndarray:
    """Returns one end: the mean weighted by rates, and what chance and spread allow beyond it."""
    # psi(l) grows without bound as l -> 1; at l <= 1/2 no single block can spoil the interval.
    rate = np.minimum(rate, 1 / (2 * reach))
    step = rate * reach
    spread = ((-np.log1p(-step) - step) / reach**2 * around).sum(0)
    end: np.ndarray = ((rate * totals).sum(0) + side * (share + spread)) / (rate * counts).sum(0)
    return end
