"""Keys of one generator, whatever JAX takes by default.

JAX_DEFAULT_PRNG_IMPL chooses the generator of every key that does not name one. Counts are those of
Threefry, and of other generators an element may depend on its neighbours: all keys are made here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from theory.domain import InvalidInput

__all__ = ["THREEFRY", "from_words", "key", "require_threefry"]

THREEFRY = "threefry2x32"


def key(seed: ArrayLike) -> jax.Array:
    """Returns the typed Threefry key, (), of a seed: `jax.random.key(seed)` as JAX has it.

    Args:
        seed: an integer in [0, 2^32), ().

    >>> str(jax.random.key_impl(key(0)))
    'threefry2x32'
    """
    # A Python number is 64 bits where the session says so, and would give another key from 2^32 on.
    seed = np.uint32(seed) if isinstance(seed, int | np.integer) else seed
    return jax.random.key(seed, impl="threefry2x32")


def from_words(words: ArrayLike) -> jax.Array:
    """Returns the typed Threefry keys, (...), of their words, uint32 (..., 2)."""
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def require_threefry(keys: Any) -> None:
    """Checks that keys are typed and of Threefry.

    Args:
        keys: a typed key or an array of them, (...).

    Raises:
        InvalidInput: for anything else, such as a key of another generator.
    """
    dtype = getattr(keys, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise InvalidInput(f"key = {keys!r}: must be a typed key, such as jax.random.key(seed)")
    if str(jax.random.key_impl(keys)) != THREEFRY:
        raise InvalidInput(
            f"key: its generator is {jax.random.key_impl(keys)}; must be "
            f"jax.random.key(seed, impl={THREEFRY!r})"
        )
