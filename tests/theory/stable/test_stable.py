"""Values of the symmetric stable law against mpmath and closed forms."""

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.references.stable_grid import ALPHA, EPS, REFERENCE, TINY, X, at, over_alphas, worst
from theory import stable

# Values


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sf", "pdf"])
def test_values_match_mpmath_in_both_tails(name):
    error, where = worst(over_alphas(getattr(stable, name)), REFERENCE[name])
    assert error < 2e-15, where


@pytest.mark.slow
@pytest.mark.parametrize(
    ("f", "name"),
    [
        (stable.sf, "sf"),
        (stable.pdf, "pdf"),
        (stable.centered_cdf, "central"),
        (stable.logsf, "logsf"),
    ],
)
def test_values_match_mpmath_in_the_narrow_core_of_small_alpha(f, name):
    for alpha, truth in zip(REFERENCE["small_alpha"], REFERENCE[f"small_{name}"], strict=True):
        np.testing.assert_allclose(at(f, REFERENCE["small_x"], alpha), truth, rtol=4e-15)


def test_values_underflow_to_zero_only_below_the_normal_range():
    value = over_alphas(stable.sf)
    np.testing.assert_array_equal(value[REFERENCE["sf"] < TINY], 0)


@pytest.mark.slow
def test_centered_cdf_is_relatively_accurate_down_to_zero():
    error, where = worst(over_alphas(stable.centered_cdf), REFERENCE["central"])
    assert error < 2e-15, where
    np.testing.assert_array_equal(stable.centered_cdf(0.0, jnp.asarray(ALPHA)), 0)


def test_logsf_matches_mpmath_to_the_largest_numbers():
    error, where = worst(over_alphas(stable.logsf), REFERENCE["logsf"])
    assert error < 3e-15, where
    far, truth = over_alphas(stable.logsf, REFERENCE["far_x"]), REFERENCE["far_logsf"]
    finite = np.isfinite(truth)  # at alpha = 2 the truth at 1e300 is -2.5e599
    np.testing.assert_allclose(far[finite], truth[finite], rtol=1e-15)
    assert (far[~finite] == -np.inf).all()
    assert finite[ALPHA < 2].all()


@pytest.mark.slow
def test_logpdf_matches_mpmath_and_its_leading_tail_term():
    positive = REFERENCE["pdf"] > TINY
    truth = np.log(np.where(positive, REFERENCE["pdf"], 1))
    scale = np.where(positive, np.maximum(np.abs(truth), 1), 0)
    error, where = worst(over_alphas(stable.logpdf), truth, scale)
    assert error < 3e-15, where
    far = REFERENCE["far_x"]
    leading = np.log(ALPHA[:, None] / far) + REFERENCE["far_logsf"]
    value = over_alphas(stable.logpdf, far)
    lead = (ALPHA[:, None] < 2) & (ALPHA[:, None] * np.log(far) > 37)
    np.testing.assert_allclose(value[lead], leading[lead], rtol=1e-14)


@pytest.mark.slow
def test_negative_x_is_the_mirror_image():
    for f, sign in ((stable.pdf, 1), (stable.logpdf, 1), (stable.centered_cdf, -1)):
        np.testing.assert_array_equal(over_alphas(f, -X), sign * over_alphas(f))
    np.testing.assert_array_equal(over_alphas(stable.score, -X), -over_alphas(stable.score))
    np.testing.assert_array_equal(over_alphas(stable.cdf), over_alphas(stable.sf, -X))
    np.testing.assert_array_equal(over_alphas(stable.cdf, -X), over_alphas(stable.sf))
    np.testing.assert_allclose(over_alphas(stable.sf, -X), 1 - REFERENCE["sf"], rtol=4 * EPS)
    most, log_most = over_alphas(stable.logsf, -X), np.log1p(-REFERENCE["sf"])
    kept = np.abs(log_most) > TINY
    np.testing.assert_allclose(most[kept], log_most[kept], rtol=3e-15)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e150, 1e150))
def test_cauchy_law_in_closed_form(x):
    np.testing.assert_allclose(at(stable.sf, [x], 1.0), np.arctan2(1, x) / np.pi, rtol=2e-15)
    np.testing.assert_allclose(at(stable.pdf, [x], 1.0), 1 / np.pi / (1 + x * x), rtol=2e-15)
    score = at(stable.score, [x], 1.0)
    np.testing.assert_allclose(score, 2 * x / (1 + x * x), rtol=2e-15, atol=1e-300)


def test_gaussian_law_in_closed_form():
    x = np.linspace(0, 52, 96)
    with mp.workdps(30):
        truth = np.array([float(mp.erfc(mp.mpf(v) / 2) / 2) for v in x])
        density = np.array([float(mp.exp(-(mp.mpf(v) ** 2) / 4) / mp.sqrt(4 * mp.pi)) for v in x])
    np.testing.assert_allclose(at(stable.sf, x, 2.0), truth, rtol=2e-15)
    np.testing.assert_allclose(at(stable.pdf, x, 2.0), density, rtol=2e-15)
    np.testing.assert_allclose(at(stable.score, x, 2.0), x / 2, rtol=3e-15)


def test_index_one_half_in_fresnel_integrals():
    x = np.geomspace(1e-3, 1e3, 32)

    def density(x):
        x = mp.mpf(x)
        argument, angle = 1 / mp.sqrt(2 * mp.pi * x), 1 / (4 * x)
        cosine = mp.cos(angle) * (mp.mpf("0.5") - mp.fresnelc(argument))
        sine = mp.sin(angle) * (mp.mpf("0.5") - mp.fresnels(argument))
        return float((cosine + sine) / mp.sqrt(2 * mp.pi * x**3))

    with mp.workdps(30):
        truth = np.array([density(v) for v in x])
    np.testing.assert_allclose(at(stable.pdf, x, 0.5), truth, rtol=2e-15)


# Quantiles


@pytest.mark.slow
def test_isf_inverts_the_reference_within_its_condition_number():
    p, x, density = REFERENCE["p"], REFERENCE["isf"], REFERENCE["pdf"]
    value = np.stack([at(stable.isf, row, a) for row, a in zip(p, ALPHA, strict=True)])
    inside = (p > TINY) & (p < 0.5)
    condition = p / np.where(inside, x * density, 1)
    error, where = worst(value, x, np.where(inside, np.abs(x) * np.maximum(condition, 1), 0))
    assert error < 4e-15, where


def test_isf_of_an_exact_probability_near_one_half():
    gap = 2.0 ** -np.arange(3.0, 53.0)
    for alpha in (0.1, 0.7, 1.0, 1.5, 1.9, 2.0):
        central = at(stable.centered_cdf, at(stable.isf, 0.5 - gap, alpha), alpha)
        np.testing.assert_allclose(central, gap, rtol=2e-14)


@pytest.mark.slow
def test_ppf_and_isf_are_odd_about_one_half():
    p = np.asarray([0.0, 1e-300, 1e-9, 0.25, 0.5])
    exact = np.asarray([0.5, 0.75, 1.0])  # 1 - p is exact
    for alpha in (0.3, 1.0, 1.999):
        np.testing.assert_array_equal(at(stable.ppf, p, alpha), -at(stable.isf, p, alpha))
        mirror = at(stable.ppf, 1 - exact, alpha)
        np.testing.assert_array_equal(at(stable.isf, exact, alpha), mirror)
