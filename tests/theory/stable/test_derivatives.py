"""Derivatives of the symmetric stable law against mpmath and differences."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from support.references.stable_grid import (
    ALPHA,
    FUNCTIONS,
    REFERENCE,
    TINY,
    X,
    at,
    over_alphas,
    slopes,
    worst,
)
from theory import stable

pytestmark = pytest.mark.slow

# Derivatives


@pytest.mark.parametrize(
    ("f", "argument", "truth", "value"),
    [
        (stable.sf, 1, "sf_alpha", "sf"),
        (stable.pdf, 1, "pdf_alpha", "pdf"),
        (stable.pdf, 0, "pdf_x", "pdf"),
    ],
)
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.grad])
def test_derivatives_match_mpmath_through_one_and_at_two(f, argument, truth, value, mode):
    slope = slopes(f, argument, mode)
    scale = np.maximum(np.abs(REFERENCE[truth]), REFERENCE[value])
    wide = ALPHA[:, None] >= 0.2
    got = over_alphas(slope)
    error, where = worst(got, REFERENCE[truth], scale, wide)
    assert error < 1e-13, where
    error, where = worst(got, REFERENCE[truth], scale)
    assert error < (5e-10 if truth == "pdf_x" else 1e-13), where


def test_first_derivatives_agree_with_the_functions_they_define():
    x = np.asarray([-7.0, -0.3, 0.0, 1e-4, 0.8, 3.0, 40.0, 1e5])
    for alpha in (0.4, 1.0, 1.7, 2.0):
        slope = {f: at(slopes(f), x, alpha) for f in FUNCTIONS if f is not stable.score}
        density, score = at(stable.pdf, x, alpha), at(stable.score, x, alpha)
        survival = at(stable.sf, x, alpha)
        np.testing.assert_array_equal(slope[stable.sf], -density)
        np.testing.assert_array_equal(slope[stable.cdf], density)
        np.testing.assert_array_equal(slope[stable.centered_cdf], density)
        np.testing.assert_array_equal(slope[stable.logpdf], -score)
        np.testing.assert_allclose(slope[stable.pdf], -score * density, rtol=1e-14, atol=1e-300)
        ok = survival > TINY
        hazard = density[ok] / survival[ok]
        np.testing.assert_allclose(-slope[stable.logsf][ok], hazard, rtol=1e-12)


def test_log_derivatives_in_alpha_agree_with_those_of_the_values():
    x = np.asarray([-3.0, 0.2, 1.0, 6.0, 30.0, 1e6, 1e300])
    for log_f, f in ((stable.logsf, stable.sf), (stable.logpdf, stable.pdf)):
        for alpha in (0.3, 1.0, 1.6, 2.0):
            value = at(f, x, alpha)
            ok = value > TINY
            ratio = at(slopes(f, 1), x, alpha)[ok] / value[ok]
            np.testing.assert_allclose(at(slopes(log_f, 1), x, alpha)[ok], ratio, rtol=1e-11)

    def leading(alpha):  # log of the leading term of sf at x = 1e300, where sf underflows
        size = mp.log(mp.gamma(alpha) * mp.sin(mp.pi * alpha / 2))
        return size - alpha * mp.log(mp.mpf(1e300))

    with mp.workdps(40):
        truth = float(mp.diff(leading, 1.5))
    np.testing.assert_allclose(at(slopes(stable.logsf, 1), x, 1.5)[-1], truth, rtol=1e-14)
    assert at(slopes(stable.logsf, 1), x, 2.0)[-1] < -1e300


def test_second_derivatives_in_both_modes_agree_with_differences():
    point, step = jnp.asarray([0.9, 1.0]), 1e-5

    def gradient(v):
        return jax.grad(lambda v: stable.sf(v[0], v[1]))(v)

    first = jax.jit(gradient)
    rows = [(first(point + step * e) - first(point - step * e)) / (2 * step) for e in jnp.eye(2)]
    for second in (jax.jacfwd, jax.jacrev):
        hessian = jax.jit(second(gradient))(point)
        np.testing.assert_allclose(hessian, jnp.stack(rows), rtol=1e-8)
        # d^2/dx^2 of 1/2 - atan(x)/pi
        np.testing.assert_allclose(hessian[0, 0], 1.8 / np.pi / 1.81**2, rtol=1e-14)


def test_score_matches_mpmath():
    reference = -REFERENCE["pdf_x"] / np.where(REFERENCE["pdf"] > TINY, REFERENCE["pdf"], 1)
    normal = (REFERENCE["pdf"] > 1e-280) & (np.abs(REFERENCE["pdf_x"]) > 1e-280)
    value = over_alphas(stable.score)
    normal &= X > 0  # where the reference is rounding noise
    error, where = worst(value, reference, mask=normal & (ALPHA[:, None] >= 0.2))
    assert error < 1e-14, where
    error, where = worst(value, reference, mask=normal)
    assert error < 5e-10, where


def test_quantile_derivatives_are_those_of_the_inverse_function():
    p = np.asarray([1e-12, 1e-3, 0.2, 0.4, 0.5, 0.7, 0.999])
    for alpha in (0.5, 1.0, 1.8, 2.0):
        x = at(stable.isf, p, alpha)
        density, in_alpha = at(stable.pdf, x, alpha), at(slopes(stable.sf, 1), x, alpha)
        in_p = at(slopes(stable.isf), p, alpha)
        np.testing.assert_allclose(in_p * density, -1, rtol=1e-13)
        identity = at(slopes(stable.isf, 1), p, alpha) * density
        np.testing.assert_allclose(identity, in_alpha, rtol=1e-13, atol=1e-18)
