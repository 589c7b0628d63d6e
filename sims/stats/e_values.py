"""Evidence against claimed tail probabilities, valid whenever one looks at it.

Each number here is an e-value: non-negative, of mean at most one if the claim is true, whatever
stopped the counting. By Ville's inequality the chance that it ever exceeds 1 / level is at most
`level`, however often one peeks, resumes, or goes on because the last look was promising.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from theory.domain import InvalidInput

Floats = NDArray[np.float64]
# Sizes of the error along a direction that the mixture covers, from the largest admissible down.
_SIZES = np.geomspace(1.0, 1e-7, 96)
# Concentrations of the Dirichlet mixtures, of which the one near the number of draws matters.
_WIDTHS = np.exp2(np.arange(10.0, 41.0))


class Tails(NamedTuple):
    """What is claimed of one law at K increasing thresholds.

    Args:
        thresholds: increasing, (K,).
        beyond: claimed P(X > threshold), decreasing, in (0, 1), (K,).
        directions: for each pre-declared way to be wrong, the derivative of `beyond` in its
            parameter, (K,): the scale's logarithm, the stability index, a shift, ...
    """

    thresholds: Floats
    beyond: Floats
    directions: Mapping[str, Floats]


class LogEValues(NamedTuple):
    """Logarithms of e-values: of each threshold, (K,), of each direction, and of all bins."""

    cells: Floats
    directions: dict[str, float]
    bins: float


def make_tails(
    thresholds: ArrayLike, beyond: ArrayLike, directions: Mapping[str, ArrayLike]
) -> Tails:
    """Returns the checked claim.

    Args:
        thresholds: finite and increasing, (K,).
        beyond: claimed P(X > threshold), decreasing, in (0, 1), (K,).
        directions: derivatives of `beyond` by name, each finite and not all zero, (K,).

    Raises:
        InvalidInput: for thresholds that do not increase, tail probabilities that do not decrease
            inside (0, 1), or a direction that is not finite, of another shape, or nowhere non-zero.
    """
    t, p = np.asarray(thresholds, np.float64), np.asarray(beyond, np.float64)
    if t.ndim != 1 or not t.size or not np.all(np.isfinite(t)) or np.any(np.diff(t) <= 0):
        raise InvalidInput(f"thresholds = {t}: must be finite and increase")
    if p.shape != t.shape:
        raise InvalidInput(f"beyond has shape {p.shape}: must have that of thresholds, {t.shape}")
    if not np.all((p > 0) & (p < 1)) or np.any(np.diff(p) >= 0):
        raise InvalidInput(f"beyond = {p}: must decrease and lie in (0, 1)")
    slopes = {name: np.asarray(slope, np.float64) for name, slope in directions.items()}
    for name, slope in slopes.items():
        if slope.shape != t.shape or not np.all(np.isfinite(slope)) or not slope.any():
            raise InvalidInput(
                f"directions[{name!r}] = {slope}: must be finite, of shape {t.shape}, not all zero"
            )
    return Tails(t, p, slopes)


def weigh(tails: Tails, counts: ArrayLike, trials: int) -> LogEValues:
    """Returns the e-values of `trials` independent draws, `counts` of which exceed each threshold.

    Args:
        tails: what is claimed.
        counts: how many draws exceed each threshold, (K,), integers that do not increase.
        trials: how many draws there were, chosen in any way.

    Raises:
        InvalidInput: for counts that are negative, increase, or exceed the trials.

    >>> coin = make_tails([0.0], [0.5], {})
    >>> bool(weigh(coin, [500], 1000).cells[0] < 0), bool(weigh(coin, [600], 1000).cells[0] > 10)
    (True, True)
    """
    beyond = np.asarray(counts)
    if beyond.shape != tails.beyond.shape or not np.issubdtype(beyond.dtype, np.integer):
        raise InvalidInput(f"counts = {beyond}: must be integers of shape {tails.beyond.shape}")
    if trials < 0 or np.any(beyond < 0) or np.any(np.diff(np.r_[trials, beyond]) > 0):
        raise InvalidInput(f"counts = {beyond}: must not increase and lie in [0, {trials}]")
    bins, claimed = in_bins(beyond, trials), in_bins(tails.beyond, 1.0)
    return LogEValues(
        cells=_cell(beyond, trials, tails.beyond),
        directions={
            name: _direction(bins, claimed, in_bins(slope, 0.0))
            for name, slope in tails.directions.items()
        },
        bins=_pooled(bins, claimed),
    )


def in_bins(beyond: np.ndarray, total: float) -> np.ndarray:
    """Returns what lies between neighbouring thresholds, (K + 1,), of what lies beyond each, (K,).

    Args:
        beyond: counts or probabilities beyond each threshold, or their derivatives, (K,).
        total: of all: the trials, 1, or 0 for derivatives.
    """
    between: np.ndarray = -np.diff(np.r_[total, beyond, 0 * beyond[:1]])
    return between


def _cell(beyond: np.ndarray, trials: int, claimed: Floats) -> Floats:
    """Returns log of the Beta(1/2, 1/2) mixture over the binomial likelihood of the claim.

    References:
        robbins1970.
    """
    k, n = beyond.astype(float), float(trials)
    mixture = special.betaln(k + 0.5, n - k + 0.5) - special.betaln(0.5, 0.5)
    # log1p, as most of what is claimed beyond a far threshold is tiny.
    ratio: Floats = mixture - k * np.log(claimed) - (n - k) * np.log1p(-claimed)
    return ratio


def _direction(bins: np.ndarray, claimed: Floats, slope: Floats) -> float:
    """Returns log of a mixture over sizes s of both signs of prod (1 + s slope / claimed)^bins.

    Each factor has mean one because the slopes of the bins sum to zero. The sizes form a grid of
    logarithms below the largest one that leaves every factor positive.
    """
    score = slope / claimed
    # 0.9 of the largest admissible size, so that no factor comes near zero, whose log is -inf.
    sizes = 0.9 * np.r_[_SIZES, -_SIZES] / np.max(np.abs(score))
    powers = np.log1p(sizes[:, None] * score) @ bins.astype(float)
    return float(np.logaddexp.reduce(powers) - np.log(len(sizes)))


def _pooled(bins: np.ndarray, claimed: Floats) -> float:
    """Returns log of a mixture of Dirichlet mixtures about the claim over its likelihood.

    With a concentration near the number of draws this is a chi-square test in all but name, a
    quarter of Pearson's statistic less a constant, and exact at any number of draws.
    """
    n = bins.astype(float)
    powers = _rising(_WIDTHS[:, None] * claimed, n).sum(-1) - _rising(_WIDTHS, n.sum())
    return float(np.logaddexp.reduce(powers) - np.log(len(_WIDTHS)))


def _rising(weight: np.ndarray, n: ArrayLike) -> np.ndarray:
    """Returns log Gamma(weight + n) - log Gamma(weight) - n log(weight) + n, for large weights too.

    The last two terms cancel between bins and total, and so would most digits of the first two.
    """
    n = np.asarray(n, float)

    def correction(x: np.ndarray) -> np.ndarray:
        # Of Stirling's series for log Gamma(x); the next term is below 1e-17 from x = 100 on.
        return 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5)

    stirling = (weight + n - 0.5) * np.log1p(n / weight) + correction(weight + n)
    direct = special.gammaln(weight + n) - special.gammaln(weight) - n * (np.log(weight) - 1)
    rising: np.ndarray = np.where(weight > 100, stirling - correction(weight), direct)
    return rising
