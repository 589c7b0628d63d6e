"""CFA: radius and TRADES weight of each class follow its robust accuracy in training.

And an average of weights that moves only while the worst class is good enough.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers
from nets.compute.compiler import jit
from nets.fairness.method import FairnessMethod, GatedAverage
from nets.fairness.statistics import Statistics
from nets.objectives.losses import Terms
from theory.domain import NON_NEGATIVE, UNIT_INTERVAL, InvalidInput, require_inside
from theory.weights.rules import TradesWeights, cfa_average, cfa_calibration


class CfaState(NamedTuple):
    """The robust training accuracies of the last epoch, (K,), and whether they count yet, ()."""

    accuracies: jax.Array
    begun: jax.Array


def cfa(
    begin: int = 10,
    base: float = 0.5,
    regularisation_base: float = 0.5,
    average_gate: float = 0.0,
    average_decay: float = 0.88,
) -> FairnessMethod:
    """Returns CFA: radii (base + a_c) eps and losses (1 - s_c) CE + s_c KL, a_c the accuracy.

    Hard classes get smaller radii. Steps keep the length that they have without class radii. For
    PGD-AT, which has no divergence, only the radii act. TRADES without CFA's calibration is
    divided by 1 + beta, as in the code, so that nothing jumps when the calibration begins.

    The published method also keeps an average of the networks after those epochs whose worst class
    is good enough on held-out images, at a gate of .2 for CIFAR-10 (.24 in its code). Here that is
    asked for, because a gate fits one data set and it takes held-out images.

    Args:
        begin: epochs, >= 1, before the accuracies count.
        base, regularisation_base: lambda_1 and lambda_2, >= 0.
        average_gate: robust accuracy, in [0, 1], that the worst class of a network must have to
            enter the average, which is then what training is for; 0 for no average.
        average_decay: share of the old average, in [0, 1].

    Raises:
        InvalidInput: for a number out of range.

    References:
        wei2023cfa and its code; theory document B3.
    """
    if begin < 1:
        raise InvalidInput(f"begin = {begin}: must be at least 1 epoch")
    for name, value in (("base", base), ("regularisation_base", regularisation_base)):
        require_inside(name, value, NON_NEGATIVE, "what is added to every accuracy")
    require_inside("average_gate", average_gate, UNIT_INTERVAL, "the accuracy of the worst class")
    require_inside("average_decay", average_decay, UNIT_INTERVAL, "the share of the old average")
    # Compiled once here: every epoch calls the same function, with thresholds that do not change.
    gated = jit(partial(average, threshold=average_gate, decay=average_decay))
    return FairnessMethod(
        "cfa",
        start,
        needs=("training_accuracy",),
        due=lambda epoch: epoch >= begin,
        update=update,
        weights=partial(weights, regularisation_base=regularisation_base),
        radii=partial(class_radii, base=base),
        steps="plain",
        average=gated if average_gate else None,
    )


def start(counts: jax.Array, dtype: Any = jnp.float32) -> CfaState:
    """Returns the state before the calibration begins, from the counts (K,): all classes alike."""
    return CfaState(jnp.ones(len(counts), dtype), jnp.asarray(False))


def update(state: CfaState, statistics: Statistics) -> CfaState:
    """Returns the state with the accuracies of the last epoch."""
    accuracies = jnp.asarray(statistics.training_accuracy).astype(state.accuracies.dtype)
    return CfaState(accuracies, jnp.asarray(True))


def _calibration(state: CfaState, beta: float, base: float, other: float) -> TradesWeights:
    """Returns the calibration of each class, (K,) each: that of accuracy one before it begins."""
    calibrated = cfa_calibration(state.accuracies, 1.0, beta, base, other)
    # Factor 1 on the radius and beta / (1 + beta): TRADES, divided by 1 + beta.
    alike = cfa_calibration(jnp.ones_like(state.accuracies), 1.0, beta, 0.0, 0.0)
    return TradesWeights(
        *(jnp.where(state.begun, *pair) for pair in zip(calibrated, alike, strict=True))
    )


def class_radii(state: CfaState, base: float = 0.5) -> jax.Array:
    """Returns the factor on each class's radius, (K,)."""
    return _calibration(state, 0.0, base, 0.0).radius


def class_weights(state: CfaState, beta: float, regularisation_base: float = 0.5) -> jax.Array:
    """Returns the share s_c of the divergence in each class's loss, (K,); 0 at beta = 0."""
    return _calibration(state, beta, 0.0, regularisation_base).robust_share


def weights(
    state: CfaState,
    logits: jax.Array,
    y: jax.Array,
    beta: float,
    regularisation_base: float = 0.5,
) -> Terms:
    """Returns 1 - s and s of each sample's class, (B,) each.

    Args:
        state: as it stands.
        logits: (B, K), for their dtype.
        y: labels, (B,).
        beta: of TRADES; 0 makes s zero.
        regularisation_base: lambda_2.
    """
    each = class_weights(state, beta, regularisation_base)[class_numbers(y)]
    share = each.astype(logits.dtype)
    return Terms(1 - share, share)


def average(
    held: GatedAverage,
    current: Any,
    worst_accuracy: jax.Array | float,
    threshold: float = 0.2,
    decay: float = 0.88,
) -> GatedAverage:
    """Returns the average with the current network in it, if its worst class is good enough.

    The first network that is good enough takes the place of what was there. Running statistics of
    batch normalisation are averaged like parameters, as in the code.

    Args:
        held: from `nets.fairness.method.start_average`, or the last average.
        current: variables, a pytree of the same structure.
        worst_accuracy: (), least robust accuracy of a class on held-out images, of `current`.
        threshold: below which the average stays as it is: .2 and .24 in the code.
        decay: share of the old average, in [0, 1].

    Raises:
        InvalidInput: for a threshold or a decay outside [0, 1].

    References:
        wei2023cfa and its code; theory document B3.
    """
    require_inside("threshold", threshold, UNIT_INTERVAL, "the threshold of the worst class")
    good = jnp.asarray(worst_accuracy) >= threshold
    # Both branches are computed and one is chosen by where: the accuracy may be traced.
    moved = cfa_average(held.variables, current, worst_accuracy, threshold, decay)
    first = good & ~held.begun
    variables = jax.tree.map(lambda new, old: jnp.where(first, new, old), current, moved)
    return GatedAverage(variables, held.begun | good)
