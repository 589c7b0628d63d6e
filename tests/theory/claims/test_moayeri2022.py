"""The closed path of the regression claims against the certified solver, and their thresholds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.claims import evaluate
from theory.claims.claim import squared_risks
from theory.claims.evaluate import component_weights
from theory.claims.kinds import closed_risks
from theory.claims.registry import find
from theory.claims.settings import pair_regressions as pairs
from theory.claims.settings.two_classes import L1, L2, LINF
from theory.domain import InvalidInput
from theory.problem import Regression
from theory.regression.fit import fit, natural_radius
from theory.regression.risk import zero_radius

NORMS = {norm.name: norm for norm in (L1, L2, LINF)}


def _random(count):
    rng = np.random.default_rng(3)
    ratio, noise = (
        rng.uniform(0.3, 3, count),
        rng.uniform(0, 1.5, count) * (rng.random(count) < 0.8),
    )
    return jnp.asarray(rng.uniform(0, 2.5, count)), jnp.asarray(ratio), jnp.asarray(noise)


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMS)
def test_trained_pairs_are_the_certified_optimum(name):
    norm, (radius, ratio, noise) = NORMS[name], _random(100)
    laws = jax.vmap(pairs.pair)(ratio, noise)
    mine = jax.jit(jax.vmap(lambda law, r: pairs.trained(law, norm.ball(r))))(laws, radius)
    found = fit(laws, norm.ball(radius))
    assert float(found.gap.max()) < 1e-12
    np.testing.assert_allclose(mine, found.weight, atol=1e-8)
    # Some problems of each kind: no feature used, the true weights, and between them.
    none = radius >= zero_radius(laws, norm.ball(radius))
    natural = radius <= natural_radius(laws, norm.ball(radius))
    assert none.any()
    assert natural.any()
    np.testing.assert_allclose(mine[none], 0, atol=1e-14)
    np.testing.assert_allclose(mine[natural], [[1, 0]] * int(natural.sum()), atol=1e-12)
    assert (~none & ~natural).sum() > 30


@pytest.mark.slow
def test_linf_uses_the_spurious_feature_exactly_where_it_is_said_to():
    radius, ratio, noise = _random(300)
    laws = jax.vmap(pairs.pair)(ratio, noise)
    weight = jax.jit(jax.vmap(lambda law, r: pairs.trained(law, LINF.ball(r))))(laws, radius)
    trained = (radius < zero_radius(laws, LINF.ball(radius))) & (
        radius > natural_radius(laws, LINF.ball(radius))
    )
    uses = (pairs.CORRELATION * ratio > 1) & trained
    np.testing.assert_array_equal(jnp.abs(weight[:, 1]) > 1e-9, uses)
    assert 50 < int(uses.sum()) < 250


@pytest.mark.slow
def test_four_cores_are_trained_as_all_five_features_are():
    claim = find("linf-relies-on-larger-scale-only-four-cores")
    points = {"radius": [0.1, 0.4, 0.8], "scale_ratio": [0.4, 0.7, 1.0], "noise": [1.0] * 3}
    problem = evaluate.problems(claim, {k: np.array(v) for k, v in points.items()})
    law = Regression(*(jnp.asarray(v[:, 0]) for v in problem.law))
    found = fit(law, LINF.ball(jnp.asarray(points["radius"])))
    np.testing.assert_allclose(problem.weight[:, 0], found.weight, atol=1e-8)
    np.testing.assert_array_equal(found.weight[:, 4] > 1e-9, [False, True, True])
    np.testing.assert_array_equal(problem.law.covariance[:, 2, 0, 4] < 0, [True] * 3)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_reliance_grows_from_the_start_but_with_little_noise(name):
    """Where noise is at least 1/2 the sentence holds; without it, it fails up to eps_1."""
    claim = find(f"spurious-reliance-grows-{name}")
    radius, ratio = (v.ravel() for v in np.meshgrid(np.linspace(0.02, 0.8, 40), [0.6, 0.8, 1, 2]))
    for noise in (0.5, 1.0):
        points = {"radius": radius, "scale_ratio": ratio, "noise": np.full_like(radius, noise)}
        assert not evaluate.failing(claim, points).any()
    points["noise"] = np.zeros_like(radius)
    failing = evaluate.failing(claim, points)[:, 0]
    threshold = (2 / np.pi * (1 - pairs.CORRELATION**2)) ** 0.5
    assert failing[radius <= threshold].all()
    assert np.all(evaluate.simulated(claim, points)[radius <= threshold] < 1e-20)


def test_the_price_of_a_flip_fails_for_linf_where_the_scale_is_small():
    claim = find("flip-doubles-price-linf")
    radius = np.linspace(0.05, 1.0, 20)
    for ratio, fails in ((1.0, True), (1.3, True), (2.0, False)):
        points = {"radius": radius, "scale_ratio": np.full(20, ratio), "noise": np.full(20, 0.5)}
        failing = evaluate.failing(claim, points)[:, 0]
        assert failing.all() == fails
    assert not failing[radius < 0.9].any()


def test_estimands_of_squared_risks_name_their_arms():
    estimand = squared_risks("gap", ("a", "b"), {"x": {"b": 2}, "y": {"a": -1, "b": 1}}, True)
    assert estimand.labels == ("a", "b")
    assert estimand.components == ("x", "y")
    np.testing.assert_array_equal(estimand.weights(np.nan), [[0, 2], [-1, 1]])


def test_other_problems_are_refused():
    with pytest.raises(InvalidInput, match="not of a kind that claims speak of"):
        closed_risks(1.0)
    with pytest.raises(InvalidInput, match="not of a kind that claims speak of"):
        component_weights(1.0, squared_risks("gap", ("a",), {"a": {"a": 1}}, False))
