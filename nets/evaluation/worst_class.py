"""How the least accurate class changes between two networks, or pairs of them: with an interval.

The class is chosen on the same samples that measure it, and several classes may tie; neither may
count for one of the networks. Everything is on the host, in float64.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from sims.stats.average_mean import bets
from sims.stats.interval import Bounds, require_level

# Of tables over choices of a class for each network: choices times classes.
MOST = 20_000
# Of the bracket of an end, whose safe side is returned: its width is then below 2e-6.
HALVINGS = 20


class SeedCounts(NamedTuple):
    """How the images of each class fare with every subset of the networks.

    A subset of the S networks is a number whose bit s says whether network s is in it.

    Args:
        same: images of a class by the sum of x - y over a subset, (K, 2^S, 2 S + 1).
        none: likewise by the sum of x over the subset.
        whole: likewise by the sum of x over the subset less that of y over all networks.
        trials: images of each class, (K,).
    """

    same: NDArray[Any]
    none: NDArray[Any]
    whole: NDArray[Any]
    trials: NDArray[Any]


def worst_class_interval(
    first: NDArray[Any], second: NDArray[Any], labels: NDArray[Any], classes: int, level: float
) -> Bounds:
    """Returns an interval of the mean over S networks of min_k a_k - min_k b_k.

    a_k is the chance that the network of `first` is right on an image of class k, b_k that of its
    partner in `second`; the images of a class are independent draws, the networks are given.

    Let class k(s) be the least accurate of network s of `first`. For every choice of classes l(s)
    the mean of a_k(s) - b_l(s) is at most the change that is sought, D, because b_l(s) is at least
    the minimum; so the evidence of `_log_evidence` against "at most D" for the classes k(s) has
    mean at most 1, and the least evidence over all classes that k(s) might be is no larger. The
    lower end is where that least evidence falls below 2 / level: it exceeds D with chance at most
    level / 2 (Markov), however many classes there are and whichever tie. The upper end is the same
    with the networks exchanged. What is paired stays paired: l = k for all networks is half of the
    evidence, the other half is spread over one class l for all of them.

    With so many networks that tables pass `MOST` they are taken in groups that share the level.

    Args:
        first, second: whether each network is right on each image, bool, (S, n).
        labels: in [0, classes), every class present, (n,).
        classes: K.
        level: error probability in (0, 1).

    Returns:
        bounds in [-1, 1], ().

    References:
        new; the evidence is that of `sims.stats.average_mean`.

    >>> right, labels = np.ones((1, 200), bool), np.arange(200) % 2
    >>> worse = right & (labels == 0)  # all of class 1 lost
    >>> bounds = worst_class_interval(worse, right, labels, 2, 1e-3)
    >>> bool(-1 <= bounds.low < bounds.high < -0.7)
    True
    """
    require_level(level)
    number = len(first)
    # The largest group whose table over all choices, K^S rows of K, still fits.
    largest = 1
    while largest < number and classes ** (largest + 1) * classes <= MOST:
        largest += 1
    groups = np.array_split(np.arange(number), -(-number // largest))
    ends = []
    for one, two in ((first, second), (second, first)):
        # The mean over networks is the mean of the groups' means, weighted by their sizes; the ends
        # add up, and so do the chances to err.
        parts = [
            len(group) * _low_end(one[group], two[group], labels, classes, level / 2 / len(groups))
            for group in groups
        ]
        ends.append(sum(parts) / number)
    return Bounds(np.asarray(ends[0]), np.asarray(-ends[1]))


def best_change_interval(
    first: NDArray[Any], second: NDArray[Any], labels: NDArray[Any], classes: int, level: float
) -> Bounds:
    """Returns an interval of the mean over networks of max_k a_k - max_k b_k.

    The largest accuracy is one less the smallest error; flags (S, n) and labels (n,) are as in
    `worst_class_interval`, bounds ().
    """
    # max a = 1 - min (1 - a), so the differences change their sign and the ends their places.
    low, high = worst_class_interval(~first, ~second, labels, classes, level)
    return Bounds(-high, -low)


def worst(flags: NDArray[Any], labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """Returns the smallest class accuracy of each network, (S,), from flags (S, n)."""
    smallest: NDArray[Any] = accuracies(flags, labels, classes).min(-1)
    return smallest


def accuracies(flags: NDArray[Any], labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """Returns the class accuracies, (..., K), from flags (..., n)."""
    return np.stack([flags[..., labels == k].mean(-1) for k in range(classes)], -1)


def count(
    first: NDArray[Any], second: NDArray[Any], labels: NDArray[Any], classes: int
) -> SeedCounts:
    """Returns what `worst_class_interval` needs of the flags (S, n), which is a few counts."""
    number = len(first)
    members = _members(number)
    tables = np.zeros((3, classes, 2**number, 2 * number + 1), np.int64)
    for k in range(classes):
        x, y = (flags[:, labels == k].astype(int) for flags in (first, second))
        totals = members @ (x - y), members @ x, members @ x - y.sum(0)
        for table, sums in zip(tables, totals, strict=True):
            for subset, row in enumerate(sums):
                table[k, subset] = np.bincount(row + number, minlength=2 * number + 1)
    same, none, whole = tables
    return SeedCounts(same, none, whole, np.bincount(labels, minlength=classes))


def _members(number: int) -> NDArray[Any]:
    """Returns which networks are in each subset, (2^S, S)."""
    return (np.arange(2**number)[:, None] >> np.arange(number)) & 1


def _low_end(
    first: NDArray[Any], second: NDArray[Any], labels: NDArray[Any], classes: int, level: float
) -> float:
    counts = count(first, second, labels, classes)
    rates = bets(int(counts.trials.min()), level)
    chosen = subsets(classes, len(first))
    # At the observed change the observed worst classes have no evidence: the end lies below it.
    observed = worst(first, labels, classes) - worst(second, labels, classes)
    low, high = -1.0, float(observed.mean())
    # Evidence falls in the change that is to be refuted, so one crossing is bracketed.
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        refuted = least_evidence(counts, chosen, rates, middle) >= -np.log(level)
        low, high = (middle, high) if refuted else (low, middle)
    return low


def subsets(classes: int, number: int) -> NDArray[Any]:
    """Returns for each choice of a class for every network who chose each class.

    Args:
        classes: K.
        number: S, of networks.

    Returns:
        The subset of the networks that chose a class as a number, int, (choices, K): K^S choices.
    """
    chosen = np.array(list(itertools.product(range(classes), repeat=number)))
    mine = chosen[:, None, :] == np.arange(classes)[:, None]
    # Bit s of a subset says that network s is in it.
    subset: NDArray[Any] = mine @ (1 << np.arange(number))
    return subset


def least_evidence(
    counts: SeedCounts, chosen: NDArray[Any], rates: NDArray[Any], change: float
) -> float:
    """Returns the least log-evidence, over choices of worst classes, against "at most `change`".

    Args:
        counts: of `count`.
        chosen: of `subsets`, (choices, K).
        rates: of `sims.stats.average_mean.bets`, (r,).
        change: in [-1, 1].
    """
    classes = np.arange(len(counts.trials))
    tables = _log_evidence(counts, rates, change)
    same, none, whole = (table[classes, chosen] for table in tables)
    rest = none.sum(1, keepdims=True)
    # One class l for all networks of the partner; -inf where a factor could be negative.
    with np.errstate(invalid="ignore"):
        other = np.where(np.isfinite(rest) & np.isfinite(none), rest - none + whole, -np.inf)
    # A mean of evidence is evidence: half for each kind, and the same for every rate and class.
    half = np.log(2 * len(rates))
    paired = logsumexp(same.sum(1), axis=-1) - half
    spread = logsumexp(other, axis=(1, 2)) - half - np.log(len(classes))
    return float(np.logaddexp(paired, spread).min())


def _log_evidence(
    counts: SeedCounts, rates: NDArray[Any], change: float
) -> tuple[NDArray[Any], ...]:
    """Returns log prod (1 + r c (V - t)) over the images of a class, for `same`, `none`, `whole`.

    V is the sum that is counted, divided by S. For fixed rates r c, c the smallest number of images
    of a class over that of this one, and fixed t that add up to `change` over the classes, the
    product over all classes has mean at most exp(r sum (E V - t) min n) <= 1 if the sum of E V is
    at most `change`, as 1 + z <= exp(z). So t is the middle of what V can be and the subset's share
    of the change. Shapes (K, 2^S, r).
    """
    number = (counts.same.shape[-1] - 1) // 2
    values = np.arange(-number, number + 1) / number
    share = _members(number).sum(1) / number
    scaled = rates * (counts.trials.min() / counts.trials)[:, None, None]
    evidence = []
    for table, below in ((counts.same, share), (counts.none, 0 * share), (counts.whole, 1)):
        middle = (share - below) / 2 + share * change
        lowest = -below - middle
        # A rate is used where its factor cannot turn negative, whatever the images say; else the
        # evidence is none at all, log 0.
        allowed = 1 + scaled * lowest[:, None] >= 0
        steps = np.where(allowed, scaled, 0)[..., None] * (values - middle[:, None, None])
        with np.errstate(divide="ignore", invalid="ignore"):
            # 0 log 0 is 0: a sum that never occurs has no say, even where its factor is 0.
            parts = np.where(
                table[:, :, None, :] > 0, table[:, :, None, :] * np.log1p(steps), 0
            ).sum(-1)
        evidence.append(np.where(allowed, parts, -np.inf))
    return tuple(evidence)
