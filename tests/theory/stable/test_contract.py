"""The stable law in float32, under transforms, at its seams and out of its domain."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.references.stable_grid import (
    ALPHA,
    EPS,
    FUNCTIONS,
    QUANTILES,
    REFERENCE,
    TINY,
    X,
    at,
    slopes,
)
from theory import stable
from theory.stable import kernel, prepared, tables
from theory.stable.layout import PANEL_EDGES, load_table, zone_terms

# Precision, batching, seams


@pytest.mark.parametrize("f", [stable.sf, stable.pdf, stable.centered_cdf, stable.logsf])
def test_float32_against_float64(f):
    """The same bound for every alpha: below 0.2 the density varies over twenty decades."""
    x = np.concatenate([X[X <= 1e8], np.geomspace(1e-6, 1e8, 2000)]).astype(np.float32)
    alphas = np.concatenate([ALPHA, np.linspace(0.1, 0.25, 31), np.linspace(0.25, 2, 36)])
    alphas = alphas.astype(np.float32)
    for alpha in alphas[(alphas >= 0.1) & (alphas <= 2)]:
        value = at(f, x, alpha)
        assert value.dtype == np.float32
        truth = at(f, x.astype(np.float64), alpha)
        normal = np.abs(truth) > 2e-38
        error = np.abs(np.asarray(value, np.float64) - truth)[normal] / np.abs(truth)[normal]
        assert error.max() < 1e-6, (alpha, x[normal][error.argmax()])


@pytest.mark.slow
def test_float32_quantiles_and_derivatives():
    p = np.asarray([1e-6, 1e-3, 0.1, 0.3, 0.45, 0.6], np.float32)
    wide = p.astype(np.float64)
    for alpha in np.asarray([0.5, 1.0, 1.3, 1.9, 2.0], np.float32):
        exact = at(stable.isf, wide, alpha)
        condition = np.maximum(1, np.abs(wide / exact / at(stable.pdf, exact, alpha)))
        value = at(stable.isf, p, alpha)
        assert value.dtype == np.float32
        assert (np.abs(value / exact - 1) / condition).max() < 2e-6, alpha
        single = at(slopes(stable.sf, 1), value, alpha)
        assert single.dtype == np.float32
        double = at(slopes(stable.sf, 1), value.astype(np.float64), alpha)
        np.testing.assert_allclose(single, double, rtol=2e-5, atol=1e-12)


@pytest.mark.slow
def test_many_alphas_in_any_shape_give_what_each_gives_alone():
    rng = np.random.default_rng(3)
    alpha = jnp.asarray(rng.uniform(0.1, 2, 700))  # more than one block
    x = jnp.asarray(10 ** rng.uniform(-3, 3, 700))
    value = stable.pdf(x, alpha)
    alone = [at(stable.pdf, x[i : i + 1], alpha[i])[0] for i in range(0, 700, 7)]
    np.testing.assert_allclose(value[::7], alone, rtol=1e-13)
    np.testing.assert_allclose(jax.vmap(stable.pdf)(x, alpha), value, rtol=1e-13)
    grid = stable.pdf(x[:6, None], alpha[None, :5])
    np.testing.assert_allclose(jnp.diag(grid), value[:5], rtol=1e-13)
    np.testing.assert_allclose(stable.pdf(x[:6, None], alpha[:5]), grid, rtol=1e-13)
    np.testing.assert_allclose(stable.pdf(x[0], alpha[:5]), grid[0], rtol=1e-13)
    nested = jax.vmap(jax.vmap(stable.pdf, (None, 0)), (0, None))(x[:6], alpha[:5])
    np.testing.assert_allclose(nested, grid, rtol=1e-13)
    rows = jax.vmap(stable.pdf, (0, None))(x[:6], alpha[:5])
    np.testing.assert_allclose(rows, grid, rtol=1e-13)


@pytest.mark.slow
def test_quantiles_at_many_alphas_are_those_at_each():
    rng = np.random.default_rng(4)
    alpha, p = jnp.asarray(rng.uniform(0.1, 2, 600)), jnp.asarray(rng.uniform(0, 1, 600))
    value = stable.isf(p, alpha)
    alone = [at(stable.isf, p[i : i + 1], alpha[i])[0] for i in range(0, 600, 6)]
    np.testing.assert_allclose(value[::6], alone, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(stable.isf)(p, alpha), value, rtol=1e-13)


def test_gradients_of_many_alphas_sum_over_broadcast_axes():
    x, alpha = jnp.asarray([[0.3], [2.0]]), jnp.asarray([[0.6, 1.0, 1.9]])
    total = jax.jit(jax.grad(lambda x, a: stable.sf(x, a).sum(), (0, 1)))
    in_x, in_alpha = total(x, alpha)
    np.testing.assert_allclose(in_x, -stable.pdf(x, alpha).sum(1, keepdims=True), rtol=1e-14)
    each = [at(slopes(stable.sf, 1), x[:, 0], a).sum() for a in alpha[0]]
    np.testing.assert_allclose(in_alpha, [each], rtol=1e-13)


def test_a_vmap_over_alpha_gathers_no_tables():
    many = jnp.linspace(0.1, 2, 1000)
    text = jax.jit(jax.vmap(stable.sf)).lower(many, many).as_text()
    assert "dot_general" in text
    assert "gather" not in text


@pytest.mark.slow
def test_results_have_the_promoted_dtype_without_double_precision_too():
    single, double = jnp.float32(0.3), jnp.float64(0.3)
    assert stable.sf(single, 1.5).dtype == jnp.float32
    assert stable.sf(0.3, jnp.float32(1.5)).dtype == jnp.float32
    assert stable.sf(double, 1.5).dtype == jnp.float64
    assert stable.sf(0.3, 1).dtype == jnp.float64
    half = stable.sf(jnp.bfloat16(0.3), 1.5)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(half), 0.4147, rtol=2**-7)
    with jax.enable_x64(False):
        for f in (stable.sf, stable.logpdf, stable.isf):
            value = f(0.3, 1.5)
            assert value.dtype == jnp.float32
            assert jnp.isfinite(value)


@pytest.mark.slow
def test_zones_and_panels_meet_without_a_step():
    borders = jax.jit(prepared.law)
    for alpha in (0.1, 0.15, 0.3, 0.8, 1.0, 1.45, 1.5, 1.7, 2.0):
        law = borders(jnp.asarray(alpha))
        for border in (sum(law.first), sum(law.split), law.last):
            x = float(2 ** (border / alpha)) * (1 + np.linspace(-40, 40, 81) * EPS)
            for f in (stable.sf, stable.pdf, stable.centered_cdf):
                value = at(f, x, alpha)
                condition = max(1, float(x[0] * abs(at(slopes(f), x, alpha)[0] / value[0])))
                assert np.abs(np.diff(value)).max() < 1e-14 * condition * value[0], (alpha, f)
    for edge in PANEL_EDGES[1:-1]:
        for f in (stable.sf, stable.pdf, stable.centered_cdf):
            below, above = at(f, X[1:], np.nextafter(edge, 0)), at(f, X[1:], edge)
            np.testing.assert_allclose(above, below, rtol=1e-14)


# Bad and extreme input


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, -1.0, 0.0999, 2.0000001, 3.0, math.inf, math.nan])
def test_alpha_out_of_domain_gives_nan_everywhere(alpha):
    x = np.asarray([-math.inf, -1.0, 0.0, 0.25, 1e10, math.inf])
    p = np.asarray([0.0, 0.25, 0.5, 1.0])
    for f in FUNCTIONS:
        assert np.isnan(at(f, x, alpha)).all(), f
    for f in QUANTILES:
        assert np.isnan(at(f, p, alpha)).all(), f
    assert jnp.isnan(stable.sf(x, jnp.full(6, alpha))).all()
    for argument in (0, 1):
        assert np.isnan(at(slopes(stable.sf, argument), x[1:-1], alpha)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("f", "at_minus_inf", "at_inf"),
    [
        (stable.pdf, 0.0, 0.0),
        (stable.logpdf, -math.inf, -math.inf),
        (stable.score, 0.0, 0.0),
        (stable.cdf, 0.0, 1.0),
        (stable.sf, 1.0, 0.0),
        (stable.logsf, 0.0, -math.inf),
        (stable.centered_cdf, -0.5, 0.5),
    ],
)
def test_infinite_x_gives_limits_and_nan_gives_nan(f, at_minus_inf, at_inf):
    ends = np.asarray([-math.inf, math.inf, math.nan])
    for alpha in (0.1, 0.5, 1.0, 1.5, 2.0):
        np.testing.assert_array_equal(at(f, ends, alpha), [at_minus_inf, at_inf, math.nan])
        for argument in (0, 1):
            slope = at(slopes(f, argument), ends, alpha)
            np.testing.assert_array_equal(slope, [0, 0, math.nan])


@pytest.mark.parametrize("alpha", [0.1, 0.9, 1.0, 2.0])
def test_extreme_finite_x(alpha):
    mode = math.gamma(1 + 1 / alpha) / math.pi
    zeros = np.asarray([0.0, -0.0, 5e-324, 1e-308])
    np.testing.assert_allclose(at(stable.pdf, zeros, alpha), mode, rtol=1e-14)
    np.testing.assert_array_equal(at(stable.sf, zeros, alpha), 0.5)
    small = at(stable.centered_cdf, [1e-300], alpha)
    np.testing.assert_allclose(small, mode * 1e-300, rtol=1e-14)
    largest = [np.finfo(np.float64).max]
    tail = math.gamma(alpha) * math.sin(math.pi * alpha / 2) / math.pi if alpha < 2 else 0
    expected = tail * math.exp(-alpha * math.log(largest[0]))
    np.testing.assert_allclose(at(stable.sf, largest, alpha), expected, rtol=1e-12, atol=TINY)
    assert np.isfinite(at(stable.logsf, largest, alpha)) == (alpha < 2)


def test_probabilities_at_and_beyond_the_ends():
    p = np.asarray([0.0, 1e-310, 0.5, 1.0])
    bad = np.asarray([-1e-300, -0.5, 1.0000001, math.inf, -math.inf, math.nan])
    for alpha in (0.1, 1.0, 1.7, 2.0):
        ends = [math.inf, math.inf, 0, -math.inf]
        np.testing.assert_array_equal(at(stable.isf, p, alpha), ends)
        assert np.isnan(at(stable.isf, bad, alpha)).all()
        assert np.isnan(at(stable.ppf, bad, alpha)).all()


def test_empty_arrays_give_empty_results():
    assert stable.sf(jnp.ones((3, 0)), jnp.ones(0)).shape == (3, 0)
    assert stable.isf(jnp.ones(0), 1.5).shape == (0,)


def test_quantiles_overflow_to_infinity_at_small_alpha():
    assert at(stable.isf, [1e-40], 0.1) == math.inf
    assert at(stable.isf, np.asarray([1e-6], np.float32), 0.1) == math.inf
    there = at(stable.isf, [1e-30], 0.1)
    np.testing.assert_allclose(at(stable.sf, there, 0.1), 1e-30, rtol=1e-13)


# Tables and reference


needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 2e-19, reason="the generator needs an 80-bit long double"
)


@needs_long_double
def test_tables_hold_the_generated_functions_between_the_nodes():
    for alpha in (0.1, 0.13, 0.2, 0.27, 0.41, 0.6, 0.83, 1.0, 1.2, 1.5, 1.7, 1.97):
        made = tables.smooth_values(np.longdouble(alpha))
        law = prepared.law(jnp.asarray(alpha), *(made.keys() - {"log2_scales"}))
        scales = np.exp2(made["log2_scales"]).astype(float)
        np.testing.assert_allclose([law.mode, law.curvature], scales, rtol=1e-15)
        for name in ("density", "survival", "central"):
            nodes = tables._NODES[1 if name == "central" else 0 :]
            parts = np.split(made[name].astype(float), np.cumsum(nodes)[:-1])
            polynomials = [c for c in kernel.zones(law, name) if len(c)]
            for part, polynomial in zip(parts, polynomials, strict=True):
                t = tables.chebyshev_nodes(len(part)).astype(float)
                value = np.polynomial.polynomial.polyval(t, np.asarray(polynomial))
                np.testing.assert_allclose(value, part, rtol=1e-15, atol=2e-15, err_msg=name)


@needs_long_double
def test_a_panel_of_the_tables_is_what_the_generator_makes():
    """As functions: platforms round long doubles apart, and monomials magnify that 2^30 times."""
    panel = 3
    powers = np.cos(np.arange(30.0))[:, None] ** np.arange(40)
    for name, made in (tables.panel_tables(panel) | tables.gaussian_tables()).items():
        function, dtype = name.rsplit("_", 1)
        stored = load_table(function, dtype)
        stored = stored if function == "gaussian" else stored[panel]
        assert stored.dtype == made.dtype == np.dtype(dtype)
        assert stored.shape == made.shape
        difference = stored.astype(float) - made
        if function != "gaussian":
            difference = powers[:, : len(made)] @ difference  # in alpha
        if function not in ("gaussian", "log2_scales", "log2_scales_rest"):
            stops = np.cumsum([terms for terms in zone_terms(function, dtype) if terms])
            zones = np.split(difference, stops[:-1], axis=1)
            difference = np.stack([zone @ powers[:, : zone.shape[1]].T for zone in zones])  # in x
        rounding = 2 * np.finfo(dtype).eps * np.abs(made).max()
        if function == "log2_scales_rest":  # the last digits of a number near 2, in long double
            rounding = max(rounding, 8 * np.finfo(np.longdouble).eps)
        assert np.abs(difference).max() < rounding, name


@pytest.mark.slow
def test_reference_file_is_what_its_script_makes():
    from support.references import make_stable_reference as script

    np.testing.assert_array_equal(ALPHA, [*script.ALPHAS, *script.random_alphas()])
    np.testing.assert_array_equal(X, script.X)
    np.testing.assert_array_equal(REFERENCE["small_alpha"], [a for a in ALPHA if a < 0.4])
    np.testing.assert_array_equal(REFERENCE["small_x"], script.SMALL_X)
    names = (*script.QUANTITIES, "logsf", "p", "isf")
    for prefix, i, j in (("", 3, 12), ("", 20, 9), ("", 70, 18), ("small_", 1, 4)):
        row = script.reference((REFERENCE[f"{prefix}alpha"][i], REFERENCE[f"{prefix}x"][j]))
        stored = [REFERENCE[f"{prefix}{name}"][i, j] for name in names]
        np.testing.assert_allclose(stored, row, rtol=1e-15)


DENSE_ALPHAS = np.r_[0.1, 0.15, 0.21, 0.34, 0.5, 0.75, np.linspace(0.95, 1.05, 3), 1.2, 1.4, 1.6]
DENSE_ALPHAS = np.r_[DENSE_ALPHAS, 1.69, 1.71, 1.8, 1.85, 1.9, 1.95, 1.98, 1.999, 1.999999, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_functions_of_one_probability_agree_at_dense_points(dtype):
    """40,000 x at 22 alphas: no border between two zones of one function can hide from another."""
    x = np.r_[np.linspace(0, 12, 36_001), np.geomspace(12, 1e6, 4_000)].astype(dtype)
    # A probability of 1e-7 is the difference of two numbers near 1/2 in float32.
    wide, rounding = (1e-13, 4e-16) if dtype == jnp.float64 else (4e-6, 2e-7)

    @jax.jit
    def values(alpha):
        plain = stable.sf(x, alpha), stable.sf(-x, alpha), stable.pdf(x, alpha)
        logs = stable.logsf(x, alpha), stable.logsf(-x, alpha), stable.logpdf(x, alpha)
        return plain, logs, stable.cdf(x, alpha), stable.centered_cdf(x, alpha)

    for alpha in DENSE_ALPHAS.astype(dtype):
        plain, logs, cdf, centred = values(alpha)
        for value, log in zip(plain, logs, strict=True):
            value, log = (np.asarray(a, np.float64) for a in (value, log))
            positive = value > 0
            expected = np.log(value[positive])
            np.testing.assert_allclose(log[positive], expected, rtol=wide, atol=wide)
        np.testing.assert_array_equal(cdf, plain[1])
        np.testing.assert_allclose(plain[0] + cdf, 1, atol=rounding)
        np.testing.assert_allclose(0.5 - plain[0], centred, atol=rounding)
        tail = np.asarray(plain[0], np.float64)
        assert np.all(np.diff(tail) <= 2 * rounding * tail[:-1])
