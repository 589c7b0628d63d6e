"""Random words restricted to the rare angles that make large draws."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.random import bits


def near_pole_words(stop, second_mask):
    """A replacement of `bits.words`: angle words below `stop`, at the end where |X| is large."""

    def words(key, shape, block, dtype=jnp.uint32):
        counter = jnp.full(shape, block, jnp.uint32), jnp.arange(shape[0], dtype=jnp.uint32)
        first, second = bits.threefry2x32(tuple(jax.random.key_data(key)), counter)
        return first % np.uint32(stop) | np.uint32(1 << 30), second & np.uint32(second_mask)

    return words
