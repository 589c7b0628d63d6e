"""Intervals against exact binomial sums; the sequence against runs that peek at every step."""

import numpy as np
import pytest
from scipy import special, stats

from sims.stats.interval import clopper_pearson, confidence_sequence
from theory.domain import InvalidInput

PROBABILITIES = (0.0, 1e-6, 1e-3, 0.02, 0.3, 0.5, 0.9, 0.999, 1.0)


@pytest.mark.parametrize("method", [clopper_pearson, confidence_sequence])
@pytest.mark.parametrize("trials", [1, 7, 100, 1000])
@pytest.mark.parametrize("level", [0.1, 1e-3, 1e-6])
def test_coverage_summed_exactly_over_all_counts(method, trials, level):
    counts = np.arange(trials + 1)
    low, high = method(counts, np.full(trials + 1, trials), level)
    assert np.all(low <= counts / trials)
    assert np.all(high >= counts / trials)
    for probability in PROBABILITIES:
        inside = (low <= probability) & (probability <= high)
        missed = stats.binom.pmf(counts, trials, probability)[~inside].sum()
        assert missed <= level * (1 + 1e-9)


@pytest.mark.parametrize(("errors", "trials"), [(0, 50), (3, 50), (50, 50), (41_234, 1_000_000)])
def test_clopper_pearson_is_scipys_exact_interval(errors, trials):
    ours = clopper_pearson(errors, trials, 1e-4)
    theirs = stats.binomtest(errors, trials).proportion_ci(1 - 1e-4, method="exact")
    assert ours.low == pytest.approx(theirs.low, rel=1e-9, abs=1e-300)
    assert ours.high == pytest.approx(theirs.high, rel=1e-9)


@pytest.mark.parametrize(("errors", "trials"), [(0, 9), (9, 9), (1, 10**9), (12_345, 10**7)])
def test_sequence_ends_where_the_mixture_is_one_over_level_times_the_likelihood(errors, trials):
    for end in confidence_sequence(errors, trials, 1e-5):
        if end in (0, 1):
            continue
        mixture = special.betaln(errors + 0.5, trials - errors + 0.5) - special.betaln(0.5, 0.5)
        likelihood = special.xlogy(errors, end) + special.xlog1py(trials - errors, -end)
        assert mixture - likelihood == pytest.approx(np.log(1e5), abs=1e-6)


def test_no_trials_say_nothing():
    for method in (clopper_pearson, confidence_sequence):
        assert tuple(method(0, 0, 0.01)) == (0, 1)


@pytest.mark.slow
def test_sequence_holds_at_every_look_and_the_fixed_interval_does_not():
    """2000 runs of 2000 trials, a look after each.

    A sequence whose true chance of ever missing is at most 0.05 fails this test with probability
    1e-6; one with a chance of 0.075 or more passes with probability below 1e-5.
    """
    runs, trials, probability, level = 2000, 2000, 0.3, 0.05
    hits = np.random.default_rng(1).random((runs, trials)) < probability
    counts, looks = hits.cumsum(1), np.arange(1, trials + 1)
    allowed = stats.binom.isf(1e-6, runs, level)

    def ever_missed(method):
        table = [method(np.arange(n + 1), np.full(n + 1, n), level) for n in looks[::10]]
        missed = np.zeros(runs, bool)
        for bounds, n in zip(table, looks[::10], strict=True):
            k = counts[:, n - 1]
            missed |= (bounds.low[k] > probability) | (bounds.high[k] < probability)
        return missed.sum()

    assert ever_missed(confidence_sequence) <= allowed
    assert ever_missed(clopper_pearson) > allowed


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, np.nan])
def test_bad_levels_are_refused(level):
    with pytest.raises(InvalidInput, match="level = "):
        clopper_pearson(1, 2, level)


def test_impossible_counts_are_refused():
    with pytest.raises(InvalidInput, match="errors"):
        confidence_sequence(3, 2, 0.1)
