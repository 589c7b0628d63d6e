"""The words are the published cipher, and depend on key, block and index only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from sims.random import bits

# Random123 kat_vectors, threefry2x32 with 20 rounds: counter, key, output.
KNOWN_ANSWERS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_cipher_gives_the_published_known_answers(counter, key, expected):
    found = bits.threefry2x32(
        (jnp.uint32(key[0]), jnp.uint32(key[1])), (jnp.uint32(counter[0]), jnp.uint32(counter[1]))
    )
    assert tuple(int(word) for word in found) == expected


def test_words_are_the_cipher_of_block_and_index():
    key, block, count = jax.random.key(11), 5, 1000
    counters = jnp.concatenate(
        [jnp.full(count, block, jnp.uint32), jnp.arange(count, dtype=jnp.uint32)]
    )
    expected = threefry_2x32(jax.random.key_data(key), counters)
    found = jnp.concatenate(bits.words(key, (count,), block))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 1, 4)])
def test_xor_of_the_words_is_jax_random_bits(shape):
    key = jax.random.key(2)
    first, second = bits.words(key, shape)
    np.testing.assert_array_equal(first ^ second, jax.random.bits(key, shape, jnp.uint32))


def test_wide_words_hold_the_narrow_words_and_a_second_stream():
    key = jax.random.key(3)
    narrow = bits.words(key, (100,), 7)
    first, second = bits.words(key, (100,), 7, jnp.uint64)
    extra = bits.words(key, (100,), (1 << 31) + 7)
    for wide, (high, low) in ((first, narrow), (second, extra)):
        np.testing.assert_array_equal(wide >> 32, high.astype(jnp.uint64))
        np.testing.assert_array_equal(wide.astype(jnp.uint32), low)


def test_legacy_keys_give_the_words_of_typed_keys():
    typed, legacy = bits.words(jax.random.key(4), (9,)), bits.words(jax.random.PRNGKey(4), (9,))
    np.testing.assert_array_equal(jnp.stack(typed), jnp.stack(legacy))


def test_keys_of_another_generator_are_condensed():
    keys = [jax.random.key(seed, impl="rbg") for seed in (4, 5)]
    first, second = (np.stack(bits.words(key, (50,))) for key in keys)
    assert np.unique([first, second]).size == 200


def test_more_than_two_to_the_32_elements_are_refused():
    with pytest.raises(ValueError, match="draw it in blocks"):
        jax.eval_shape(lambda key: bits.words(key, (1 << 16, (1 << 16) + 1)), jax.random.key(0))
    jax.eval_shape(lambda key: bits.words(key, (1 << 16, 1 << 16)), jax.random.key(0))
