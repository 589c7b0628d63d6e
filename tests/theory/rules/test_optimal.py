"""Optimal rules against direct minimisation of the risk, which knows no direction and no shift."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from support.oracles import normal
from support.oracles.risk_search import BALLS, LAWS, attained_risk, least_risk, random_problem
from theory.domain import InvalidInput
from theory.problem import (
    EllipticalStableMixture,
    GaussianMixture,
    L2Ball,
    LinearClassifier,
    LinfBall,
    LpBall,
    StableMixture,
)
from theory.rules import optimal
from theory.rules import risk as linear
from theory.rules.class_covariance import class_covariance_classifier, class_covariance_risks
from theory.rules.logistic import logistic_classifier


def _risk(parameters, means, scales, prior, radius, p):
    """The robust risk of the rule in `parameters`, written out in NumPy and SciPy."""
    weight, bias = parameters[:-1], parameters[-1]
    length, dual = np.linalg.norm(weight), np.abs(weight).sum() if p == np.inf else None
    loss = radius * (length if dual is None else dual)
    risks = [
        normal.cdf((loss - y * (weight @ mean + bias)) / (scale * length))
        for y, mean, scale in zip((-1, 1), means, scales, strict=True)
    ]
    return (1 - prior) * risks[0] + prior * risks[1]


def _least(means, scales, prior, radius, p, rng):
    """The least risk found by many local searches, and that of the constant rules."""
    minima = [prior, 1 - prior]
    for _ in range(12):
        start = rng.normal(size=means.shape[1] + 1)
        result = optimize.minimize(
            _risk,
            start,
            (means, scales, prior, radius, p),
            method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-15, "maxiter": 4000, "maxfev": 4000},
        )
        minima.append(result.fun)
    return min(minima)


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
        plus = normal.cdf(-(margin + beta) / scales[1])
        return (plus + ratio * normal.cdf(-(margin - beta) / scales[0])) / (1 + ratio)

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
    np.testing.assert_allclose(beyond.weight / jnp.max(beyond.weight), [1, 0, 0])
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


def test_other_objects_are_refused_by_name():
    gaussian = GaussianMixture([[-1.0], [1.0]], [1.0, 1.0], 0.5)
    with pytest.raises(InvalidInput, match=r"threat = 0\.1: must be an L1Ball"):
        optimal.optimal_classifier(gaussian, 0.1)
    with pytest.raises(InvalidInput, match="must be a GaussianMixture, StableMixture or"):
        optimal.optimal_direction(LinearClassifier([1.0], 0.0)._replace(), L2Ball(0.1))
    with pytest.raises(InvalidInput, match="must be a ball of the norm of"):
        optimal.class_budget_classifier(gaussian, BALLS[1](0.1), L2Ball(0.1))
    with pytest.raises(InvalidInput, match="must be a ball of the norm of"):
        optimal.class_budget_classifier(gaussian, LpBall(0.1, 3.0), LpBall(0.1, 4.0))
    with pytest.raises(InvalidInput, match="mixture = StableMixture"):
        logistic_classifier(StableMixture([[-1.0], [1.0]], [1.0, 1.0], 0.5, 1.5))


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


@pytest.mark.slow
@pytest.mark.parametrize(("law", "p"), [(law, p) for law in LAWS for p in LAWS[law][0]])
def test_no_search_over_weights_and_intercepts_beats_the_optimum(law, p):
    """A few here; `python tests/risk_search.py 40` takes 40 for each law and norm, up to d = 20."""
    rng = np.random.default_rng(int(10 * min(p, 9)) + 100 * list(LAWS).index(law))
    for _ in range(2):
        mixture, threat, arguments = random_problem(rng, law, p, 5)
        mine, _ = attained_risk(mixture, threat)
        searched = least_risk(**arguments)
        assert float(mine) <= searched + 1e-15
        assert searched - float(mine) <= 1e-12


@pytest.mark.parametrize("kind", ["gaussian", "stable"])
def test_radii_of_the_two_classes_may_differ(kind):
    """Against Nelder-Mead over the intercept and the direction, each class with its radius."""
    means, scales, prior, radii = (
        np.asarray([[-1.0, 0.2], [1.3, -0.5]]),
        [1.0, 1.4],
        0.4,
        (0.1, 0.6),
    )
    alpha = 1.4
    mixture = (
        GaussianMixture(means, scales, prior)
        if kind == "gaussian"
        else StableMixture(means, scales, prior, alpha)
    )

    def risk(weight, bias):
        rule = LinearClassifier(weight, bias)
        negative, positive = (linear.class_risks(mixture, rule, LinfBall(r)) for r in radii)
        return (1 - prior) * negative.negative + prior * positive.positive

    rule = optimal.class_budget_classifier(mixture, LinfBall(radii[0]), LinfBall(radii[1]))
    mine = float(risk(*rule))
    value = jax.jit(lambda x: risk(jnp.stack([jnp.cos(x[0]), jnp.sin(x[0])]), x[1]))
    minima = [
        optimize.minimize(
            lambda x: float(value(x)),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-16},
        ).fun
        for start in ([0.0, 0.0], [-0.3, 1.0], [-1.0, -1.0], [2.0, 0.0])
    ]
    assert mine <= min(minima) + 1e-15
    assert min(minima) - mine <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("p", "prior"), [(2, 0.5), (np.inf, 0.15), (1, 0.05), (2, 0.05)])
def test_classes_with_covariances_of_their_own(p, prior):
    rng = np.random.default_rng(int(100 * prior) + int(min(p, 9)))
    delta, squares = rng.normal(size=3), rng.normal(size=(2, 3, 3))
    covariances = squares @ np.swapaxes(squares, 1, 2) / 3 + 0.2 * np.eye(3)
    means, radius = np.stack([-delta, delta]), 0.3 * np.linalg.norm(delta, p)
    threat = BALLS[p](radius)
    rule = class_covariance_classifier(means, covariances, prior, threat)
    risks = class_covariance_risks(means, covariances, rule, threat)
    mine = float((1 - prior) * risks.negative + prior * risks.positive)

    def risk(x):
        weight, bias = x[:-1], x[-1]
        loss = radius * np.linalg.norm(weight, {1: np.inf, 2: 2, np.inf: 1}[p])
        lengths = [np.sqrt(weight @ c @ weight) for c in covariances]
        negative = normal.cdf((loss + weight @ means[0] + bias) / lengths[0])
        return (1 - prior) * negative + prior * normal.cdf(
            (loss - weight @ means[1] - bias) / lengths[1]
        )

    options = {"xatol": 1e-11, "fatol": 1e-16, "maxiter": 9000, "maxfev": 9000}
    minima = [
        optimize.minimize(risk, rng.normal(size=4), method="Nelder-Mead", options=options).fun
        for _ in range(8)
    ]
    assert mine <= min(*minima, prior, 1 - prior) + 1e-15
    assert min(*minima, prior, 1 - prior) - mine <= 1e-12


def test_a_rule_for_two_covariances_is_found_to_rounding_and_not_to_half_of_the_digits():
    """Its reference is Newton's method on the gradient in 40 digits."""
    means = [[-1.0, -0.6], [1.0, 0.6]]
    covariances = jnp.asarray([[[0.5, -0.2], [-0.2, 1.2]], [[1.0, 0.4], [0.4, 0.6]]])
    rule = class_covariance_classifier(means, covariances, 1 / 3, L2Ball(0.3))
    best = [0.921855402550259475, 0.387534020169712399, -0.253623053735598115]
    np.testing.assert_allclose([*rule.weight, rule.bias], best, rtol=0, atol=1e-12)


