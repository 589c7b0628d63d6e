"""Class distance and fairness against searches that do not know the closed forms."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import optimize, stats

from support.oracles import normal
from theory.domain import InvalidInput
from theory.fairness import distance, distance_fairness
from theory.fairness.distance import Budgets
from theory.problem import GaussianMixture, L1Ball, L2Ball, LinfBall, LpBall
from theory.rules import risk as linear
from theory.rules.optimal import optimal_classifier

GOLDEN = (mp.sqrt(5) - 1) / 2


def _risk(t, delta, k, rho, cdf):
    """Weighted error of a threshold t sds above the negative mean: R_+ + rho R_-."""
    return cdf((t - delta) / k) + rho * cdf(-t)


def _best_threshold(delta, k, rho):
    """Returns the least weighted risk over all thresholds, and its place or +-inf: by search."""
    width = 12 * max(1, k) + 2 * abs(delta) + 40
    grid = np.linspace(-width, width, 20_001)
    coarse = _risk(grid, delta, k, rho, stats.norm.cdf)
    j = int(coarse.argmin())
    low, high = mp.mpf(grid[max(j - 1, 0)]), mp.mpf(grid[min(j + 1, 20_000)])
    delta, k, rho = mp.mpf(delta), mp.mpf(k), mp.mpf(rho)
    f = functools.partial(_risk, delta=delta, k=k, rho=rho, cdf=mp.ncdf)
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    f_a, f_b = f(a), f(b)
    while high - low > mp.mpf(10) ** -17:
        if f_a < f_b:
            high, b, f_b = b, a, f_a
            a = high - GOLDEN * (high - low)
            f_a = f(a)
        else:
            low, a, f_a = a, b, f_b
            b = low + GOLDEN * (high - low)
            f_b = f(b)
    t = (low + high) / 2
    best = min((f(t), 0, t), (rho, 1, -mp.inf), (mp.mpf(1), 2, mp.inf))
    return best[0], best[2]


@pytest.fixture(scope="module")
def settings():
    rng = np.random.default_rng(3)
    n = 280
    k = np.exp(rng.uniform(-1.2, 1.2, n))
    k[:60] = 1 + rng.choice([-1, 1], 60) * 10.0 ** -rng.uniform(1, 16, 60)
    k[60:80] = 1.0
    delta = rng.uniform(-1.5, 6, n)
    delta[:80] = rng.uniform(0.3, 6, 80)
    delta[120:160] = rng.uniform(-1, 1, 40)
    rho = np.where(rng.uniform(size=n) < 0.3, 1.0, np.exp(rng.normal(0, 2, n)))
    return delta, k, rho


@pytest.mark.slow
def test_class_errors_are_those_of_the_best_threshold_to_1e_12(settings):
    delta, k, rho = settings
    errors = distance.class_errors(*settings)
    margins = distance.optimal_margins(*settings)
    constant = level = 0
    with mp.workdps(40):
        for i in range(len(delta)):
            least, t = _best_threshold(*(float(a[i]) for a in settings))
            plus, minus = mp.ncdf((t - mp.mpf(delta[i])) / mp.mpf(k[i])), mp.ncdf(-t)
            mine = mp.mpf(float(errors.positive[i])), mp.mpf(float(errors.negative[i]))
            risk = mine[0] + mp.mpf(rho[i]) * mine[1]
            assert abs(risk - least) < 1e-14 * max(1, rho[i])
            if abs(risk - min(1, mp.mpf(rho[i]))) < 1e-13 and (
                margins.interior[i] or mp.isfinite(t)
            ):
                level += 1  # a constant rule is as good in float64, so either may be chosen
                continue
            assert abs(mine[0] - plus) < 1e-12
            assert abs(mine[1] - minus) < 1e-12
            assert bool(margins.interior[i]) == bool(mp.isfinite(t))
            constant += not mp.isfinite(t)
    assert 10 < constant < 120
    assert len(delta) - level >= 200


def test_small_errors_keep_their_relative_accuracy():
    delta, k, rho = 30.0, 1.7, 0.4
    errors = distance.class_errors(delta, k, rho)
    with mp.workdps(60):
        # Past the reach of a search by value: the two densities meet at the optimum.
        d, q, r = mp.mpf(delta), mp.mpf(k), mp.mpf(rho)
        t = mp.findroot(
            lambda t: mp.log(mp.npdf((t - d) / q) / q) - mp.log(r * mp.npdf(t)), (10, 14), "ridder"
        )
        for mine, truth in zip(errors, (mp.ncdf(-t), mp.ncdf((t - d) / q)), strict=True):
            assert abs(mp.mpf(float(mine)) / truth - 1) < 1e-12


BALLS = {1: L1Ball, 2: L2Ball, np.inf: LinfBall, 3: lambda r: LpBall(r, 3.0)}


@pytest.mark.parametrize(
    ("p", "correlated"),
    [(1, False), (1, True), (2, False), (2, True), (np.inf, False), (np.inf, True), (3, True)],
)
def test_the_effective_distance_is_the_least_length_over_the_ball(p, correlated):
    rng = np.random.default_rng(int(min(p, 9)) + 10 * correlated)
    gap = rng.normal(size=3) * 2
    root = rng.normal(size=(3, 3))
    covariance = root @ root.T / 3 + 0.3 * np.eye(3) if correlated else None
    radius = 0.3 * np.linalg.norm(gap, p) / 2
    found = distance.effective_distance(gap, BALLS[p](radius), covariance)
    inverse = np.eye(3) if covariance is None else np.linalg.inv(covariance)

    def length(z):
        return np.sqrt((gap - z) @ inverse @ (gap - z))

    # The l_1 ball as smooth constraints on a split variable z = a - b, l_inf as a box.
    if p == 1:
        split = {"type": "ineq", "fun": lambda v: 2 * radius - v.sum()}
        best = optimize.minimize(
            lambda v: length(v[:3] - v[3:]),
            np.full(6, 0.01),
            bounds=[(0, None)] * 6,
            constraints=split,
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 500},
        )
        z = best.x[:3] - best.x[3:]
    elif p == np.inf:
        best = optimize.minimize(
            length, np.zeros(3), bounds=[(-2 * radius, 2 * radius)] * 3, options={"ftol": 1e-15}
        )
        z = best.x
    else:
        inside = {"type": "ineq", "fun": lambda z: (2 * radius) ** p - (np.abs(z) ** p).sum()}
        best = optimize.minimize(
            length, 0.1 * gap, constraints=inside, options={"ftol": 1e-15, "maxiter": 500}
        )
        z = best.x
    z *= min(1, 2 * radius / np.linalg.norm(z, p))
    # Any feasible z bounds the value from above; the search comes within its own resolution.
    assert float(found.value) <= length(z) + 1e-12
    assert length(z) <= float(found.value) + 1e-6
    # The direction attains the value, so it is optimal: the two bounds meet.
    w = np.asarray(found.weight)
    scale = np.sqrt(w @ np.linalg.inv(inverse) @ w)
    cost = np.linalg.norm(w, p / (p - 1) if 1 < p < np.inf else {1: np.inf, np.inf: 1}[p]) / scale
    assert float(found.cost) == pytest.approx(cost, rel=1e-12)
    assert w @ gap / scale - 2 * radius * cost == pytest.approx(float(found.value), rel=1e-11)
    assert not bool(found.degenerate)


@pytest.mark.parametrize("ball", [L2Ball, LinfBall])
def test_past_the_margin_the_distance_is_zero_and_signed_says_by_how_much(ball):
    gap = jnp.asarray([3.0, -4.0])
    found = distance.effective_distance(gap, ball(5.0))
    assert float(found.value) == 0
    assert float(found.signed) == pytest.approx(-5.0 if ball is L2Ball else -6.0, rel=1e-14)
    assert bool(found.degenerate)
    same = distance.effective_distance(jnp.zeros(2), ball(0.1))
    assert float(same.value) == 0
    assert bool(same.degenerate)
    assert np.isnan(float(same.signed))


def test_class_errors_are_those_of_the_optimal_classifier_in_any_geometry():
    """The scalar problem is the whole problem: errors of the d-dimensional optimal rule."""
    rng = np.random.default_rng(5)
    root = rng.normal(size=(3, 3))
    covariance = root @ root.T + np.eye(3)
    gap = rng.normal(size=3) * 3
    scales, prior = np.array([0.8, 1.3]), 0.35
    means = np.stack([np.zeros(3), gap])
    for ball in (L1Ball(0.4), L2Ball(0.4), LinfBall(0.4)):
        mixture = GaussianMixture(means, scales, prior, covariance)
        rule = optimal_classifier(mixture, ball)
        found = distance.effective_distance(gap, ball, covariance)
        args = found.signed / scales[0], scales[1] / scales[0], (1 - prior) / prior
        mine = distance.class_errors(*args)
        theirs = linear.class_risks(mixture, rule, ball)
        np.testing.assert_allclose(np.array(mine), np.array(theirs), rtol=1e-10)
        # And at another radius, along the same direction.
        cost = found.cost * ball.radius / scales[0]
        clean = found.signed / scales[0] + 2 * cost
        there = distance.transferred_errors(clean, args[1], Budgets(cost, cost), 0.0, args[2])
        natural = linear.class_risks(mixture, rule)
        np.testing.assert_allclose(np.array(there), np.array(natural), rtol=1e-10)


def test_transferred_errors_with_class_radii_are_those_of_the_trained_threshold():
    """The training risk is minimised by search, the test errors counted on the line from it."""
    rng = np.random.default_rng(6)
    for _ in range(12):
        clean, k, rho = rng.uniform(2, 6), np.exp(rng.normal(0, 0.5)), np.exp(rng.normal(0, 0.5))
        minus, plus, test = rng.uniform(0, 0.9, 3)
        mine = distance.transferred_errors(clean, k, Budgets(minus, plus), test, rho)
        with mp.workdps(40):
            _, t = _best_threshold(clean - minus - plus, k, rho)
            place = t + minus  # on the line whose origin is the clean negative mean
            assert abs(mp.ncdf(-(place - test)) - mp.mpf(float(mine.negative))) < 1e-12
            plus_error = mp.ncdf((place + test - clean) / mp.mpf(k))
            assert abs(plus_error - mp.mpf(float(mine.positive))) < 1e-12


@pytest.mark.slow
def test_slopes_are_those_of_high_precision_differences_also_at_equal_scales(settings):
    delta, k, rho = (a[:90] for a in settings)
    slopes = distance.class_error_slopes(delta, k, rho)
    auto = [
        jax.vmap(jax.grad(lambda d, k, r, i=i: distance.class_errors(d, k, r)[i]))(delta, k, rho)
        for i in range(2)
    ]
    np.testing.assert_allclose(np.array(slopes), np.array(auto), rtol=2e-9, atol=1e-13)
    with mp.workdps(40):
        for i in range(0, 80, 4):
            step = 2.0**-17
            ends = [_best_threshold(delta[i] + s * step, k[i], rho[i])[1] for s in (-1, 1)]
            low, high = (mp.ncdf(-t) for t in ends)
            assert abs((high - low) / (2 * step) - float(slopes.negative[i])) < 1e-9


def test_gradients_are_finite_where_the_formula_has_a_removable_pole():
    grad = jax.grad(lambda d, k, r: distance.class_errors(d, k, r).positive, argnums=(0, 1, 2))
    for point in ((2.0, 1.0, 1.0), (0.0, 1.0, 1.0), (-1.0, 1.0, 1.0), (0.0, 2.0, 1.0)):
        assert np.isfinite(np.array(grad(*point))).all(), point
    # At K = 1: dR_+/dK by a difference across it.
    h = 1e-5
    up, down = (float(distance.class_errors(2.0, 1 + s * h).positive) for s in (1, -1))
    assert float(grad(2.0, 1.0, 1.0)[1]) == pytest.approx((up - down) / (2 * h), rel=1e-8)


@pytest.mark.slow
def test_absolute_disparity_falls_with_distance_and_the_favoured_error_peaks():
    rng = np.random.default_rng(8)
    n = 20_000
    k, rho = np.exp(rng.normal(0, 0.7, n)), np.exp(rng.normal(0, 0.7, n))
    delta = rng.uniform(-1, 5, n)
    region = distance_fairness.disparity_region(delta, k, rho)
    here, there = (distance.class_errors(delta + step, k, rho) for step in (0.0, 1e-3))
    still = np.asarray(distance.optimal_margins(delta + 1e-3, k, rho).interior)
    gaps = [np.abs(np.asarray(e.positive - e.negative)) for e in (here, there)]
    # Where a disparity rounds to one it cannot be seen to fall.
    holds = np.asarray(region.disparity_falls) & still & (gaps[1] < 1 - 1e-12)
    assert holds.sum() > n / 2
    assert (gaps[1] < gaps[0])[holds].all()
    near = np.abs(delta - np.asarray(distance_fairness.peak_error(k, rho)[1])) < 2e-3
    for rises, before, after in (
        (region.negative_rises, here.negative, there.negative),
        (region.positive_rises, here.positive, there.positive),
    ):
        inside = holds & ~near & (np.abs(np.asarray(after - before)) > 1e-15)
        assert (np.asarray(after > before) == np.asarray(rises))[inside].all()
        assert np.asarray(rises)[inside].sum() > 300
    peak, where = distance_fairness.peak_error(k, 1.0)
    grid = distance.class_errors(np.linspace(-3, 8, 500)[:, None], k[:200], 1.0)
    favoured = np.where(k[:200] > 1, grid.negative, grid.positive)
    assert (favoured <= np.asarray(peak)[:200] + 1e-15).all()
    at = distance.class_errors(where, k, 1.0)
    np.testing.assert_allclose(np.where(k > 1, at.negative, at.positive), peak, rtol=1e-11)


def test_the_ratio_of_errors_tends_to_the_scale_ratio_and_not_to_one():
    errors = distance.class_errors(jnp.asarray([3.0, 12.0, 60.0]), 2.0)
    ratio = np.asarray(errors.positive / errors.negative)
    assert (np.diff(ratio) < 0).all()
    assert ratio[-1] == pytest.approx(2, rel=1e-2)


def test_more_unequal_variance_is_not_more_disparity():
    k = np.geomspace(1.01, 1e4, 400)
    errors = distance.class_errors(1.0, k)
    gap = np.asarray(errors.positive - errors.negative)
    top = gap.argmax()
    assert 0 < top < 399
    assert gap[top] > 0.53 > 0.51 > gap[-1]


def test_the_fair_weight_is_fair_and_minimises_the_larger_error():
    delta, k = np.linspace(1.7, 6, 20), np.exp(np.linspace(-1, 1, 20))
    weight = np.asarray(distance_fairness.fair_weight(k, 3.0))  # of + over -, at R = 3
    errors = distance.class_errors(delta, k, 3.0 / weight)
    fair = np.asarray(distance_fairness.fair_error(delta, k))
    np.testing.assert_allclose(np.array(errors), np.stack([fair, fair]), rtol=1e-12)
    for d, q, value in zip(delta, k, fair, strict=True):
        # One error rises with the threshold and the other falls: the larger is least between.
        t = optimize.brentq(
            lambda t, d=d, q=q: normal.cdf((t - d) / q) - normal.cdf(-t), 0, d, xtol=1e-14
        )
        worst = max(normal.cdf((t - d) / q), normal.cdf(-t))
        assert value <= worst + 1e-15
        assert worst <= value + 1e-13
    price = np.asarray(distance_fairness.fairness_price(delta, k))
    assert (price >= -1e-16).all()
    falling = np.asarray(distance_fairness.fairness_price(np.linspace(0, 6, 20), 2.0))
    assert (np.diff(falling) < 0).all()


@pytest.mark.parametrize("k", [0.4, 0.9, 1.5, 3.0])
def test_the_fair_weight_fails_below_the_least_fair_distance(k):
    least = float(distance_fairness.least_fair_distance(k))
    grid = np.linspace(-60, 60, 120_001)
    for factor in (0.98, 1.02):
        delta = factor * least
        interior = _risk(grid, delta, k, 1 / k, stats.norm.cdf).min()
        assert (interior < min(1, 1 / k) - 1e-9) == (factor > 1)
        errors = distance.class_errors(delta, k, 1 / k)
        same = abs(float(errors.positive - errors.negative)) < 1e-12
        assert same == (factor > 1)
        if not same:
            assert {float(e) for e in errors} == {0.0, 1.0}
            assert float(errors.positive if k > 1 else errors.negative) == 0


def test_the_radius_equaliser_equalises_or_comes_closest():
    rng = np.random.default_rng(9)
    seen = set()
    for _ in range(60):
        k, cost = np.exp(rng.uniform(-0.9, 0.9)), rng.uniform(0.1, 0.6)
        clean = 2 * cost + rng.uniform(0.2, 6)
        found = distance_fairness.radius_equaliser(clean, k, cost)

        def gap(multiplier, k=k, cost=cost, clean=clean):
            wide, narrow = multiplier * cost, cost
            budgets = Budgets(narrow, wide) if k > 1 else Budgets(wide, narrow)
            errors = distance.transferred_errors(clean, k, budgets, cost)
            return errors.positive - errors.negative if k > 1 else errors.negative - errors.positive

        here = float(gap(float(found.multiplier)))
        assert float(found.multiplier) > 1 or not bool(found.reachable)
        seen.add(bool(found.reachable))
        if bool(found.reachable):
            assert abs(here) < 1e-12
        else:
            others = jax.vmap(gap)(jnp.linspace(-20.0, 20.0, 401))
            assert here <= float(jnp.nanmin(others)) + 1e-13
            assert here > 0
    assert seen == {True, False}


def test_bad_input_is_refused_or_nan():
    with pytest.raises(InvalidInput, match="radius = -1"):
        distance.effective_distance(jnp.ones(2), L2Ball(-1.0))
    with pytest.raises(InvalidInput, match="symmetric"):
        distance.effective_distance(jnp.ones(2), L2Ball(0.1), np.array([[1.0, 0.5], [0, 1]]))
    with pytest.raises(InvalidInput, match="positive definite"):
        distance.effective_distance(jnp.ones(2), L2Ball(0.1), np.array([[1.0, 2], [2, 1]]))
    for point in ((1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (np.nan, 1.0, 1.0), (1.0, 1.0, -2.0)):
        assert np.isnan(np.array(distance.class_errors(*point))).all(), point
        assert np.isnan(np.array(distance.class_error_slopes(*point))).all(), point
        assert not any(bool(f) for f in distance_fairness.disparity_region(*point)), point
    assert np.isnan(float(distance_fairness.radius_equaliser(1.0, 2.0, 0.6).multiplier))


def test_float32_in_float32_out_under_jit_and_vmap():
    points = [np.float32([0.5, 2, 4]), np.float32([0.5, 1, 2]), np.float32([1, 1, 3])]
    errors = jax.jit(jax.vmap(distance.class_errors))(*points)
    double = distance.class_errors(*(p.astype(float) for p in points))
    assert errors.positive.dtype == np.float32
    np.testing.assert_allclose(np.array(errors), np.array(double), rtol=3e-6)
    found = jax.jit(lambda g: distance.effective_distance(g, L2Ball(jnp.float32(0.5))))(
        jnp.asarray([[3, 4], [6, 8]], np.float32)
    )
    np.testing.assert_allclose(found.value, [4, 9], rtol=1e-6)
    assert found.value.dtype == np.float32
