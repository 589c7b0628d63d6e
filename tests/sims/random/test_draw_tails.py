"""Tail probabilities of the draws: exact cell counts, exact binomial tests, negative controls."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from sims.random import bits, draws
from support.near_pole import near_pole_words
from support.oracles import cell_counting
from support.oracles.quantiles import ALPHAS, PROBABILITIES, TWO_SIDED, exact_tail, series_tail

FALSE_ALARM = 1e-6  # of each statistical test here as a whole
BLOCK, BLOCKS = 1 << 18, 64  # 2^24 draws
TESTED = 5  # probabilities 1e-2 ... 1e-6


def counts_above(sample, thresholds, blocks=BLOCKS):
    """(draws beyond each threshold in magnitude, draws that are nan or infinite)."""

    def one_block(block):
        size = jnp.abs(sample(block))
        above = jax.lax.map(lambda t: jnp.sum(size > t), jnp.asarray(thresholds, size.dtype))
        return above, jnp.sum(~jnp.isfinite(size))

    above, bad = jax.jit(lambda: jax.lax.map(one_block, jnp.arange(blocks)))()
    return np.asarray(above).sum(0), int(bad.sum())


def binomial_p_value(count, trials, probability):
    law = stats.binom(trials, probability)
    return np.minimum(1, 2 * np.minimum(law.cdf(count), law.sf(count - 1)))


def stable_blocks(key, alpha, dtype=jnp.float32):
    return lambda block: draws.symmetric_stable(key, alpha, (BLOCK,), dtype, block=block)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_reference_quantiles_solve_the_exact_tail(alpha):
    with mp.workdps(20):
        for k, p in enumerate(PROBABILITIES):
            x, law = mp.mpf(TWO_SIDED[alpha][k]), mp.mpf(alpha)
            if alpha in (1, 2):
                value = exact_tail(x, law)
            else:
                value, size_of_last_term = series_tail(x, law)
                if size_of_last_term > 1e-13 * value:
                    value = exact_tail(x, law)
            assert abs(value / p - 1) < 1e-12


def test_the_integral_and_the_series_agree():
    with mp.workdps(20):
        for alpha, x in ((mp.mpf("0.7"), mp.mpf(20)), (mp.mpf("1.6"), mp.mpf(3000))):
            value, last = series_tail(x, alpha)
            assert last < 1e-14 * value
            assert abs(exact_tail(x, alpha) / value - 1) < 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
def test_counted_bias_is_that_of_the_docstring(alpha):
    bound = 5e-4 if alpha == 1 else 3e-6
    for p in (1e-7, 1e-9, 1e-10):
        threshold = TWO_SIDED[alpha][PROBABILITIES.index(p)]
        assert abs(cell_counting.stable_tail(alpha, threshold) / p - 1) < bound


@pytest.mark.parametrize("alpha", [1.0, 1.5, 1.9])
def test_counting_rejects_the_naive_sampler(alpha):
    threshold = TWO_SIDED[alpha][PROBABILITIES.index(1e-7)]
    assert cell_counting.naive_tail(alpha, threshold) < 0.5e-7


def near_pole_p_value(alpha, p, stop):
    """Of 2^22 draws from restricted words against the counted share of their cells."""
    threshold = TWO_SIDED[alpha][PROBABILITIES.index(p)]
    (count,), bad = counts_above(stable_blocks(jax.random.key(8), alpha), [threshold], 16)
    share = cell_counting.words_tail(alpha, threshold, True, stop) * 2.0**30 / stop
    assert bad == 0
    assert share * 16 * BLOCK > 3000
    return binomial_p_value(count, 16 * BLOCK, share)


@pytest.mark.parametrize("alpha", [0.5, 1.5, 1.9])
@pytest.mark.parametrize(("p", "stop"), [(1e-7, 1 << 14), (1e-9, 1 << 8), (1e-10, 1 << 8)])
def test_far_tail_of_the_code_is_the_counted_one(alpha, p, stop, monkeypatch):
    """Restriction to rare angles lets 2^22 draws see an error of 9% at p = 1e-10, 3% at 1e-9."""
    monkeypatch.setattr(bits, "words", near_pole_words(stop, 0xFFFFFFFF))
    assert near_pole_p_value(alpha, p, stop) > FALSE_ALARM / 9


def test_far_tail_without_the_shared_bits_is_rejected(monkeypatch):
    monkeypatch.setattr(bits, "words", near_pole_words(1 << 8, 0xFFFFF000))
    assert near_pole_p_value(1.5, 1e-10, 1 << 8) < FALSE_ALARM / 9


@pytest.mark.parametrize("alpha", ALPHAS)
def test_stable_tails_agree_with_the_exact_law(alpha):
    """Would see a relative error of 1.5% at p = 1e-2, 5% at 1e-3, 15% at 1e-4, 45% at 1e-5."""
    thresholds = TWO_SIDED[alpha][:TESTED]
    count, bad = counts_above(stable_blocks(jax.random.key(5), alpha), thresholds)
    assert bad == 0
    p_values = binomial_p_value(count, BLOCK * BLOCKS, np.asarray(PROBABILITIES[:TESTED]))
    assert np.min(p_values) > FALSE_ALARM / TESTED / len(ALPHAS)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_gaussian_tails_agree_with_the_exact_law(dtype):
    thresholds = np.asarray([0.1, 0.5, 1, 2, 3, 4, 4.5, 5])
    blocks = BLOCKS if dtype == jnp.float32 else BLOCKS // 8
    key = jax.random.key(6)
    count, bad = counts_above(
        lambda block: draws.normal(key, (BLOCK,), dtype, block=block), thresholds, blocks
    )
    assert bad == 0
    p_values = binomial_p_value(count, BLOCK * blocks, 2 * stats.norm.sf(thresholds))
    assert np.min(p_values) > FALSE_ALARM / 2 / thresholds.size


def test_tails_of_the_second_of_a_pair_agree_with_the_exact_law():
    """Upper tails alone, as its sign comes from a bit of the angle."""
    thresholds = np.asarray([0.1, 0.5, 1, 2, 3, 4, 4.5, 5])
    key = jax.random.key(15)

    def upper(block):
        return jnp.maximum(draws.normal_pair(key, (BLOCK,), block=block)[1], 0)

    count, bad = counts_above(upper, thresholds)
    assert bad == 0
    p_values = binomial_p_value(count, BLOCK * BLOCKS, stats.norm.sf(thresholds))
    assert np.min(p_values) > FALSE_ALARM / thresholds.size


def test_float64_tails_agree_with_the_exact_law():
    sample = stable_blocks(jax.random.key(7), 1.5, jnp.float64)
    count, bad = counts_above(sample, TWO_SIDED[1.5][:3], 8)
    assert bad == 0
    p_values = binomial_p_value(count, 8 * BLOCK, np.asarray(PROBABILITIES[:3]))
    assert np.min(p_values) > FALSE_ALARM / 3


def test_smallest_alpha_that_promises_finite_draws_has_them():
    largest = jnp.finfo(jnp.float32).max
    (saturated,), bad = counts_above(stable_blocks(jax.random.key(9), 0.3), [largest / 2])
    assert bad == 0
    assert saturated == 0  # expected 4e-5


@pytest.mark.parametrize("error", [0.99, 1.01])
def test_binomial_rule_rejects_a_wrong_alpha(error):
    sample = stable_blocks(jax.random.key(5), 1.5 * error)
    count, _ = counts_above(sample, TWO_SIDED[1.5][:TESTED])
    p_values = binomial_p_value(count, BLOCK * BLOCKS, np.asarray(PROBABILITIES[:TESTED]))
    assert np.min(p_values) < FALSE_ALARM / TESTED / len(ALPHAS)


def test_signs_and_neighbours_are_independent():
    """Products of sines of neighbouring draws have mean 0; 5.5 sigma is 4e-8 a comparison."""
    x = np.asarray(draws.normal(jax.random.key(12), (1 << 20,)), np.float64)
    for values in (np.sin(x), np.sin(x[1:]) * np.sin(x[:-1]), np.cos(x) * np.sin(x)):
        assert abs(values.mean()) < 5.5 * values.std() / np.sqrt(values.size)


def test_the_draws_of_a_pair_are_independent():
    """Shares of the 16 cells of both draws' quartiles: 5.7 sigma each is 2e-7 together.

    Would see a share off by 2 %; the second draw's sign and size are independent too.
    """
    pair = draws.normal_pair(jax.random.key(14), (1 << 20,))
    quartile = [np.digitize(np.asarray(x), stats.norm.ppf([0.25, 0.5, 0.75])) for x in pair]
    trials = quartile[0].size
    shares = np.bincount(4 * quartile[0] + quartile[1], minlength=16) / trials
    assert np.abs(shares - 1 / 16).max() < 5.7 * np.sqrt(15 / 256 / trials)


@pytest.mark.parametrize("alpha", [0.3, 0.6, 1.2, 1.7])
def test_characteristic_function_is_that_of_the_law(alpha):
    """Mean of cos(t X) against exp(-t^alpha): 5.5 sigma is 4e-8 for each of 12 comparisons."""
    x = np.asarray(draws.symmetric_stable(jax.random.key(13), alpha, (1 << 19,), jnp.float64))
    for t in (0.2, 1.0, 2.0):
        values = np.cos(t * x)
        error = 5.5 * values.std() / np.sqrt(values.size)
        assert abs(values.mean() - np.exp(-(t**alpha))) < error
