"""Regressions under attack: derivatives, precision, shapes, shifts and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.regression_problems import (
    BALLS,
    ORDERS,
    C,
    as_numpy,
    minimum,
    one_of,
    random_problems,
    small_fits,
)
from theory.domain import InvalidInput
from theory.problem import L2Ball, LinfBall, LpBall, Regression
from theory.regression.fit import (
    break_even,
    fit,
    keep_or_drop,
    natural_radius,
    shift_cost,
    without_spurious,
)
from theory.regression.risk import squared_risk, zero_radius

pytestmark = pytest.mark.slow


@ORDERS
def test_derivatives_are_those_of_differences(p):
    problem, radius, found = small_fits(p)
    moving = (np.asarray(found.multiplier) > 0) & np.any(found.weight, -1)
    rng = np.random.default_rng(4)

    def outcome(*fields):
        got = fit(Regression._make(fields[:3]), BALLS[p]._make(fields[3:]))
        return jnp.concatenate([got.weight, jnp.stack([got.risk, got.multiplier], -1)], -1)

    fields = [jnp.asarray(f) for f in (*problem, radius)]
    step = [jnp.asarray(rng.normal(size=f.shape)) for f in fields]
    step[1] = 0.2 * (step[1] + jnp.swapaxes(step[1], 1, 2))
    step[2] = jnp.where(fields[2] > 0, step[2], 0)
    probe = jnp.where(moving[:, None], jnp.asarray(rng.normal(size=(len(moving), 5))), 0)

    @jax.jit
    def forward_and_reverse(fields, step, probe):
        """What reverse mode adds to forward mode is the transposing of the tangent map."""
        _, push = jax.linearize(outcome, *fields)
        return push(*step), jax.linear_transpose(push, *fields)(probe)

    change, slopes = forward_and_reverse(fields, step, probe)
    h = 1e-7
    ends = [outcome(*(f + k * h * v for f, v in zip(fields, step, strict=True))) for k in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * h)
    assert moving.sum() >= 6
    np.testing.assert_allclose(
        np.asarray(change)[moving], np.asarray(difference)[moving], rtol=2e-5, atol=2e-6
    )
    along = sum(jnp.sum(g * v) for g, v in zip(slopes, step, strict=True))
    assert float(along) == pytest.approx(float(jnp.sum(probe * change)), rel=1e-9)


def test_second_derivatives_and_slopes_at_the_thresholds():
    problem = Regression([1.0, 0.0], [[1.0, 0.75], [0.75, 1.0]], 0.5)

    def core(radius):
        return fit(problem, L2Ball._make((radius,))).weight[0]

    slope = jax.jit(jax.grad(core))
    difference = (slope(0.4001) - slope(0.3999)) / 2e-4
    assert float(jax.jit(jax.grad(slope))(0.4)) == pytest.approx(float(difference), rel=1e-5)
    ends = jnp.asarray([0.0, float(zero_radius(problem, L2Ball(0.0))), 9.0])
    slopes = jax.jit(jax.vmap(jax.grad(lambda r: fit(problem, L2Ball._make((r,))).risk)))(ends)
    assert np.all(np.isfinite(slopes))
    assert float(slopes[0]) == pytest.approx(2 * C * 0.5, rel=1e-12)  # 2 c sigma ||w_o||
    assert float(slopes[2]) == 0
    silent = problem._replace(noise=jnp.asarray(0.0))
    h = jnp.asarray([[1e-6, 0.0], [0.0, 0.0]])

    def limit(covariance):
        return natural_radius(silent._replace(covariance=covariance), LinfBall(0.0))

    moved = limit(problem.covariance + h) - limit(problem.covariance - h)
    assert float(jax.grad(limit)(problem.covariance)[0, 0]) == pytest.approx(
        float(moved) / 2e-6, rel=1e-6
    )


@ORDERS
def test_a_singular_covariance_is_flagged_and_solved(p):
    rng = np.random.default_rng(5)
    factor = rng.normal(size=(4, 2))
    problem = Regression([1.0, -0.5, 0.0, 0.4], factor @ factor.T, 0.7)
    found = fit(problem, BALLS[p](0.4))
    assert bool(found.singular)
    assert float(found.gap / found.risk) <= 1e-12
    one = as_numpy(problem)
    best = minimum(one, 0.4, p, [one.weight / 2, 0.1 + 0 * one.weight])
    assert float(found.risk) <= best * (1 + 1e-12)
    assert best <= float(found.risk) * (1 + 1e-6)
    copies = fit(Regression([1.0, 0.0, 0.0, 0.0], np.ones((4, 4)), 1.0), BALLS[p](0.4))
    assert bool(copies.singular)
    assert float(copies.gap / copies.risk) <= 1e-12


@ORDERS
def test_ties_are_no_obstacle(p):
    for noise, radius in ((1.0, 0.4), (0.0, 0.9), (0.0, 0.1)):
        found = fit(Regression(np.ones(4), np.eye(4), noise), BALLS[p](radius))
        assert float(found.gap / found.risk) <= 1e-13
        assert np.ptp(found.weight) <= 1e-14


def test_float32_and_broadcasting():
    problem, _ = random_problems(7, 12, 3)
    single = Regression(*(f.astype(jnp.float32) for f in problem))
    for ball in BALLS.values():
        radius = 0.7 * zero_radius(problem, ball(0.0))
        low = fit(single, ball(radius.astype(jnp.float32)))
        high = fit(problem, ball(radius))
        assert low.weight.dtype == jnp.float32
        np.testing.assert_allclose(low.risk, high.risk, rtol=1e-5)
        assert np.max(low.gap / low.risk) <= 1e-5
    radii = jnp.asarray(np.linspace(0.1, 0.5, 12)[:, None])
    many = fit(one_of(problem, slice(1, 2)), LinfBall(radii))
    assert many.weight.shape == (12, 1, 3)
    alone = fit(one_of(problem, 1), LpBall(radii[3, 0], np.inf))
    np.testing.assert_allclose(many.weight[3, 0], alone.weight, rtol=1e-12, atol=1e-15)


@ORDERS
def test_a_shift_costs_what_the_risks_say_and_break_even_breaks_even(p):
    problem, _ = random_problems(8, 12, 3)
    weight = problem.weight.at[:, 2].set(0.0)
    problem = problem._replace(weight=weight, noise=problem.noise + 0.2)
    threat = BALLS[p](0.6 * zero_radius(problem, BALLS[p](0.0)))
    both, found = keep_or_drop(problem, threat), break_even(problem, threat)
    used = np.any(np.where(np.asarray(weight) == 0, both.keep.weight, 0) != 0, -1)
    assert np.all(both.gain >= -1e-14)
    np.testing.assert_array_equal(np.asarray(both.gain) > 1e-13, used)
    np.testing.assert_array_equal(np.where(np.asarray(weight) == 0, both.drop.weight, 0), 0)
    spurious = np.asarray(weight) == 0
    across = spurious[:, :, None] ^ spurious[:, None, :]

    def shifted(factor):
        moved = np.where(across, factor[:, None, None], 1) * np.asarray(problem.covariance)
        return problem._replace(covariance=jnp.asarray(moved))

    half = shifted(np.full(12, 0.5))
    np.testing.assert_allclose(
        shift_cost(problem, half.covariance, both.keep.weight),
        squared_risk(half, both.keep.weight) - squared_risk(problem, both.keep.weight),
        atol=1e-12,
    )
    for factor, attack in ((found.standard, None), (found.adversarial, threat)):
        factor = np.asarray(factor)
        np.testing.assert_array_equal(np.isfinite(factor), used)
        at = shifted(np.where(used, factor, 0))
        np.testing.assert_allclose(
            np.asarray(squared_risk(at, both.keep.weight, attack))[used],
            np.asarray(squared_risk(problem, both.drop.weight, attack))[used],
            rtol=1e-9,
        )
    assert used.any()
    assert np.all(without_spurious(problem).covariance[:, 2, :2] == 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([1.0, 0.0], [[1.0, 0.5], [0.4, 1.0]], 1.0), "symmetric"),
        (([1.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], 1.0), "semidefinite.*-1"),
        (([1.0, 0.0], [[1.0]], 1.0), "covariance.shape"),
        (([1.0], [[1.0]], -0.5), "noise = -0.5"),
        (([np.nan], [[1.0]], 1.0), "weight = nan"),
    ],
)
def test_bad_problems_are_refused(fields, message):
    with pytest.raises(InvalidInput, match=message):
        Regression(*fields)


def test_bad_threats_are_refused_and_traced_ones_give_nan():
    problem = Regression([1.0, 0.0], np.eye(2), 1.0)
    with pytest.raises(InvalidInput, match="l_1, l_2 or l_inf"):
        fit(problem, LpBall(0.1, 3.0))
    with pytest.raises(InvalidInput, match="radius = -1"):
        L2Ball(-1.0)

    @jax.jit
    def traced(covariance, noise, radius, ball):
        return fit(
            Regression._make((problem.weight, covariance, noise)), ball._replace(radius=radius)
        )

    identity, one = jnp.eye(2), jnp.asarray(1.0)
    for ball in BALLS.values():
        for bad in (
            (jnp.asarray([[1.0, 2.0], [2.0, 1.0]]), one, one),
            (jnp.asarray([[1.0, 0.5], [0.0, 1.0]]), one, one),
            (identity, -one, one),
            (identity, one, -one),
            (identity, one, jnp.nan * one),
        ):
            found = traced(*bad, ball(0.0))
            assert np.all(np.isnan([*found.weight, found.risk, found.gap, found.multiplier]))
