"""The interval of a squared risk: its quantiles, its coverage, and what it must hold."""

import mpmath
import numpy as np
import pytest

from sims.simulate.regression import plausible_range
from sims.stats.squared_risk import ROUNDING, Squares, squared_risk_interval
from theory.domain import InvalidInput


def _sums(mean, residual, response, trials):
    return Squares(*(np.asarray(v) * trials for v in (mean, residual, response)))


def _chance_below(scaled, trials):
    """The chi-squared distribution function, by mpmath."""
    with mpmath.workdps(40):
        return float(mpmath.gammainc(mpmath.mpf(trials) / 2, 0, mpmath.mpf(scaled) / 2, True))


@pytest.mark.parametrize("trials", [1, 50, 4000])
@pytest.mark.parametrize("level", [1e-9, 0.02])
def test_without_an_attack_each_end_misses_with_half_of_the_level(trials, level):
    sums = Squares(np.array(3.0 * trials), np.array(3.0 * trials), np.array(0.0))
    low, high = squared_risk_interval(sums, np.array(trials), level)
    # Undo the allowance for rounding of the root.
    low = (np.sqrt(low) + ROUNDING * 3**0.5) ** 2
    high = (np.sqrt(high) - ROUNDING * 3**0.5) ** 2
    assert _chance_below(3 * trials / high, trials) == pytest.approx(level / 2, rel=1e-6)
    with mpmath.workdps(40):
        above = 1 - mpmath.gammainc(mpmath.mpf(trials) / 2, 0, 1.5 * trials / low, True)
    assert float(above) == pytest.approx(level / 2, rel=1e-6)


def test_under_attack_a_risk_outside_would_make_the_mean_implausible():
    """The interval is no wider than what follows from the range of means at the largest s."""
    level, trials = 1e-6, 40_000
    rng = np.random.default_rng(0)
    for _ in range(50):
        s, push = rng.uniform(0.2, 3), rng.uniform(0.01, 3)
        risk = s * s + 2 * push * s * (2 / np.pi) ** 0.5 + push**2
        sums = _sums(risk, s * s, 0.0, trials)
        low, high = squared_risk_interval(sums, np.array(trials), level)
        most = np.sqrt(squared_risk_interval(_sums(s * s, s * s, 0, trials), trials, level).high)
        # The mean lies at an end of the plausible range of the interval's ends.
        assert plausible_range(low, most, trials, level / 2)[1] == pytest.approx(risk, rel=3e-5)
        assert plausible_range(high, most, trials, level / 2)[0] == pytest.approx(risk, rel=3e-5)


def test_it_misses_no_more_often_than_it_says_and_not_never():
    """5000 samples of 40 draws at level 1/2. If each misses with chance 1/2 at most, more than
    2690 miss with chance below 6e-7 (Hoeffding); a chance of 0.58 would be seen."""
    rng = np.random.default_rng(1)
    residuals = rng.normal(0, 1.5, (5000, 40))
    trials = np.full(5000, 40)
    rates = []
    for push in (0.0, 0.7):
        risk = 1.5**2 + 2 * push * 1.5 * (2 / np.pi) ** 0.5 + push**2
        losses = np.sum((np.abs(residuals) + push) ** 2, -1)
        squares = losses if push == 0 else np.sum(residuals**2, -1)
        low, high = squared_risk_interval(Squares(losses, squares, squares), trials, 0.5)
        rates.append(np.sum((risk < low) | (risk > high)))
    assert max(rates) <= 2690
    # Without an attack the interval is exact: half of them miss (5.3 standard deviations, 1e-7).
    assert abs(rates[0] - 2500) < 190
    assert rates[1] > 0


def test_no_draw_says_nothing_and_exact_data_are_given_their_rounding():
    nothing = squared_risk_interval(_sums(0.0, 0.0, 0.0, 1), np.array(0), 0.01)
    assert (float(nothing.low), float(nothing.high)) == (0, np.inf)
    # Without noise the loss is the square of the push: (radius N)^2 = 4, response of variance 9.
    low, high = squared_risk_interval(_sums(4.0, 0.0, 9.0, 1000), np.array(1000), 0.01)
    assert low == pytest.approx((2 - ROUNDING * 5) ** 2, rel=1e-12)
    assert high == pytest.approx((2 + ROUNDING * 5) ** 2, rel=1e-12)


@pytest.mark.parametrize("level", [0.0, 1.0, np.array([0.5, 2.0])])
def test_bad_levels_are_refused(level):
    with pytest.raises(InvalidInput, match="error probability must lie in"):
        squared_risk_interval(_sums(1.0, 1.0, 1.0, 10), np.array(10), level)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_bad_sums_are_refused(bad):
    with pytest.raises(InvalidInput, match="must be finite and not negative"):
        squared_risk_interval(_sums(1.0, bad, 1.0, 10), np.array(10), 0.5)
