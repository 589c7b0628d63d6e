"""What per-sample outcomes say about every class: accuracies, exact intervals, the worst class.

Everything is counted from flags and predictions, on the host in float64. A class without samples
has nan, never zero; every accuracy is divided by the samples of its own class.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sims.stats.interval import Bounds, clopper_pearson
from theory.domain import InvalidInput

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class ClassCounts(NamedTuple):
    """Correct samples of each class and all of them, int64, (K,)."""

    correct: Integers
    trials: Integers

    @property
    def accuracy(self) -> Floats:
        """The share of each class that is correct, (K,); nan for a class without samples."""
        with np.errstate(invalid="ignore"):
            return self.correct / self.trials


class Worst(NamedTuple):
    """The least accurate class, and what it owes to having been chosen on the same samples.

    Args:
        label: the class with the smallest observed accuracy, the first of several.
        accuracy: that accuracy: smaller on average than the least true accuracy.
        selection_bias: expected smallest observed accuracy minus the smallest true one, if the
            observed accuracies were the true ones; never positive.
        low, high: an interval for the smallest true accuracy that is not affected by the choice.
    """

    label: int
    accuracy: float
    selection_bias: float
    low: float
    high: float


class Spread(NamedTuple):
    """How unequal the classes are.

    Args:
        average: share of all samples that is correct.
        balanced: mean of the class accuracies, over classes with samples.
        gap: largest minus smallest class accuracy.
        variance: of the class accuracies, over classes.
    """

    average: float
    balanced: float
    gap: float
    variance: float


def require_labels(labels: np.ndarray, classes: int) -> None:
    """Raises InvalidInput unless the labels, (n,), are integers in [0, classes)."""
    if not np.issubdtype(np.asarray(labels).dtype, np.integer):
        raise InvalidInput(f"labels.dtype = {np.asarray(labels).dtype}: must be integers")
    if outside := sorted(set(np.unique(labels).tolist()) - set(range(classes))):
        raise InvalidInput(f"labels = {outside[0]}: must lie in [0, {classes})")


def class_counts(labels: np.ndarray, correct: np.ndarray, classes: int) -> ClassCounts:
    """Returns how many samples of each class are correct.

    Args:
        labels: true classes in [0, classes), (n,).
        correct: whether each sample is, bool, (n,).
        classes: K.

    Raises:
        InvalidInput: for a label outside [0, classes) or shapes that differ.

    >>> class_counts(np.array([0, 0, 2]), np.array([True, False, True]), 3).trials.tolist()
    [2, 0, 1]
    """
    require_labels(labels, classes)
    if np.shape(correct) != np.shape(labels):
        raise InvalidInput(
            f"correct.shape = {np.shape(correct)}: must be that of labels, {np.shape(labels)}"
        )
    # Not in their own type, of which numpy counts some and refuses others.
    labels = np.asarray(labels).astype(np.int64)
    right = np.bincount(labels[np.asarray(correct, bool)], minlength=classes)
    return ClassCounts(right.astype(np.int64), np.bincount(labels, minlength=classes))


def class_intervals(counts: ClassCounts, level: float) -> Bounds:
    """Returns exact intervals of the class accuracies that all hold together, (K,).

    Args:
        counts: of the classes.
        level: chance that any of them misses its accuracy, in (0, 1), shared equally.
    """
    return clopper_pearson(counts.correct, counts.trials, level / len(counts.trials))


def spread(counts: ClassCounts) -> Spread:
    """Returns average, balanced accuracy, gap and variance over the classes with samples.

    >>> spread(ClassCounts(np.array([1, 4]), np.array([2, 4])))
    Spread(average=0.8333333333333334, balanced=0.75, gap=0.5, variance=0.0625)
    """
    accuracy = counts.accuracy[counts.trials > 0]
    return Spread(
        float(counts.correct.sum() / counts.trials.sum()),
        float(accuracy.mean()),
        float(np.ptp(accuracy)),
        float(accuracy.var()),
    )


def worst_class(counts: ClassCounts, level: float) -> Worst:
    """Returns the worst class with its selection bias and an interval that allows for the choice.

    The smallest of K observed accuracies is too small on average. The interval runs from the
    smallest lower end to the smallest upper end of the simultaneous class intervals: where those
    hold, so does it.

    Args:
        counts: of the classes; those without samples are left out.
        level: error probability of the interval, in (0, 1).

    Raises:
        InvalidInput: if no class has samples.
    """
    known = counts.trials > 0
    if not known.any():
        raise InvalidInput("counts.trials: no class has samples")
    bounds = class_intervals(counts, level)
    # Of several the first: the interval is the same for all of them, and a name must be said.
    label = int(np.nanargmin(counts.accuracy))
    least = float(counts.accuracy[label])
    expected = expected_minimum(ClassCounts(counts.correct[known], counts.trials[known]))
    low, high = float(bounds.low[known].min()), float(bounds.high[known].min())
    return Worst(label, least, expected - least, low, high)


def expected_minimum(counts: ClassCounts) -> float:
    """Returns the mean of the smallest of K accuracies drawn with the observed ones as true.

    Exactly, from the binomial laws of the classes: the integral over t of P(no class at or below
    t), a step function.

    >>> expected_minimum(ClassCounts(np.array([1, 1]), np.array([2, 2])))
    0.3125
    """
    steps = np.unique(np.concatenate([np.arange(n + 1) / n for n in counts.trials]))
    # Both ends of a step are multiples of 1 / n up to rounding, which the half count absorbs.
    reached = np.floor(steps[:-1, None] * counts.trials + 1e-9)
    above = stats.binom.sf(reached, counts.trials, counts.accuracy)
    return float(np.diff(steps) @ above.prod(axis=1))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> Integers:
    """Returns how many samples of each class (rows) are taken for each class, (K, K).

    >>> confusion(np.array([0, 1]), np.array([1, 1]), 2).tolist()
    [[0, 1], [0, 1]]
    """
    require_labels(labels, classes)
    require_labels(predicted, classes)
    # One count of pairs in row order, K^2 of them, in place of a loop over samples.
    # As int64: the number of a pair wraps in the type of small labels.
    pairs = np.asarray(labels).astype(np.int64) * classes + np.asarray(predicted).astype(np.int64)
    flat = np.bincount(pairs, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)
