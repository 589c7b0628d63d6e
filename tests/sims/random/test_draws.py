"""Draws against the transform in long double for the same bits, and their contract."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from sims.random import bits, draws
from support.near_pole import near_pole_words

KEY = jax.random.key(20)
HALF_PI = np.longdouble("1.57079632679489661923132169163975144")


def decode(key, shape, dtype):
    """The documented layout in exact integers: (sign, edge, near_pole, tail, large).

    The angle is pi/2 edge / scale from its end, the uniform tail / scale from its own, with scale
    2^(w + 12) and 2^(w + 13) for words of w bits.
    """
    unsigned = jnp.uint64 if dtype == jnp.float64 else jnp.uint32
    width = jnp.iinfo(unsigned).bits
    first, second = (np.asarray(w).astype(object) for w in bits.words(key, shape, 0, unsigned))
    edge = ((first % (1 << (width - 2))) << 12) + second % 4096
    tail = ((second % (1 << (width - 1))) << 12) + first % 4096
    sign = 1 - 2 * (first >> (width - 1))
    near_pole = (first >> (width - 2)) % 2
    return sign, 2 * edge + 1, near_pole, 2 * tail + 1, second >> (width - 1)


def long_double_variables(key, shape):
    """(sign, edge, near_pole, exponential) of the float32 draws' bits."""
    sign, edge, near_pole, tail, large = decode(key, shape, jnp.float32)
    edge = HALF_PI * edge.astype(np.longdouble) / 2**44
    tail = tail.astype(np.longdouble) / 2**45
    exponential = np.where(large == 1, -np.log(tail), -np.log1p(-tail))
    return sign.astype(np.longdouble), edge, near_pole == 1, exponential


def long_double_draws(key, alpha, shape):
    """(sign, log|X|) of the float32 draws' bits by the textbook formula in long double."""
    sign, edge, near_pole, exponential = long_double_variables(key, shape)
    angle = np.where(near_pole, HALF_PI - edge, edge)
    cosine = np.where(near_pole, np.sin(edge), np.cos(edge))
    alpha = np.longdouble(np.float32(alpha))
    turned = np.cos((1 - alpha) * angle) if alpha < 2 else cosine
    sine = np.sin(alpha * angle) if alpha < 2 else np.sin(2 * edge)
    log_size = np.log(sine) - np.log(cosine) / alpha
    log_size += (1 - alpha) / alpha * (np.log(turned) - np.log(exponential))
    return sign, log_size


@pytest.mark.parametrize("stop", [None, 1 << 14, 1 << 8])
@pytest.mark.parametrize(
    "alpha", [0.3, 0.35, 0.5, 0.55, 1 - 1e-6, 1, 1 + 1e-6, 1.5, 1.9, 2 - 1e-6, 2]
)
def test_float32_draws_match_long_double_for_the_same_bits(alpha, stop, monkeypatch):
    """In the bulk and, with angle words below `stop`, in the tails of probability 1e-5 and 1e-7."""
    if stop:
        monkeypatch.setattr(bits, "words", near_pole_words(stop, 0xFFFFFFFF))
    bound = 4e-6 if alpha >= 0.5 else 1e-5
    shape = (1 << 17,)
    sign, log_size = long_double_draws(KEY, alpha, shape)
    found = np.asarray(draws.symmetric_stable(KEY, alpha, shape)).astype(np.longdouble)
    expected = sign * np.minimum(np.exp(log_size), np.finfo(np.float32).max)
    assert np.max(np.abs(found / expected - 1)) < bound
    found_sign, found_log = draws.log_symmetric_stable(KEY, alpha, shape)
    np.testing.assert_array_equal(found_sign, sign.astype(np.float32))
    error = np.abs(np.asarray(found_log) - log_size) / np.maximum(1, np.abs(log_size))
    assert np.max(error) < bound


