"""How many draws of a law exceed each of many thresholds, at the price of drawing them once."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sims.random import draws
from theory.domain import InvalidInput

BLOCK = 2**14
MOST = 2**30  # Counts of one call are int32.


def count_beyond(
    key: jax.Array, alpha: float | None, thresholds: ArrayLike, first: int, trials: int
) -> NDArray[np.int64]:
    """Returns how many of the draws first, ..., first + trials - 1 exceed each threshold, (K,).

    The draws of a key are one sequence: counts of its stretches add up to the count of the whole,
    bit for bit, in whatever lengths, order, process or device they were made.

    Args:
        key: a JAX key.
        alpha: stability index in (0, 2], as float32 holds it; None draws N(0, 1).
        thresholds: in units of the standard law, (K,); rounded to float32, as the draws are.
        first: a multiple of `BLOCK`, below 2^31 blocks.
        trials: a multiple of `BLOCK`, at most 2^30.

    Raises:
        InvalidInput: naming the argument, its value and what is allowed.
    """
    if alpha is not None and not 0 < alpha <= 2:
        raise InvalidInput(f"alpha = {alpha}: stability index, must lie in (0, 2], or be None")
    for name, value, most in (("first", first, 2**31 * BLOCK), ("trials", trials, MOST)):
        if value % BLOCK or not 0 <= value <= most:
            raise InvalidInput(f"{name} = {value}: must be a multiple of {BLOCK} in [0, {most}]")
    limits = np.asarray(thresholds, np.float32)
    if limits.ndim != 1 or np.any(np.isnan(limits)):
        raise InvalidInput(f"thresholds = {limits}: must be one list of numbers")
    start, blocks = np.uint32(first // BLOCK), np.uint32(trials // BLOCK)
    index = None if alpha is None else np.float32(alpha)
    # In float32 whatever the session's default, so that the draws are the same bits.
    with jax.enable_x64(False):
        counted = _count(key, index, limits, start, blocks)
    return np.asarray(counted, np.int64)


@jax.jit
def _count(
    key: jax.Array,
    alpha: jax.Array | None,
    thresholds: jax.Array,
    start: jax.Array,
    blocks: jax.Array,
) -> jax.Array:
    def one(offset: jax.Array, counts: jax.Array) -> jax.Array:
        shape, block = (BLOCK,), start + offset
        if alpha is None:
            drawn = draws.normal(key, shape, jnp.float32, block=block)
        else:
            drawn = draws.symmetric_stable(key, alpha, shape, jnp.float32, block=block)
        # A loop over thresholds, so that the draws are made once and read from the cache.
        added: jax.Array = jax.lax.map(
            lambda t: jnp.sum((drawn > t).astype(jnp.int32), dtype=jnp.int32), thresholds
        )
        return counts + added

    empty = jnp.zeros(thresholds.shape, jnp.int32)
    # Bounds that are traced: one executable for any number of blocks.
    counts: jax.Array = jax.lax.fori_loop(jnp.uint32(0), blocks, one, empty)
    return counts