@pytest.mark.parametrize("threat", [None, L2Ball(0.3), LinfBall(0.3), L2Ball(1.5)])
@pytest.mark.parametrize("scales", [(1.0, 1.5), (1.2, 1.2)])
def test_the_logistic_optimum_is_where_a_search_of_the_loss_ends(scales, threat):
    means, prior = np.asarray([[-1.0, -0.4], [1.0, 0.4]]), 0.3
    mixture = GaussianMixture(means, scales, prior)
    rule = logistic_classifier(mixture, threat)
    z = np.linspace(-12, 12, 3001)
    mass = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()

    def loss(x):
        weight, bias, length = x[:2], x[2], np.linalg.norm(x[:2])
        dual = np.abs(weight).sum() if isinstance(threat, LinfBall) else length
        lost = 0 if threat is None else float(threat.radius) * dual
        parts = [
            np.sum(mass * np.logaddexp(0, lost - y * (weight @ mean + bias) - s * length * z))
            for y, mean, s in zip((-1, 1), means, scales, strict=True)
        ]
        return (1 - prior) * parts[0] + prior * parts[1]

    options = {"xatol": 1e-9, "fatol": 1e-15, "maxiter": 4000, "maxfev": 4000}
    searched = optimize.minimize(loss, [1.0, 1.0, 0.0], method="Nelder-Mead", options=options)
    mine = loss(np.append(rule.weight, rule.bias))
    assert mine <= searched.fun + 1e-14
    assert searched.fun - mine <= 1e-10


def test_trained_on_the_logistic_loss_equal_scales_lose_nothing_and_unequal_ones_do():
    means = [[-1.0, -0.4], [1.0, 0.4]]
    for scales, loses in (([1.3, 1.3], False), ([1.0, 2.0], True)):
        mixture = GaussianMixture(means, scales, 0.4)
        best, trained = optimal.optimal_classifier(mixture), logistic_classifier(mixture)
        excess = float(linear.risk(mixture, trained) - linear.risk(mixture, best))
        assert excess == pytest.approx(0, abs=1e-15) if not loses else excess > 1e-4


