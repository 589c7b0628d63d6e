"""The change of the worst class: coverage enumerated and simulated, above all where classes tie."""

import functools
import itertools

import numpy as np
import pytest
from scipy import stats

from nets.evaluation import worst_class as extremes
from nets.evaluation.per_class import class_counts, worst_class
from nets.evaluation.worst_class import (
    best_change_interval,
    count,
    least_evidence,
    subsets,
    worst,
    worst_class_interval,
)
from sims.stats.average_mean import bets
from theory.domain import InvalidInput

# Of one image: both networks right, only the first, only the second, none.
PAIRS = np.array([(1, 1), (1, 0), (0, 1), (0, 0)], bool)
EACH = 3
OUTCOMES = [c for c in itertools.product(range(EACH + 1), repeat=4) if sum(c) == EACH]
# Chances of the four for each of two classes.
LAWS = {
    "both tie in both": [(0.25, 0.25, 0.25, 0.25)] * 2,
    "a tie in the first": [(0.5, 0.0, 0.2, 0.3), (0.1, 0.4, 0.1, 0.4)],
    "another class is the worst": [(0.1, 0.8, 0.0, 0.1), (0.1, 0.0, 0.8, 0.1)],
    "one loses all": [(0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0)],
    "rarely": [(0.9, 0.05, 0.0, 0.05), (0.9, 0.0, 0.1, 0.0)],
}


def flags_of(*outcomes):
    """Returns flags (1, n) of both networks and labels for how often each pair is in each class."""
    pairs = [np.repeat(PAIRS, outcome, axis=0) for outcome in outcomes]
    labels = np.repeat(np.arange(len(pairs)), [len(part) for part in pairs])
    first, second = np.concatenate(pairs).T[:, None]
    return first, second, labels


def chances(laws):
    parts = [[stats.multinomial.pmf(c, EACH, law) for c in OUTCOMES] for law in laws]
    return np.outer(*parts).ravel()


def truth(laws):
    first, second = (np.dot(laws, PAIRS[:, k]) for k in (0, 1))
    return first.min() - second.min()


def refuted(first, second, labels, classes, change, level):
    """Returns whether the lower end lies above a change."""
    rates = bets(int(np.bincount(labels).min()), level / 2)
    counts, chosen = count(first, second, labels, classes), subsets(classes, len(first))
    return least_evidence(counts, chosen, rates, change) >= np.log(2 / level)


@functools.cache
def chance_of_missing(law, level):
    """The exact chance that each end misses the change, over all 400 outcomes of two classes."""
    missed, sought = np.zeros(2), truth(LAWS[law])
    for chance, both in zip(chances(LAWS[law]), itertools.product(OUTCOMES, repeat=2), strict=True):
        if chance:
            first, second, labels = flags_of(*both)
            missed += chance * np.array(
                [
                    refuted(first, second, labels, 2, sought, level),
                    refuted(second, first, labels, 2, -sought, level),
                ]
            )
    return missed


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("level", [0.2, 0.9])
def test_each_end_misses_with_at_most_half_of_the_level(law, level):
    assert max(chance_of_missing(law, level)) <= level / 2


def test_each_end_does_miss():
    """The second is that of the first with the networks exchanged."""
    assert max(max(chance_of_missing(law, 0.9)) for law in LAWS) > 0.05


def draws(rng, first, second, seeds, each):
    """Returns flags (S, n): half of each image's luck is shared by all networks."""
    labels = np.arange(each * len(first)) % len(first)
    base = rng.random(len(labels))

    def lucky(accuracy):
        own = rng.random((seeds, len(labels)))
        return np.where(rng.random(own.shape) < 0.5, base, own) < np.asarray(accuracy)[labels]

    return lucky(first), lucky(second), labels


TIED = ([0.5] * 6, [0.5] + [0.95] * 5)


def test_the_interval_holds_where_six_classes_tie():
    """Six classes of one network are all its worst, of its partner one is: the change is 0.

    700 studies of two seeds. An end that misses with chance 0.2 is called wrong with probability
    1e-6, one that misses with 0.32 passes with less than 1e-2.
    """
    rng, level, runs = np.random.default_rng(5), 0.4, 700
    allowed, missed, naive = stats.binom.isf(1e-6, runs, level / 2), np.zeros(2, int), 0
    for _ in range(runs):
        first, second, labels = draws(rng, *TIED, 2, 30)
        missed += [
            refuted(first, second, labels, 6, 0.0, level),
            refuted(second, first, labels, 6, 0.0, level),
        ]
        naive += _naive_high(first, second, labels, level) < 0
    assert max(missed) <= allowed
    assert naive > allowed


def _naive_high(first, second, labels, level):
    """Upper end of the normal interval that takes the observed worst classes as if given."""
    one, two = (
        np.mean([flags[s, labels == k] for s, k in enumerate(_least(flags, labels))], 0)
        for flags in (first, second)
    )
    spread = (one.var() + two.var()) / len(one)
    return one.mean() - two.mean() + stats.norm.isf(level / 2) * spread**0.5