def test_log_draws_of_small_alpha_exceed_the_float_range_correctly():
    sign, log_size = long_double_draws(KEY, 0.1, (1 << 17,))
    found_sign, found = draws.log_symmetric_stable(KEY, 0.1, (1 << 17,))
    assert np.max(log_size) > 88.8  # log of the largest float32
    assert np.max(np.abs(np.asarray(found) - log_size) / np.maximum(1, np.abs(log_size))) < 5e-6
    np.testing.assert_array_equal(found_sign, sign.astype(np.float32))


def test_draws_beyond_the_float_range_are_the_largest_number():
    found = np.abs(draws.symmetric_stable(KEY, 0.1, (1 << 17,)))
    _, log_size = long_double_draws(KEY, 0.1, (1 << 17,))
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(found == largest, log_size > np.log(np.longdouble(largest)))


def test_float32_gaussian_draws_match_long_double_for_the_same_bits():
    sign, edge, near_pole, exponential = long_double_variables(KEY, (1 << 17,))
    expected = sign * np.sqrt(2 * exponential) * np.where(near_pole, np.cos(edge), np.sin(edge))
    found = np.asarray(draws.normal(KEY, (1 << 17,))).astype(np.longdouble)
    assert np.max(np.abs(found / expected - 1)) < 5e-7


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.999999, 1.0, 1.3, 1.9, 2.0])
def test_float64_draws_match_mpmath_for_the_same_bits(alpha):
    found = np.asarray(draws.symmetric_stable(KEY, alpha, (300,), jnp.float64))
    law = mp.mpf(alpha)
    with mp.workdps(50):
        layout = decode(KEY, (300,), jnp.float64)
        for draw, sign, edge, near_pole, tail, large in zip(found, *layout, strict=True):
            edge, tail = mp.pi / 2 * edge / 2**76, mp.mpf(tail) / 2**77
            angle = mp.pi / 2 - edge if near_pole else edge
            exponential = -mp.log(tail) if large else -mp.log1p(-tail)
            ratio = mp.cos((1 - law) * angle) / exponential
            size = mp.sin(law * angle) / mp.cos(angle) ** (1 / law) * ratio ** ((1 - law) / law)
            assert abs(float(draw) / (sign * size) - 1) < 1e-14


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("alpha", [0.0, -1.0, 2.0000005, jnp.nan, jnp.inf])
def test_alpha_outside_its_range_gives_nan(alpha, dtype):
    assert jnp.all(jnp.isnan(draws.symmetric_stable(KEY, alpha, (100,), dtype)))
    assert jnp.all(jnp.isnan(draws.log_symmetric_stable(KEY, alpha, (100,), dtype)[1]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32, jnp.complex64])
def test_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match="draws are float32"):
        draws.normal(KEY, (2,), dtype)


def test_float64_without_x64_is_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        draws.normal(KEY, (2,), jnp.float64)


def test_the_first_of_a_pair_is_normal_and_the_second_has_its_magnitudes(monkeypatch):
    """The bit that swaps sine and cosine swaps the magnitudes, so both have the same cells."""
    words = bits.words

    def both(key):
        return draws.normal_pair(key, (1 << 14,))

    def swapped(*arguments):
        angle, exponential = words(*arguments)
        return angle ^ jnp.uint32(1 << 30), exponential

    (first, second), alone = jax.jit(lambda key: (both(key), draws.normal(key, (1 << 14,))))(KEY)
    np.testing.assert_array_equal(first, alone)
    monkeypatch.setattr(bits, "words", swapped)
    found = jax.jit(lambda key: both(key))(KEY)
    np.testing.assert_array_equal(np.abs(found), np.abs([second, first]))
    np.testing.assert_array_equal(np.sign(found[1]), np.sign(second))


SAMPLERS = {
    "normal": lambda key, shape: draws.normal(key, shape),
    "second of a pair": lambda key, shape: draws.normal_pair(key, shape)[1],
    "stable": lambda key, shape: draws.symmetric_stable(key, 1.5, shape),
    "stable64": lambda key, shape: draws.symmetric_stable(key, 0.7, shape, jnp.float64),
}
every_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)


