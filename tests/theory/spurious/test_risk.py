"""The linear model of Waterbirds against searches in the angle and in all pixels, and draws."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import optimize, stats

from support.oracles import closed_forms, normal
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall, LpBall
from theory.spurious.risk import (
    NoiseAccuracies,
    SpuriousAttribute,
    attack_norm,
    attribute_risk,
    group_accuracies,
    noise_accuracies,
    relative_foreground_sensitivity,
    spurious_angle,
)

pytestmark = pytest.mark.slow

BALLS: dict[float, Any] = {1.0: L1Ball, 2.0: L2Ball, np.inf: LinfBall}
ORDERS = pytest.mark.parametrize("p", sorted(BALLS))


def templates(core, spurious):
    """Flat orthonormal templates, each on pixels of its own."""
    t = np.zeros((2, core + spurious))
    t[0, :core], t[1, core:] = core**-0.5, spurious**-0.5
    return t


def full_risk(weight, row, radius, p, pixels):
    """The risk of any weights in pixel space: attack moved by the dual norm, noise by the l_2."""
    m, n, s, r = row
    t, size = templates(*pixels), np.linalg.norm(weight)
    cost = radius * np.linalg.norm(weight, {1.0: np.inf, 2.0: 2, np.inf: 1}[p])
    core, spurious = m * weight @ t[0], n * weight @ t[1]
    aligned, conflicting = (normal.sf((core + k * spurious - cost) / (s * size)) for k in (1, -1))
    return (1 + r) / 2 * aligned + (1 - r) / 2 * conflicting


def models(seed, count, pixels):
    rng = np.random.default_rng(seed)
    m, n, s = np.exp(rng.normal(size=(3, count)) / 2)
    r = rng.choice([0, 0.3, 0.9, 0.99, 1.0], count)
    model = SpuriousAttribute(m, n, s, r, *pixels)
    return model, np.stack([m, n, s, r], -1)


@ORDERS
@pytest.mark.parametrize("pixels", [(1, 1), (2, 5)])
def test_no_angle_found_by_search_does_better(p, pixels):
    model, rows = models(0, 20, pixels)
    radius = np.random.default_rng(1).uniform(0, 1.5, 20)
    found = np.asarray(spurious_angle(model, BALLS[p](radius)))
    got = np.asarray(attribute_risk(model, jnp.asarray(found), BALLS[p](radius)))
    t = templates(*pixels)
    grid = np.linspace(0, np.pi / 2, 1001)
    for i in range(20):

        def risk(a, i=i):
            w = np.cos(a) * t[0] + np.sin(a) * t[1]
            return full_risk(w, rows[i], radius[i], p, pixels)

        start = grid[np.argmin([risk(a) for a in grid])]
        bounds = np.clip([start - 2e-3, start + 2e-3], 0, np.pi / 2)
        search = optimize.minimize_scalar(
            risk, bounds=bounds, method="bounded", options={"xatol": 1e-11}
        )
        best = min(search.fun, risk(start))
        assert risk(found[i]) == pytest.approx(got[i], rel=1e-12)
        assert got[i] <= best * (1 + 1e-12)
        assert best <= got[i] * (1 + 1e-7)


@ORDERS
def test_no_weights_of_the_pixels_do_better(p):
    """At radii that leave every pixel in use, flat weights are the best of all weights."""
    pixels, radius = (2, 3), 0.2
    model = SpuriousAttribute(1.5, 1.2, 0.8, 0.6, *pixels)
    angle = float(spurious_angle(model, BALLS[p](radius)))
    least = float(attribute_risk(model, jnp.asarray(angle), BALLS[p](radius)))
    rng, t = np.random.default_rng(2), templates(*pixels)
    for _ in range(2):
        start = np.cos(angle) * t[0] + np.sin(angle) * t[1] + 0.1 * rng.normal(size=5)
        found = optimize.minimize(
            lambda w: full_risk(w, (1.5, 1.2, 0.8, 0.6), radius, p, pixels),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 2000, "maxfev": 2000},
        )
        assert found.fun >= least * (1 - 1e-12)
        assert found.fun <= least * (1 + 0.02)


def test_accuracies_and_norms_against_mpmath():
    model = SpuriousAttribute(1.5, 0.7, 0.4, 0.5, core_pixels=3, spurious_pixels=4)
    t, angle = templates(3, 4), 0.6
    weight = np.cos(angle) * t[0] + np.sin(angle) * t[1]
    for p in (1.0, 1.5, 2.0, 3.0, np.inf):
        norm = closed_forms.dual_norm(weight, p)
        threat = LpBall(0.8, p)
        assert float(attack_norm(model, angle, threat)) == pytest.approx(float(norm), rel=1e-14)
        got = group_accuracies(model, angle, threat)
        for sign, accuracy in zip((1, -1), got, strict=True):
            mean = 1.5 * mp.cos(angle) + sign * mp.mpf("0.7") * mp.sin(angle)
            expected = mp.ncdf((mean - mp.mpf("0.8") * norm) / mp.mpf("0.4"))
            assert float(accuracy) == pytest.approx(float(expected), rel=1e-13)


def test_noise_accuracies_against_draws_with_exact_intervals():
    model = SpuriousAttribute(1.0, 0.8, 0.7, 0.6, core_pixels=3, spurious_pixels=2)
    rng, count, angle, extra = np.random.default_rng(3), 200_000, 0.4, 1.3
    t = templates(3, 2)
    y = rng.choice([-1, 1], count)
    a = np.where(rng.random(count) < 0.8, y, -y)
    x = np.outer(y, t[0]) + 0.8 * np.outer(a, t[1]) + 0.7 * rng.normal(size=(count, 5))
    weight = np.cos(angle) * t[0] + np.sin(angle) * t[1]
    expected = noise_accuracies(model, angle, extra)
    for accuracy, mask in zip(expected, (t[0] > 0, t[1] > 0), strict=True):
        noisy = x + extra * rng.normal(size=x.shape) * mask
        right = int(np.sum(y * (noisy @ weight) > 0))
        # One false alarm in a million; an error of 0.006 would be seen.
        interval = stats.binomtest(right, count).proportion_ci(1 - 5e-7)
        assert interval.low <= float(accuracy) <= interval.high
        assert interval.high - interval.low < 0.013
    assert float(relative_foreground_sensitivity(expected)) > 0  # below pi / 4


def test_sensitivity_changes_sign_at_the_diagonal_and_is_bounded():
    model = SpuriousAttribute(3.0, 0.5, 1.0, 0.4)
    angles = jnp.linspace(0.1, np.pi / 2 - 0.5, 31)
    found = noise_accuracies(model, angles, jnp.asarray(0.7))
    sensitivity = relative_foreground_sensitivity(found)
    np.testing.assert_array_equal(np.sign(sensitivity), np.sign(np.pi / 4 - np.asarray(angles)))
    ends = relative_foreground_sensitivity(
        NoiseAccuracies(jnp.asarray([0.0, 1.0, 0.0, 1.0]), jnp.asarray([1.0, 0.0, 0.0, 1.0]))
    )
    np.testing.assert_array_equal(ends, [1, -1, 0, 0])
    assert np.all(
        np.isfinite(
            jax.vmap(jax.grad(lambda a: relative_foreground_sensitivity(NoiseAccuracies(a, a))))(
                jnp.asarray([0.0, 1.0])
            )
        )
    )


def test_l2_training_turns_to_the_spurious_template():
    model = SpuriousAttribute(1.0, 1.0, 0.8, 0.9)
    angles = np.asarray(spurious_angle(model, L2Ball(np.linspace(0, 2, 9))))
    assert np.all(np.diff(angles) > 0)
    conflicting = group_accuracies(model, jnp.asarray(angles)).conflicting
    assert np.all(np.diff(conflicting) < 0)


def test_linf_training_leaves_a_weak_template_alone():
    radius = np.array([0.39, 0.41, 0.5])
    weak = SpuriousAttribute(2.0, 0.5, 1.0, 0.8)  # n r = 0.4
    angles = np.asarray(spurious_angle(weak, LinfBall(radius)))
    assert angles[0] > 0
    np.testing.assert_array_equal(angles[1:], 0)
    # At r = 1 the angle grows with the radius where a spurious pixel is brighter than a core one.
    for core, spurious, sign in ((9, 4, 1), (4, 9, -1)):
        sure = SpuriousAttribute(3.0, 3.0, 1.0, 1.0, core, spurious)
        angles = np.asarray(spurious_angle(sure, LinfBall(np.linspace(0, 0.9, 7))))
        assert np.all(sign * np.diff(angles) > 0)
        expected = np.arctan((3 - 0.9 * spurious**0.5) / (3 - 0.9 * core**0.5))
        assert angles[-1] == pytest.approx(expected, rel=1e-12)


@ORDERS
def test_the_angle_has_the_derivatives_of_differences(p):
    def angle(core, spurious, noise, agreement, radius):
        model = SpuriousAttribute._make((core, spurious, noise, agreement, 2, 3))
        return spurious_angle(model, BALLS[p]._make((radius,)))

    point = [jnp.asarray(v) for v in (1.4, 1.1, 0.9, 0.7, 0.3)]
    gradient = jax.grad(angle, argnums=(0, 1, 2, 3, 4))(*point)
    many = jax.jit(jax.vmap(angle))
    for i, slope in enumerate(gradient):
        h = jnp.asarray([1e-6, -1e-6])
        up, down = many(*(v + (h if k == i else 0 * h) for k, v in enumerate(point)))
        assert float(slope) == pytest.approx(float(up - down) / 2e-6, rel=1e-5, abs=1e-8)


def test_bad_input():
    for fields, message in (
        ((0.0, 1.0, 1.0, 0.5), "core = 0"),
        ((1.0, 1.0, -1.0, 0.5), "noise = -1"),
        ((1.0, 1.0, 1.0, 1.5), "agreement = 1.5"),
        ((1.0, 1.0, 1.0, 0.5, 0), "core_pixels = 0"),
    ):
        with pytest.raises(InvalidInput, match=message):
            SpuriousAttribute(*fields)
    model = SpuriousAttribute(1.0, 1.0, 1.0, 0.5)
    with pytest.raises(InvalidInput, match="l_1, l_2 or l_inf"):
        spurious_angle(model, LpBall(0.1, 3.0))
    traced = jax.jit(lambda r: spurious_angle(model._replace(agreement=r), L2Ball(0.1)))
    assert np.isnan(traced(jnp.asarray(1.5)))
    single = SpuriousAttribute(*(jnp.float32(v) for v in (1.0, 1.0, 1.0, 0.5)))
    found = spurious_angle(single, LinfBall(jnp.float32(0.1)))
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(float(spurious_angle(model, LinfBall(0.1))), rel=1e-5)
