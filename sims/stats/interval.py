"""Exact intervals for a probability from a count, on the host in float64.

`clopper_pearson` is for a number of trials fixed beforehand; `confidence_sequence` holds at every
number of trials at once, so it also covers a run that stops when its data say so.
"""

from typing import NamedTuple

import numpy as np
from scipy import special
from scipy.optimize import elementwise

from theory.domain import InvalidInput


class Bounds(NamedTuple):
    """The ends of intervals, arrays (...) of one shape; of probabilities in [0, 1]."""

    low: np.ndarray
    high: np.ndarray


def require_level(level: float) -> None:
    """Raises InvalidInput unless the error probability `level` lies in (0, 1)."""
    if not 0 < level < 1:
        raise InvalidInput(f"level = {level}: the error probability must lie in (0, 1)")


def _checked(errors: np.ndarray, trials: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    require_level(level)
    errors, trials = np.broadcast_arrays(np.asarray(errors), np.asarray(trials))
    if np.any((errors < 0) | (errors > trials)):
        raise InvalidInput("errors: must lie between 0 and trials")
    return errors, trials


def clopper_pearson(errors: np.ndarray, trials: np.ndarray, level: float) -> Bounds:
    """Returns the exact interval that misses the probability with chance at most `level`.

    Args:
        errors: counts, (...).
        trials: numbers of trials fixed beforehand, (...); zero gives [0, 1].
        level: error probability in (0, 1), half of it on each side.

    Raises:
        InvalidInput: for a level outside (0, 1) or counts outside [0, trials].

    References:
        clopper1934.

    >>> bounds = clopper_pearson(0, 10, 0.05)
    >>> bool(bounds.low == 0 and abs(bounds.high - (1 - 0.025 ** 0.1)) < 1e-12)
    True
    """
    errors, trials = _checked(errors, trials, level)
    # Without errors or without successes the quantile is not defined, and that end is 0 or 1.
    with np.errstate(invalid="ignore"):
        low = special.betaincinv(errors, trials - errors + 1, level / 2)
        high = special.betainccinv(errors + 1, trials - errors, level / 2)
    return Bounds(np.where(errors == 0, 0.0, low), np.where(errors == trials, 1.0, high))


def confidence_sequence(errors: np.ndarray, trials: np.ndarray, level: float) -> Bounds:
    """Returns the interval at these counts of a sequence that ever misses with chance <= `level`.

    The probabilities p at which the Beta(1/2, 1/2) mixture's likelihood is less than 1 / level
    times that of p: by Ville's inequality it holds at all numbers of trials simultaneously.

    Args:
        errors: counts, (...).
        trials: numbers of trials, chosen in any way, (...); zero gives [0, 1].
        level: error probability in (0, 1).

    Raises:
        InvalidInput: for a level outside (0, 1) or counts outside [0, trials].

    References:
        robbins1970, a mixture of likelihoods over p in place of the largest one.
    """
    errors, trials = _checked(errors, trials, level)
    errors, trials = errors.astype(float), trials.astype(float)
    mixture = special.betaln(errors + 0.5, trials - errors + 0.5) - special.betaln(0.5, 0.5)
    log_bar = -np.log(level)

    def excess(logit: np.ndarray, k: np.ndarray, n: np.ndarray, mix: np.ndarray) -> np.ndarray:
        likelihood = k * special.log_expit(logit) + (n - k) * special.log_expit(-logit)
        above: np.ndarray = mix - likelihood - log_bar
        return above

    # Inside the interval, also without errors or successes, where the observed share is at the end.
    centre = np.log(errors + 0.5) - np.log(trials - errors + 0.5)

    def end(far: float) -> np.ndarray:
        bracket = (np.minimum(centre, far), np.maximum(centre, far))
        # On the logit scale, where ends near 0 and 1 keep their relative precision.
        root = elementwise.find_root(excess, bracket, args=(errors, trials, mixture))
        probability: np.ndarray = special.expit(root.x)
        return probability

    # With no error (or only errors) the likelihood has no lower (upper) crossing.
    return Bounds(
        np.where(errors == 0, 0.0, end(-700.0)), np.where(errors == trials, 1.0, end(700.0))
    )
