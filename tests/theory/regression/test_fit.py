"""Regression under attack against quadrature, direct minimisation and dual points of its own."""

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import optimize

from support.oracles import closed_forms
from support.regression_problems import (
    BALLS,
    ORDERS,
    C,
    as_numpy,
    dual,
    dual_value,
    minimum,
    one_of,
    random_problems,
    risk,
    small_fits,
)
from theory.problem import L1Ball, Regression
from theory.regression.fit import fit, natural_radius
from theory.regression.paths import penalty_radius
from theory.regression.risk import deviation, optimality_multiplier, squared_risk, zero_radius


@ORDERS
@pytest.mark.parametrize("offset", [0.0, -0.8])
def test_the_risk_is_that_of_quadrature(p, offset):
    problem, _ = random_problems(3, 1, 4)
    problem = one_of(problem, 0)
    weight, radius = np.array([0.5, -0.2, 0.0, 0.9]), 0.7
    square = closed_forms.gaussian_exponent(problem.weight - weight, problem.covariance)(1) * 2
    s = mp.sqrt(square + mp.mpf(float(problem.noise)) ** 2)
    push = radius * closed_forms.dual_norm(weight, p)
    edges = sorted([0, *(offset + k * s for k in range(-13, 14))])
    expected = mp.quad(lambda r: (abs(r) + push) ** 2 * mp.npdf(r, offset, s), edges)
    got = squared_risk(problem, jnp.asarray(weight), BALLS[p](radius), offset)
    assert float(got) == pytest.approx(float(expected), rel=1e-14)
    # Without a residual nothing is random.
    exact = squared_risk(problem._replace(noise=0 * problem.noise), problem.weight, BALLS[p](0.5))
    assert float(exact) == pytest.approx((0.5 * dual(p, problem.weight)) ** 2, rel=1e-14)


@pytest.mark.slow
@ORDERS
def test_a_thousand_fits_certify_themselves(p):
    problem, share = random_problems(0, 1000, 50, (1, 51))
    radius = share * np.asarray(zero_radius(problem, BALLS[p](0.0)))
    found = fit(problem, BALLS[p](radius))
    assert np.max(found.gap / found.risk) <= 1e-12
    assert not np.any(found.singular)
    assert np.all(found.weight[share >= 1] == 0)
    assert np.all(np.any(found.weight[share < 1] != 0, -1))
    # The gap is not the fit's word alone: another dual point, of a moderate problem, says so too.
    problem = as_numpy(problem)
    chosen = [i for i in range(1000) if 0.1 < share[i] < 0.9 and problem.noise[i] > 0.1][:40]
    for i in chosen:
        one, w = one_of(problem, i), np.asarray(found.weight[i])
        assert float(found.risk[i]) == pytest.approx(risk(one, w, radius[i], p), rel=1e-13)
        assert dual_value(one, w, radius[i], p) == pytest.approx(float(found.risk[i]), rel=1e-5)


@pytest.mark.slow
@ORDERS
def test_no_direct_minimisation_finds_less(p):
    problem, radius, found = small_fits(p)
    rng = np.random.default_rng(2)
    for i in range(12):
        one, w, least = one_of(problem, i), np.asarray(found.weight[i]), float(found.risk[i])
        best = minimum(one, radius[i], p, [one.weight / 2, 0.1 + 0 * w])
        assert least <= best * (1 + 1e-12)
        assert best <= least * (1 + 1e-6)
        for size in 10.0 ** np.arange(-7, 1):
            moved = w + size * rng.normal(size=(20, 3))
            assert min(risk(one, v, radius[i], p) for v in moved) >= least * (1 - 1e-14)
            assert dual_value(one, moved[0], radius[i], p) <= least * (1 + 1e-12)


