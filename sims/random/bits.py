"""Random words that are functions of (key, index) alone: Threefry-2x32-20 in counter mode.

`jax.random.bits` runs the same cipher as a rolled loop through memory, which XLA does not fuse
with what consumes the words. Here the rounds are unrolled, both output words are used and the
whole chain from index to sample is one elementwise loop.
"""

from math import prod
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

# The constants of Threefish that random123 took over; any other would be another cipher.
_PARITY = np.uint32(0x1BD11BDA)
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_SECOND_HALF = np.uint32(1 << 31)

Pair: TypeAlias = tuple[jax.Array, jax.Array]


def threefry2x32(key: Pair, counter: Pair) -> Pair:
    """Returns the two 32-bit words that Threefry-2x32 with 20 rounds assigns to a counter.

    Args:
        key: two uint32 arrays, (...).
        counter: two uint32 arrays, (...); all four broadcast against each other.

    References:
        salmon2011parallel, section 4 and the code that goes with it.

    >>> zero = jnp.uint32(0)
    >>> [hex(word) for word in threefry2x32((zero, zero), (zero, zero))]
    ['0x6b200159', '0x99ba4efe']
    """
    schedule = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = counter[0] + key[0], counter[1] + key[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = ((y << rotation) | (y >> (32 - rotation))) ^ x
        # A part of the key after every four rounds.
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def words(
    key: jax.Array, shape: tuple[int, ...], block: ArrayLike = 0, dtype: DTypeLike = jnp.uint32
) -> Pair:
    """Returns two independent arrays of uniformly random unsigned integers, (*shape,) each.

    Element i (row-major) is the cipher of the counter (block, i), so it does not depend on the
    sharding of the array, on vmap or on enclosing loops, and a shorter one-dimensional shape
    gives a prefix. The xor of the two uint32 words of block 0 is `jax.random.bits(key, shape)`
    under the default partitionable Threefry.

    Args:
        key: one JAX key, typed or legacy. A key of another generator than Threefry is first
            condensed into 64 bits by that generator.
        shape: at most 2^32 elements, so that the low counter word cannot wrap; the next stretch
            of a longer stream is the next block.
        block: integer in [0, 2^31), may be traced.
        dtype: uint32, or uint64 (two ciphers an element; needs jax_enable_x64).

    Raises:
        ValueError: more than 2^32 elements.
    """
    if prod(shape) > 1 << 32:
        raise ValueError(f"shape {shape} has more than 2^32 elements; draw it in blocks")
    pair = _key_words(key)
    high, low = jnp.asarray(block).astype(jnp.uint32), _flat_index(shape)
    first, second = threefry2x32(pair, (high, low))
    if jnp.dtype(dtype) == jnp.uint32:
        return first, second
    # `block` stays below 2^31, so its highest bit is free to tell the second cipher from the first.
    third, fourth = threefry2x32(pair, (high ^ _SECOND_HALF, low))
    return _join(first, second), _join(third, fourth)


def _key_words(key: jax.Array) -> Pair:
    data = jax.random.key_data(key)
    if data.shape != (2,):
        data = jax.random.bits(key, (2,), jnp.uint32)
    return data[0], data[1]


def _flat_index(shape: tuple[int, ...]) -> jax.Array:
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(prod(shape[axis + 1 :]))
        index += stride * lax.broadcasted_iota(jnp.uint32, shape, axis)
    return index


def _join(high: jax.Array, low: jax.Array) -> jax.Array:
    return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
