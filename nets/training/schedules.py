"""Learning rates by name, as functions of the number of steps taken."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from theory.domain import InvalidInput, require_known

Rates = Callable[[jax.Array], jax.Array]
NAMES = ("constant", "piecewise", "cosine", "cyclic")


def build(
    name: str,
    rate: float,
    epochs: int,
    batches: int,
    *,
    milestones: Sequence[int] = (),
    factor: float = 0.1,
    peak: float = 0.4,
    warm_up: int = 0,
) -> Rates:
    """Returns the rate of each step, float32, from its number, counted from 0.

    Args:
        name: "constant"; "piecewise", multiplied by `factor` at each milestone (Rice et al. 2020);
            "cosine", falling to zero (Loshchilov and Hutter 2017); "cyclic", from zero straight to
            `rate` and back (Wong et al. 2020).
        rate: the largest, > 0.
        epochs: over which it falls, >= 1.
        batches: steps of an epoch, >= 1.
        milestones: epochs, increasing, in [1, epochs); of "piecewise" alone.
        factor: in (0, 1).
        peak: share of the epochs at which "cyclic" is at its top, in (0, 1); .5 in Wong's code,
            .4 in Rice's.
        warm_up: epochs over which the rate rises from zero besides, in [0, epochs).

    Raises:
        InvalidInput: for an unknown name or a number out of range.

    References:
        rice2020overfitting (piecewise), loshchilov2017sgdr (cosine, without restarts), wong2020fast
        (cyclic).

    >>> rates = build("piecewise", 0.1, epochs=4, batches=10, milestones=(2,))
    >>> [round(float(rates(jnp.asarray(step))), 3) for step in (0, 19, 20)]
    [0.1, 0.1, 0.01]
    """
    require_known("schedule", name, NAMES)
    if len(milestones) and name != "piecewise":
        raise InvalidInput(f"milestones = {list(milestones)}: only of schedule = 'piecewise'")
    _require(rate, epochs, milestones, factor, peak, warm_up)
    steps = epochs * batches

    def shape(count: jax.Array) -> jax.Array:
        share = count.astype(jnp.float32) / steps
        if name == "cosine":
            return 0.5 * (1 + jnp.cos(jnp.pi * share))
        if name == "cyclic":
            return jnp.minimum(share / peak, (1 - share) / (1 - peak))
        # "piecewise" and, without milestones, "constant".
        passed = sum((count >= m * batches).astype(jnp.float32) for m in milestones)
        return factor**passed * jnp.ones_like(share)

    def rates(count: jax.Array) -> jax.Array:
        # One step ahead, as a step of rate zero would be lost; without a warm-up it is 1 at once.
        risen = (count.astype(jnp.float32) + 1) / max(1, warm_up * batches)
        return rate * shape(count) * jnp.minimum(1, risen)

    return rates


def _require(
    rate: float, epochs: int, milestones: Sequence[int], factor: float, peak: float, warm_up: int
) -> None:
    if epochs < 1:
        raise InvalidInput(f"epochs = {epochs}: must be at least 1")
    if not 0 < rate < float("inf"):
        raise InvalidInput(f"rate = {rate:g}: must be positive and finite")
    if list(milestones) != sorted({m for m in milestones if 1 <= m < epochs}):
        raise InvalidInput(
            f"milestones = {list(milestones)}: must be increasing epochs, from 1 to {epochs - 1}"
        )
    for word, value in (("factor", factor), ("peak", peak)):
        if not 0 < value < 1:
            raise InvalidInput(f"{word} = {value:g}: must lie between 0 and 1, exclusively")
    if not 0 <= warm_up < epochs:
        raise InvalidInput(f"warm_up = {warm_up}: must be from 0 to {epochs - 1} epochs")
