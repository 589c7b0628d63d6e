"""Intercepts against a global search along the line, which knows no stationary point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from theory import stable
from theory.rules import intercept

CASES = 200
ALPHAS = (None, 0.2, 0.3, 0.6, 0.9, 1.0, 1.05, 1.4, 1.7, 1.9, 1.99, 2.0)


def _survival(alpha):
    if alpha is None:
        return stats.norm.sf
    if alpha == 1:
        return stats.cauchy.sf
    return lambda x: np.asarray(stable.sf(x, jnp.asarray(alpha)))


def _together(function, margin, scales, *rest, dtype=np.float64):
    """A function of (t, s, ..., alpha) at problems of any shape, in one executable for all tests.

    It compiles for seconds at each new shape: here the last problem is repeated to `CASES`.
    """
    *rest, alpha = (a if a is None else np.asarray(a, dtype) for a in rest)
    margin, *rest = np.broadcast_arrays(margin, *rest)
    scales = np.broadcast_to(scales, (*margin.shape, 2))
    rows = np.minimum(np.arange(CASES), margin.size - 1)
    columns = (
        jnp.asarray(a.reshape(margin.size, *a.shape[margin.ndim :])[rows], dtype)
        for a in (margin, scales, *rest)
    )
    found = function(*columns, alpha if alpha is None else jnp.asarray(alpha))
    assert all(a.shape == (CASES,) for a in found)
    values = (np.asarray(a)[: margin.size].reshape(margin.shape) for a in found)
    return found._make(values) if isinstance(found, intercept.Shift) else tuple(values)


def _shifts(margin, scales, ratio, alpha=None, dtype=np.float64):
    return _together(intercept.optimal_shift, margin, scales, ratio, alpha, dtype=dtype)


def _critical(margin, scales, alpha=None):
    return _together(intercept.critical_ratio, margin, scales, alpha)


def _risk(beta, margin, scales, ratio, survival):
    """The robust risk at each intercept in `beta`, (cases, points)."""
    positive = survival((margin[:, None] + beta) / scales[:, 1:])
    negative = survival((margin[:, None] - beta) / scales[:, :1])
    return (positive + ratio[:, None] * negative) / (1 + ratio[:, None])


def _searched(margin, scales, ratio, survival, reach):
    """The least risk along the line: a global grid, then ten times a finer one about its best."""
    unit = np.sinh(np.linspace(-reach, reach, 4001))
    beta = np.sort(unit * scales.max(-1, keepdims=True) * (1 + np.abs(margin[:, None])), -1)
    for _ in range(10):
        best = np.argmin(_risk(beta, margin, scales, ratio, survival), -1)
        rows = np.arange(len(beta))
        low = beta[rows, np.maximum(best - 1, 0)]
        high = beta[rows, np.minimum(best + 1, beta.shape[-1] - 1)]
        beta = np.linspace(low, high, 41, axis=-1)
    least = _risk(beta, margin, scales, ratio, survival).min(-1)
    return np.minimum(least, np.minimum(1, ratio) / (1 + ratio))


def _problems(seed, count, equal):
    rng = np.random.default_rng(seed)
    margin = rng.uniform(-1.5, 5, count)
    scales = np.exp(rng.normal(size=(count, 2)) * 0.6)
    if equal:
        scales[:, 1] = scales[:, 0]
        margin = np.abs(margin)
    return margin, scales, np.exp(rng.normal(size=count) * 1.5)


def _attained(found, margin, scales, ratio, survival):
    """The risk of the reported rule: at its intercept, or that of the constant it names."""
    at_beta = _risk(found.beta[:, None], margin, scales, ratio, survival)[:, 0]
    constant = np.where(found.label < 0, 1, ratio) / (1 + ratio)
    return np.where(found.trivial, constant, at_beta)


@pytest.mark.slow
@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_no_intercept_on_a_global_grid_beats_the_optimal_one(alpha, equal):
    """`CASES` problems a law; the grid alone resolves the minimum to 1e-12 in risk, or better."""
    margin, scales, ratio = _problems(7 + 2 * ALPHAS.index(alpha) + equal, CASES, equal)
    survival = _survival(alpha)
    found = _shifts(margin, scales, ratio, alpha)
    mine = _attained(found, margin, scales, ratio, survival)
    searched = _searched(margin, scales, ratio, survival, 12 / (alpha or 2) + 3)
    np.testing.assert_array_less(mine, searched + 4e-16)
    assert np.max(searched - mine) <= 1e-12
    # Both answers occur, so that neither is right by default.
    if equal and alpha != 2 and alpha is not None:
        assert 0 < found.trivial.sum() < CASES


SIZES = [(1.0, 1.0), (1.0, 1.7), (2.0, 0.6)]


@pytest.mark.slow
@pytest.mark.parametrize("scales", SIZES)
@pytest.mark.parametrize("margin", [-0.7, 0.0, 0.3, 2.5])
def test_index_two_is_the_gaussian_of_variance_two(margin, scales):
    ratio, scales = np.asarray([0.2, 1.0, 1.9, 30.0]), np.asarray(scales)
    stable_two = _shifts(margin, scales, ratio, 2.0)
    gaussian = _shifts(margin, scales * np.sqrt(2), ratio)
    np.testing.assert_allclose(stable_two.beta, gaussian.beta, rtol=1e-12, atol=1e-12)
    for name in ("trivial", "label", "local"):
        np.testing.assert_array_equal(getattr(stable_two, name), getattr(gaussian, name))
    limits = _critical(margin, scales, 2.0)
    np.testing.assert_allclose(limits, _critical(margin, scales * np.sqrt(2)), 1e-12)


@pytest.mark.parametrize(("index", "step"), [(1.0, 1e-9), (1.0, -1e-9), (2.0, -1e-9)])
def test_the_intercept_is_continuous_where_a_closed_form_takes_over(index, step):
    """By at most a hundred steps of alpha, where the nearest jump in a rule is far."""
    margin, ratio = np.linspace(0.4, 4, 7)[:, None], np.asarray([[0.4, 1.0, 1.6]])
    for scales in SIZES:
        at = _shifts(margin, scales, ratio, index)
        near = _shifts(margin, scales, ratio, index + step)
        both = at.local & near.local
        assert both.sum() >= 10
        np.testing.assert_allclose(near.beta[both], at.beta[both], rtol=1e-7, atol=1e-7)


HALVES = slice(CASES), slice(CASES, None)


def test_the_cauchy_intercept_solves_the_balance_of_two_cauchy_densities():
    """f((t - b) / s_-) R / s_- = f((t + b) / s_+) / s_+ with the density written out."""
    margin, scales, ratio = _problems(3, 2 * CASES, False)
    halves = [_shifts(*(a[half] for a in (margin, scales, ratio)), 1.0) for half in HALVES]
    beta, local = (np.concatenate([getattr(h, name) for h in halves]) for name in ("beta", "local"))
    positive = 1 / (1 + ((margin + beta) / scales[:, 1]) ** 2) / scales[:, 1]
    negative = ratio / (1 + ((margin - beta) / scales[:, 0]) ** 2) / scales[:, 0]
    assert local.sum() > 200
    np.testing.assert_allclose(positive[local], negative[local], rtol=1e-12)
    assert np.all(np.isinf(beta[~local]))


def test_cauchy_equal_scales_the_minimum_exists_up_to_exp_two_asinh():
    margin = np.linspace(0.1, 3, 9)
    largest = np.exp(2 * np.arcsinh(margin))
    below = _shifts(margin, np.ones(2), largest * (1 - 1e-9), 1.0)
    above = _shifts(margin, np.ones(2), largest * (1 + 1e-9), 1.0)
    assert bool(below.local.all())
    assert not bool(above.local.any())


@pytest.mark.parametrize("alpha", [0.4, 0.8, 1.3, 1.8])
def test_a_finite_minimum_is_reported_up_to_the_largest_density_ratio(alpha):
    """The ratio beyond which no stationary point exists, from a fine grid of density ratios."""
    margin = np.asarray([0.2, 1.0, 4.0])
    u = margin[:, None] + np.geomspace(1e-6, 1e4, 400_001)
    ratio = np.asarray(
        stable.pdf(u - margin[:, None], alpha) / stable.pdf(u + margin[:, None], alpha)
    )
    largest = ratio.max(-1)
    below = _shifts(margin, np.ones(2), largest * (1 - 1e-6), alpha)
    above = _shifts(margin, np.ones(2), largest * (1 + 1e-6), alpha)
    assert bool(below.local.all())
    assert not bool(above.local.any())


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [None, 0.5, 1.0, 1.5, 1.95, 2.0])
def test_the_critical_ratios_are_the_extrema_of_a_grid_and_decide_triviality(alpha):
    margin, scales, _ = _problems(11, 40, False)
    scales[:20, 1] = scales[:20, 0]
    low, high = _critical(margin, scales, alpha)
    survival = _survival(alpha)
    beta = np.sinh(np.linspace(-9 / (alpha or 2) - 5, 9 / (alpha or 2) + 5, 60_001))[None]
    right = survival(-(margin[:, None] + beta) / scales[:, 1:])
    wrong = survival((margin[:, None] - beta) / scales[:, :1])
    with np.errstate(all="ignore"):
        gridded = np.nanmax(np.where(wrong > 1e-290, right / wrong, np.nan), -1)
    finite = np.isfinite(high) & (high < 1e200)
    assert np.all(gridded[finite] <= high[finite] * (1 + 1e-12))
    np.testing.assert_allclose(gridded[finite], high[finite], rtol=1e-4)
    # Just inside both limits a finite intercept is optimal, just outside a constant. Not where the
    # supremum is that of intercepts beyond all bounds, which gain less than any rounding.
    tails = (scales[:, 1] / scales[:, 0]) ** (0 if alpha is None else alpha)
    attained = low < tails * (1 - 1e-4), high > tails * (1 + 1e-4)
    for limit, inside, finite in zip((low, high), (1 + 1e-5, 1 - 1e-5), attained, strict=True):
        usable = (limit > 1e-200) & (limit < 1e200) & (high > low * (1 + 1e-4)) & finite
        assert usable.sum() >= 5
        rows = [a[usable] for a in (margin, scales, limit)]
        assert not bool(_shifts(*rows[:2], rows[2] * inside, alpha).trivial.any())
        outside = _shifts(*rows[:2], rows[2] * (2 - inside), alpha)
        assert bool(outside.trivial.all())


@jax.jit
def _forward_and_reverse(arguments, directions):
    """The derivative along directions, and the gradient; what reverse mode adds is transposing."""
    _, push = jax.linearize(lambda *a: intercept.optimal_shift(*a).beta, *arguments)
    forward = push(*directions)
    return forward, jax.linear_transpose(push, *arguments)(jnp.ones_like(forward))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [None, 0.7, 1.0, 1.6, 2.0])
def test_derivatives_are_those_of_differences(alpha):
    arguments = [jnp.asarray(1.3), jnp.asarray([1.0, 1.4]), jnp.asarray(1.8)]
    arguments += [] if alpha is None else [jnp.asarray(alpha)]
    directions = [jnp.asarray(0.3), jnp.asarray([-0.2, 0.4]), jnp.asarray(0.5)]
    # From alpha = 2 only leftwards: one-sided differences of second order.
    directions += [] if alpha is None else [jnp.asarray(-0.25)]

    def along(step):
        moved = [a + step * v for a, v in zip(arguments, directions, strict=True)]
        return _shifts(*map(np.asarray, moved)).beta

    h = 1e-4
    difference = (-3 * along(0.0) + 4 * along(h) - along(2 * h)) / (2 * h)
    forward, gradient = _forward_and_reverse(arguments, directions)
    reverse = sum(jnp.vdot(g, v) for g, v in zip(gradient, directions, strict=True))
    assert float(forward) == pytest.approx(float(difference), rel=1e-5)
    assert float(reverse) == pytest.approx(float(forward), rel=1e-12)


@pytest.mark.slow
def test_derivatives_of_trivial_shifts_and_their_risks_are_finite():
    def risk(margin, ratio):
        found = intercept.optimal_shift(margin, jnp.ones(2), ratio, 1.5)
        return sum(intercept.shift_risks(found, margin, jnp.ones(2), 1.5))

    gradients = jax.jit(jax.vmap(jax.grad(risk, argnums=(0, 1))))(
        jnp.asarray([-1.0, 0.0, 0.1, 1.0]), jnp.asarray([2.0, 1.0, 50.0, 1e9])
    )
    assert bool(jnp.all(jnp.isfinite(jnp.stack(gradients))))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.5, 1.9, 2.0])
def test_float32_agrees_with_float64_to_its_own_accuracy(alpha):
    margin, scales, ratio = _problems(5, 100, False)
    double = _shifts(margin, scales, ratio, alpha)
    single = _shifts(margin, scales, ratio, alpha, dtype=np.float32)
    assert single.beta.dtype == np.float32
    survival = _survival(alpha)
    # Near ties the rules may differ; their risks may not.
    ours = _attained(single, margin, scales, ratio, survival)
    best = _attained(double, margin, scales, ratio, survival)
    assert np.max(ours - best) < 1e-6


@pytest.mark.slow
def test_the_scan_is_shared_over_ratios_and_agrees_with_one_at_a_time():
    margin, ratio = jnp.linspace(0.2, 4, 5), jnp.geomspace(0.1, 30, 9)
    scales = jnp.asarray([1.0, 1.3])
    table = intercept.optimal_shift(margin[:, None], scales, ratio[None], 1.5)
    one = jax.vmap(
        lambda t: jax.vmap(lambda r: intercept.optimal_shift(t, scales, r, jnp.asarray(1.5)))(ratio)
    )(margin)
    for a, b in zip(table, one, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize(
    ("margin", "scales", "ratio", "alpha"),
    [
        (1.0, (1.0, 1.0), 0.0, 1.5),
        (1.0, (1.0, 1.0), np.inf, None),
        (1.0, (1.0, 1.0), -2.0, None),
        (1.0, (0.0, 1.0), 2.0, None),
        (np.nan, (1.0, 1.0), 2.0, None),
        (1.0, (1.0, 1.0), 2.0, 0.0),
        (1.0, (1.0, 1.0), 2.0, 0.05),
        (1.0, (1.0, 1.0), 2.0, 2.1),
    ],
)
def test_out_of_domain_is_nan_and_nothing_else(margin, scales, ratio, alpha):
    found = intercept.optimal_shift(margin, jnp.asarray(scales), ratio, alpha)
    assert np.isnan(float(found.beta))
    assert not bool(found.trivial)
    assert not bool(found.local)
    assert np.isnan(float(intercept.shift_risks(found, 1.0, jnp.ones(2), alpha).positive))


@pytest.mark.parametrize("alpha", [None, 0.5, 1.0, 1.7])
def test_the_fair_intercept_equalises_and_minimises_the_larger_risk(alpha):
    margin, scales, _ = _problems(2, 50, False)
    margin = np.abs(margin)
    beta = np.asarray(intercept.fair_shift(margin, scales))
    survival = _survival(alpha)
    positive, negative = (
        survival((margin + beta) / scales[:, 1]),
        survival((margin - beta) / scales[:, 0]),
    )
    np.testing.assert_allclose(positive, negative, rtol=1e-12)
    others = beta[:, None] + np.linspace(-1, 1, 41)
    worst = np.maximum(
        survival((margin[:, None] + others) / scales[:, 1:]),
        survival((margin[:, None] - others) / scales[:, :1]),
    )
    assert np.all(worst >= positive[:, None] * (1 - 1e-12))
