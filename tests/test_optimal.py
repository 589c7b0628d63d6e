"""Optimal rules against direct minimisation of the risk, which knows no direction and no shift."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from theory import linear, optimal
from theory.problem import (
    GaussianMixture,
    InvalidInput,
    L1Ball,
    L2Ball,
    LinearClassifier,
    LinfBall,
    StableMixture,
)

BALLS = {2: L2Ball, np.inf: LinfBall}


def _risk(parameters, means, scales, prior, radius, p):
    """The robust risk of the rule in `parameters`, written out in NumPy and SciPy."""
    weight, bias = parameters[:-1], parameters[-1]
    length, dual = np.linalg.norm(weight), np.abs(weight).sum() if p == np.inf else None
    loss = radius * (length if dual is None else dual)
    risks = [
        stats.norm.cdf((loss - y * (weight @ mean + bias)) / (scale * length))
        for y, mean, scale in zip((-1, 1), means, scales, strict=True)
    ]
    return (1 - prior) * risks[0] + prior * risks[1]


def _least(means, scales, prior, radius, p, rng):
    """The least risk found by many local searches, and that of the constant rules."""
    found = [prior, 1 - prior]
    for _ in range(12):
        start = rng.normal(size=means.shape[1] + 1)
        result = optimize.minimize(
            _risk,
            start,
            (means, scales, prior, radius, p),
            method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-15, "maxiter": 4000, "maxfev": 4000},
        )
        found.append(result.fun)
    return min(found)


@pytest.mark.parametrize("p", [2, np.inf])
@pytest.mark.parametrize("seed", range(8))
def test_no_rule_found_by_search_beats_the_optimal_one(p, seed):
    rng = np.random.default_rng(100 * seed + (p == 2))
    means, scales = rng.normal(size=(2, 2)) * 1.5, rng.uniform(0.5, 2, 2)
    if seed % 2:
        scales[:] = 1.0
    prior = rng.choice([0.1, 0.25, 0.5, 0.75, 0.95])
    half = np.linalg.norm((means[1] - means[0]) / 2, p)
    radius = half * [0, 0.4, 0.8, 1.2][seed % 4]
    mixture = GaussianMixture(means, scales, prior)
    threat = BALLS[p](radius)
    mine = float(linear.risk(mixture, optimal.optimal_classifier(mixture, threat), threat))
    searched = _least(means, scales, prior, radius, p, rng)
    assert mine <= searched + 1e-13
    # And it is attained: the search comes as close as its own tolerance lets it.
    assert searched <= mine + 1e-9


@pytest.mark.parametrize(
    ("margin", "scales", "ratio"),
    [
        *itertools.product(
            (-1.0, 0.0, 0.05, 1.0, 3.0), ((1.0, 1.0), (1.0, 2.0), (3.0, 1.0)), (1.0,)
        ),
        *itertools.product(
            (-0.5, 0.3, 2.0), ((1.0, 1.5), (1.5, 1.0), (1.0, 1.0)), (0.05, 0.6, 8.0)
        ),
    ],
)
def test_shift_is_the_global_minimum_on_a_line(margin, scales, ratio):
    def risk(beta):
        plus = stats.norm.cdf(-(margin + beta) / scales[1])
        return (plus + ratio * stats.norm.cdf(-(margin - beta) / scales[0])) / (1 + ratio)

    shift = optimal.optimal_shift(jnp.asarray(margin), jnp.asarray(scales), jnp.asarray(ratio))
    grid = np.linspace(-60, 60, 240_001)
    around = grid[np.argmin(risk(grid))]
    step = grid[1] - grid[0]
    local = optimize.minimize_scalar(
        risk, bounds=(around - step, around + step), method="bounded", options={"xatol": 1e-12}
    )
    constant = min(1.0, ratio) / (1 + ratio)
    best = min(local.fun, constant)
    mine = constant if bool(shift.trivial) else float(risk(float(shift.beta)))
    assert mine == pytest.approx(best, abs=1e-14)
    if bool(shift.trivial):
        answers = ratio / (1 + ratio) if int(shift.label) == 1 else 1 / (1 + ratio)
        assert answers == pytest.approx(best, abs=1e-14)


def test_a_positive_margin_with_equal_scales_is_never_trivial():
    ratios = jnp.asarray([1e-9, 1e-3, 1.0, 1e3, 1e9])
    shift = jax.vmap(lambda r: optimal.optimal_shift(jnp.asarray(0.01), jnp.ones(2), r))(ratios)
    assert not bool(shift.trivial.any())
    np.testing.assert_allclose(shift.beta, -np.log(ratios) / 0.02, rtol=1e-12)


@pytest.mark.parametrize(("prior", "label"), [(0.2, -1), (0.5, -1), (0.8, 1)])
def test_past_the_margin_the_rule_is_constant_and_says_the_likelier_class(prior, label):
    mixture = GaussianMixture([[-1.0, 0], [1, 0]], [1.0, 1.0], prior)
    rule = optimal.optimal_classifier(mixture, L2Ball(1.5))
    assert rule.weight.tolist() == [0, 0]
    assert float(rule.bias) == label


def test_linf_direction_is_soft_thresholding_and_one_coordinate_past_the_margin():
    mixture = GaussianMixture([[0.0, 0, 0], [4, -2, 0]], [1.0, 2.0], 0.5)
    inside = optimal.optimal_direction(mixture, LinfBall(0.5))
    np.testing.assert_allclose(inside.weight, [1.5, -0.5, 0])
    assert float(inside.margin) == pytest.approx(np.sqrt(1.5**2 + 0.5**2), rel=1e-15)
    beyond = optimal.optimal_direction(mixture, LinfBall(3.0))
    np.testing.assert_allclose(beyond.weight, [1, 0, 0])
    assert float(beyond.margin) == -1


def test_the_optimal_risk_has_the_envelope_derivative_in_the_radius():
    mixture = GaussianMixture([[-1.0, -0.3, 0], [1, 0.5, 0.2]], [1.0, 1.3], 0.3)

    def least(radius):
        rule = optimal.optimal_classifier(mixture, L2Ball(radius))
        return linear.risk(mixture, rule, L2Ball(radius))

    def at_fixed_rule(radius):
        rule = optimal.optimal_classifier(mixture, L2Ball(0.4))
        return linear.risk(mixture, rule, L2Ball(radius))

    assert float(jax.grad(least)(0.4)) == pytest.approx(
        float(jax.grad(at_fixed_rule)(0.4)), rel=1e-12
    )


def test_unsupported_problems_are_refused_by_name():
    gaussian = GaussianMixture([[-1.0], [1.0]], [1.0, 1.0], 0.5)
    with pytest.raises(InvalidInput, match="threat = L1Ball"):
        optimal.optimal_classifier(gaussian, L1Ball(0.1))
    with pytest.raises(InvalidInput, match="mixture = StableMixture"):
        optimal.optimal_classifier(StableMixture([[-1.0], [1.0]], [1.0, 1.0], 0.5, 1.5))
    with pytest.raises(InvalidInput, match="without a covariance"):
        optimal.optimal_classifier(gaussian._replace(covariance=jnp.eye(1)))


def test_coinciding_means_give_nan_not_a_plausible_number():
    same = GaussianMixture([[1.0, 0], [1, 0]], [1.0, 1.0], 0.5)
    assert np.isnan(float(optimal.optimal_direction(same).margin))


def test_rules_are_vmappable_in_float32():
    ratios = np.geomspace(0.1, 100, 7).astype(np.float32)

    def rule(ratio):
        mixture = GaussianMixture(
            jnp.asarray([[-1.0, 0], [1, 0.5]], jnp.float32),
            jnp.ones(2, jnp.float32),
            1 / (1 + ratio),
        )
        return optimal.optimal_classifier(mixture, LinfBall(jnp.float32(0.3)))

    many = jax.vmap(rule)(jnp.asarray(ratios))
    assert many.weight.dtype == many.bias.dtype == jnp.float32
    assert isinstance(many, LinearClassifier)
    assert bool(jnp.all(jnp.diff(many.bias) < 0))
