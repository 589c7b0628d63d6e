"""Same-class mixup of a batch: each image mixed with others of its class, before any attack.

What it does to disparity in theory is in `theory.fairness.mixup`, whose laws of the coefficient it
takes.
"""

import jax
import jax.numpy as jnp
import numpy as np

from nets.attacks.attack import Bounds, class_numbers, inside, rows
from theory.domain import UNIT_INTERVAL, InvalidInput, require_inside
from theory.fairness.mixup import Beta, Mixing, Weights


def partners(key: jax.Array, y: jax.Array, ways: int = 2) -> jax.Array:
    """Returns which samples of the batch each sample is mixed with, itself first, (B, ways).

    The samples of each class stand in a circle in random order, and each takes those that follow
    it. So partners are of its class, each partner other than itself is equally likely, everyone
    is taken equally often, and a sample alone in its class is its own partner. With more ways
    than samples the circle goes round again.

    Args:
        key: a typed key.
        y: labels, (B,), integers.
        ways: m >= 1.

    Raises:
        InvalidInput: for m below 1.
    """
    if not ways >= 1:
        raise InvalidInput(f"ways = {ways}: must be at least 1")
    y = class_numbers(y)
    # A random order, and then a stable sort by class: the members of a class stand together and are
    # shuffled among themselves, in one sort of static shape whatever the sizes of the classes.
    shuffled = jax.random.permutation(key, y.shape[0])
    order = shuffled[jnp.argsort(y[shuffled], stable=True)]
    labels = y[order]
    first = jnp.searchsorted(labels, labels, side="left")
    count = jnp.searchsorted(labels, labels, side="right") - first
    place = jnp.arange(y.shape[0], dtype=first.dtype) - first
    turn = jnp.arange(ways, dtype=first.dtype)[None]
    taken = order[first[:, None] + (place[:, None] + turn) % count[:, None]]
    return jnp.zeros_like(taken).at[order].set(taken)


def mix(
    key: jax.Array,
    x: jax.Array,
    y: jax.Array,
    mixing: Mixing,
    bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
    """Returns each input mixed with inputs of its class, (B, ...); labels stay as they are.

    Args:
        key: a typed key; the partners and the coefficients follow from it.
        x: inputs, (B, ...), inside the bounds.
        y: labels, (B,).
        mixing: as in `theory.fairness.mixup`: lambda in [0, 1] for lambda x_i + (1 - lambda) x_j;
            `Beta` for a coefficient drawn anew for every sample; `Weights`, (m,), for m samples.
        bounds: (low, high), to which rounding is cut.

    Raises:
        InvalidInput: for a coefficient outside [0, 1], or weights or a Beta of more dimensions.

    References:
        zhong2024.
    """
    x, y = jnp.asarray(x), class_numbers(y)
    who, how = jax.random.split(key)
    weights = _weights(how, x, mixing)
    chosen = partners(who, y, weights.shape[-1])
    # One term after another: all partners at once would be m batches.
    mixed = rows(weights[:, 0], x) * x
    for way in range(1, weights.shape[-1]):
        mixed = mixed + rows(weights[:, way], x) * x[chosen[:, way]]
    return inside(mixed, bounds)


def _weights(key: jax.Array, x: jax.Array, mixing: Mixing) -> jax.Array:
    """Returns what each sample and its partners weigh, (B, m), in the dtype of x."""
    count = x.shape[0]
    if isinstance(mixing, Weights):
        _require_dimensions("values", mixing.values, 1)
        return jnp.broadcast_to(mixing.values.astype(x.dtype)[None], (count, mixing.values.size))
    if isinstance(mixing, Beta):
        _require_dimensions("concentration", mixing.concentration, 0)
        a = mixing.concentration.astype(x.dtype)
        kept = jax.random.beta(key, a, a, (count,), x.dtype)
    else:
        if not isinstance(mixing, jax.core.Tracer):
            require_inside("mixing", np.asarray(mixing), UNIT_INTERVAL, "the mixing coefficient")
        _require_dimensions("mixing", mixing, 0)
        kept = jnp.full(count, mixing, x.dtype)
    return jnp.stack([kept, 1 - kept], -1)


def _require_dimensions(name: str, value: jax.Array | float, dimensions: int) -> None:
    if jnp.ndim(value) != dimensions:
        allowed = "()" if dimensions == 0 else "(m,)"
        raise InvalidInput(f"{name}.shape = {jnp.shape(value)}: must be {allowed} for a batch")