@ORDERS
def test_the_optimum_solves_its_conditions(p):
    problem, radius, found = small_fits(p)
    kappa = optimality_multiplier(problem, found.weight, BALLS[p](radius))
    np.testing.assert_allclose(found.multiplier, kappa, rtol=1e-12, atol=1e-15)
    for i in range(12):
        one, w = one_of(problem, i), np.asarray(found.weight[i])
        if not w.any() or np.array_equal(w, one.weight):
            continue
        u = one.covariance @ (one.weight - w)
        k = float(kappa[i])
        assert np.linalg.norm(u, p) == pytest.approx(k, rel=1e-9)
        assert u @ w == pytest.approx(k * dual(p, w), rel=1e-9)
        back = penalty_radius(kappa[i], deviation(one, w), jnp.asarray(dual(p, w)))
        assert float(back) == pytest.approx(radius[i], rel=1e-9)


@ORDERS
def test_the_zero_radius_is_where_direct_search_finds_nothing_better_than_zero(p):
    problem = as_numpy(random_problems(5, 6, 3)[0])
    limit = np.asarray(zero_radius(problem, BALLS[p](0.0)))
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(4000, 3))
    for i in range(6):
        one, at_zero = one_of(problem, i), risk(one_of(problem, i), np.zeros(3), 0, p)
        u = one.covariance @ one.weight
        # The steepest direction is where the dual norm of the moment is attained.
        steep = {1.0: np.sign(u), 2.0: u, np.inf: u * (np.abs(u) == np.abs(u).max())}[p]
        steps = 1e-4 * np.concatenate([directions, steep[None]])
        above, below = (
            min(risk(one, v, factor * limit[i], p) for v in steps) - at_zero
            for factor in (1.0001, 0.99)
        )
        assert above > 0 > below


@pytest.mark.slow
@ORDERS
def test_the_natural_radius_is_that_of_a_quadratic_program(p):
    problem = as_numpy(random_problems(6, 8, 4)[0])._replace(noise=np.zeros(8))
    found = natural_radius(problem, BALLS[p](0.0))
    for i in range(8):
        one = one_of(problem, i)
        inverse = np.linalg.inv(one.covariance)
        if p == 2:
            g = one.weight / np.linalg.norm(one.weight)
        elif p == 1:
            g = np.sign(one.weight) * (np.abs(one.weight) == np.abs(one.weight).max())
        else:
            tied = np.where(one.weight != 0, np.sign(one.weight), 0)
            bounds = [(t, t) if t else (-1, 1) for t in tied]
            g = optimize.minimize(
                lambda g, m=inverse: g @ m @ g,
                tied,
                jac=lambda g, m=inverse: 2 * m @ g,
                bounds=bounds,
                method="L-BFGS-B",
                options={"ftol": 1e-15, "gtol": 1e-12},
            ).x
        assert float(found[i]) == pytest.approx(C / np.sqrt(g @ inverse @ g), rel=1e-7)
    inside, outside = (fit(problem, BALLS[p](found * factor)) for factor in (0.999, 1.001))
    np.testing.assert_array_equal(inside.weight, problem.weight)
    assert np.max(inside.gap / inside.risk) <= 1e-12
    assert np.all(np.abs(outside.weight - problem.weight).max(-1) > 1e-6)
    noisy = problem._replace(noise=np.ones(8))
    assert not np.any(natural_radius(noisy, BALLS[p](0.0)))
    # At most 2 / pi of the zero radius.
    assert np.all(found <= 2 / np.pi * zero_radius(problem, BALLS[p](0.0)) * (1 + 1e-12))


def test_tied_weights_share_the_natural_radius():
    # Over the simplex of the two largest weights g'Sigma^-1 g is least at one half each.
    problem = Regression([1.0, -1.0, 0.2], np.diag([2.0, 2.0, 1.0]), 0.0)
    assert float(natural_radius(problem, L1Ball(0.0))) == pytest.approx(2 * C, rel=1e-12)
    assert float(natural_radius(problem._replace(weight=jnp.zeros(3)), L1Ball(0.0))) == np.inf