@pytest.mark.slow
def test_an_elliptical_law_of_index_two_is_a_gaussian_of_twice_its_dispersion():
    matrix = np.asarray([[1.0, 0.4], [0.4, 0.8]])
    means, scales = [[-1.0, 0.3], [1.0, 0.5]], [1.0, 1.3]
    elliptical = EllipticalStableMixture(means, scales, 0.3, 2.0, matrix)
    gaussian = GaussianMixture(means, scales, 0.3, 2 * matrix)
    for threat in (None, L2Ball(0.4), LinfBall(0.4), LpBall(0.4, 3.0)):
        rules = [optimal.optimal_classifier(m, threat) for m in (elliptical, gaussian)]
        unit = [np.append(r.weight, r.bias) / np.linalg.norm(r.weight) for r in rules]
        np.testing.assert_allclose(*unit, rtol=1e-12)
        risks = [
            linear.class_risks(m, r, threat)
            for m, r in zip((elliptical, gaussian), rules, strict=True)
        ]
        np.testing.assert_allclose(*risks, rtol=1e-12)


def test_stable_rules_of_index_two_are_gaussian_rules_of_variance_two():
    # The shapes and norms of the searches above, which compile for seconds.
    means = [[-1.0, 0.3, 0.0, 0.2, -0.1], [1.0, 0.5, 0.4, -0.3, 0.0]]
    for p in (1.0, 1.5, 2.0, 3.0, np.inf):
        stable_two = StableMixture(means, [1.0, 1.3], 0.3, 2.0)
        gaussian = GaussianMixture(means, [2**0.5, 1.3 * 2**0.5], 0.3)
        rules = [optimal.optimal_classifier(m, LpBall(0.3, p)) for m in (stable_two, gaussian)]
        unit = [np.append(r.weight, r.bias) / np.linalg.norm(r.weight) for r in rules]
        np.testing.assert_allclose(*unit, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_rules_of_many_priors_radii_and_indices_in_one_vmap():
    def risk(prior, radius, alpha):
        mixture = StableMixture([[-1.0, 0.0], [1.0, 0.6]], [1.0, 1.2], prior, alpha)
        threat = LinfBall(radius)
        return linear.risk(mixture, optimal.optimal_classifier(mixture, threat), threat)

    arguments = [jnp.asarray(a) for a in ([0.2, 0.5, 0.7], [0.0, 0.2, 0.5], [0.9, 1.0, 1.6])]
    with_slopes = jax.value_and_grad(risk, argnums=(0, 1, 2))
    many, slopes = jax.jit(jax.vmap(with_slopes))(*arguments)
    one = [float(risk(*cell)) for cell in zip(*arguments, strict=True)]
    np.testing.assert_allclose(many, one, rtol=1e-13)
    assert bool(jnp.all(jnp.isfinite(jnp.stack(slopes))))


@jax.jit
def _stable_bias(prior, alpha):
    mixture = StableMixture([[-1.0], [1.0]], [1.0, 1.0], prior, alpha)
    return optimal.optimal_classifier(mixture).bias


@jax.jit
def _gaussian_bias(prior):
    return optimal.optimal_classifier(GaussianMixture([[-1.0], [1.0]], [1.0, 1.0], prior)).bias


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.0, 2.5])
def test_an_index_out_of_domain_is_nan_inside_jit(alpha):
    assert np.isfinite(float(_stable_bias(0.5, 1.5)))
    assert np.isnan(float(_stable_bias(0.5, alpha)))


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.2])
def test_an_impossible_prior_is_refused_and_nan_inside_jit(prior):
    with pytest.raises(InvalidInput, match="prior ="):
        GaussianMixture([[-1.0], [1.0]], [1.0, 1.0], prior)
    assert np.isnan(float(_gaussian_bias(prior)))
    assert np.isnan(float(_stable_bias(prior, 1.5)))


def test_a_covariance_that_is_not_positive_definite_is_refused_and_nan_inside_jit():
    matrix = jnp.asarray([[1.0, 2.0], [2.0, 1.0]])
    means = [[-1.0, 0.0], [1.0, 0.5]]
    with pytest.raises(InvalidInput, match="dispersion: must be positive definite"):
        EllipticalStableMixture(means, [1.0, 1.0], 0.5, 1.5, matrix)
    for ball in (BALLS[1], L2Ball, LinfBall, lambda r: LpBall(r, 3.0)):
        rule = jax.jit(
            lambda matrix, ball=ball: optimal.optimal_classifier(
                GaussianMixture(means, [1.0, 1.0], 0.5, matrix), ball(0.2)
            )
        )
        assert np.isnan(float(rule(matrix).bias))


@pytest.mark.slow
def test_coinciding_means_make_the_whole_rule_nan():
    for law in (GaussianMixture, lambda *a: StableMixture(*a, 1.5)):
        same = law([[1.0, 0], [1, 0]], [1.0, 1.0], 0.5)
        for threat in (None, BALLS[1](0.1), L2Ball(0.1), LinfBall(0.1), LpBall(0.1, 3.0)):
            assert np.isnan(float(optimal.optimal_classifier(same, threat).bias))
