"""Pixels as networks take them: floats in [0, 1], inside compiled functions too."""

import jax
import jax.numpy as jnp

from nets.data.load import as_floats


def to_floats(images: jax.Array) -> jax.Array:
    """Returns images as floats in [0, 1], of their shape (...); floats stay as they are."""
    # The dtype is known when a function is compiled: one of the two roads is in it, not both.
    floats: jax.Array = as_floats(images) if images.dtype == jnp.uint8 else images
    return floats
