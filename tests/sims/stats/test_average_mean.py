"""The interval of an average mean: its coverage, enumerated, its width, and what it refuses."""

import functools
import itertools

import numpy as np
import pytest
from scipy import stats

from sims.stats.average_mean import average_interval
from theory.domain import InvalidInput

VALUES = np.array([-1.0, 0.0, 1.0])
# Chances of the three values in each half of the draws: alike, rare at one end, and not alike.
LAWS = [
    ((0.3, 0.4, 0.3), (0.3, 0.4, 0.3)),
    ((0.02, 0.98, 0.0), (0.02, 0.98, 0.0)),
    ((0.9, 0.1, 0.0), (0.0, 0.1, 0.9)),
    ((0.0, 0.6, 0.4), (0.5, 0.5, 0.0)),
    ((0.2, 0.0, 0.8), (0.2, 0.0, 0.8)),
]
HALF = 4


@functools.cache
def interval(counts, level):
    return average_interval(VALUES, np.array(counts), level)


def chance_of_missing(laws, method, level):
    """The exact chance that each end misses, over all outcomes of the two halves."""
    outcomes = [c for c in itertools.product(range(HALF + 1), repeat=3) if sum(c) == HALF]
    mean = np.mean([np.dot(VALUES, law) for law in laws])
    missed = np.zeros(2)
    for one, two in itertools.product(outcomes, repeat=2):
        chance = np.prod(
            [
                stats.multinomial.pmf(*pair)
                for pair in zip((one, two), (HALF, HALF), laws, strict=True)
            ]
        )
        low, high = method(tuple(np.add(one, two).tolist()), level)
        missed += chance * np.array([low > mean + 1e-12, high < mean - 1e-12])
    return missed


@pytest.mark.parametrize("laws", LAWS)
@pytest.mark.parametrize("level", [0.2, 0.9])
def test_each_end_misses_with_at_most_half_of_the_level(laws, level):
    assert max(chance_of_missing(laws, interval, level)) <= level / 2


def test_each_end_does_miss():
    missed = np.array([chance_of_missing(laws, interval, 0.9) for laws in LAWS])
    assert np.all(missed.max(0) > 0.01)


def test_the_normal_interval_would_be_caught():
    def normal(counts, level):
        mean = np.dot(VALUES, counts) / sum(counts)
        spread = np.sqrt(np.dot(VALUES**2, counts) / sum(counts) - mean**2)
        reach = stats.norm.isf(level / 2) * spread / sum(counts) ** 0.5
        return mean - reach, mean + reach

    assert max(chance_of_missing(LAWS[1], normal, 0.1)) > 0.05


@pytest.mark.parametrize("counts", [(50, 900, 50), (20, 950, 30), (500, 9000, 500)])
def test_the_width_is_that_of_the_spread(counts):
    """At level 1e-3: within 1.4 of the normal interval, whose chance to miss is only about that;
    Hoeffding's, which knows only the range, is three times as wide."""
    low, high = average_interval(VALUES, np.array(counts), 1e-3)
    number, mean = sum(counts), np.dot(VALUES, counts) / sum(counts)
    variance = np.dot(VALUES**2, counts) / number - mean**2
    normal = 2 * stats.norm.isf(5e-4) * (variance / number) ** 0.5
    hoeffding = 2 * (2 * np.log(2e3) / number) ** 0.5
    assert normal < high - low < 1.4 * normal < hoeffding / 2


def test_nothing_seen_is_as_the_exact_binomial_says():
    """Of n draws none is -1: Clopper and Pearson bound their chance by 1 - (level / 2)^(1 / n)."""
    low, _ = average_interval(VALUES, np.array([0, 1000, 0]), 1e-3)
    exact = -(1 - 5e-4 ** (1 / 1000))
    # Five rates are mixed, of which one is best here.
    assert exact - np.log(6) / 1000 < low < exact


def test_ends_scale_and_mirror():
    values, counts = np.array([0.0, 0.25, 1.0]), np.array([[9, 3, 8], [1, 30, 2]])
    low, high = average_interval(values, counts, 0.1, low=0.0)
    assert low.shape == (2,)
    mirrored = average_interval(3 - 2 * values, counts, 0.1, low=1.0, high=3.0)
    np.testing.assert_allclose(mirrored.low, 3 - 2 * high, atol=1e-8)
    np.testing.assert_allclose(mirrored.high, 3 - 2 * low, atol=1e-8)


@pytest.mark.parametrize(
    ("values", "counts", "level", "message"),
    [
        ([0.0, 2.0], [1, 1], 0.1, "values"),
        ([0.0, np.nan], [1, 1], 0.1, "values"),
        ([0.0, 1.0], [0, 0], 0.1, "counts"),
        ([0.0, 1.0], [2, -1], 0.1, "counts"),
        ([0.0, 1.0], [1, 1], 0.0, "level"),
    ],
)
def test_bad_input_is_named(values, counts, level, message):
    with pytest.raises(InvalidInput, match=message):
        average_interval(np.array(values), np.array(counts), level)
