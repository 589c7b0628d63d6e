"""Two models on the same samples: paired differences, class by class, with exact tests."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nets.evaluation.per_class import ClassCounts, class_counts
from sims.stats.interval import Bounds, clopper_pearson
from theory.domain import InvalidInput

Floats = NDArray[np.float64]


class Paired(NamedTuple):
    """Samples of each class that only one of two models gets right, int64, (K,)."""

    only_first: NDArray[np.int64]
    only_second: NDArray[np.int64]
    trials: NDArray[np.int64]

    @property
    def difference(self) -> Floats:
        """Accuracy of the second minus that of the first, (K,); nan without samples."""
        with np.errstate(invalid="ignore"):
            return (self.only_second - self.only_first) / self.trials


def paired(labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int) -> Paired:
    """Returns the discordant samples of each class.

    Args:
        labels: true classes in [0, classes), (n,).
        first, second: whether each model is correct, bool, (n,).
        classes: K.

    Raises:
        InvalidInput: for a label outside [0, classes) or shapes that differ.

    >>> flags = np.array([True, True, False])
    >>> paired(np.array([0, 0, 1]), flags, ~flags, 2).difference.tolist()
    [-1.0, 1.0]
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape:
        raise InvalidInput(f"second.shape = {second.shape}: must be that of first, {first.shape}")
    one = class_counts(labels, first & ~second, classes)
    two = class_counts(labels, second & ~first, classes)
    return Paired(one.correct, two.correct, one.trials)


def pooled(counts: Paired) -> Paired:
    """Returns the discordant samples of all classes together, (1,)."""
    return Paired(*(field.sum(keepdims=True) for field in counts))


def mcnemar(counts: Paired) -> Floats:
    """Returns the exact two-sided p-value of "the two are equally accurate" for each class, (K,).

    Of the samples on which the two differ, each is right with probability one half.

    References:
        mcnemar1947, in its exact binomial form.

    >>> mcnemar(Paired(np.array([0]), np.array([5]), np.array([9]))).tolist()
    [0.0625]
    """
    discordant = counts.only_first + counts.only_second
    fewer = np.minimum(counts.only_first, counts.only_second)
    # Twice the smaller tail counts the middle value twice where both are equal: hence the 1.
    p_values: Floats = np.minimum(1.0, 2 * stats.binom.cdf(fewer, discordant, 0.5))
    return p_values


def holm(p_values: np.ndarray) -> Floats:
    """Returns p-values adjusted so that rejecting those below a level errs at most at that level.

    Args:
        p_values: of the family, (m,); under any dependence.

    References:
        holm1979.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    # Never below a smaller one's: what is rejected at a level stays rejected at a larger one.
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def difference_intervals(counts: Paired, level: float) -> Bounds:
    """Returns exact intervals of the differences in accuracy that all hold together, (K,).

    The difference is P(only second right) - P(only first right); each gets half of the level.

    Args:
        counts: discordant samples of each class.
        level: chance that any interval misses, in (0, 1).
    """
    # Two shares of one multinomial: their intervals hold together by the union bound, whatever the
    # dependence, so that of the difference is exact, if wider than need be.
    share = level / (2 * len(counts.trials))
    gained = clopper_pearson(counts.only_second, counts.trials, share)
    lost = clopper_pearson(counts.only_first, counts.trials, share)
    return Bounds(gained.low - lost.high, gained.high - lost.low)


def rho(before: ClassCounts, after: ClassCounts) -> float:
    """Returns the relative change of the worst class's accuracy plus that of the average.

    Positive where a fairness method gains more at the bottom than it pays on average.

    References:
        lee2024dafa, section 5 (its score rho); worst and average over the same samples.

    >>> rho(ClassCounts(np.array([2, 4]), np.array([4, 4])),
    ...     ClassCounts(np.array([3, 3]), np.array([4, 4])))
    0.5
    """
    worst = [float(np.nanmin(counts.accuracy)) for counts in (before, after)]
    average = [float(counts.correct.sum() / counts.trials.sum()) for counts in (before, after)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(
            np.subtract(worst[1], worst[0]) / np.float64(worst[0])
            + np.subtract(average[1], average[0]) / np.float64(average[0])
        )


def rho_text(values: Any, reference: str) -> str:
    """Returns a mean of scores `rho` as a text, or why there is none.

    Args:
        values: of `rho`, () or (S,): not finite where the accuracy that it divides by is 0.
        reference: what has that accuracy.

    >>> rho_text(0.25, "the worst class"), rho_text(np.inf, "the worst class")
    ('+0.250', 'undefined: the worst class has accuracy 0')
    """
    if not np.isfinite(values).all():
        return f"undefined: {reference} has accuracy 0"
    return f"{float(np.mean(values)):+.3f}"
