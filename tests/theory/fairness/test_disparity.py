"""Disparity, its decomposition and its signs, against searched rules, quadrature and mpmath."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import optimize, special, stats

from theory.domain import InvalidInput
from theory.fairness import disparity
from theory.problem import GaussianMixture, L2Ball, LinfBall, StableMixture
from theory.rules import optimal
from theory.rules import risk as linear

BALLS = {2: L2Ball, np.inf: LinfBall}
DECOMPOSED = jax.jit(disparity.decomposition, static_argnames="mode")
MODES = ("probit", "path", "balanced")
# More than the distance from a minimum at which rounding hides the slope, times the risk's slope.
SEARCHED = 1e-6


def _risks(parameters, means, scales, radius, p):
    """The class risks of a rule in two dimensions, by its angle and bias."""
    weight = np.array([np.cos(parameters[0]), np.sin(parameters[0])])
    loss = radius * (1.0 if p == 2 else np.abs(weight).sum())
    scores = np.array([-1, 1]) * (means @ weight + parameters[1])
    return special.ndtr((loss - scores) / scales)


def _searched(means, scales, prior, radius, p, angle=None):
    """The angle and bias of least risk, found by many local searches; or the bias at an angle."""

    def risk(parameters):
        rule = parameters if angle is None else [angle, parameters[0]]
        return _risks(rule, means, scales, radius, p) @ [1 - prior, prior]

    tight = {"xatol": 1e-11, "fatol": 1e-17, "maxiter": 4000}
    starts = [[0.0, 0.0], [0.7, -0.5], [2.5, 0.5]]
    if angle is not None:
        starts = [[-1.0], [1.0]]
    found = [optimize.minimize(risk, s, method="Nelder-Mead", options=tight) for s in starts]
    best = min(found, key=lambda result: result.fun).x
    return best if angle is None else np.array([angle, best[0]])


@pytest.mark.parametrize("p", [2, np.inf])
@pytest.mark.parametrize("seed", range(3))
def test_parts_are_the_differences_between_searched_rules(p, seed):
    """Neither a margin nor an intercept formula enters the reference."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(2, 2)) * 0.3 + [[-1.2, -0.5], [1.2, 0.5]]
    scales = np.ones(2) if seed == 0 else rng.uniform(0.8, 1.3, 2)
    prior, radius = [0.2, 0.3, 0.4][seed], 0.4
    standard = _searched(means, scales, prior, 0, p)
    robust = _searched(means, scales, prior, radius, p)
    between = _searched(means, scales, prior, 0, p, angle=robust[0])
    even = [_searched(means, scales, 0.5, 0, p, angle=rule[0]) for rule in (standard, robust)]

    def natural(rule):
        return _risks(rule, means, scales, 0, p)

    total = natural(robust) - natural(standard)
    inherent = {
        "probit": None,
        "path": natural(between) - natural(standard),
        "balanced": natural(even[1]) - natural(even[0]),
    }
    mixture = GaussianMixture(means, scales, prior)
    for mode in MODES:
        parts = DECOMPOSED(mixture, BALLS[p](radius), mode)
        first, second = np.array(parts.inherent), np.array(parts.imbalance)
        if mode == "probit":
            moved = stats.norm.ppf(natural(robust)) - stats.norm.ppf(natural(standard))
            np.testing.assert_allclose(first + second, moved, atol=10 * SEARCHED)
            direction = [np.array([np.cos(r[0]), np.sin(r[0])]) for r in (standard, robust)]
            lost = (direction[0] - direction[1]) @ (means[1] - means[0]) / 2 / scales
            np.testing.assert_allclose(first, lost, atol=10 * SEARCHED)
        else:
            np.testing.assert_allclose(first + second, total, atol=SEARCHED)
            np.testing.assert_allclose(first, inherent[mode], atol=SEARCHED)


