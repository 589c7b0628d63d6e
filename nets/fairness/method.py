"""What a fairness method is, what it does to an objective, and what data it cannot do without."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nets.attacks.attack import class_numbers
from nets.attacks.gradient import Move
from nets.attacks.losses import Loss, cross_entropy
from nets.fairness.statistics import HELD_OUT, Statistics
from nets.objectives.inner_attack import InnerAttack
from nets.objectives.losses import Terms, Weigh, equal_terms
from theory.domain import InvalidInput

# A pytree of arrays, whatever a method makes it; its own functions alone look inside.
State = Any
Steps = Literal["own", "plain", "largest", "reference-pgd"]


class FirstState(Protocol):
    """How a fairness method begins."""

    def __call__(self, counts: jax.Array, dtype: Any = ...) -> State:
        """Returns the first state.

        Args:
            counts: training samples of each class, (K,).
            dtype: of the state's numbers, float32 by default.
        """


class StateUpdate(Protocol):
    """What a fairness method learns after an epoch, outside of jit."""

    def __call__(self, state: State, statistics: Statistics, /) -> State:
        """Returns the next state, of the same structure, shapes and dtypes."""


class SampleWeights(Protocol):
    """How a fairness method weighs the samples of a batch, inside the training step."""

    def __call__(self, state: State, logits: jax.Array, y: jax.Array, beta: float, /) -> Terms:
        """Returns the terms of each sample, (B,), see `nets.objectives.losses.Weigh`.

        Args:
            state: as it stands.
            logits: (B, K), adversarial where there are any.
            y: labels, (B,).
            beta: weight of the divergence without class weights.
        """


class ClassRadii(Protocol):
    """How large the ball of each class is."""

    def __call__(self, state: State, /) -> jax.Array:
        """Returns the factor on the radius of each class, (K,), >= 0."""


class LabelLoss(Protocol):
    """What a fairness method lowers in place of the cross entropy."""

    def __call__(self, state: State, logits: jax.Array, y: jax.Array, /) -> jax.Array:
        """Returns the loss of each sample, (B,), from logits (B, K) and labels (B,)."""


def never(epoch: int) -> bool:
    """Returns False: the method learns nothing from epochs."""
    del epoch
    return False


def keep(state: State, statistics: Statistics) -> State:
    """Returns the state as it is."""
    del statistics
    return state


def equal_weights(state: State, logits: jax.Array, y: jax.Array, beta: float) -> Terms:
    """Returns 1 and beta for every sample, (B,) each, from logits (B, K) and labels (B,)."""
    del state
    return equal_terms(logits, y, beta)


def plain_loss(state: State, logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the cross entropy of each sample, (B,), from logits (B, K) and labels (B,)."""
    del state
    return cross_entropy(logits, y)


class GatedAverage(NamedTuple):
    """A fairness-gated average: variables, and whether any network has entered it yet, ()."""

    variables: Any
    begun: jax.Array


def start_average(variables: Any) -> GatedAverage:
    """Returns the average before any network was good enough: the variables, not counted."""
    return GatedAverage(variables, jnp.asarray(False))


class AverageUpdate(Protocol):
    """Whether and how a network enters an average of networks."""

    def __call__(
        self, held: GatedAverage, current: Any, worst_accuracy: jax.Array | float, /
    ) -> GatedAverage:
        """Returns the next average.

        Args:
            held: the last one.
            current: the variables after an epoch, a pytree of the same structure.
            worst_accuracy: their least robust accuracy of a class on held-out images, ().
        """


class FairnessMethod(NamedTuple):
    """A fairness method: pure functions of a state, which is a pytree of arrays.

    Args:
        name: as published.
        start: the first state.
        needs: fields of `Statistics` that `update` reads.
        due: whether `update` is called after that epoch, counted from 1; 0 is before the first.
        update: the next state.
        weights: the terms of each sample.
        radii: the factor on the radius of each class, (K,); None for no factor.
        steps: how long the steps of the attack are where radii differ, see `scaled`.
        label_loss: what takes the place of the cross entropy.
        every_class: whether the training images must hold samples of every class.
        average: the next average of variables; None for no such average.
    """

    name: str
    start: FirstState
    needs: tuple[str, ...] = ()
    due: Callable[[int], bool] = never
    update: StateUpdate = keep
    weights: SampleWeights = equal_weights
    radii: ClassRadii | None = None
    steps: Steps = "own"
    label_loss: LabelLoss = plain_loss
    every_class: bool = True
    average: AverageUpdate | None = None


def weigh(method: FairnessMethod, state: State) -> Weigh:
    """Returns the method's weights as an objective takes them."""
    return lambda logits, y, beta: method.weights(state, logits, y, beta)


def label_loss(method: FairnessMethod, state: State) -> Loss:
    """Returns the method's label loss as an objective takes it, a function of logits and labels."""
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
    # One move: a method on top of an attack that is made of several would scale each of them anew.
    (move,) = plain.moves
    return plain._replace(moves=scaled(move, method.radii(state)[class_numbers(y)], method.steps))


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
    # A `Move` counts steps in units of its own radius, which the factor has changed: a step that is
    # to keep its length is divided by it. Where the radius is zero there is nowhere to go, and the
    # inner where keeps the division by zero from leaving a nan.
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
        # nan is what a class without samples leaves in a mean; passed on, it would spread to the
        # weights of all classes, and from them to the parameters.
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
        training: labels of the training images, (n,).
        held_out: labels of images held out of training, (m,), or None if there are none.
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
    counts = np.bincount(np.asarray(class_numbers(labels)), minlength=len(names))
    if len(counts) > len(names):
        raise InvalidInput(f"labels = {len(counts) - 1}: must be below the {len(names)} classes")
    if not counts.all():
        name = names[int(np.argmin(counts))]
        raise InvalidInput(f"{who} needs samples of every class, and there are none of {name!r}")
