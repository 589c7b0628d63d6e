"""The polynomials against long double, over the ranges that the samplers use."""

import jax.numpy as jnp
import numpy as np
import pytest

from sims.random import polynomials

HALF_PI = np.longdouble("1.57079632679489661923132169163975144")
CASES = {  # function, reference, argument of u in [-1, 1], bound in units in the last place
    "quarter_sine": (
        lambda x: polynomials.quarter_sine(x, 1.0),
        lambda x: np.sin(HALF_PI * x),
        lambda u: u,
        2,
    ),
    "quarter_sine_beyond": (
        lambda x: polynomials.quarter_sine(x, 1.5),
        lambda x: np.sin(HALF_PI * x),
        lambda u: 1.5 * u,
        4,
    ),
    "atanh": (
        lambda x: polynomials.atanh_ratio(x, jnp.ones_like(x)),
        np.arctanh,
        lambda u: u / 3,
        3,
    ),
    "log2": (
        lambda x: polynomials.log2_ratio(x, jnp.ones_like(x)),
        np.log2,
        lambda u: np.exp2(120 * u),
        3,
    ),
    "exp2": (polynomials.exp2, np.exp2, lambda u: 120 * u, 1.5),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", CASES)
def test_error_is_a_few_units_in_the_last_place(name, dtype):
    function, reference, argument, units = CASES[name]
    unit_interval = np.concatenate([np.linspace(-1, 1, 100_001), np.logspace(-12, 0, 1000)])
    x = jnp.asarray(argument(unit_interval), dtype)
    exact = reference(np.asarray(x).astype(np.longdouble))
    error = np.abs(np.asarray(function(x)).astype(np.longdouble) - exact)
    assert np.max(error / np.maximum(np.abs(exact), 1e-300)) < units * jnp.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_ratios_are_those_of_two_arguments(dtype):
    y = jnp.asarray(np.geomspace(1e-12, 60, 10_001), dtype)
    x = y[::-1]
    exact = np.log2(np.asarray(x).astype(np.longdouble) / np.asarray(y).astype(np.longdouble))
    error = np.asarray(polynomials.log2_ratio(x, y)).astype(np.longdouble) - exact
    assert np.max(np.abs(error) / np.maximum(1, np.abs(exact))) < 3 * jnp.finfo(dtype).eps


def test_exp2_saturates_and_passes_nan():
    x = jnp.asarray([-jnp.inf, -1e9, 1e9, jnp.nan], jnp.float32)
    expected = np.asarray([2.0**-126, 2.0**-126, 2.0**127, np.nan], np.float32)
    np.testing.assert_array_equal(polynomials.exp2(x), expected)