def _random_problems(count, seed, dimension=4):
    rng = np.random.default_rng(seed)
    gap = rng.normal(size=(count, dimension)) * np.exp(rng.uniform(-1, 1, (count, 1)))
    return {
        "gap": jnp.asarray(gap),
        "share": jnp.asarray(rng.uniform(0.02, 0.98, count)),
        "ratio": jnp.asarray(np.exp(rng.uniform(0.01, 4, count))),
    }


def _mixture(gap, ratio, scales=None):
    scales = jnp.ones(2, gap.dtype) if scales is None else scales
    return GaussianMixture(jnp.stack([-gap, gap]), scales, 1 / (1 + ratio))


@functools.lru_cache
def _measured(p, count=3000):
    """Everything T6 speaks of, for random problems with equal scales and R > 1."""

    @jax.jit
    @jax.vmap
    def measure(gap, share, ratio):
        norm = jnp.linalg.norm(gap, p)
        mixture, threat = _mixture(gap, ratio), BALLS[p](share * norm)
        standard, robust = (optimal.optimal_classifier(mixture, t) for t in (None, threat))
        before, after = (linear.class_risks(mixture, rule) for rule in (standard, robust))
        stronger = BALLS[p](jnp.minimum(1.01 * share, 0.99) * norm)
        later = linear.class_risks(mixture, optimal.optimal_classifier(mixture, stronger))
        parts = {m: disparity.decomposition(mixture, threat, m) for m in MODES}
        margins = disparity.margin_path(mixture, BALLS[p](jnp.stack([0 * share, share * norm])))
        threshold = disparity.majority_gain_threshold(mixture, threat)
        return before, after, later, parts, margins, threshold

    problems = _random_problems(count, 5)
    return problems, jax.tree.map(np.asarray, measure(**problems))


# Differences of probabilities and of margins, each rounded to eps.
ROUNDING = 1e-14


@pytest.mark.slow
@pytest.mark.parametrize("p", [2, np.inf])
def test_signs_of_what_robustness_does_to_gaussian_classes_of_equal_scale(p):
    problems, (before, after, later, parts, margins, threshold) = _measured(p)
    odds = np.log(np.asarray(problems["ratio"]))
    gaps = [disparity.accuracy_disparity(r) for r in (before, after, later)]
    # 1. The disparity is positive, and rises with the radius.
    assert np.all(gaps[0] > 0)
    assert np.all(gaps[1] >= gaps[0] - ROUNDING)
    assert np.all(gaps[2] >= gaps[1] - ROUNDING)
    assert np.mean(gaps[1] > gaps[0] + ROUNDING) > 0.9
    # 2. The inherent part costs both classes.
    for mode in ("probit", "balanced"):
        assert np.all(np.stack(parts[mode].inherent) >= -ROUNDING)
    # 3. Along the path it costs the minority, and the majority unless a product of margins is
    # small.
    path, lost = parts["path"], margins.natural[:, 0] - margins.natural[:, 1]
    assert np.all(path.inherent.positive >= -ROUNDING)
    product = margins.natural[:, 0] * margins.natural[:, 1]
    clear = (lost > 1e-9) & (np.abs(product / odds - 0.5) > 1e-9)
    visible = clear & (np.abs(path.inherent.negative) > ROUNDING)
    improved = path.inherent.negative < 0
    assert np.array_equal(improved[visible], (product < odds / 2)[visible])
    # 4. Imbalance costs the minority and helps the majority.
    for mode in ("probit", "path"):
        assert np.all(parts[mode].imbalance.positive >= -ROUNDING)
        assert np.all(parts[mode].imbalance.negative <= ROUNDING)
    # 5. In total the minority loses; the majority gains past a threshold in log R.
    change = after.negative - before.negative
    assert np.all(after.positive >= before.positive - ROUNDING)
    visible = (np.abs(change) > ROUNDING) & (np.abs(odds - threshold) > 1e-9 * odds)
    assert visible.sum() > 2000
    assert np.array_equal((change < 0)[visible], (odds > threshold)[visible])
    for mode in ("path", "balanced"):
        for label in (0, 1):
            total = parts[mode].inherent[label] + parts[mode].imbalance[label]
            np.testing.assert_allclose(total, after[label] - before[label], atol=ROUNDING)
    if p == 2:
        # Isotropic noise: the direction never turns, and any imbalance helps the majority.
        assert np.abs(lost).max() < 1e-12
        assert np.abs(parts["path"].inherent.positive).max() < 1e-12
        assert np.all(threshold < 1e-3)
    else:
        # The theorem has cases of both kinds, so the comparisons above could have failed.
        assert np.sum(change > 0) > 100
        assert np.sum(improved & clear) > 100


