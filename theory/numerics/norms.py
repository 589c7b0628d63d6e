"""Norms of vectors that are differentiable and neither overflow nor vanish."""

import jax
import jax.numpy as jnp


def power_norm(weight: jax.Array, order: jax.Array | float) -> jax.Array:
    """Returns (sum_i |w_i|^order)^(1/order), (...), over the last axis of w, (..., d).

    Powers are taken relative to the largest entry, so float32 neither overflows nor underflows.
    The norm of zero is zero, and so is its gradient there.

    Args:
        weight: any real numbers, (..., d).
        order: in (0, inf), () or (...); a norm from 1 on.

    >>> power_norm(jnp.asarray([3.0, -4.0]), 2.0).tolist()
    5.0
    """
    # Every `where` below has an inner one, so that no branch divides by zero or takes a power of
    # it: its derivative would be infinite, and times zero nan.
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
