"""What a fairness method is, what it does to an objective, and what data it cannot do without."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nets.attacks.gradient import Move
from nets.attacks.losses import cross_entropy
from nets.fairness.statistics import HELD_OUT, Statistics
from nets.objectives.inner_attack import InnerAttack
from nets.objectives.losses import Terms, Weigh, equal_terms
from theory.domain import InvalidInput

State = Any
Steps = Literal["own", "plain", "largest", "reference-pgd"]


def never(epoch: int) -> bool:
    """Returns False: the method learns nothing from epochs."""
    del epoch
    return False


def keep(state: State, statistics: Statistics) -> State:
    """Returns the state as it is."""
    del statistics
    return state


def equal_weights(state: State, logits: jax.Array, y: jax.Array, beta: float) -> Terms:
    """Returns 1 and beta for every sample."""
    del state
    return equal_terms(logits, y, beta)


def plain_loss(state: State, logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the cross entropy of each sample, (B,)."""
    del state
    return cross_entropy(logits, y)


class GatedAverage(NamedTuple):
    """A fairness-gated average: variables, and whether any network has entered it yet, ()."""

    variables: Any
    begun: jax.Array


def start_average(variables: Any) -> GatedAverage:
    """Returns the average before any network was good enough: the variables, not counted."""
    return GatedAverage(variables, jnp.asarray(False))


class FairnessMethod(NamedTuple):
    """A fairness method: pure functions of a state, which is a pytree of arrays.

    Args:
        name: as published.
        start: the first state from the number of training samples of each class, (K,), and the
            dtype of its numbers, float32 by default.
        needs: fields of `Statistics` that `update` reads.
        due: whether `update` is called after that epoch, counted from 1; 0 is before the first.
        update: the next state from a state and the statistics of the epoch.
        weights: the terms of each sample from state, logits (B, K), labels (B,) and beta.
        radii: the factor on the radius of each class, (K,), from the state; None for no factor.
        steps: how long the steps of the attack are where radii differ, see `scaled`.
        label_loss: what takes the place of the cross entropy, from state, logits and labels.
        every_class: whether the training images must hold samples of every class.
        average: the next `Average` of variables from the last one, those after an epoch and their
            least robust accuracy of a class on held-out images; None for no such average.
    """

    name: str
    start: Callable[..., State]
    needs: tuple[str, ...] = ()
    due: Callable[[int], bool] = never
    update: Callable[[State, Statistics], State] = keep
    weights: Callable[[State, jax.Array, jax.Array, float], Terms] = equal_weights
    radii: Callable[[State], jax.Array] | None = None
    steps: Steps = "own"
    label_loss: Callable[[State, jax.Array, jax.Array], jax.Array] = plain_loss
    every_class: bool = True
    average: Callable[[GatedAverage, Any, Any], GatedAverage] | None = None


def weigh(method: FairnessMethod, state: State) -> Weigh:
    """Returns the method's weights as an objective takes them."""
    return lambda logits, y, beta: method.weights(state, logits, y, beta)


def label_loss(method: FairnessMethod, state: State) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the method's label loss as an objective takes it."""
    return lambda logits, y: method.label_loss(state, logits, y)


def inner(method: FairnessMethod, state: State, plain: InnerAttack, y: jax.Array) -> InnerAttack:
    """Returns the attack with the radius that the method gives to the class of each sample.

    Args:
        method, state: as they stand.
        plain: the attack of one radius, of one move.
        y: labels of the batch, (B,).
    """
    if method.radii is None:
        return plain
    (move,) = plain.moves
    return plain._replace(moves=scaled(move, method.radii(state)[y], method.steps))


def scaled(move: Move, factors: jax.Array, steps: Steps) -> tuple[Move, ...]:
    """Returns a move whose radius is multiplied by one factor a sample.

    Args:
        move: with radius () or (B,).
        factors: (B,).
        steps: "own": steps in the same ratio to the radius; "plain": as long as without factors;
            "largest": all as long as those of the largest radius in the batch; "reference-pgd":
            as "own", followed by the move without factors along the same gradient.
    """
    radius = jnp.asarray(move.threat.radius).astype(factors.dtype) * factors
    threat = move.threat._replace(radius=radius)
    if steps in ("own", "reference-pgd"):
        wide = Move(threat, move.step)
        return (wide,) if steps == "own" else (wide, move)
    long = jnp.ones_like(factors) if steps == "plain" else jnp.max(factors)
    # Where the radius is zero there is nowhere to go.
    relative = jnp.where(factors > 0, long / jnp.where(factors > 0, factors, 1), 0)
    return (Move(threat, relative * jnp.asarray(move.step).astype(factors.dtype)),)


def update_fairness_state(method: FairnessMethod, state: State, statistics: Statistics) -> State:
    """Returns the state after an epoch; called outside of jit, it checks what it is given.

    Raises:
        InvalidInput: naming a statistic that the method needs and that is missing, or a class of
            which no sample was measured.
    """
    for name in method.needs:
        value = getattr(statistics, name)
        if value is None:
            raise InvalidInput(f"{name} = None: {method.name} learns from it and must be given it")
        if not isinstance(value, jax.core.Tracer) and not np.isfinite(np.asarray(value)).all():
            absent = np.argwhere(~np.isfinite(np.asarray(value)))[0][0]
            raise InvalidInput(
                f"{name} = {np.asarray(value)[absent]}: not finite for class {absent}; "
                f"{method.name} needs samples of every class"
            )
    return method.update(state, statistics)


def require_data(
    method: FairnessMethod, training: np.ndarray, held_out: np.ndarray | None, names: Sequence[str]
) -> None:
    """Raises InvalidInput, before training, if the data lack what the method learns from.

    Args:
        method: the method.
        training: labels of the training images.
        held_out: labels of images held out of training, or None if there are none.
        names: of the K classes.
    """
    if method.every_class:
        _require_classes(f"training images: {method.name}", training, names)
    wanted = [name for name in method.needs if name in HELD_OUT]
    if method.average is not None:
        wanted.append("robust_errors")
    if not wanted:
        return
    if held_out is None or not len(held_out):
        raise InvalidInput(
            f"held_out = {held_out if held_out is None else 'empty'}: {method.name} learns from "
            f"{' and '.join(wanted)}, so some images of every class must be held out of training"
        )
    _require_classes(f"held-out images: {method.name}", held_out, names)


def _require_classes(who: str, labels: np.ndarray, names: Sequence[str]) -> None:
    counts = np.bincount(np.asarray(labels), minlength=len(names))
    if len(counts) > len(names):
        raise InvalidInput(f"labels = {len(counts) - 1}: must be below the {len(names)} classes")
    if not counts.all():
        name = names[int(np.argmin(counts))]
        raise InvalidInput(f"{who} needs samples of every class, and there are none of {name!r}")
