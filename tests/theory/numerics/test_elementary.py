"""Bitwise elementary functions against mpmath, in both precisions."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from theory.numerics import elementary

DTYPES = [np.float64, np.float32]


def largest_error(value, truth):
    """Return the largest relative error of `value` in units of its epsilon."""
    errors = [abs(mp.mpf(float(v)) / t - 1) for v, t in zip(value, truth, strict=True)]
    return float(max(errors)) / np.finfo(value.dtype).eps


def numbers(dtype):
    """Return 300 positive normal numbers over the whole range, some near 1."""
    rng = np.random.default_rng(1)
    low, high = np.log(np.finfo(dtype).tiny), np.log(np.finfo(dtype).max)
    wide = np.exp(rng.uniform(low, high, 200))
    near = 1 + rng.choice([-1, 1], 100) * 10 ** rng.uniform(-6, -0.2, 100)
    return np.concatenate([wide, near]).astype(dtype)


@pytest.fixture(autouse=True)
def thirty_digits():
    with mp.workdps(30):
        yield


@pytest.mark.parametrize("dtype", DTYPES)
def test_log(dtype):
    x = numbers(dtype)
    value = np.asarray(elementary.log(jnp.asarray(x)))
    assert largest_error(value, [mp.log(float(v)) for v in x]) < 4
    assert elementary.log(jnp.zeros((), dtype)) == -np.inf
    assert np.isnan(elementary.log(jnp.asarray(np.nan, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_inverse_power_keeps_its_accuracy_at_large_exponents(dtype):
    x = numbers(dtype)
    smallest, largest = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    for alpha in np.asarray([0.1, 0.7, 1.0, 1.9, 2.0], dtype):
        whole, fraction, power = map(np.asarray, elementary.inverse_power(jnp.asarray(x), alpha))
        np.testing.assert_array_equal(whole, np.round(whole))
        assert np.abs(fraction).max() <= 0.5
        log2 = whole + fraction
        truth = [mp.power(float(v), -float(alpha)) for v in x]
        normal = np.array([smallest < t < largest / 2 for t in truth])
        kept = [t for t, n in zip(truth, normal, strict=True) if n]
        assert largest_error(power[normal], kept) < 3
        assert largest_error(log2[:200], [-mp.log(t, 2) for t in truth[:200]]) < 3
        low = np.array([t < smallest / 2 for t in truth])
        np.testing.assert_array_equal(power[low], 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_decay(dtype):
    x = np.linspace(0, 53 if dtype == np.float64 else 18.6, 300).astype(dtype)
    value = np.asarray(elementary.gaussian_decay(jnp.asarray(x)))
    assert largest_error(value, [mp.exp(-(mp.mpf(float(v)) ** 2) / 4) for v in x]) < 3
    far = jnp.asarray([70.0, 1e30, np.inf], dtype)
    np.testing.assert_array_equal(elementary.gaussian_decay(far), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp2_of_a_sum_does_not_round_the_sum(dtype):
    exact = np.linspace(-120, 120, 200).astype(np.float32).round(10).astype(dtype)
    rest = np.linspace(-0.01, 0.01, 200).astype(dtype)
    value = np.asarray(elementary.exp2_sum(jnp.asarray(exact), jnp.asarray(rest)))
    terms = zip(exact, rest, strict=True)
    assert largest_error(value, [mp.mpf(2) ** (mp.mpf(float(e)) + float(r)) for e, r in terms]) < 2
    low = elementary.exp2_sum(jnp.asarray(-1e4, dtype), jnp.asarray(0.1, dtype))
    np.testing.assert_array_equal(low, 0)


@pytest.mark.slow
def test_derivative_rules():
    x, alpha = 3.7, 1.3
    np.testing.assert_allclose(jax.grad(elementary.log)(x), 1 / x, rtol=1e-15)
    np.testing.assert_allclose(
        jax.grad(elementary.gaussian_decay)(x), -x / 2 * np.exp(-x * x / 4), rtol=1e-15
    )
    slope = jax.jacfwd(elementary.inverse_power, (0, 1))(jnp.asarray(x), jnp.asarray(alpha))
    _, (log2_x, log2_alpha), (power_x, power_alpha) = slope
    np.testing.assert_allclose(log2_x, alpha / x / np.log(2), rtol=1e-15)
    np.testing.assert_allclose(log2_alpha, np.log2(x), rtol=1e-15)
    np.testing.assert_allclose(power_x, -alpha * x ** (-alpha - 1), rtol=1e-15)
    np.testing.assert_allclose(power_alpha, -np.log(x) * x**-alpha, rtol=1e-15)
    for argument in (0, 1):
        slope = jax.grad(elementary.exp2_sum, argument)(3.0, 0.3)
        np.testing.assert_allclose(slope, np.log(2) * 2**3.3, rtol=1e-13)


def test_horner():
    np.testing.assert_array_equal(elementary.horner([1.0, -2.0, 3.0], jnp.arange(3.0)), [1, 2, 9])
