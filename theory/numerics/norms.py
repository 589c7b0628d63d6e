"""Norms of vectors that are differentiable and neither overflow nor vanish."""

import jax
import jax.numpy as jnp


def power_norm(weight: jax.Array, order: jax.Array | float) -> jax.Array:
    """Returns (sum_i |w_i|^order)^(1/order) over the last axis, for any order in (0, inf).

    Powers are taken relative to the largest entry, so float32 neither overflows nor underflows.
    The norm of zero is zero, and so is its gradient there.
    """
    magnitude = jnp.abs(weight)
    largest = jnp.max(magnitude, -1, keepdims=True)
    nonzero = magnitude > 0
    order = jnp.expand_dims(jnp.asarray(order, weight.dtype), -1)
    order = jnp.expand_dims(order, range(weight.ndim - order.ndim)) if order.ndim else order
    scale = jnp.where(largest > 0, largest, 1)
    ratio = jnp.where(nonzero, magnitude / scale, 1)
    total = jnp.sum(jnp.where(nonzero, ratio**order, 0), -1, keepdims=True)
    norm = scale * jnp.where(total > 0, total, 1) ** (1 / order)
    return jnp.where(total > 0, norm, 0)[..., 0]
