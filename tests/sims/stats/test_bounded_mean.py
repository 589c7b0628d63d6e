"""The interval of a bounded mean: its coverage, enumerated, and what it refuses."""

import itertools

import numpy as np
import pytest

from sims.stats import bounded_mean
from sims.stats.bounded_mean import bounded_mean_interval
from theory.domain import InvalidInput

# Laws on three values: many zeros, two values, and one where large values are rare.
LAWS = [
    ((0.0, 0.3, 1.0), (0.7, 0.2, 0.1)),
    ((0.0, 0.5, 1.0), (0.5, 0.0, 0.5)),
    ((0.1, 0.2, 1.0), (0.55, 0.42, 0.03)),
]
DRAWS = 9


def _chance_of_missing(values, chances, level):
    """The exact chance that each end misses, over all sequences of draws, one in each block."""
    table = np.array(list(itertools.product(range(3), repeat=DRAWS))).T
    drawn, weight = np.asarray(values)[table], np.asarray(chances)[table].prod(0)
    low, high = bounded_mean_interval(np.ones(DRAWS), drawn, drawn**2, level)
    mean = float(np.dot(values, chances))
    return weight[low > mean].sum(), weight[high < mean].sum()


@pytest.mark.parametrize(("values", "chances"), LAWS)
@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_each_end_misses_with_at_most_half_of_the_level(values, chances, level):
    assert max(_chance_of_missing(values, chances, level)) <= level / 2


def test_each_end_does_miss():
    missed = np.array([_chance_of_missing(*law, 0.9) for law in LAWS])
    assert np.all(missed.max(0) > 0.01)


def test_an_interval_that_forgets_the_spread_would_be_caught(monkeypatch):
    def narrower(side, reach, rate, counts, totals, around, share):
        rate = np.minimum(rate, 1 / (2 * reach))
        return ((rate * totals).sum(0) + side * share / 9) / (rate * counts).sum(0)

    monkeypatch.setattr(bounded_mean, "_end", narrower)
    assert max(max(_chance_of_missing(*law, 0.5)) for law in LAWS) > 0.25


def test_rare_large_values_widen_only_what_they_must():
    """For 2^20 draws worth 400 means with chance 1/800, otherwise a half: the width is that of
    Bernstein's inequality with known variance, but for a fifth."""
    size, rare = 4096, 1 / 800
    mean = 1 / 400
    counts = np.full(256, size)
    totals = np.full(256, size * mean)
    squares = np.full(256, size * (rare * 1 + (1 - rare) * (mean / 2) ** 2))
    low, high = bounded_mean_interval(counts, totals, squares, 1e-6)
    share, n = np.log(2e6), counts.sum()
    variance = squares[0] / size - mean**2
    best = np.sqrt(2 * variance * share / n)
    assert best < high - mean < 1.2 * (best + share / (3 * n))
    assert best < mean - low < 1.2 * best


def test_impossible_sums_are_refused():
    one = np.ones(1)
    for arguments, message in [
        ((one, one / 2, one / 4, 0.0), "level = 0.0"),
        ((one[:0], one[:0], one[:0], 0.1), "counts"),
        ((one, one / 2, one, 0.1), "totals, squares"),
        ((one, 2 * one, one, 0.1), "totals, squares"),
        ((one, one * np.nan, one, 0.1), "totals, squares"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            bounded_mean_interval(*arguments)
