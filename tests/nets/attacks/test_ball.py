"""Projections against a general solver, random starts against their law, steps against bounds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from optax import projections

from nets.attacks import attack, ball
from support import quick
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall, LpBall

BALLS = {1: L1Ball, 2: L2Ball, np.inf: LinfBall}
BOXES = [(0.0, 1.0), (-np.inf, np.inf), (-np.inf, 0.9)]
project = quick.jit(ball.project, static_argnames="bounds")
random_start = quick.jit(ball.random_start, static_argnames="bounds")


def _points(rows, size, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.05, 0.9, (rows, size))
    x[:, 0], x[:, 1] = 0.9, 0.05
    moved = x + rng.normal(0, 1, x.shape) * rng.uniform(0.05, 2, (rows, 1))
    return jnp.asarray(x, dtype), jnp.asarray(moved, dtype)


def _slack(x, radius, p):
    """What rounding may add to the norm: half a unit in the last place of every coordinate."""
    size = x.shape[1] ** (0 if p == np.inf else 1 / p)
    return 4 * np.finfo(x.dtype).eps * (size + x.shape[1] * np.max(radius))


def _nearest(p, x, target, radius, low, high):
    """The projection by SLSQP; l1 splits delta = a - b with a, b >= 0."""
    low, high = np.maximum(low - x, -99), np.minimum(high - x, 99)
    delta = target - x
    if p == 2:
        ring = {"type": "ineq", "fun": lambda d: radius**2 - d @ d, "jac": lambda d: -2 * d}
        start, limits, part = 0 * x, list(zip(low, high, strict=True)), np.eye(x.size)
    else:
        ring = {
            "type": "ineq",
            "fun": lambda d: radius - d.sum(),
            "jac": lambda d: -np.ones(d.size),
        }
        start, part = np.zeros(2 * x.size), np.hstack([np.eye(x.size), -np.eye(x.size)])
        limits = [(0, h) for h in high] + [(0, -b) for b in low]

    def gap(d):
        return 0.5 * np.sum((part @ d - delta) ** 2), part.T @ (part @ d - delta)

    # Its own test of success asks for more than rounding allows; the tolerance below decides.
    options = {"ftol": 1e-14, "maxiter": 500}
    found = scipy.optimize.minimize(
        gap, start, jac=True, bounds=limits, constraints=[ring], options=options
    )
    return x + part @ found.x


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("box", BOXES)
def test_no_point_of_ball_and_box_is_nearer(p, box):
    x, moved = _points(8, 6)
    radius = np.linspace(0.05, 1.2, 8)
    ours = np.asarray(project(BALLS[p](radius), moved, x, bounds=box))
    for row in range(8):
        best = _nearest(p, np.asarray(x[row]), np.asarray(moved[row]), radius[row], *box)
        np.testing.assert_allclose(ours[row], best, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("box", BOXES)
def test_the_projection_is_optimal_to_rounding(p, box):
    """<v - P(v), z - P(v)> <= 0 for every z of the set, in particular for the set's vertices."""
    x, moved = _points(40, 30, seed=1)
    radius = np.random.default_rng(2).uniform(0.01, 3, 40)
    ours = np.asarray(project(BALLS[p](radius), moved, x, bounds=box))
    normal = np.asarray(moved) - ours
    low, high = np.maximum(box[0] - np.asarray(x), -99), np.minimum(box[1] - np.asarray(x), 99)
    furthest = []
    for row in range(40):
        g, room = normal[row], np.where(normal[row] > 0, high[row], -low[row])
        if p == 1:
            order, left, value = np.argsort(-np.abs(g)), radius[row], 0.0
            for i in order:
                step = min(room[i], left)
                value, left = value + step * abs(g[i]), left - step
        else:
            scale = (
                scipy.optimize.brentq(
                    lambda s, g=g, room=room, row=row: (
                        np.linalg.norm(np.minimum(s * np.abs(g), room)) - radius[row]
                    ),
                    0,
                    1e9,
                    xtol=1e-300,
                    rtol=1e-15,
                )
                if np.linalg.norm(np.where(g != 0, room, 0)) > radius[row]
                else 1e9
            )
            value = np.minimum(scale * np.abs(g), room) @ np.abs(g)
        furthest.append(value)
    reached = np.sum(normal * (ours - np.asarray(x)), 1)
    np.testing.assert_allclose(reached, furthest, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", BALLS)
def test_without_a_box_it_is_the_projection_of_optax(p):
    x, moved = _points(10, 8, seed=3)
    peer: dict[float, Any] = {1: projections.projection_l1_ball, 2: projections.projection_l2_ball}
    peer[np.inf] = projections.projection_linf_ball
    ours = project(BALLS[p](0.7), moved, x, bounds=(-np.inf, np.inf))
    with jax.numpy_dtype_promotion("standard"):
        theirs = x + jax.vmap(lambda d: peer[p](d, 0.7))(moved - x)
    np.testing.assert_allclose(ours, theirs, atol=1e-14)


@pytest.mark.parametrize("p", BALLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_projections_stay_inside_and_leave_inner_points(p, dtype):
    radius = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, 63)])
    for named in (BALLS[p](radius), LpBall(radius, p)):
        x, moved = _points(64, 100, seed=4, dtype=dtype)
        once = project(named, moved, x, bounds=(0.0, 1.0))
        assert once.dtype == dtype
        size = np.asarray(ball.norm(named, once - x))
        assert np.all(size <= radius + _slack(x, radius, p))
        assert np.all((once >= 0) & (once <= 1))
        again = project(named, once, x, bounds=(0.0, 1.0))
        np.testing.assert_allclose(again, once, atol=2 * _slack(x, radius, p))