def test_the_smaller_class_is_the_one_that_loses():
    gap = jnp.asarray([1.0, 0.4])
    few, many = (_mixture(gap, jnp.asarray(r)) for r in (0.2, 5.0))
    for mode in MODES:
        a = DECOMPOSED(few, LinfBall(0.3), mode)
        b = DECOMPOSED(many, LinfBall(0.3), mode)
        np.testing.assert_allclose(np.array(a)[:, ::-1], np.array(b), atol=1e-15)


def test_edges_of_the_radius():
    gap = jnp.asarray([1.0, 0.4])
    for mode in MODES:
        nothing = DECOMPOSED(_mixture(gap, jnp.asarray(3.0)), L2Ball(0.0), mode)
        assert np.all(np.array(nothing) == 0)
    past = LinfBall(1.2)
    for ratio, limit in ((3.0, 1.0), (1 / 3.0, -1.0)):
        mixture = _mixture(gap, jnp.asarray(ratio))
        rule = optimal.optimal_classifier(mixture, past)
        assert float(linear.disparity(mixture, rule)) == limit
        before = np.array(linear.class_risks(mixture, optimal.optimal_classifier(mixture)))
        constant = np.array([0.0, 1.0]) if ratio > 1 else np.array([1.0, 0.0])
        for mode in ("path", "balanced"):
            total = np.array(DECOMPOSED(mixture, past, mode)).sum(0)
            np.testing.assert_allclose(total, constant - before, atol=1e-15)
        argument = DECOMPOSED(mixture, past, "probit").imbalance
        assert np.isposinf(argument[int(limit > 0)])
        assert float(disparity.majority_gain_threshold(mixture, past)) == 0


@pytest.mark.parametrize("p", [2, np.inf])
def test_margins_along_the_path_are_those_found_by_search(p):
    gap = np.array([1.1, -0.45])
    radii = np.linspace(0, np.linalg.norm(gap, p), 9)
    path = disparity.margin_path(_mixture(jnp.asarray(gap), jnp.asarray(1.0)), BALLS[p](radii))
    angles = np.linspace(-np.pi, np.pi, 200_001)
    weights = np.stack([np.cos(angles), np.sin(angles)], 1)
    dual = np.ones(len(angles)) if p == 2 else np.abs(weights).sum(1)
    searched = [(weights @ gap - r * dual).max() for r in radii]
    # A grid misses the maximum by half its square step times a curvature below 2, and stays below.
    assert np.all(path.robust >= np.array(searched) - 1e-15)
    np.testing.assert_allclose(path.robust, searched, atol=(angles[1] - angles[0]) ** 2)
    np.testing.assert_allclose(path.natural - radii * path.dual, path.robust, atol=1e-15)
    assert abs(float(path.robust[-1])) < 1e-15


@pytest.mark.slow
def test_path_is_convex_falling_and_has_the_dual_norm_for_its_slope():
    gap = jnp.asarray([1.3, 0.9, -0.5, 0.2, 0.0])
    mixture = _mixture(gap, jnp.asarray(2.0))
    radii = jnp.linspace(0.0, 1.29, 200)
    path = disparity.margin_path(mixture, LinfBall(radii))
    assert np.all(np.diff(path.robust) < 0)
    assert np.all(np.diff(path.robust, 2) > -1e-14)
    assert np.all(np.diff(path.natural) <= 1e-15)
    assert np.all(np.diff(path.dual) <= 1e-15)
    slope = jax.vmap(jax.grad(lambda r: disparity.margin_path(mixture, LinfBall(r)).robust))(radii)
    np.testing.assert_allclose(slope, -path.dual, rtol=1e-12)
    step = 1e-6
    moved = disparity.margin_path(mixture, LinfBall(radii + step)).robust
    # A forward difference misses by half the step times the curvature, which is below 40 here.
    np.testing.assert_allclose((moved - path.robust) / step, -path.dual, atol=40 * step)


