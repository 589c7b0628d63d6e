"""Class reports and paired comparisons, against enumeration and a published table."""

import itertools

import numpy as np
import pytest
from scipy import stats

from nets.evaluation.paired import Paired, difference_intervals, holm, mcnemar, paired, pooled, rho
from nets.evaluation.per_class import (
    ClassCounts,
    class_counts,
    class_intervals,
    confusion,
    expected_minimum,
    spread,
    worst_class,
)
from sims.stats.interval import clopper_pearson
from theory.domain import InvalidInput


def counts(correct, trials):
    return ClassCounts(np.asarray(correct), np.asarray(trials))


def outcomes(trials, truth):
    """Yields every vector of correct samples with its probability under the true accuracies."""
    for correct in itertools.product(*(range(n + 1) for n in trials)):
        yield np.array(correct), float(np.prod(stats.binom.pmf(correct, trials, truth)))


def test_a_class_is_divided_by_its_own_samples():
    labels = np.array([0] * 8 + [1] * 2)
    found = class_counts(labels, labels == 0, 3)
    assert found.accuracy[:2].tolist() == [1.0, 0.0]
    assert np.isnan(found.accuracy[2])
    unequal = spread(found)
    assert (unequal.average, unequal.balanced, unequal.gap) == (0.8, 0.5, 1.0)
    assert unequal.variance == 0.25


@pytest.mark.parametrize("trials", [(3, 3, 3), (2, 5, 4)])
def test_the_expected_minimum_is_that_of_all_outcomes(trials):
    observed = counts([1, 3, 2], trials)
    exact = sum(p * (c / trials).min() for c, p in outcomes(trials, observed.accuracy))
    assert expected_minimum(observed) == pytest.approx(exact, rel=1e-12)
    worst = worst_class(observed, 0.05)
    assert worst.selection_bias == pytest.approx(exact - observed.accuracy.min(), rel=1e-9)
    assert worst.selection_bias < 0


@pytest.mark.parametrize("truth", [(0.5, 0.5, 0.5), (0.2, 0.8, 0.5), (0.05, 0.05, 0.9)])
def test_the_interval_of_the_worst_class_allows_for_the_choice(truth):
    trials, level = (6, 6, 6), 0.2
    missed = 0.0
    for correct, probability in outcomes(trials, truth):
        worst = worst_class(counts(correct, trials), level)
        missed += probability * (not worst.low <= min(truth) <= worst.high)
    assert missed <= level


def test_the_chosen_class_own_interval_would_miss_too_often():
    """Why the interval is simultaneous: with ten equal classes the least of them misleads."""
    number, classes, truth, level = 40, 10, 0.5, 0.05
    survival = stats.binom.sf(np.arange(-1, number + 1), number, truth) ** classes
    chance = -np.diff(survival)
    own = clopper_pearson(np.arange(number + 1), np.full(number + 1, number), level)
    assert chance @ (own.high < truth) > 3 * level
    ours = clopper_pearson(np.arange(number + 1), np.full(number + 1, number), level / classes)
    assert chance @ (ours.high < truth) <= level


def test_all_class_intervals_hold_together():
    trials, truth, level = (5, 5, 5), (0.3, 0.6, 0.9), 0.2
    missed = 0.0
    for correct, probability in outcomes(trials, truth):
        bounds = class_intervals(counts(correct, trials), level)
        missed += probability * (not ((bounds.low <= truth) & (truth <= bounds.high)).all())
    assert missed <= level


def test_rows_of_a_confusion_are_true_classes():
    table = confusion(np.array([0, 0, 1, 2]), np.array([1, 0, 1, 0]), 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (0, 7), (3, 9), (6, 6)])
def test_mcnemar_is_the_exact_binomial_test(only_first, only_second):
    table = Paired(np.array([only_first]), np.array([only_second]), np.array([50]))
    discordant = only_first + only_second
    expected = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    assert mcnemar(table)[0] == pytest.approx(expected, rel=1e-12)


def test_holm_is_the_closed_test_of_bonferroni():
    p_values = np.array([0.011, 0.4, 0.02, 0.011, 0.3])
    closed = [
        max(
            min(1.0, len(family) * p_values[list(family)].min())
            for size in range(1, 6)
            for family in itertools.combinations(range(5), size)
            if i in family
        )
        for i in range(5)
    ]
    assert holm(p_values) == pytest.approx(closed, rel=1e-12)


def test_difference_intervals_hold_together():
    """Every outcome of eight paired samples of two classes of different pairs."""
    number, level = 8, 0.2
    laws = [(0.2, 0.1), (0.05, 0.6)]
    caught = []
    for lost, gained in laws:
        inside = 0.0
        for a in range(number + 1):
            for b in range(number + 1 - a):
                ways = [a, b, number - a - b]
                chance = stats.multinomial.pmf(ways, number, [lost, gained, 1 - lost - gained])
                table = Paired(*(np.array([v, v]) for v in (a, b, number)))
                bounds = difference_intervals(table, level)
                inside += chance * bool(bounds.low[0] <= gained - lost <= bounds.high[0])
        caught.append(inside)
    assert np.prod(caught) >= 1 - level


def test_pairs_are_counted_class_by_class():
    labels = np.array([0, 0, 0, 1, 1])
    first = np.array([True, True, False, False, True])
    second = np.array([False, True, True, True, True])
    table = paired(labels, first, second, 2)
    assert [field.tolist() for field in table] == [[1, 0], [1, 1], [3, 2]]
    assert table.difference.tolist() == [0.0, 0.5]
    assert [field.tolist() for field in pooled(table)] == [[1], [2], [5]]


@pytest.mark.parametrize(
    ("average", "worst", "published"),
    [
        (44.68, 25.84, 0.11),
        (50.78, 27.62, 0.32),
        (45.89, 17.82, -0.24),
        (46.30, 28.55, 0.27),
        (49.05, 30.53, 0.42),
    ],
)
def test_rho_gives_the_column_of_the_published_table(average, worst, published):
    """Rows FRL, CFA, BAT, WAT and DAFA beside TRADES, 49.80 and 21.31, of Lee et al. 2024."""

    def of(average, worst):
        # Two classes of 10,000 with this average and this worst accuracy.
        return counts([round(100 * worst), round(200 * average - 100 * worst)], [10_000, 10_000])

    assert rho(of(49.80, 21.31), of(average, worst)) == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_counts(np.array([0, 3]), np.array([True, True]), 3), "labels = 3"),
        (lambda: class_counts(np.array([0, -1]), np.array([True, True]), 3), "labels = -1"),
        (lambda: class_counts(np.array([0.0]), np.array([True]), 3), "labels.dtype"),
        (lambda: class_counts(np.array([0]), np.array([True, True]), 3), "correct.shape"),
        (lambda: class_intervals(counts([1], [2]), 1.5), "level = 1.5"),
        (lambda: worst_class(counts([0], [0]), 0.05), "no class has samples"),
        (
            lambda: paired(np.array([0]), np.array([True]), np.array([True, True]), 2),
            "second.shape",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