def test_the_cube_is_met_bit_for_bit():
    x, _ = _points(5, 9, dtype=np.float32)
    radius = np.float32(8 / 255)
    up = project(LinfBall(8 / 255), x + 1, x, bounds=(0.0, 1.0))
    np.testing.assert_array_equal(up, np.minimum(np.asarray(x) + radius, np.float32(1)))
    np.testing.assert_array_equal(project(LinfBall(8 / 255), up, x, bounds=(0.0, 1.0)), up)


def test_the_norm_of_a_shape_with_more_axes_is_that_of_the_flat_one():
    delta = jnp.asarray([[[3.0, 0.0], [0.0, -4.0]]])
    sizes = [float(ball.norm(BALLS[p](1.0), delta)[0]) for p in (1, 2, np.inf)]
    assert sizes == [7.0, 5.0, 4.0]


LEVEL = 1e-6


@pytest.mark.parametrize("p", BALLS)
def test_starts_are_uniform_in_the_ball(p):
    """Kolmogorov-Smirnov on the norm (r^d) and on one coordinate; false alarms 1e-6 in all.

    4000 draws of the fixed key see a deviation of the distribution function of 0.045.
    """
    count, size, radius = 4000, 3, 2.0
    keys = jax.random.split(jax.random.key(5), count)
    x = jnp.full((count, size), 0.5)
    threat = BALLS[p](radius)
    delta = random_start(threat, keys, x, bounds=(-np.inf, np.inf)) - x
    sizes = np.asarray(ball.norm(threat, delta)) / radius
    # One coordinate of a uniform point: density proportional to (1 - |t|^p)^((d - 1)/p).
    laws = {1: scipy.stats.norm, 2: scipy.stats.norm, np.inf: scipy.stats.uniform(-1, 2)}

    def slice_cdf(t):
        if p == np.inf:
            return laws[p].cdf(t)
        grid = np.linspace(-1, 1, 20001)
        density = (1 - np.abs(grid) ** p) ** ((size - 1) / p)
        total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
        return np.interp(t, grid, total / total[-1])

    assert scipy.stats.kstest(sizes, lambda r: r**size).pvalue > LEVEL / 6
    assert scipy.stats.kstest(np.asarray(delta[:, 1]) / radius, slice_cdf).pvalue > LEVEL / 6


