"""Remedies for long-tailed data in robust training: by weights, or by what is added to logits.

They answer imbalance alone: with as many samples in every class none of them does anything.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers
from nets.attacks.losses import cross_entropy
from nets.fairness.method import FairnessMethod
from nets.objectives.losses import Terms
from theory.domain import POSITIVE, UNIT_INTERVAL, Interval, require_inside
from theory.weights.long_tail import (
    effective_number_weights,
    ldam_logits,
    ldam_margins,
    logit_adjustment,
)

_FINITE = Interval.parse("(-inf, inf)")


class FixedWeights(NamedTuple):
    """What each class has: a weight, or an offset or a margin of its logit, (K,)."""

    values: jax.Array


def effective_number(overlap: float = 0.9999) -> FairnessMethod:
    """Returns weights inverse to the effective number of samples of each class, of sum K.

    Args:
        overlap: b in [0, 1]; 0 leaves classes alone and 1 gives inverse counts.

    Raises:
        InvalidInput: for b outside [0, 1].

    References:
        cui2019classbalanced.
    """
    # 1 is allowed, though 0 / 0 in the published formula: the limit is inverse counts.
    require_inside("overlap", overlap, UNIT_INTERVAL, "the overlap b")

    def start(counts: jax.Array, dtype: Any = jnp.float32) -> FixedWeights:
        return FixedWeights(effective_number_weights(_floats(counts, dtype), overlap))

    return FairnessMethod("effective-number", start, weights=weights)


def class_balanced() -> FairnessMethod:
    """Returns weights inverse to the number of samples of each class, of sum K."""
    return effective_number(1.0)._replace(name="class-balanced")


def logit_adjusted(temperature: float = 1.0) -> FairnessMethod:
    """Returns the cross entropy of logits + tau log(n_c / n), in training alone.

    The attack increases the plain cross entropy, and evaluation sees plain logits.

    Args:
        temperature: tau; 1 is the balanced softmax.

    Raises:
        InvalidInput: for tau that is not finite.

    References:
        menon2021logit, ren2020balanced.
    """
    require_inside("temperature", temperature, _FINITE, "the temperature tau (finite)")

    def start(counts: jax.Array, dtype: Any = jnp.float32) -> FixedWeights:
        return FixedWeights(logit_adjustment(_floats(counts, dtype), temperature))

    return FairnessMethod("logit-adjusted", start, label_loss=adjusted_loss)


def ldam(largest: float = 0.5, scale: float = 1.0) -> FairnessMethod:
    """Returns the cross entropy of logits whose true one is lowered, the more the rarer its class.

    Args:
        largest: margin of the rarest class, > 0.
        scale: of the lowered logits, > 0. The paper's 30 is for a last layer whose weights and
            inputs are normalised, which those of `nets.models.registry` are not.

    Raises:
        InvalidInput: for a number out of range.

    References:
        cao2019ldam (its deferred reweighting is not part of this).
    """
    require_inside("largest", largest, POSITIVE, "the margin of the rarest class")
    require_inside("scale", scale, POSITIVE, "the scale of the logits")

    def start(counts: jax.Array, dtype: Any = jnp.float32) -> FixedWeights:
        return FixedWeights(ldam_margins(_floats(counts, dtype), largest))

    return FairnessMethod("ldam", start, label_loss=partial(margin_loss, scale=scale))


def _floats(counts: jax.Array, dtype: Any) -> jax.Array:
    return jnp.asarray(counts).astype(dtype)


def class_weights(state: FixedWeights) -> jax.Array:
    """Returns the weight of each class, (K,), of a method that weighs."""
    return state.values


def weights(state: FixedWeights, logits: jax.Array, y: jax.Array, beta: float) -> Terms:
    """Returns the weight of each sample's class, (B,), for the whole of its loss.

    Args:
        state, logits, y, beta: see `nets.fairness.method.SampleWeights`; (B, K) and (B,).
    """
    each = state.values[class_numbers(y)].astype(logits.dtype)
    return Terms(each, beta * each)


def adjusted_loss(state: FixedWeights, logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the cross entropy of the adjusted logits, (B,), for logits (B, K), labels (B,)."""
    return cross_entropy(logits + state.values.astype(logits.dtype)[None], y)


def margin_loss(state: FixedWeights, logits: jax.Array, y: jax.Array, scale: float) -> jax.Array:
    """Returns the cross entropy of the lowered logits, (B,), for logits (B, K), labels (B,)."""
    # The margins of all classes in every row; `ldam_logits` lowers the one that y names.
    margins = jnp.broadcast_to(state.values.astype(logits.dtype)[None], logits.shape)
    return cross_entropy(ldam_logits(logits, class_numbers(y), margins, scale), y)
