"""Pairs of points of one class: the noun, its sampler and its class risks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from sims.simulate import sample
from theory.domain import InvalidInput
from theory.fairness import mixup
from theory.problem import GaussianMixture, L2Ball, LinearClassifier, MixedPairs, StableMixture
from theory.rules import risk as linear

MEANS = np.array([[-1.0, 0.2], [1.0, 0.5]])
GAUSSIAN = GaussianMixture(MEANS, [1.0, 1.6], 0.3)
RULE = LinearClassifier(np.array([1.0, -0.4]), 0.2)
KEY = jax.random.key(11)


@pytest.mark.parametrize("given", [(None, None), (0.5, 1.0)])
def test_a_pair_has_a_coefficient_or_a_law_of_it(given):
    with pytest.raises(InvalidInput, match="one of them must be given"):
        MixedPairs(GAUSSIAN, *given)


def test_bad_pairs_are_refused_by_name():
    for bad in (-0.1, 1.5, np.nan):
        with pytest.raises(InvalidInput, match="the mixing coefficient must lie in"):
            MixedPairs(GAUSSIAN, bad)
    with pytest.raises(InvalidInput, match="the Beta parameter must lie in"):
        MixedPairs(GAUSSIAN, None, 0.0)


def test_a_pair_takes_the_dtype_of_its_law_and_passes_through_jit():
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), GAUSSIAN)
    assert MixedPairs(single, 0.3).coefficient.dtype == jnp.float32
    pairs = MixedPairs(GAUSSIAN, 0.3)
    again = jax.jit(lambda p: p)(pairs)
    assert isinstance(again.original, GaussianMixture)
    assert float(again.prior) == 0.3
    assert np.array_equal(again.means, MEANS)


def test_a_pair_of_coefficient_one_or_zero_is_one_of_its_points():
    first, second, both = (
        sample.points(MixedPairs(GAUSSIAN, c), KEY, 100) for c in (1.0, 0.0, 0.25)
    )
    np.testing.assert_allclose(both, 0.25 * first + 0.75 * second, rtol=1e-12, atol=1e-12)
    # Two points, not one twice: the correlation of 400 pairs of coordinates, at 5.5 errors.
    noise = [(np.asarray(x) - MEANS[:, None]).ravel() for x in (first, second)]
    assert abs(np.corrcoef(noise)[0, 1]) < 5.5 / len(noise[0]) ** 0.5


@pytest.mark.parametrize("a", [0.05, 0.5, 1.0, 7.0, 300.0])
def test_random_coefficients_have_the_beta_law(a):
    """Exact intervals at four quantiles, false alarm 1e-7 each; sees 1 % of a probability."""
    count, level = 400_000, 1e-7
    drawn = np.asarray(sample.symmetric_beta(KEY, jnp.float32(a), (count,), jnp.float32), float)
    assert np.all((drawn >= 0) & (drawn <= 1))
    law = stats.beta(a, a)
    for place in law.ppf([0.1, 0.3, 0.5, 0.8]):
        # At a = 0.05 some quantiles are closer to 0 or 1 than draws near 1 are resolved.
        place = np.clip(place, 1e-6, 1 - 1e-6)
        hits = (drawn <= place).sum()
        low, high = (
            special.betaincinv(hits, count - hits + 1, level / 2),
            special.betainccinv(hits + 1, count - hits, level / 2),
        )
        assert low <= law.cdf(place) <= high, place


def test_each_pair_has_a_coefficient_of_its_own():
    pairs = MixedPairs(GaussianMixture(1e6 * MEANS, [1e-3, 1e-3], 0.5), None, 0.5)
    far = np.asarray(sample.points(pairs._replace(original=GAUSSIAN), KEY, 4000))
    variance = far.var(1) / np.square([[1.0], [1.6]])
    # E[lambda^2 + (1 - lambda)^2] = (a + 1) / (2 a + 1) = 3/4; errors of 4000 squares near 3 %.
    np.testing.assert_allclose(variance, 0.75, rtol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("mixture", [GAUSSIAN, StableMixture(MEANS, [1.0, 1.6], 0.3, 0.8)])
def test_class_risks_of_fixed_pairs_are_those_of_the_mixed_law(mixture):
    threat = L2Ball(0.3)
    mine = linear.class_risks(MixedPairs(mixture, 0.3), RULE, threat)
    law = linear.class_risks(mixup.mixed_mixture(mixture, 0.3), RULE, threat)
    np.testing.assert_allclose(mine, law, rtol=1e-14)
    logarithms = linear.log_class_risks(MixedPairs(mixture, 0.3), RULE, threat)
    np.testing.assert_allclose(np.exp(logarithms), mine, rtol=1e-13)


def test_class_risks_of_random_pairs_average_over_the_coefficient():
    """The reference is Gauss-Jacobi quadrature in 2 lambda - 1."""
    a, weight = 1.7, np.asarray(RULE.weight)
    nodes, weights = special.roots_jacobi(80, a - 1, a - 1)
    factors = np.sqrt((1 + nodes**2) / 2)
    pairs = MixedPairs(GAUSSIAN, None, a)
    scores = np.array([-1, 1]) * (MEANS @ weight + 0.2)
    at = (0.3 * np.linalg.norm(weight) - scores) / (np.linalg.norm(weight) * np.array([1, 1.6]))
    expected = special.ndtr(at / factors[:, None]).T @ weights / weights.sum()
    mine = linear.class_risks(pairs, RULE, L2Ball(0.3))
    np.testing.assert_allclose(mine, expected, rtol=1e-12)
    # Their logarithms are finite where they underflow.
    far = pairs._replace(original=GAUSSIAN._replace(means=jnp.asarray(60 * MEANS)))
    assert linear.class_risks(far, RULE).negative == 0
    assert -1e4 < float(linear.log_class_risks(far, RULE).negative) < -1e3
