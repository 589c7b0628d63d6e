"""DAFA: once, after a warm-up, classes taken for each other trade loss weight and attack radius."""

from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers
from nets.fairness.method import FairnessMethod
from nets.fairness.statistics import Statistics
from nets.objectives.losses import Terms
from theory.domain import NON_NEGATIVE, Interval, InvalidInput, require_inside, require_known
from theory.weights.dafa import BudgetRule, Ties, Transfer, dafa_budget, dafa_weights

_OPEN = Interval.parse("(0, 1)")


class DafaState(NamedTuple):
    """The class weights, (K,), ones until the warm-up ends, and whether they were clipped, ()."""

    weights: jax.Array
    clipped: jax.Array


def dafa(
    warm_up: int = 70,
    strength: float = 1.0,
    floor: float | None = 0.05,
    ties: Ties = "keep",
    transfer: Transfer = "balanced",
    attack: BudgetRule = "scaled",
) -> FairnessMethod:
    """Returns DAFA: weights W from the class similarities of epoch `warm_up`, then held.

    W multiplies the radius and the step of the attack and the term of the loss that knows the
    label: in TRADES the clean cross entropy and not the divergence, in PGD-AT the adversarial one.

    Args:
        warm_up: the epoch, from 1, whose similarities count and after which the weights hold.
        strength, floor, ties, transfer: as in `theory.weights.dafa.dafa_weights`, which say what is
            the paper's and what its code's.
        attack: "scaled" as in the paper; "reference-pgd" as in the PGD loss of its code, where a
            second, unscaled step along the same gradient ends in the plain ball, so that classes
            of weight above 1 never get their larger radius.

    Raises:
        InvalidInput: for a warm-up below 1 or an unknown attack; for the rest as `dafa_weights`.

    References:
        lee2024dafa; theory document B1.
    """
    if warm_up < 1:
        raise InvalidInput(f"warm_up = {warm_up}: the epoch, counted from 1, must be at least 1")
    for name, choice, kind in (
        ("ties", ties, Ties),
        ("transfer", transfer, Transfer),
        ("attack", attack, BudgetRule),
    ):
        require_known(name, choice, get_args(kind))
    require_inside("strength", strength, NON_NEGATIVE, "the strength lambda of the transfers")
    if floor is not None:
        require_inside("floor", floor, _OPEN, "the smallest weight allowed")
    settings: dict[str, Any] = {"floor": floor, "ties": ties, "transfer": transfer}
    return FairnessMethod(
        "dafa",
        start,
        needs=("similarity",),
        due=lambda epoch: epoch == warm_up,
        update=partial(update, strength=strength, **settings),
        weights=weights,
        radii=class_radii,
        steps="own" if attack == "scaled" else "reference-pgd",
    )


def start(counts: jax.Array, dtype: Any = jnp.float32) -> DafaState:
    """Returns the state before the warm-up ends, from the counts (K,): every weight is 1."""
    return DafaState(jnp.ones(len(counts), dtype), jnp.asarray(False))


def update(
    state: DafaState, statistics: Statistics, strength: float = 1.0, **settings: Any
) -> DafaState:
    """Returns the weights from the similarities, see `theory.weights.dafa.dafa_weights`."""
    traded = dafa_weights(jnp.asarray(statistics.similarity), strength, **settings)
    return DafaState(traded.weights.astype(state.weights.dtype), traded.clipped)


def class_weights(state: DafaState) -> jax.Array:
    """Returns W, (K,)."""
    return state.weights


def class_radii(state: DafaState) -> jax.Array:
    """Returns the factor on each class's radius, (K,): W.

    Raises:
        InvalidInput: for a weight that is not positive, which only `floor` = None allows; inside
            jit the ball is then empty, and the point ends where the published code puts it.
    """
    return dafa_budget(state.weights, 1.0, 1.0).radius


def weights(state: DafaState, logits: jax.Array, y: jax.Array, beta: float) -> Terms:
    """Returns W of each sample's class, and beta, (B,) each.

    Args:
        state, logits, y, beta: see `nets.fairness.method.SampleWeights`; (B, K) and (B,).
    """
    # The divergence keeps beta in every class: the paper scales what knows the label.
    each = state.weights[class_numbers(y)].astype(logits.dtype)
    return Terms(each, jnp.full_like(each, beta))
