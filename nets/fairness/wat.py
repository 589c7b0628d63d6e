"""WAT: exponential weights of the classes, and of their average, by held-out losses so far."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers
from nets.fairness.method import FairnessMethod
from nets.fairness.statistics import Statistics
from nets.objectives.losses import Terms
from theory.domain import NON_NEGATIVE, require_inside
from theory.weights.rules import wat_weights


class WatState(NamedTuple):
    """The held-out losses of each class, and last of all samples, summed over epochs, (K + 1,)."""

    costs: jax.Array


def wat(rate: float = 0.1) -> FairnessMethod:
    """Returns WAT: sample i counts w_y + w_average, with weights w = K softmax(rate * costs).

    Args:
        rate: eta >= 0, of the exponential weights.

    Raises:
        InvalidInput: for a negative rate.

    References:
        li2023wat and its code; theory document B3.
    """
    require_inside("rate", rate, NON_NEGATIVE, "the rate of the exponential weights")
    return FairnessMethod(
        "wat",
        start,
        needs=("held_out_losses",),
        due=lambda epoch: epoch >= 1,
        update=update,
        weights=partial(weights, rate=rate),
    )


def start(counts: jax.Array, dtype: Any = jnp.float32) -> WatState:
    """Returns the state before the first epoch, from the counts (K,): all weights K / (K + 1)."""
    return WatState(jnp.zeros(len(counts) + 1, dtype))


def update(state: WatState, statistics: Statistics) -> WatState:
    """Returns the costs with those of one more epoch."""
    return WatState(state.costs + jnp.asarray(statistics.held_out_losses).astype(state.costs.dtype))


def class_weights(state: WatState, rate: float = 0.1) -> jax.Array:
    """Returns what a sample of each class counts, (K,): the class's weight and the average's."""
    # The last one is the weight of the loss over all samples, of which each sample has its part.
    shares = wat_weights(state.costs, rate)
    return shares[:-1] + shares[-1:]


def weights(
    state: WatState, logits: jax.Array, y: jax.Array, beta: float, rate: float = 0.1
) -> Terms:
    """Returns the weight of each sample's class, (B,), for the whole of its loss.

    Args:
        state, logits, y, beta: see `nets.fairness.method.SampleWeights`; (B, K) and (B,).
        rate: as for `wat`.
    """
    each = class_weights(state, rate)[class_numbers(y)].astype(logits.dtype)
    return Terms(each, beta * each)