@every_sampler
def test_draws_do_not_depend_on_vmap_map_or_shape(sample):
    keys = jax.random.split(KEY, 5)
    alone = jax.jit(sample, static_argnums=1)
    expected = jnp.stack([alone(key, (1003,)) for key in keys])
    inside = {
        "vmap": jax.jit(jax.vmap(lambda key: sample(key, (1003,))))(keys),
        "map": jax.lax.map(lambda key: sample(key, (1003,)), keys),
        "matrix": jnp.stack([alone(key, (17, 59)).reshape(-1) for key in keys]),
        "longer": jnp.stack([alone(key, (4096,))[:1003] for key in keys]),
    }
    for found in inside.values():
        np.testing.assert_array_equal(found, expected)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sims.random import draws
mesh, key = Mesh(np.asarray(jax.devices()), ("x",)), jax.random.key(20)
for sample in (
    lambda key: draws.normal(key, (64, 256)),
    lambda key: draws.symmetric_stable(key, 1.5, (64, 256)),
    lambda key: draws.symmetric_stable(key, 0.7, (64, 256), jnp.float64),
):
    for axes in (("x", None), (None, "x")):
        placed = NamedSharding(mesh, PartitionSpec(*axes))
        found = jax.jit(sample, out_shardings=placed)(key)
        assert len(found.addressable_shards) == 4
        np.testing.assert_array_equal(found, jax.jit(sample)(key))
print("same bits")
"""


def test_draws_do_not_depend_on_the_number_of_devices():
    """In a process of its own, as the number of devices is fixed when JAX starts."""
    settings = {"JAX_NUM_CPU_DEVICES": "4", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=os.environ | settings, capture_output=True, text=True
    )
    assert done.stdout == "same bits\n", done.stderr


ALPHAS = np.asarray([0.3, 0.9, 1.0, 1.4, 1.9, 2.0], np.float32)


def test_vmapped_alpha_equals_scalar_alpha():
    keys = jax.random.split(KEY, ALPHAS.size)
    draw = jax.jit(lambda key, alpha: draws.symmetric_stable(key, alpha, (1003,)))
    alone = jnp.stack([draw(key, alpha) for key, alpha in zip(keys, ALPHAS, strict=True)])
    np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(keys, ALPHAS), alone)
    mapped = jax.lax.map(lambda cell: draw(*cell), (keys, jnp.asarray(ALPHAS)))
    np.testing.assert_array_equal(mapped, alone)


def test_alpha_broadcast_by_cell_agrees_with_scalar_alpha():
    # With one key for all cells XLA may turn shared divisions into reciprocals, hence rounding:
    # twice the bound of the test against long double.
    shape = (ALPHAS.size, 1003)
    draw = jax.jit(lambda alpha: draws.symmetric_stable(KEY, alpha, shape))
    alone = np.stack([draw(alpha) for alpha in ALPHAS])
    own_bits = alone[np.arange(ALPHAS.size), np.arange(ALPHAS.size)]
    np.testing.assert_allclose(draw(ALPHAS[:, None]), own_bits, rtol=2e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(draw))(ALPHAS), alone, rtol=2e-5)


def test_blocks_are_different_stretches_of_the_stream():
    found = np.stack([draws.normal(KEY, (500,), jnp.float64, block=b) for b in range(4)])
    assert np.unique(found).size == 2000
    traced = jax.jit(lambda b: draws.normal(KEY, (500,), jnp.float64, block=b))
    np.testing.assert_allclose(traced(3), found[3], rtol=1e-14)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 1.6])
def test_derivative_in_alpha_is_that_of_the_draw_at_fixed_bits(alpha):
    @jax.jit
    def draw(a):
        return draws.log_symmetric_stable(KEY, a, (1000,), jnp.float64)[1]

    _, tangent = jax.jvp(draw, (alpha,), (1.0,))
    step = 1e-5
    difference = (draw(alpha + step) - draw(alpha - step)) / (2 * step)
    # central differences: truncation step^2 times the third derivative, rounding 1e-14 / step
    np.testing.assert_allclose(tangent, difference, rtol=1e-6, atol=1e-7)
