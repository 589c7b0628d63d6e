"""Counts: they add up however trials are cut, and spoiled draws are counted apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.simulate import sample, two_classes
from sims.simulate.two_classes import BLOCK, class_errors
from theory.problem import GaussianMixture, L2Ball, LinearClassifier, StableMixture

MIXTURE = GaussianMixture(
    np.array([[-1.0, 0], [1, 0]], np.float32), np.ones(2, np.float32), np.float32(0.5)
)
RULE = LinearClassifier(np.array([1.0, 0.3], np.float32), np.float32(0.1))
KEY = jax.random.key(3)
count = jax.jit(class_errors)


def _errors(trials, first_block=0):
    return np.asarray(
        count(KEY, MIXTURE, RULE, L2Ball(np.float32(0.3)), trials, first_block).errors
    )


def test_counts_of_ranges_of_blocks_add_up():
    whole = _errors(7 * BLOCK)
    assert whole.dtype == np.int32
    assert np.array_equal(whole, _errors(3 * BLOCK) + _errors(4 * BLOCK, 3))


def test_the_trials_are_exact_and_a_prefix_of_more():
    counts = [_errors(n).sum() for n in (1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK)]
    assert counts == sorted(counts)
    always = LinearClassifier(np.zeros(2, np.float32), np.float32(-1))
    for trials in (1, 1000, BLOCK, BLOCK + 5):
        result = count(KEY, MIXTURE, always, None, trials)
        assert result.errors.tolist() == [0, trials]


@pytest.mark.slow
def test_counts_equal_an_explicit_recount_of_the_same_points():
    x = np.asarray(sample.points(MIXTURE, jax.random.fold_in(KEY, np.uint32(0)), BLOCK), float)
    y = np.array([-1.0, 1.0])
    weight = np.asarray(RULE.weight, float)
    worst = x - y[:, None, None] * float(np.float32(0.3)) * weight / np.linalg.norm(weight)
    margins = y[:, None] * (worst @ weight + float(RULE.bias))
    # Points within float32 rounding of the boundary may fall on either side of it.
    unclear = (np.abs(margins) < 1e-5).sum(1)
    assert np.all(np.abs((margins <= 0).sum(1) - _errors(BLOCK)) <= unclear)


@pytest.mark.slow
def test_classes_and_coordinates_are_independent_draws():
    x = np.asarray(sample.noise(MIXTURE, KEY, 50_000), float)
    table = np.concatenate([x[0], x[1]], axis=1)
    correlation = np.corrcoef(table.T)[np.triu_indices(4, 1)]
    # Six normal scores beyond 5.5 standard errors: false alarm below 3e-7; sees 0.05 surely.
    assert np.abs(correlation).max() < 5.5 / np.sqrt(50_000)


@pytest.mark.slow
def test_covariance_and_scales_shape_the_noise():
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]], np.float32)
    mixture = MIXTURE._replace(covariance=jnp.asarray(covariance), scales=jnp.asarray([1.0, 3.0]))
    mixture = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mixture)
    n = 200_000
    x = np.asarray(sample.points(mixture, KEY, n), float)
    for k, scale in enumerate((1.0, 3.0)):
        centred = (x[k] - np.asarray(mixture.means[k])).T / scale
        white = np.linalg.solve(np.linalg.cholesky(covariance), centred)
        second = white @ white.T / n
        # Entries of a Wishart mean: standard error at most sqrt(2 / n); 5.5 of them, eight looks.
        assert np.abs(second - np.eye(2)).max() < 5.5 * np.sqrt(2 / n)


def test_non_finite_draws_are_counted_and_are_not_errors(monkeypatch):
    def spoiled(mixture, key, number):
        return (
            jnp.zeros((2, number, 2), jnp.float32)
            .at[1, 5, 0]
            .set(jnp.inf)
            .at[0, :3, 1]
            .set(jnp.nan)
        )

    monkeypatch.setattr(sample, "noise", spoiled)
    result = class_errors(KEY, MIXTURE, RULE, None, BLOCK)
    assert result.nonfinite.tolist() == [3, 1]
    assert result.errors.tolist() == [0, 0]


@pytest.mark.parametrize("alpha", [0.6, 1.0, 2.0])
def test_stable_problems_count_in_float32(alpha):
    mixture = StableMixture(
        np.array([[-1.0, 0], [1, 0]], np.float32), np.ones(2, np.float32), 0.5, np.float32(alpha)
    )
    result = two_classes.class_errors(KEY, mixture, RULE, None, 1000)
    assert result.nonfinite.tolist() == [0, 0]
    assert all(0 < k < 1000 for k in result.errors.tolist())


def test_a_rule_that_is_not_a_number_supports_no_verdict():
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, RULE)
    result = class_errors(KEY, MIXTURE, broken, None, 100)
    assert result.nonfinite.tolist() == [100, 100]
    assert result.errors.tolist() == [0, 0]