@pytest.mark.parametrize("p", BALLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_start_depends_on_its_own_key_and_stays_inside(p, dtype):
    radius = np.linspace(0.0, 0.5, 16)
    x, _ = _points(16, 12, dtype=dtype)
    keys = attack.keys_of(jax.random.key(1), 16)
    threat = BALLS[p](radius)
    start = random_start(threat, keys, x.reshape(16, 2, 3, 2), bounds=(0.0, 1.0))
    assert start.dtype == dtype
    assert start.shape == (16, 2, 3, 2)
    flat = np.asarray(start).reshape(16, 12)
    assert np.all((flat >= 0) & (flat <= 1))
    assert np.all(np.asarray(ball.norm(threat, flat - x)) <= radius + _slack(x, radius, p))
    assert len(np.unique((flat - np.asarray(x))[1:])) > 100
    back = BALLS[p](radius[::-1]), keys[::-1], x[::-1].reshape(16, 2, 3, 2)
    np.testing.assert_array_equal(random_start(*back, bounds=(0.0, 1.0)), start[::-1])


def test_keys_are_typed_and_one_for_each_sample():
    key = jax.random.key(3)
    each = attack.keys_of(key, 4)
    assert each[2] == jax.random.fold_in(key, 2)
    assert attack.keys_of(each, 4) is each
    with pytest.raises(InvalidInput, match="typed key"):
        attack.keys_of(jax.random.PRNGKey(0), 4)
    with pytest.raises(InvalidInput, match=r"key.shape = \(4,\)"):
        attack.keys_of(each, 5)


def test_the_steepest_step_is_that_of_linear_rules():
    gradient = jnp.asarray([[[3.0, -4.0]], [[0.0, 0.0]]])
    wanted = {1: [0.0, -1.0], 2: [0.6, -0.8], np.inf: [1.0, -1.0]}
    for p, kind in BALLS.items():
        step = ball.steepest_ascent(kind(1.0), gradient)
        np.testing.assert_allclose(step, [[wanted[p]], [[0.0, 0.0]]], atol=1e-15)


def test_balls_of_other_norms_are_refused():
    x, moved = _points(2, 3)
    with pytest.raises(InvalidInput, match=r"p = 3"):
        ball.project(LpBall(0.1, 3), moved, x, (0.0, 1.0))
    with pytest.raises(InvalidInput, match=r"p = 1\.5"):
        ball.random_start(LpBall(0.1, 1.5), attack.keys_of(jax.random.key(0), 2), x, (0.0, 1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threat": LinfBall(8.0)}, r"radius = 8: must be at most 1.*perhaps 8/255"),
        ({"threat": LinfBall(jnp.asarray([0.1, 3.0]))}, r"radius = 3: must be at most 1"),
        ({"threat": LinfBall(8.0), "bounds": (0.0, 2.0)}, r"radius = 8.*must be at most 2"),
        ({"threat": L2Ball(jnp.ones(3))}, r"radius.shape = \(3,\): must be \(\) or \(2,\)"),
        ({"threat": "far"}, r"threat = 'far'"),
        ({"bounds": (1.0, 0.0)}, r"bounds = \(1.0, 0.0\)"),
        ({"x": jnp.full((2, 3), 1.5)}, r"x = 1.5: every entry must lie in bounds"),
        ({"x": jnp.full((2, 3), jnp.nan)}, r"x = nan"),
        ({"x": jnp.ones((2, 3), jnp.uint8)}, r"x.dtype = uint8"),
        ({"x": jnp.ones(2)}, r"x.shape = \(2,\)"),
        ({"y": jnp.zeros(3, jnp.int32)}, r"y = int32\(3,\)"),
        ({"y": jnp.zeros(2)}, r"y = float64\(2,\)"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    good = attack.Target(jnp.full((2, 3), 0.5), jnp.zeros(2, jnp.int32), L2Ball(0.1))
    attack.require_valid(good)
    with pytest.raises(InvalidInput, match=message):
        attack.require_valid(good._replace(**change))


def test_traced_values_pass_and_an_l2_radius_may_exceed_the_width():
    wide = attack.Target(jnp.full((2, 3), 0.5), jnp.zeros(2, jnp.int32), L2Ball(1.5))
    attack.require_valid(wide)
    jax.jit(attack.require_valid)(wide._replace(threat=LinfBall(8.0)))


def test_a_target_is_traced_but_for_its_bounds():
    target = attack.Target(jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32), L2Ball(1.0), (-np.inf, 2.0))
    assert len(jax.tree.leaves(target)) == 3
    doubled = jax.jit(lambda t: jax.tree.map(lambda leaf: 2 * leaf, t))(target)
    assert isinstance(doubled, attack.Target)
    assert doubled.bounds == (-np.inf, 2.0)
    assert float(doubled.threat.radius) == 2.0
