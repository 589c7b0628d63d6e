"""Same-class mixup of a batch: who is mixed with whom, and how much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nets.objectives.mixup import mix, partners
from theory.domain import InvalidInput
from theory.fairness.mixup import Beta, Weights

# Classes of 5, 4, 2 and 1 samples, interleaved.
LABELS = np.array([0, 1, 0, 2, 1, 0, 3, 1, 2, 0, 1, 0], np.int32)
KEYS = 4000
CHANCE = 1e-6


def _drawn(ways):
    keys = jax.random.split(jax.random.key(1), KEYS)
    return np.asarray(jax.jit(jax.vmap(lambda k: partners(k, jnp.asarray(LABELS), ways)))(keys))


@pytest.mark.slow
def test_partners_are_of_the_class_and_everyone_is_taken_once():
    drawn = _drawn(3)
    places = np.arange(len(LABELS))
    np.testing.assert_array_equal(LABELS[drawn], np.broadcast_to(LABELS[:, None], drawn.shape))
    np.testing.assert_array_equal(drawn[..., 0], np.broadcast_to(places, drawn.shape[:2]))
    for way in (1, 2):
        np.testing.assert_array_equal(np.sort(drawn[..., way], 1)[0], places)
        np.testing.assert_array_equal(np.ptp(np.sort(drawn[..., way], 1), 0), 0 * places)
    size = np.bincount(LABELS)[LABELS]
    assert (drawn[..., 1] != places)[:, size > 1].all()
    assert (drawn[:, 6] == 6).all()  # alone in its class
    # Three of a class of five differ; in a class of two the circle is back at the start.
    assert (drawn[..., 2] != places)[:, size > 2].all()
    assert (drawn[..., 2] == places)[:, size == 2].all()


def _uniform(chosen):
    """Whether each sample's partner is uniform over the others of its class, exactly tested."""
    worst, tests = 1.0, 0
    for i, label in enumerate(LABELS):
        others = np.flatnonzero((label == LABELS) & (np.arange(len(LABELS)) != i))
        for j in others if len(others) > 1 else ():
            taken = int((chosen[:, i] == j).sum())
            worst = min(worst, stats.binomtest(taken, KEYS, 1 / len(others)).pvalue)
            tests += 1
    return worst * tests > CHANCE


@pytest.mark.slow
def test_each_partner_is_equally_likely():
    """False alarm below 1e-6; a rule that may pair a sample with itself is seen."""
    drawn = _drawn(3)
    assert _uniform(drawn[..., 1])
    assert _uniform(np.where(np.bincount(LABELS)[LABELS] > 2, drawn[..., 2], drawn[..., 1]))
    rng = np.random.default_rng(0)
    own_too = np.tile(np.arange(len(LABELS)), (KEYS, 1))
    for row in own_too:
        for label in range(3):
            mine = label == LABELS
            row[mine] = rng.permutation(row[mine])
    assert not _uniform(own_too)
    # Nor would a fixed circle do, which also takes everyone once.
    assert not _uniform(np.tile(drawn[:1, :, 1], (KEYS, 1)))


def _batch():
    return np.random.default_rng(2).uniform(0, 1, (len(LABELS), 2, 3, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mixing", "weights"),
    [(0.3, [0.3, 0.7]), (1.0, [1.0, 0.0]), (Weights(np.array([0.5, 0.3, 0.2])), [0.5, 0.3, 0.2])],
)
def test_a_fixed_coefficient_and_weights_mix_as_they_say(mixing, weights):
    @jax.jit
    def call(key, x):
        who = partners(jax.random.split(key)[0], LABELS, len(weights))
        light = mix(key, jnp.ones_like(x, jnp.float32), LABELS, mixing)
        return mix(key, x, LABELS, mixing), light, who

    x = _batch()
    found, light, chosen = call(jax.random.key(4), x)
    expected = sum(w * x[np.asarray(chosen)[:, m]] for m, w in enumerate(weights))
    np.testing.assert_allclose(found, expected, atol=1e-15)
    np.testing.assert_allclose(found[6], x[6], atol=1e-15)
    assert light.dtype == jnp.float32
    assert float(light.max()) <= 1.0
    if weights[0] == 1:
        np.testing.assert_array_equal(found, x)


@pytest.mark.slow
def test_the_coefficient_of_beta_is_drawn_for_every_sample_by_its_law():
    """Recovered from the mixed images of 12 samples at 200 keys; false alarm below 1e-6."""
    x, labels, a = np.eye(12)[:, :, None], np.zeros(12, np.int32), 0.7
    keys = jax.random.split(jax.random.key(5), 200)
    mixed = jax.jit(jax.vmap(lambda k: mix(k, x, labels, Beta(a))))(keys)
    kept = np.asarray(mixed)[:, np.arange(12), np.arange(12), 0]
    np.testing.assert_allclose(np.asarray(mixed).sum((2, 3)), 1, rtol=1e-12)
    assert np.unique(kept).size == kept.size
    assert stats.kstest(kept.ravel(), stats.beta(a, a).cdf).pvalue > CHANCE
    assert stats.kstest(kept.ravel(), stats.beta(1, 1).cdf).pvalue < CHANCE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: partners(jax.random.key(0), LABELS, 0), "ways = 0"),
        (lambda: mix(jax.random.key(0), _batch(), LABELS, 1.5), "mixing = 1.5"),
        (lambda: mix(jax.random.key(0), _batch(), LABELS, np.array([0.5, 0.2])), "mixing.shape"),
        (lambda: mix(jax.random.key(0), _batch(), LABELS, Beta(np.ones(2))), "concentration.shape"),
    ],
)
def test_a_mixing_without_a_meaning_is_refused(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
