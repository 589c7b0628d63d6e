"""Class-wise risks against inversion of the characteristic function, and their symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.oracles import closed_forms
from support.oracles.risk_search import BALLS
from theory.domain import InvalidInput
from theory.problem import (
    GaussianMixture,
    L2Ball,
    LinearClassifier,
    LinfBall,
    LpBall,
    StableMixture,
)
from theory.rules import risk as linear

ORDERS = (1, 2, np.inf)
SETTINGS = 100


def _random_setting(rng):
    """Dimensions to 50, radii from 0 to past the margin, priors from 0.01 to 0.99.

    Few dimensions, as each compiles every operation anew.
    """
    d = int(rng.choice([1, 2, 3, 8, 21, 50]))
    means = rng.normal(size=(2, d)) / np.sqrt(d)
    means[1] += rng.normal(size=d) * rng.uniform(0, 2) / np.sqrt(d)
    weight = rng.normal(size=d) * (rng.random(d) < 0.8)
    weight[0] += 0.1
    bias, scales, prior = rng.normal() * 0.5, rng.uniform(0.3, 3, 2), rng.uniform(0.01, 0.99)
    p = ORDERS[int(rng.integers(3))]
    margin = max(abs(weight @ mean + bias) for mean in means)
    radius = rng.uniform(0, 1.5) * margin / float(closed_forms.dual_norm(weight, p))
    return means, scales, prior, weight, bias, p, radius * (rng.random() < 0.9)


def _oracle(setting, exponent_of):
    means, scales, _, weight, bias, p, radius = setting
    exponent = exponent_of(weight)
    reach = _reach(exponent)
    return [
        float(closed_forms.class_risk(y, m, s, weight, bias, radius, p, exponent, reach))
        for y, m, s in zip((-1, 1), means, scales, strict=True)
    ]


def _reach(exponent):
    """Returns where exp(-exponent) falls below 1e-18."""
    t = 1.0
    while exponent(t) < 42:
        t *= 1.3
    while exponent(t) > 60:
        t /= 1.3
    return t


def _risks(law, setting):
    means, scales, prior, weight, bias, p, radius = setting
    mixture = law(means, scales, prior)
    return linear.class_risks(mixture, LinearClassifier(weight, bias), BALLS[p](radius))


@pytest.mark.parametrize("seed", range(SETTINGS))
def test_gaussian_risk_is_the_inversion_integral(seed):
    rng = np.random.default_rng(seed)
    setting = _random_setting(rng)
    root = rng.normal(size=(setting[0].shape[1],) * 2) / np.sqrt(setting[0].shape[1])
    covariance = root @ root.T + 0.3 * np.eye(len(root)) if seed % 2 else None
    shape = np.eye(len(root)) if covariance is None else covariance
    risks = _risks(lambda *fields: GaussianMixture(*fields, covariance), setting)
    expected = _oracle(setting, lambda w: closed_forms.gaussian_exponent(w, shape))
    np.testing.assert_allclose(risks, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(SETTINGS))
def test_cauchy_risk_is_the_inversion_integral(seed):
    setting = _random_setting(np.random.default_rng(1000 + seed))
    risks = _risks(lambda *fields: StableMixture(*fields, 1.0), setting)
    expected = _oracle(setting, lambda w: closed_forms.stable_exponent(w, 1.0))
    np.testing.assert_allclose(risks, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.7, 1.3, 1.5, 1.9, 2.0])
def test_stable_risk_is_the_inversion_integral(alpha):
    setting = _random_setting(np.random.default_rng(int(alpha * 10)))
    risks = _risks(lambda *fields: StableMixture(*fields, alpha), setting)
    expected = _oracle(setting, lambda w: closed_forms.stable_exponent(w, alpha))
    np.testing.assert_allclose(risks, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, np.inf])
def test_dual_norm_agrees_with_the_ball(p):
    weight = np.random.default_rng(0).normal(size=7)
    ball = BALLS[p](1.0) if p in ORDERS else LpBall(1.0, p)
    expected = float(closed_forms.dual_norm(weight, p))
    assert float(linear.dual_norm(ball, jnp.asarray(weight))) == pytest.approx(expected, rel=1e-14)
    assert float(linear.dual_norm(LpBall(1.0, p), jnp.asarray(weight))) == pytest.approx(
        expected, rel=1e-14
    )
    assert float(linear.dual_norm(ball, jnp.zeros(7))) == 0


def test_alpha_2_is_a_gaussian_of_twice_the_variance():
    setting = _random_setting(np.random.default_rng(7))
    means, scales, *rest = setting
    stable = _risks(lambda *fields: StableMixture(*fields, 2.0), setting)
    gaussian = _risks(GaussianMixture, (means, scales * np.sqrt(2), *rest))
    np.testing.assert_allclose(stable, gaussian, rtol=1e-13)


MIXTURES = {
    "gaussian": lambda means, scales: GaussianMixture(means, scales, 0.3),
    "stable": lambda means, scales: StableMixture(means, scales, 0.3, 1.5),
}
finite = st.floats(-3, 3, allow_subnormal=False)
vectors = st.lists(finite, min_size=3, max_size=3).map(np.array)


@pytest.mark.parametrize("law", MIXTURES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(vectors, vectors, finite, st.floats(0, 3), st.floats(0, 2))
def test_risks_grow_with_the_radius(law, mean, weight, bias, radius, more):
    mixture = MIXTURES[law](np.stack([-mean, mean]), [1.0, 1.7])
    rule = LinearClassifier(weight, bias)
    for ball in (BALLS[p] for p in ORDERS):
        small = linear.class_risks(mixture, rule, ball(radius))
        large = linear.class_risks(mixture, rule, ball(radius + more))
        assert all(float(b) >= float(a) for a, b in zip(small, large, strict=True))


@pytest.mark.parametrize("law", MIXTURES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(vectors, vectors, finite, st.floats(0, 3))
def test_swapping_the_classes_swaps_the_risks(law, mean, weight, bias, radius):
    means, scales = np.stack([-mean, 2 * mean]), np.array([1.0, 1.7])
    rule, threat = LinearClassifier(weight, bias), LinfBall(radius)
    risks = linear.class_risks(MIXTURES[law](means, scales), rule, threat)
    swapped = linear.class_risks(
        MIXTURES[law](means[::-1], scales[::-1]), LinearClassifier(-weight, -bias), threat
    )
    np.testing.assert_allclose(risks, swapped[::-1], rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("law", MIXTURES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(vectors, vectors, finite, st.floats(0, 3), st.floats(1e-3, 1e3))
def test_units_do_not_matter(law, mean, weight, bias, radius, unit):
    means, scales = np.stack([-mean, mean]), np.array([1.0, 1.7])
    risks = linear.class_risks(
        MIXTURES[law](means, scales), LinearClassifier(weight, bias), L2Ball(radius)
    )
    scaled = linear.class_risks(
        MIXTURES[law](means * unit, scales * unit),
        LinearClassifier(weight / unit, bias),
        L2Ball(radius * unit),
    )
    np.testing.assert_allclose(risks, scaled, rtol=0, atol=1e-12)


@pytest.mark.parametrize("law", MIXTURES)
@pytest.mark.parametrize(
    ("bias", "expected"), [(1.0, (1.0, 0.0)), (-1.0, (0.0, 1.0)), (0.0, (1.0, 1.0))]
)
def test_zero_weight_is_a_constant_rule_whatever_the_radius(law, bias, expected):
    mixture = MIXTURES[law](np.array([[-1.0, 0], [1, 0]]), [1.0, 1.7])
    rule = LinearClassifier([0.0, 0.0], bias)
    for threat in (None, L2Ball(5.0)):
        assert tuple(map(float, linear.class_risks(mixture, rule, threat))) == expected


@pytest.mark.parametrize("law", MIXTURES)
def test_limits_in_the_radius(law):
    mixture = MIXTURES[law](np.array([[-1.0, 0], [1, 0]]), [1.0, 1.7])
    rule = LinearClassifier([1.0, 0.2], 0.1)
    for far in linear.class_risks(mixture, rule, L2Ball(1e12)):
        assert float(far) == pytest.approx(1, abs=1e-15)
    natural = linear.class_risks(mixture, rule)
    none = linear.class_risks(mixture, rule, BALLS[1](0.0))
    assert tuple(map(float, natural)) == tuple(map(float, none))


@pytest.mark.parametrize("law", MIXTURES)
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_float32_is_finite_and_monotone_at_any_weight_size(law, size):
    means = np.array([[-1.0, 0.5, 0], [1, 0, 2]], np.float32)
    mixture = MIXTURES[law](means, np.array([1.0, 1.7], np.float32))
    rule = LinearClassifier(
        np.array([1.0, -0.5, 0.7], np.float32) * np.float32(size), np.float32(0)
    )
    radii = jnp.linspace(0, 20, 400, dtype=jnp.float32)
    risks = jax.vmap(lambda r: jnp.stack(linear.class_risks(mixture, rule, L2Ball(r))))(radii)
    assert risks.dtype == jnp.float32
    assert bool(jnp.isfinite(risks).all())
    # A float32 evaluation may err by rounding, not go down by more.
    assert float(jnp.diff(risks, axis=0).min()) >= -4 * np.finfo(np.float32).eps


@pytest.mark.parametrize("law", MIXTURES)
def test_gradients_are_finite_differences(law):
    means, scales = np.array([[-1.0, 0.5], [1, 0.2]]), np.array([1.0, 1.7])

    def worst(weight, radius):
        rule = LinearClassifier(weight, jnp.asarray(0.2))
        return linear.risk(MIXTURES[law](means, scales), rule, LpBall(radius, 3.0))

    weight, step = jnp.array([1.0, -0.4]), 1e-5
    gradient, slope = jax.grad(worst, (0, 1))(weight, 0.3)
    central = (worst(weight, 0.3 + step) - worst(weight, 0.3 - step)) / (2 * step)
    # Central differences of step h err by about h^2 / 6 times the third derivative: below 1e-9.
    assert float(slope) == pytest.approx(float(central), abs=1e-9)
    for i in range(2):
        move = step * jnp.eye(2)[i]
        central = (worst(weight + move, 0.3) - worst(weight - move, 0.3)) / (2 * step)
        assert float(gradient[i]) == pytest.approx(float(central), abs=1e-9)


@pytest.mark.parametrize("law", MIXTURES)
def test_gradients_are_finite_at_zero_weight(law):
    def total(weight):
        rule = LinearClassifier(weight, jnp.asarray(0.2))
        return linear.risk(MIXTURES[law](np.eye(2) * 2, [1.0, 1.7]), rule, L2Ball(0.5))

    assert bool(jnp.isfinite(jax.grad(total)(jnp.zeros(2))).all())


def test_batches_broadcast_like_vmap():
    rng = np.random.default_rng(3)
    means, weights = rng.normal(size=(5, 2, 4)), rng.normal(size=(5, 4))
    alphas, radii = rng.uniform(0.5, 2, 5), rng.uniform(0, 1, 5)
    mixture = StableMixture(means, rng.uniform(1, 2, (5, 2)), np.full(5, 0.4), alphas)
    rule, threat = LinearClassifier(weights, np.zeros(5)), LpBall(radii, 1.5)
    batched = linear.class_risks(mixture, rule, threat)
    mapped = jax.vmap(linear.class_risks)(mixture, rule, threat)
    np.testing.assert_allclose(batched, mapped, rtol=1e-13)


def test_log_risks_stay_finite_where_risks_underflow():
    mixture = GaussianMixture([[-60.0], [60.0]], [1.0, 1.0], 0.5)
    rule = LinearClassifier([1.0], 0.0)
    assert float(linear.class_risks(mixture, rule).positive) == 0
    # Mills ratio: log Phi(-z) = -z^2/2 - log(z sqrt(2 pi)) - 1/z^2 + O(z^-4).
    expected = -1800 - np.log(60 * np.sqrt(2 * np.pi)) - 1 / 3600
    assert float(linear.log_class_risks(mixture, rule).positive) == pytest.approx(
        expected, rel=1e-9
    )


def test_foreign_types_are_refused():
    rule = LinearClassifier([1.0], 0.0)
    with pytest.raises(InvalidInput, match="mixture = 3: must be"):
        linear.projection_scale(3, rule.weight)
    with pytest.raises(InvalidInput, match="threat = 'l2': must be"):
        linear.dual_norm("l2", rule.weight)
