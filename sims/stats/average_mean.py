"""Finite-sample interval for the average mean of independent bounded variables, in any order.

The variables may have different laws, as the images of a test set with fixed class sizes have.
Where they take few values their counts are all that is needed, and the interval is nearly as narrow
as their spread allows.
"""

import numpy as np
from scipy.special import logsumexp

from sims.stats.interval import Bounds, require_level
from theory.domain import InvalidInput

# Halvings of the bracket of an end: its width is then below 1e-9.
HALVINGS = 31


def bets(trials: int, level: float) -> np.ndarray:
    """Returns the rates that `average_interval` mixes, up to 1 and doubling or nearly so, (r,).

    Args:
        trials: number of variables, at least 1.
        level: error probability of one end, in (0, 1).

    >>> bets(10**6, 0.05).round(4).tolist()[:3], bets(1, 0.05).tolist()
    ([0.0024, 0.0048, 0.0093], [1.0])
    """
    # For variables of variance 1, the largest on [-1, 1]; smaller ones want larger rates.
    least = min(1.0, np.sqrt(2 * np.log(1 / level) / trials))
    rates: np.ndarray = np.geomspace(least, 1, 1 + int(np.ceil(np.log2(1 / least))))
    return rates


def log_e_values(
    rates: np.ndarray,
    values: np.ndarray,
    counts: np.ndarray,
    mean: np.ndarray,
    lowest: float = -1.0,
) -> np.ndarray:
    """Returns the logarithm of prod_i (1 + r (V_i - t)) for every rate, (..., r).

    -inf for a rate at which the smallest value that is possible would make a factor negative.

    Args:
        rates: r > 0, (r,) or (..., r).
        values: those that the variables take, (v,).
        counts: how many take each, (..., v).
        mean: t, (...).
        lowest: the smallest possible value.
    """
    mean = np.asarray(mean, float)[..., None]
    allowed = 1 + rates * (lowest - mean) >= 0
    steps = np.where(allowed, rates, 0.0)[..., None] * (values - mean[..., None])
    with np.errstate(divide="ignore", invalid="ignore"):
        # A value that nobody takes counts nothing, be its factor zero.
        parts = np.where(counts[..., None, :] > 0, counts[..., None, :] * np.log1p(steps), 0.0)
    logarithms: np.ndarray = np.where(allowed, parts.sum(-1), -np.inf)
    return logarithms


def average_interval(
    values: np.ndarray, counts: np.ndarray, level: float, low: float = -1.0, high: float = 1.0
) -> Bounds:
    """Returns the interval that misses the average mean with chance at most `level`.

    Let V_i >= -1 be independent with means of average m. For a fixed rate r with
    1 + r (-1 - m) >= 0, E prod (1 + r (V_i - m)) = prod (1 + r (E V_i - m)) <= exp(0) = 1, so the
    mean over fixed rates of these products exceeds 2 / level with chance at most level / 2
    (Markov). Each product falls in m; the m at which the mean is that large lie below the lower
    end. The upper end is the same of -V.

    Args:
        values: those that the variables can take, in [low, high], (v,).
        counts: how many take each, with a positive sum n, (..., v).
        level: error probability in (0, 1), half of it on each side.
        low, high: between which all variables lie.

    Returns:
        bounds in [low, high], (...).

    Raises:
        InvalidInput: for a level outside (0, 1), values outside [low, high] or no variables.

    References:
        waudbysmith2024estimating, section 4 (betting), with rates fixed beforehand, for which the
        order does not matter and laws may differ (hoeffding1963, proof of Theorem 1).

    >>> bounds = average_interval(np.array([0.0, 1.0]), np.array([500, 500]), 1e-6, low=0.0)
    >>> bool(0.4 < bounds.low < 0.5 < bounds.high < 0.6)
    True
    """
    require_level(level)
    values, counts = np.asarray(values, float), np.asarray(counts)
    if not (low < high and np.all((values >= low) & (values <= high))):
        raise InvalidInput(f"values = {values.tolist()}: must lie in [{low:g}, {high:g}]")
    if np.any(counts < 0) or not np.all(counts.sum(-1) > 0):
        raise InvalidInput("counts: must not be negative, nor all zero")
    # From here on in [-1, 1], where a lower end of -V is an upper end of V.
    scaled = (2 * values - low - high) / (high - low)
    rows = counts.reshape(-1, counts.shape[-1])
    ends = np.array(
        [[_low_end(scaled, row, level / 2), -_low_end(-scaled, row, level / 2)] for row in rows]
    )
    least, most = (low + (end.reshape(counts.shape[:-1]) + 1) * (high - low) / 2 for end in ends.T)
    return Bounds(least, most)


def _low_end(values: np.ndarray, counts: np.ndarray, level: float) -> float:
    """Returns the lower end for variables in [-1, 1]; of the bracket found, the lower side."""
    chosen = bets(int(counts.sum()), level)
    # The mean over the rates exceeds 1 / level where their sum exceeds so many times that.
    bar = np.log(len(chosen) / level)
    # The e-value against the observed mean is at most 1, so the end lies below it.
    low, high = -1.0, float(values @ counts / counts.sum())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        mixed = logsumexp(log_e_values(chosen, values, counts, np.asarray(middle)))
        low, high = (middle, high) if mixed >= bar else (low, middle)
    return low
