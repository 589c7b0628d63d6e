"""FAAL: in every batch the worst class distribution near the uniform one weighs the classes."""

from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers
from nets.attacks.losses import margin
from nets.fairness.method import FairnessMethod
from nets.objectives.losses import Terms
from theory.domain import NON_NEGATIVE, require_inside, require_known
from theory.weights.rules import faal_weights

Margins = Literal["mean", "sum"]


class FaalState(NamedTuple):
    """Nothing is remembered; the number of classes is the length of (K,) zeros."""

    classes: jax.Array


def faal(radius: float = 0.5, margins: Margins = "mean") -> FairnessMethod:
    """Returns FAAL: each sample counts K p_y, p the worst for the batch's class margins.

    Args:
        radius: of the ball KL(uniform || p) <= radius that p is taken from, >= 0.
        margins: "mean" over the samples of a class, as in the paper; "sum", as in its code, which
            adds a class's mean margin once per sample of the batch.

    Raises:
        InvalidInput: for a negative radius or another kind of margins.

    References:
        zhang2024faal; theory document B3.
    """
    require_known("margins", margins, get_args(Margins))
    require_inside("radius", radius, NON_NEGATIVE, "the radius of the ball of distributions")
    return FairnessMethod("faal", start, weights=partial(weights, radius=radius, margins=margins))


def start(counts: jax.Array, dtype: Any = jnp.float32) -> FaalState:
    """Returns the state, from the counts (K,), which never changes."""
    return FaalState(jnp.zeros(len(counts), dtype))


def class_margins(logits: jax.Array, y: jax.Array, margins: Margins = "mean") -> jax.Array:
    """Returns the mean of max_{j != y} p_j - p_y over the samples of each class, (K,).

    Args:
        logits: of the attacked points of a batch, (B, K).
        y: labels, (B,).
        margins: "mean", where a class that is absent has -1; or "sum", the mean times the number
            of samples, where it has 0.
    """
    one_hot = jax.nn.one_hot(class_numbers(y), logits.shape[1], dtype=logits.dtype)
    leads = margin(jax.nn.softmax(logits, -1), y)
    # In full precision also on accelerators: the weights of all classes hang on these few sums.
    total = jnp.matmul(leads, one_hot, precision=jax.lax.Precision.HIGHEST)
    count = jnp.sum(one_hot, 0)
    if margins == "sum":
        return total
    # -1 is the margin of a class that is right with probability one: one that is absent draws no
    # weight to itself.
    return jnp.where(count > 0, total / jnp.maximum(count, 1), -1)


def weights(
    state: FaalState,
    logits: jax.Array,
    y: jax.Array,
    beta: float,
    radius: float = 0.5,
    margins: Margins = "mean",
) -> Terms:
    """Returns K p of each sample's class, (B,), for the whole of its loss.

    Args:
        state, logits, y, beta: see `nets.fairness.method.SampleWeights`; (B, K) and (B,).
        radius, margins: as for `faal`.
    """
    del state
    worst = faal_weights(class_margins(logits, y, margins), radius)
    each = logits.shape[1] * worst[class_numbers(y)]
    return Terms(each, beta * each)
