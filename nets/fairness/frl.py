"""FRL: classes whose held-out errors exceed the mean by too much gain weight, radius, or both."""

from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers
from nets.fairness.method import FairnessMethod
from nets.fairness.statistics import Statistics
from nets.objectives.losses import Terms
from theory.domain import NON_NEGATIVE, Interval, InvalidInput, require_inside, require_known
from theory.weights.rules import FairMultipliers, FairTargets, frl_radii, frl_update, frl_weights

Variant = Literal["reweight", "remargin", "both"]
Means = Literal["each", "joint"]

_LIMIT = Interval.parse("[0, 1)")
# The code's numbers for each variant: the largest factor on a radius, and the slack.
_WIDEST = {"reweight": 2.5, "remargin": 3.0, "both": 3.0}
_SLACK = {"reweight": 0.1, "remargin": 0.07, "both": 0.07}


class FrlState(NamedTuple):
    """The multipliers of `theory.weights.rules`, (K,) each, and the number of updates, ()."""

    multipliers: FairMultipliers
    updates: jax.Array


def frl(
    variant: Variant = "reweight",
    slack: float | None = None,
    rate: float = 0.05,
    margin_rate: float = 0.2,
    limit: float = 0.5,
    halve_every: int = 40,
    means: Means = "each",
) -> FairnessMethod:
    """Returns FRL: multipliers follow the clean and boundary errors of every epoch.

    The published method fine-tunes a robust network with TRADES at beta 1.5, and measures it
    before the first epoch as well: `due(0)` is true.

    Args:
        variant: which constraints act: "reweight", both losses by class weights; "remargin", the
            clean loss by weights and the boundary by radii, with steps as long as those of the
            largest radius of the batch; "both".
        slack: by how much a class may exceed the mean error; None is the code's .1 for "reweight"
            and .07 otherwise.
        rate: step of the weights' multipliers, halved every `halve_every` epochs.
        margin_rate: step of the radii's multipliers.
        limit: largest sum of the clean, and of the boundary multipliers, in [0, 1).
        halve_every: epochs, >= 1.
        means: "each" divides each of the two losses by the sum of its own weights; "joint", as an
            older version of the code does, their sum by the sum of both.

    Raises:
        InvalidInput: for an unknown option, or a number out of range.

    References:
        xu2021robust and its code; theory document B3.
    """
    require_known("variant", variant, get_args(Variant))
    require_known("means", means, get_args(Means))
    slack = _SLACK[variant] if slack is None else slack
    numbers = {"slack": slack, "rate": rate, "margin_rate": margin_rate}
    for name, value in numbers.items():
        require_inside(name, value, NON_NEGATIVE, "the " + name.replace("_", " "))
    # At a limit of 1 a class could lose all its weight.
    require_inside("limit", limit, _LIMIT, "the largest sum of multipliers")
    if halve_every < 1:
        raise InvalidInput(f"halve_every = {halve_every}: must be at least 1")
    targets = FairTargets(slack, slack, rate, margin_rate, limit)
    return FairnessMethod(
        f"frl ({variant})",
        start,
        needs=("clean_errors", "robust_errors"),
        due=lambda epoch: True,
        update=partial(update, targets=targets, variant=variant, halve_every=halve_every),
        weights=partial(weights, means=means),
        radii=None if variant == "reweight" else partial(class_radii, high=_WIDEST[variant]),
        steps="largest",
    )


def start(counts: jax.Array, dtype: Any = jnp.float32) -> FrlState:
    """Returns the state before the first update, from the counts (K,): multipliers of zero."""
    zero = jnp.zeros(len(counts), dtype)
    return FrlState(FairMultipliers(zero, zero, zero), jnp.zeros((), jnp.int32))


def update(
    state: FrlState,
    statistics: Statistics,
    targets: FairTargets,
    variant: Variant = "reweight",
    halve_every: int = 40,
) -> FrlState:
    """Returns the multipliers after one more epoch, see `theory.weights.rules.frl_update`."""
    updates, dtype = state.updates + 1, state.multipliers.clean.dtype
    clean = jnp.asarray(statistics.clean_errors).astype(dtype)
    robust = jnp.asarray(statistics.robust_errors).astype(dtype)
    # A number that is traced where the state is; the other rates stay Python numbers.
    rate: Any = targets.rate * 0.5 ** (updates // halve_every).astype(dtype)
    moved = frl_update(state.multipliers, clean, robust, targets._replace(rate=rate))
    # All three multipliers are moved together, and those that the variant has not are put back.
    if variant == "reweight":
        moved = moved._replace(margin=state.multipliers.margin)
    if variant == "remargin":
        moved = moved._replace(boundary=state.multipliers.boundary)
    return FrlState(moved, updates)


def class_weights(state: FrlState) -> tuple[jax.Array, jax.Array]:
    """Returns the weights of the clean and of the boundary loss, (K,) each, of sum one."""
    return frl_weights(state.multipliers.clean), frl_weights(state.multipliers.boundary)


def class_radii(state: FrlState, high: float = 3.0) -> jax.Array:
    """Returns the factor on each class's radius, (K,)."""
    return frl_radii(state.multipliers.margin, high=high)


def weights(
    state: FrlState, logits: jax.Array, y: jax.Array, beta: float, means: Means = "each"
) -> Terms:
    """Returns the weights of each sample's class over their mean in the batch, (B,) each.

    Args:
        state, logits, y, beta: see `nets.fairness.method.SampleWeights`; (B, K) and (B,).
        means: as for `frl`.
    """
    # Over the mean of the batch and not of the classes, as in the code: the weights of a batch have
    # mean one, whichever classes it happens to hold.
    y = class_numbers(y)
    label, boundary = (w[y].astype(logits.dtype) for w in class_weights(state))
    if means == "joint":
        both = jnp.mean(label + boundary)
        return Terms(label / both, beta * boundary / both)
    return Terms(label / jnp.mean(label), beta * boundary / jnp.mean(boundary))
