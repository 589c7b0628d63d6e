"""Closed paths of a pair and of blocks against the certified fit and direct minimisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from support.regression_problems import BALLS, ORDERS, C, as_numpy, one_of, risk
from theory.problem import L1Ball, L2Ball, LinfBall, Regression
from theory.regression.fit import fit, natural_radius, shift_cost
from theory.regression.pair import (
    Block,
    block_pair,
    block_regression,
    flip_cost,
    irrepresentable_index,
    pair_fit,
    pair_natural_radius,
    pair_weights,
)
from theory.regression.risk import squared_risk, zero_radius

pytestmark = pytest.mark.slow


def pairs(seed, count):
    rng = np.random.default_rng(seed)
    a, d = np.exp(rng.normal(size=(2, count)))
    b = rng.uniform(-0.98, 0.98, count) * np.sqrt(a * d)
    covariance = np.moveaxis(np.array([[a, b], [b, d]]), -1, 0)
    weight = np.stack([rng.normal(size=count), np.zeros(count)], -1)
    noise = rng.choice([0, 0.3, 1.0], count)
    return Regression(weight, covariance, noise), rng.uniform(0, 1.05, count)


@ORDERS
def test_the_closed_path_is_a_minimum_and_that_of_the_fit(p):
    problem, share = pairs(0, 40)
    radius = share * np.asarray(zero_radius(problem, BALLS[p](0.0)))
    weight, found = pair_fit(problem, BALLS[p](radius)), fit(problem, BALLS[p](radius))
    np.testing.assert_allclose(weight, found.weight, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        squared_risk(problem, weight, BALLS[p](radius)), found.risk, rtol=1e-13
    )
    problem, weight = as_numpy(problem), np.asarray(weight)
    for i in range(0, 40, 5):
        one = one_of(problem, i)
        best = min(
            optimize.minimize(
                lambda w, i=i, one=one: risk(one, w, radius[i], p),
                start,
                method="Nelder-Mead",
                options={"xatol": 1e-10, "fatol": 1e-16, "maxiter": 2000},
            ).fun
            for start in (one.weight * 0.6, one.weight * 0.3 + 0.05, np.full(2, 1e-3))
        )
        least = risk(one, weight[i], radius[i], p)
        assert least <= best * (1 + 1e-13)
        assert best <= least * (1 + 1e-7)


@ORDERS
def test_the_path_minimises_the_penalised_error(p):
    problem, _ = pairs(1, 6)
    problem = as_numpy(problem)
    for i in range(6):
        one = one_of(problem, i)
        most = np.linalg.norm(one.covariance @ one.weight, p)
        for penalty in np.linspace(0.1, 1.05, 5) * most:
            w = np.asarray(pair_weights(one, penalty, BALLS[p](0.0)))

            def value(w, one=one, penalty=penalty):
                error = w - one.weight
                size = w @ w / 2 if p == 2 else np.linalg.norm(w, 1 if p == np.inf else np.inf)
                return error @ one.covariance @ error / 2 + penalty * size

            steps = np.random.default_rng(i).normal(size=(300, 2))
            for size in (1e-6, 1e-3, 1.0):
                assert min(value(w + size * s) for s in steps) >= value(w) - 1e-15


@ORDERS
def test_the_natural_radius_of_a_pair(p):
    problem, _ = pairs(2, 40)
    problem = problem._replace(noise=jnp.zeros(40))
    np.testing.assert_allclose(
        pair_natural_radius(problem, BALLS[p](0.0)),
        natural_radius(problem, BALLS[p](0.0)),
        rtol=1e-11,
    )


def test_reliance_needs_a_covariance_above_the_core_variance():
    problem, _ = pairs(3, 40)
    problem = problem._replace(noise=jnp.ones(40))
    radius = 0.3 * zero_radius(problem, LinfBall(0.0))
    used = np.asarray(fit(problem, LinfBall(radius)).weight[:, 1]) != 0
    a, b, d = (np.asarray(problem.covariance[:, i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
    np.testing.assert_array_equal(used, np.abs(b) > a)
    index = jax.vmap(irrepresentable_index)(problem)
    np.testing.assert_allclose(index, np.abs(b) / a, rtol=1e-12)
    # A larger scale is necessary, and not sufficient.
    assert np.all(d[used] > a[used])
    assert np.any((d > a) & ~used)


def test_one_noiseless_feature_has_three_regimes():
    t = np.array([0.5 * C, 0.9, 1.2, 1 / C + 0.01])
    found = fit(Regression([-2.0], [[9.0]], 0.0), LinfBall(3 * t))
    middle = (1 - C * t) / (1 - 2 * C * t + t**2)
    expected = np.where(t <= C, 1, np.where(t >= 1 / C, 0, middle))
    np.testing.assert_allclose(found.weight[:, 0], -2 * expected, rtol=1e-12)


@ORDERS
def test_blocks_are_pairs(p):
    rng = np.random.default_rng(4)
    a, d = rng.uniform(0.5, 2, (2, 6))
    b = rng.uniform(-0.4, 0.6, 6) * np.sqrt(0.12 * a * d)
    numbers = [jnp.asarray(v) for v in (a, 0.4 * a, d, 0.3 * d, b, 0 * a + 1.3, 0 * a + 0.4)]
    full = jax.vmap(lambda *v: block_regression(Block(3, 2, *v)))(*numbers)
    pair, scale = block_pair(Block(3, 2, *numbers), BALLS[p](0.0))
    limit = zero_radius(full, BALLS[p](0.0))
    np.testing.assert_allclose(zero_radius(pair, BALLS[p](0.0)), limit, rtol=1e-13)
    threat = BALLS[p](rng.uniform(0.2, 0.9, 6) * limit)
    mine, whole = np.asarray(scale) * np.asarray(pair_fit(pair, threat)), fit(full, threat)
    assert np.max(whole.gap / whole.risk) <= 1e-13
    expected = np.repeat(mine, [3, 2], axis=-1)
    np.testing.assert_allclose(whole.weight, expected, rtol=1e-9, atol=1e-12)


def test_four_core_features_lose_to_one_spurious_feature_of_smaller_scale():
    block = Block(4, 1, *[jnp.asarray(v) for v in (1.0, 0.0, 0.9, 0.0, 0.45, 1.0, 1.0)])
    problem = block_regression(block)
    assert float(irrepresentable_index(problem)) == pytest.approx(1.8, rel=1e-14)
    found = fit(problem, LinfBall(0.3))
    assert float(found.gap / found.risk) <= 1e-14
    assert np.all(found.weight[:4] == 0)
    assert float(found.weight[4]) > 0.1


def test_cancelling_correlations_are_never_used_by_l2():
    covariance = np.array([[1, 0, 0.5], [0, 1, -0.5], [0.5, -0.5, 1]])
    problem = Regression([1.0, 1.0, 0.0], covariance, 1.0)
    found = fit(problem, BALLS[2.0](np.linspace(0.1, 1.4, 7)))
    assert np.max(np.abs(found.weight[:, 2])) <= 1e-15
    # Against l_1 it is: the pull of one of two tied features is not cancelled when they differ.
    uneven = problem._replace(weight=jnp.asarray([1.2, 1.0, 0.0]))
    assert float(fit(uneven, L1Ball(0.2)).weight[2]) > 1e-3


@ORDERS
def test_a_flipped_correlation_costs_what_the_closed_form_says(p):
    problem, share = pairs(5, 40)
    weight = pair_fit(problem, BALLS[p](share * zero_radius(problem, BALLS[p](0.0))))
    flipped = problem.covariance * jnp.asarray([[[1.0, -1.0], [-1.0, 1.0]]])
    cost = flip_cost(problem, weight)
    assert np.all(cost >= 0)
    np.testing.assert_allclose(shift_cost(problem, flipped, weight), cost, rtol=1e-9, atol=1e-13)


def test_the_closed_path_has_the_derivatives_of_the_fit():
    problem = Regression([1.5, 0.0], [[1.0, -0.8], [-0.8, 1.0]], 0.4)

    def spurious(solve, noise):
        return solve(problem._replace(noise=noise), L2Ball(0.3))[1]

    closed = jax.grad(lambda noise: spurious(pair_fit, noise))(problem.noise)
    numeric = jax.grad(lambda noise: spurious(lambda *a: fit(*a).weight, noise))(problem.noise)
    assert float(closed) == pytest.approx(float(numeric), rel=1e-9)
