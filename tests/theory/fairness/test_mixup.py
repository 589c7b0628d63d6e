"""Mixup: its law against draws, its rules against searches on the mixed law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from theory.domain import InvalidInput
from theory.fairness import mixup, mixup_intercept
from theory.fairness.mixup import Beta, Weights, mixed_shift, scale_factor
from theory.problem import GaussianMixture, L2Ball, LinfBall, StableMixture
from theory.rules import intercept
from theory.rules import risk as linear


def _draws(alpha, count, rng):
    """Standard symmetric stable draws by the method of Chambers, Mallows and Stuck."""
    angle, wait = rng.uniform(-np.pi / 2, np.pi / 2, count), rng.exponential(size=count)
    turn = np.cos((1 - alpha) * angle) / wait
    return np.sin(alpha * angle) / np.cos(angle) ** (1 / alpha) * turn ** ((1 - alpha) / alpha)


NODES = np.polynomial.legendre.leggauss(400)


def _cdf(x, alpha):
    """The distribution function at x > 0, by Gauss-Legendre on the characteristic function."""
    nodes, weights = NODES
    v = (nodes + 1) / 2 * 45 ** (1 / (3 * alpha))
    values = np.sin(x * v**3) * np.exp(-(v ** (3 * alpha))) * 3 / v
    return 0.5 + values @ weights * 45 ** (1 / (3 * alpha)) / 2 / np.pi


FALSE_ALARM = 1e-7
# One executable for each kind of mixing: the random problems below have one shape.
SOLVED = jax.jit(mixed_shift)
CLASSIFIED = jax.jit(mixup.mixed_classifier)
PROBLEMS = 120


def _interval(hits, count):
    return special.betaincinv(hits, count - hits + 1, FALSE_ALARM / 2), special.betaincinv(
        hits + 1, count - hits, 1 - FALSE_ALARM / 2
    )


WEIGHTS = ([0.5, 0.5], [0.8, 0.2], [0.5, 0.3, 0.2], [0.25] * 4)


@pytest.mark.parametrize("alpha", [0.8, 1.0, 1.5, 2.0])
def test_law_of_mixed_noise_is_that_of_draws(alpha):
    """4e5 mixed draws for each weights: exact intervals, false alarm 1e-6 in all; sees 2 % of g."""
    rng, count = np.random.default_rng(1), 400_000
    for weights in WEIGHTS:
        mixed = sum(w * _draws(alpha, count, rng) for w in weights)
        low, high = _interval((np.abs(mixed) > 1.5).sum(), count)
        factor = float(scale_factor(Weights(weights), alpha))
        assert low <= 2 - 2 * _cdf(1.5 / factor, alpha) <= high
        # Without the cross term, (sum w)^2 for sum w^2, or the 2-norm for the alpha-norm.
        for wrong in (1.0, np.linalg.norm(weights)):
            if abs(wrong / factor - 1) > 0.02:
                assert not low <= 2 - 2 * _cdf(1.5 / wrong, alpha) <= high


def test_a_pair_has_the_weights_of_its_coefficient():
    for alpha in (None, 0.7, 1.5):
        pair = float(scale_factor(0.3, alpha))
        assert pair == float(scale_factor(Weights([0.3, 0.7]), alpha))
        assert pair == float(scale_factor(0.7, alpha))
        assert float(scale_factor(1.0, alpha)) == float(scale_factor(0.0, alpha)) == 1
    assert float(scale_factor(0.3)) == pytest.approx(0.58**0.5, rel=1e-15)
    assert float(scale_factor(Weights([1 / 8] * 8), 1.5)) == pytest.approx(0.5, rel=1e-15)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("a", [1e-3, 0.2, 1.0, 7.0, 1e4])
def test_nodes_have_the_moment_known_in_closed_form(alpha, a):
    law = mixup_intercept.coefficient_law(jnp.asarray(a), alpha)
    weights = np.exp(law.log_weights)
    moment = 2 * np.exp(special.betaln(a + alpha, a) - special.betaln(a, a))
    # The logarithm of the Beta function loses a * eps.
    assert weights @ law.factors**alpha == pytest.approx(moment, rel=1e-13 + 1e-14 * a)


def _line(rng, count, lowest=0.05):
    margin = rng.uniform(lowest, 3, count)
    scales = np.exp(rng.uniform(-0.7, 0.7, (count, 2)))
    scales[::4, 1] = scales[::4, 0]
    return margin, scales, np.exp(rng.uniform(-3, 3, count))


def _mixed_risk(beta, margin, scales, ratio, factors, weights):
    """The Gaussian risk on a line times 1 + R, averaged over scale factors; beta any shape."""
    at = np.asarray(beta)[..., None]
    positive = special.ndtr(-(margin + at) / (scales[1] * factors))
    negative = special.ndtr(-(margin - at) / (scales[0] * factors))
    return ((positive + ratio * negative) * weights).sum(-1)


def _check_against_search(shifts, problems, law):
    """Compares with the least risk on a fine grid around every intercept that could matter."""
    grid = np.concatenate([np.linspace(-8, 8, 1601), 8 * 1.02 ** np.arange(1, 300)])
    grid = np.concatenate([-grid[1601:][::-1], grid])
    worst = 0.0
    for k, (margin, scales, ratio) in enumerate(zip(*problems, strict=True)):
        risk = functools.partial(
            _mixed_risk, margin=margin, scales=scales, ratio=ratio, factors=law[0], weights=law[1]
        )
        place = np.argmin(risk(grid))
        ends = grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)]
        inside = optimize.minimize_scalar(
            risk, bounds=ends, method="bounded", options={"xatol": 1e-11}
        )
        least = min(inside.fun, 1.0, ratio)
        constant = 1.0 if shifts.label[k] < 0 else ratio
        mine = constant if shifts.trivial[k] else float(risk(shifts.beta[k]))
        worst = max(worst, abs(mine - least) / (1 + ratio))
        if not shifts.trivial[k] and least < min(1, ratio) - 1e-6:
            # The search sees a minimum to the root of its rounding.
            assert shifts.beta[k] == pytest.approx(inside.x, abs=1e-6)
    assert worst < 1e-14


@pytest.mark.parametrize("coefficient", [0.5, 0.8])
def test_intercept_for_a_fixed_coefficient_is_the_searched_one_on_the_mixed_law(coefficient):
    problems = _line(np.random.default_rng(2), PROBLEMS)
    shifts = SOLVED(*map(jnp.asarray, problems), coefficient)
    # The noise of the mixture by its variance, with the cross term that means leave out.
    variance = coefficient**2 + (1 - coefficient) ** 2
    law = (np.array([variance**0.5]), np.ones(1))
    _check_against_search(jax.tree.map(np.asarray, shifts), problems, law)


@pytest.mark.slow
@pytest.mark.parametrize("a", [0.3, 1.0, 4.0])
def test_intercept_for_beta_coefficients_is_the_searched_one_on_the_mixed_law(a):
    """The reference averages by Gauss-Jacobi quadrature, of 60 nodes."""
    problems = _line(np.random.default_rng(3), PROBLEMS, lowest=-0.5)
    shifts = SOLVED(*map(jnp.asarray, problems), Beta(a))
    nodes, weights = special.roots_jacobi(60, a - 1, a - 1)
    law = (np.sqrt((1 + nodes**2) / 2), weights / weights.sum())
    _check_against_search(jax.tree.map(np.asarray, shifts), problems, law)


def test_intercept_for_beta_coefficients_lies_between_those_of_the_extremes():
    margin, scales, ratio = map(jnp.asarray, _line(np.random.default_rng(4), PROBLEMS))
    aligned = (ratio * scales[:, 1] / scales[:, 0] - 1) * (scales[:, 1] - scales[:, 0]) >= 0
    solve = SOLVED
    random = solve(margin, scales, ratio, Beta(0.7)).beta
    ends = jnp.stack([solve(margin, scales, ratio, c).beta for c in (0.5, 1.0)])
    inside = (random >= ends.min(0) - 1e-12) & (random <= ends.max(0) + 1e-12)
    assert aligned.sum() > 60
    assert bool(inside[aligned].all())
    # And it moves from no mixing at a = 0 to halves at a = infinity.
    few, many = (solve(margin, scales, ratio, Beta(a)).beta for a in (1e-7, 1e7))
    np.testing.assert_allclose(few[aligned], ends[1][aligned], atol=1e-4)
    np.testing.assert_allclose(many[aligned], ends[0][aligned], atol=1e-4)


@pytest.mark.slow
def test_derivatives_are_those_of_finite_differences():
    def beta(margin, ratio, a):
        return mixed_shift(margin, jnp.asarray([1.0, 1.6]), ratio, Beta(a)).beta

    point, step = np.array([0.8, 3.0, 0.7]), 1e-5
    value_and_slopes = jax.jit(jax.value_and_grad(beta, (0, 1, 2)))
    slopes = value_and_slopes(*point)[1]
    for k in range(3):
        ends = [value_and_slopes(*(point + sign * step * np.eye(3)[k]))[0] for sign in (-1, 1)]
        assert float(slopes[k]) == pytest.approx(float(ends[1] - ends[0]) / (2 * step), rel=1e-7)
    # Inside jit a Beta parameter out of its domain makes nan.
    assert np.isnan(float(value_and_slopes(0.8, 3.0, -1.0)[0]))
    fixed = jax.jit(jax.grad(lambda c: mixed_shift(0.8, jnp.ones(2), 3.0, c).beta))
    # -g^2 l / (2 t) with g^2 = c^2 + (1 - c)^2.
    assert float(fixed(0.7)) == pytest.approx(-0.8 * np.log(3) / 1.6, rel=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_no_rule_found_by_search_beats_the_mixed_optimum_on_the_mixed_law(seed):
    rng = np.random.default_rng(seed)
    means, scales = rng.normal(size=(2, 2)) * 1.2, rng.uniform(0.6, 1.6, 2)
    prior, radius, coefficient = [0.2, 0.5, 0.7][seed], 0.2, 0.35
    mixture, threat = GaussianMixture(means, scales, prior), LinfBall(radius)
    deviation = scales * (coefficient**2 + (1 - coefficient) ** 2) ** 0.5

    def risk(rule):
        weight, length = rule[:2], np.linalg.norm(rule[:2])
        scores = np.array([-1, 1]) * (means @ weight + rule[2])
        risks = special.ndtr((radius * np.abs(weight).sum() - scores) / (deviation * length))
        return (1 - prior) * risks[0] + prior * risks[1]

    tight = {"xatol": 1e-10, "fatol": 1e-16, "maxiter": 4000}
    starts = [*rng.normal(size=(8, 3)), [*(means[1] - means[0]), 0]]
    least = min(optimize.minimize(risk, s, method="Nelder-Mead", options=tight).fun for s in starts)
    rule = CLASSIFIED(mixture, threat, coefficient)
    mine = risk(np.append(rule.weight, rule.bias))
    assert mine <= least + 1e-14
    assert least <= mine + 1e-9
    risks = mixup.mixed_class_risks(mixture, rule, coefficient, threat)
    total = (1 - prior) * float(risks.negative) + prior * float(risks.positive)
    assert total == pytest.approx(mine, rel=1e-13)


@pytest.mark.slow
def test_rule_for_beta_coefficients_minimises_the_averaged_risk():
    mixture = GaussianMixture([[-1.0, -0.2], [1.0, 0.5]], [1.0, 1.5], 0.3)
    threat = LinfBall(0.2)
    rule = CLASSIFIED(mixture, threat, Beta(0.8))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def risk(bias):
        moved = rule._replace(bias=bias)
        risks = mixup.mixed_class_risks(mixture, moved, Beta(0.8), threat)
        return 0.7 * risks.negative + 0.3 * risks.positive, risks

    (least, risks), slope = risk(rule.bias)
    assert abs(float(slope)) < 1e-15
    assert all(float(risk(rule.bias + step)[0][0]) > float(least) for step in (-1e-3, 1e-3))
    # The averaged risk is that of draws: exact intervals at 1e-7 a class, seeing an error of 1 %.
    rng, count = np.random.default_rng(5), 200_000
    c = rng.beta(0.8, 0.8, count)[:, None]
    weight = np.asarray(rule.weight)
    loss = 0.2 * np.abs(weight).sum()
    classes = zip((-1, 1), *map(np.asarray, (mixture.means, mixture.scales, risks)), strict=True)
    for label, mean, scale, mine in classes:
        x = mean + scale * (c * rng.normal(size=(count, 2)) + (1 - c) * rng.normal(size=(count, 2)))
        low, high = _interval((label * (x @ weight + float(rule.bias)) <= loss).sum(), count)
        assert low <= float(mine) <= high


def test_a_positive_margin_stays_worth_following_on_mixed_gaussian_data():
    margin, scales, ratio = map(jnp.asarray, _line(np.random.default_rng(13), PROBLEMS))
    none, halves = (np.asarray(SOLVED(margin, scales, ratio, c).trivial) for c in (1.0, 0.5))
    assert none.sum() > halves.sum() > 0
    assert not np.any(halves & ~none)


def test_many_mixed_points_lead_to_the_fair_intercept():
    scales = jnp.asarray([1.0, 1.8])
    limit = mixup.many_way_shift(1.2, scales, 4.0)
    assert float(limit) == pytest.approx(float(intercept.fair_shift(1.2, scales)), rel=1e-15)
    distance = [
        float(mixed_shift(1.2, scales, 4.0, Weights([1 / m] * m)).beta - limit) for m in (64, 256)
    ]
    assert abs(distance[1]) < 0.01
    assert distance[0] / distance[1] == pytest.approx(4, rel=0.02)
    risks = [special.ndtr(-(1.2 + limit) / 1.8), special.ndtr(-(1.2 - limit))]
    assert risks[0] == pytest.approx(risks[1], rel=1e-14)


def test_mixed_laws_keep_what_mixing_keeps():
    stable = StableMixture([[-1.0, 0.0], [1.0, 2.0]], [1.0, 2.0], 0.3, 0.5)
    mixed = mixup.mixed_mixture(stable, 0.5)
    np.testing.assert_allclose(mixed.scales, [2.0, 4.0], rtol=1e-15)
    assert np.array_equal(mixed.means, stable.means)
    many = jax.vmap(lambda c: mixup.mixed_mixture(stable, c).scales)(jnp.asarray([0.0, 0.5]))
    np.testing.assert_allclose(many, [[1, 2], [2, 4]], rtol=1e-15)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_bad_coefficients_are_refused_or_nan_inside_jit(bad):
    with pytest.raises(InvalidInput, match="the mixing coefficient must lie in"):
        scale_factor(bad)
    assert np.isnan(float(jax.jit(scale_factor)(bad)))
    assert np.isnan(float(jax.jit(lambda c: mixed_shift(1.0, jnp.ones(2), 2.0, c).beta)(bad)))


def test_bad_mixings_are_refused_by_name():
    with pytest.raises(InvalidInput, match="the Beta parameter must lie in"):
        Beta(0.0)
    with pytest.raises(InvalidInput, match="mixing weights must sum to 1, not 0"):
        Weights([0.5, 0.4])
    with pytest.raises(InvalidInput, match="every mixing weight must lie in"):
        Weights([1.5, -0.5])
    with pytest.raises(InvalidInput, match="mixing = Beta"):
        mixup.mixed_mixture(GaussianMixture([[-1.0], [1.0]], [1.0, 1.0], 0.5), Beta(1.0))


def test_wrong_versions_would_be_seen():
    """What a sign, an inverted ratio or a missing cross term changes dwarfs every tolerance."""
    right = float(mixed_shift(1.0, jnp.asarray([1.0, 1.5]), 3.0, 0.5).beta)
    for wrong in (
        -right,
        float(mixed_shift(1.0, jnp.asarray([1.0, 1.5]), 1 / 3.0, 0.5).beta),
        float(mixed_shift(1.0, jnp.asarray([1.5, 1.0]), 3.0, 0.5).beta),
        float(intercept.optimal_shift(1.0, jnp.asarray([1.0, 1.5]), 3.0).beta),
    ):
        assert abs(wrong - right) > 0.05


def test_rules_are_vmappable_and_differentiable_in_float32():
    mean = jnp.asarray([[-1.0, 0.0], [1.0, 0.5]], jnp.float32)

    def gap(coefficient):
        mixture = GaussianMixture(mean, jnp.asarray([1.0, 1.5], jnp.float32), jnp.float32(0.4))
        rule = mixup.mixed_classifier(mixture, L2Ball(jnp.float32(0.3)), coefficient)
        return linear.disparity(mixture, rule)

    coefficients = jnp.linspace(0.5, 1.0, 6, dtype=jnp.float32)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(gap)))(coefficients)
    assert values.dtype == slopes.dtype == jnp.float32
    assert np.all(np.diff(values) > 0)
    assert np.all(slopes[1:] > 0)
    ones = jnp.ones(2, jnp.float32)
    random = jax.eval_shape(
        lambda a: mixed_shift(jnp.float32(1), ones, 2.0, Beta(a)), jnp.float32(1)
    )
    assert random.beta.dtype == jnp.float32