def test_a_first_small_radius_helps_the_majority_at_the_rate_of_the_theory():
    gap, odds = np.array([1.0, 0.3]), np.log(4.0)
    mixture = _mixture(jnp.asarray(gap), jnp.asarray(4.0))
    kappa = np.linalg.norm(gap)
    nu = np.abs(gap).sum() / kappa
    step = 1e-6

    def risks(radius):
        return np.array(
            linear.class_risks(mixture, optimal.optimal_classifier(mixture, LinfBall(radius)))
        )

    slope = (risks(step) - risks(0.0)) / step
    common, shift = odds * nu / (2 * kappa**2), odds / (2 * kappa)
    expected = [
        -stats.norm.pdf(kappa + shift) * common,
        stats.norm.pdf(kappa - shift) * common,
    ]
    np.testing.assert_allclose(slope, expected, atol=1e-5)


def _deficit(odds, robust, natural):
    shift = mp.mpf(odds) / (2 * mp.mpf(robust))
    return mp.log(
        (mp.erfc((shift - natural) / mp.sqrt(2)) + mp.erfc((shift + natural) / mp.sqrt(2))) / 2
    )


@pytest.mark.parametrize("exponent", [1, 30, 300])
def test_disparity_tends_to_one_with_the_ratio_and_its_deficit_keeps_its_digits(exponent):
    gap, radius = 1.5, 0.5
    mixture = _mixture(jnp.asarray([gap]), jnp.asarray(10.0**exponent))
    threat = L2Ball(radius)
    rule = optimal.optimal_classifier(mixture, threat)
    odds = mp.log((1 - mp.mpf(float(mixture.prior))) / mp.mpf(float(mixture.prior)))
    # JAX's log_ndtr has a relative error of 2e-13.
    mine = float(disparity.log_disparity_deficit(mixture, rule))
    assert mine == pytest.approx(float(_deficit(odds, gap - radius, gap)), rel=1e-12)
    robust = float(disparity.log_disparity_deficit(mixture, rule, threat))
    assert robust == pytest.approx(float(_deficit(odds, gap - radius, gap - radius)), rel=1e-12)
    # The leading term, from above: its relative error falls like 1 / log R.
    leading = -(float(odds) ** 2) / (8 * (gap - radius) ** 2)
    assert abs(robust / leading - 1) < 6 / float(odds)


def test_gap_between_robust_and_standard_disparity_vanishes_at_both_ends_of_the_ratio():
    gap, threat = jnp.asarray([1.0, 0.4]), LinfBall(0.3)

    def excess(log_ratio):
        mixture = _mixture(gap, jnp.exp(log_ratio))
        rules = [optimal.optimal_classifier(mixture, t) for t in (None, threat)]
        before, after = (linear.disparity(mixture, rule) for rule in rules)
        return after - before

    odds = jnp.linspace(0.0, 60.0, 121).at[0].set(1e-12)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(excess)))(odds)
    assert abs(float(values[0])) < 1e-12
    assert abs(float(values[-1])) < 1e-15
    assert float(values.max()) > 0.1
    inside = np.asarray(values[1:40])
    assert np.all(inside > 0)
    assert np.sum(np.diff(np.sign(np.diff(inside))) != 0) == 1
    kappa, robust = np.linalg.norm(gap), np.hypot(0.7, 0.1)
    natural = (0.7 * 1.0 + 0.1 * 0.4) / robust
    slope = stats.norm.pdf(natural) / robust - stats.norm.pdf(kappa) / kappa
    assert float(slopes[0]) == pytest.approx(slope, rel=1e-10)