def _least(flags, labels):
    return extremes.accuracies(flags, labels, 6).argmin(-1)


def test_the_ends_are_where_the_evidence_is_enough():
    first, second, labels = draws(np.random.default_rng(1), [0.3, 0.6], [0.4, 0.5], 2, 50)
    low, high = worst_class_interval(first, second, labels, 2, 0.1)
    observed = (worst(first, labels, 2) - worst(second, labels, 2)).mean()
    assert low < observed < high
    for one, two, end in ((first, second, low), (second, first, -high)):
        assert refuted(one, two, labels, 2, end, 0.1)
        assert not refuted(one, two, labels, 2, end + 1e-5, 0.1)


def test_evidence_falls_as_the_change_rises():
    first, second, labels = draws(np.random.default_rng(2), [0.3, 0.6, 0.9], [0.4, 0.5, 0.9], 2, 40)
    rates = bets(40, 0.05)
    counts, chosen = count(first, second, labels, 3), subsets(3, 2)
    found = [least_evidence(counts, chosen, rates, t) for t in np.linspace(-0.99, 0.99, 23)]
    assert np.all(np.diff(found) <= 1e-9)


def test_paired_networks_need_fewer_images():
    """A gain of 0.06 on the one worst class is seen through luck that the networks share."""
    rng = np.random.default_rng(3)
    labels = np.arange(4000) % 4
    luck = np.where(rng.random((3, 4000)) < 0.9, rng.random(4000), rng.random((3, 4000)))
    worse, better = np.array([0.3, 0.6, 0.8, 0.9]), np.array([0.36, 0.6, 0.8, 0.9])
    first, second = luck < better[labels], luck < worse[labels]
    low, high = worst_class_interval(first, second, labels, 4, 1e-3)
    assert 0 < low < 0.06 < high < 0.12
    shuffled = rng.permuted(second[:, labels == 0], axis=1)
    unpaired = second.copy()
    unpaired[:, labels == 0] = shuffled
    assert worst_class_interval(first, unpaired, labels, 4, 1e-3).low < 0


def test_another_worst_class_costs_less_than_two_intervals():
    """Where the worst class changes nothing is paired; still the interval is narrower than that
    between the simultaneous exact intervals of both minima, which is valid, too."""
    rng, level = np.random.default_rng(7), 1e-3
    first, second, labels = draws(rng, [0.6, 0.4, 0.8, 0.9], [0.4, 0.6, 0.8, 0.9], 1, 1000)
    low, high = worst_class_interval(first, second, labels, 4, level)
    ends = []
    for flags in (first, second):
        counts = class_counts(labels, flags[0], 4)
        ends.append(worst_class(counts, level / 2))
    assert high - low < 0.95 * (ends[0].high - ends[1].low - (ends[0].low - ends[1].high))


def test_a_rate_that_could_lose_more_than_all_has_no_evidence():
    """At change t an image that only the second gets right would count 1 - r (1 + t)."""
    counts = count(*flags_of((0, 20, 0, 0)), 1)
    assert least_evidence(counts, subsets(1, 1), np.array([0.7]), 0.5) == -np.inf
    found = least_evidence(counts, subsets(1, 1), np.array([0.7]), 0.4)
    assert found == pytest.approx(20 * np.log1p(0.7 * 0.6))


def test_exchanges_change_signs():
    first, second, labels = draws(np.random.default_rng(4), [0.3, 0.6, 0.9], [0.4, 0.5, 0.7], 2, 40)
    low, high = worst_class_interval(first, second, labels, 3, 0.1)
    back = worst_class_interval(second, first, labels, 3, 0.1)
    np.testing.assert_array_equal((-back.high, -back.low), (low, high))
    renamed = worst_class_interval(first, second, 2 - labels, 3, 0.1)
    np.testing.assert_allclose(renamed, (low, high), atol=1e-5)
    best = best_change_interval(~first, ~second, labels, 3, 0.1)
    np.testing.assert_array_equal((-best.high, -best.low), (low, high))
    observed = [extremes.accuracies(f, labels, 3).max(-1) for f in (first, second)]
    low, high = best_change_interval(first, second, labels, 3, 0.1)
    assert low < (observed[0] - observed[1]).mean() < high


def test_groups_of_networks_share_the_level(monkeypatch):
    first, second, labels = draws(np.random.default_rng(6), [0.3, 0.6], [0.4, 0.5], 3, 50)
    alone = [worst_class_interval(first[[s]], second[[s]], labels, 2, 0.1 / 3) for s in range(3)]
    monkeypatch.setattr(extremes, "MOST", 1)
    grouped = worst_class_interval(first, second, labels, 2, 0.1)
    np.testing.assert_allclose(grouped, np.mean(alone, 0), atol=1e-9)


def test_bad_levels_are_refused():
    with pytest.raises(InvalidInput, match="level = 1"):
        worst_class_interval(*flags_of((1, 1, 1, 1)), 1, 1.0)
