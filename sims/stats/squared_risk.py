"""Exact intervals for an expected squared loss under attack, on the host in float64.

For Gaussian residuals only. No approximation is made, and no closed form of the risk is used: the
spread of the residuals is bounded by what the same draws lose without the attack.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from sims.stats.interval import Bounds, require_level
from theory.domain import InvalidInput

# By how much rounding moves the root of a mean square of float32 draws, in units of the root of
# the mean square of responses and of residuals: sixteen units in the last place.
ROUNDING = 2.0**-20


class Squares(NamedTuple):
    """Sums over the same draws, arrays (...): of squared losses, residuals and responses."""

    losses: np.ndarray
    residuals: np.ndarray
    responses: np.ndarray


def squared_risk_interval(sums: Squares, trials: np.ndarray, level: np.ndarray | float) -> Bounds:
    """Returns the interval that misses E (|r| + b)^2 with chance at most `level`, for Gaussian r.

    Half of the level goes to an upper bound s on the deviation of r, by the chi-squared law of its
    sum of squares; the root of the mean loss is then within s sqrt(2 log(4 / level) / n) of its
    mean, whose square falls short of the risk by at most s^2 / n. Where the attack adds nothing
    (losses equal residuals) the chi-squared interval of the variance itself is returned.

    Args:
        sums: of losses (|r| + b)^2, of residuals r^2 and of responses y^2, not negative, (...).
        trials: independent draws n, fixed beforehand, (...); zero gives [0, inf].
        level: error probability in (0, 1), () or (...).

    Raises:
        InvalidInput: for a level outside (0, 1) or sums that are negative or not finite.

    References:
        boucheron2013concentration, Theorems 3.20 and 5.6.

    >>> sums = Squares(*(np.array(v) for v in (5000.0, 5000.0, 9000.0)))
    >>> low, high = squared_risk_interval(sums, np.array(5000), 1e-6)
    >>> bool(0.9 < low < 1 < high < 1.11)  # five standard deviations sqrt(2 / 5000)
    True
    """
    for end in (np.min(level), np.max(level)):
        require_level(float(end))
    sums, trials = Squares(*(np.asarray(v, float) for v in sums)), np.asarray(trials)
    if not all(np.all((v >= 0) & np.isfinite(v)) for v in sums):
        raise InvalidInput("sums: must be finite and not negative")
    # Without a draw the ends are set at the last line; until then nothing is divided by zero.
    count = np.maximum(trials, 1)
    # Twice a Gamma(n / 2) variable is chi-squared; each end misses with half of the level.
    most = sums.residuals / (2 * special.gammaincinv(count / 2, level / 2))
    least = sums.residuals / (2 * special.gammainccinv(count / 2, level / 2))
    root = np.sqrt(sums.losses / count)
    reach = np.sqrt(most * 2 * np.log(4 / level) / count)
    # Only an attack of radius zero leaves every loss, and so their sum, the same bits.
    natural = sums.losses == sums.residuals
    low = np.where(natural, np.sqrt(least), root - reach)
    high = np.where(natural, np.sqrt(most), np.hypot(root + reach, np.sqrt(most / count)))
    rounding = ROUNDING * (np.sqrt(sums.responses / count) + root)
    ends = np.maximum(low - rounding, 0) ** 2, (high + rounding) ** 2
    return Bounds(np.where(trials > 0, ends[0], 0), np.where(trials > 0, ends[1], np.inf))