@pytest.mark.slow
def test_balanced_risks_tend_to_the_limit_of_the_direction():
    gap = jnp.asarray([1.0, 1.0, 0.4])
    path = disparity.margin_path(_mixture(gap, jnp.asarray(1.0)), LinfBall(1.0 - 1e-9))
    # The two largest coordinates remain: |Delta|_max times the root of their number.
    assert float(path.natural) == pytest.approx(2**0.5, abs=1e-8)
    turned = disparity.margin_path(_mixture(gap, jnp.asarray(1.0)), L2Ball(1.4))
    assert float(turned.natural) == pytest.approx(float(jnp.linalg.norm(gap)), rel=1e-15)


def test_common_risks_have_the_ratio_of_the_priors_when_classes_are_far_apart():
    mixture = _mixture(jnp.asarray([30.0]), jnp.asarray(7.0))
    negative, positive = linear.log_class_risks(mixture, optimal.optimal_classifier(mixture))
    assert float(positive - negative) == pytest.approx(np.log(7), abs=2 / 30**2)


def test_wrong_parts_would_be_seen():
    """The intercept's sign, or R inverted, changes the parts by far more than any tolerance."""
    gap, threat = jnp.asarray([1.0, 0.4]), LinfBall(0.3)
    right = np.array(DECOMPOSED(_mixture(gap, jnp.asarray(3.0)), threat, "path"))
    inverted = DECOMPOSED(_mixture(gap, jnp.asarray(1 / 3)), threat, "path")
    assert np.abs(right - np.array(inverted)).max() > 1e-2


def test_unknown_modes_and_laws_are_refused():
    mixture = _mixture(jnp.asarray([1.0]), jnp.asarray(2.0))
    with pytest.raises(InvalidInput, match="mode = 'sum': unknown; known: balanced, path, probit"):
        disparity.decomposition(mixture, L2Ball(0.1), "sum")
    with pytest.raises(InvalidInput, match="did you mean probit"):
        disparity.decomposition(mixture, L2Ball(0.1), "probits")
    stable = StableMixture([[-1.0], [1.0]], [1.0, 1.0], 0.5, 1.5)
    with pytest.raises(InvalidInput, match="mixture = StableMixture"):
        disparity.majority_gain_threshold(stable, L2Ball(0.1))


def test_the_threshold_is_not_a_number_for_unequal_scales():
    mixture = _mixture(jnp.asarray([1.0, 0.4]), jnp.asarray(2.0), jnp.asarray([1.0, 2.0]))
    assert np.isnan(float(disparity.majority_gain_threshold(mixture, LinfBall(0.1))))
    same = _mixture(jnp.asarray([1.0, 0.4]), jnp.asarray(2.0))
    twice = _mixture(jnp.asarray([2.0, 0.8]), jnp.asarray(2.0), jnp.asarray([2.0, 2.0]))
    assert float(disparity.majority_gain_threshold(twice, LinfBall(0.4))) == pytest.approx(
        float(disparity.majority_gain_threshold(same, LinfBall(0.2))), rel=1e-14
    )


@pytest.mark.parametrize("mode", MODES)
def test_parts_are_jittable_vmappable_and_differentiable_in_float32(mode):
    def parts(radius):
        gap = jnp.asarray([1.0, 0.4], jnp.float32)
        mixture = _mixture(gap, jnp.float32(3.0))
        return disparity.decomposition(mixture, LinfBall(radius), mode)

    radii = jnp.asarray([0.0, 0.2, 0.5], jnp.float32)
    many = jax.jit(jax.vmap(parts))(radii)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(many))
    assert np.all(np.isfinite(np.array(many)))
    # At radius 0.2 the direction is that of (0.8, 0.2), and mode "probit" is in closed form.
    slope = jax.jit(jax.grad(lambda r: parts(r).imbalance.positive))(jnp.float32(0.2))
    assert np.isfinite(float(slope))
    if mode == "probit":
        kappa_slope = -1 / np.hypot(0.8, 0.2)
        expected = -np.log(3) / 2 / (0.8**2 + 0.2**2) * kappa_slope
        assert float(slope) == pytest.approx(expected, rel=1e-5)
