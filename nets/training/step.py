"""The training step and its loop over epochs: any objective, any fairness method, any schedule.

Data stay on the device as uint8. Every random number of a step follows from (seed, epoch, step) and
the order of the images from (seed, epoch), so that a run goes on from any epoch as if it had never
stopped. What is measured between epochs is in `nets.training.monitor`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from nets.compute import devices
from nets.compute.compiler import jit
from nets.data.pixels import to_floats
from nets.fairness import method as fairness
from nets.fairness.method import FairnessMethod, GatedAverage, start_average
from nets.fairness.methods import none
from nets.fairness.statistics import Statistics, Sums, accuracy, add, no_samples, similarity
from nets.objectives import mixup
from nets.objectives.augment import augment
from nets.objectives.inner_attack import Apply, InnerAttack, shrunk
from nets.objectives.losses import Objective, natural
from nets.training.schedules import Rates
from theory.domain import InvalidInput

ORDER = 7  # of the orders, beside the purposes of `nets.data.subsets`


class StepSpec(NamedTuple):
    """What a step does; static.

    Args:
        apply: the network, see `nets.objectives.inner_attack.apply_of`.
        optimiser: see `sgd`.
        objective: a function value of `nets.objectives.losses`, with its beta.
        inner: the attack inside it; None for natural training.
        method: of fairness; None treats all classes alike.
        seed: in [0, 2^32); what is compiled does not depend on it.
        pad, flip: see `nets.objectives.augment`.
        mix: share of an image that is its own, the rest of another of its class; 1 for none.
        ema: decay of the average of the variables, in [0, 1); 0 for no average.
        rise: steps over which the radius of the attack rises from zero; 0 for none.
        mesh: of the devices over which a batch is spread, see `nets.compute.devices`; None for one.
    """

    apply: Apply
    optimiser: optax.GradientTransformation
    objective: Objective = natural
    inner: InnerAttack | None = None
    method: FairnessMethod = none()
    seed: int = 0
    pad: int = 0
    flip: bool = False
    mix: float = 1.0
    ema: float = 0.0
    rise: int = 0
    mesh: Mesh | None = None


class TrainingState(NamedTuple):
    """What a step changes; a pytree of arrays.

    Args:
        variables: parameters and running statistics.
        optimiser: momentum and the number of steps.
        average: of the variables, or the method's `Average`; () where nothing is averaged.
        fairness: state of the fairness method.
        sums: of the training points of this epoch, class by class.
        steps: taken so far, ().
    """

    variables: dict[str, Any]
    optimiser: Any
    average: Any
    fairness: Any
    sums: Sums
    steps: jax.Array


Step = Callable[..., tuple[TrainingState, jax.Array]]


def sgd(
    rates: Rates, momentum: float = 0.9, nesterov: bool = False, decay: float = 5e-4
) -> optax.GradientTransformation:
    """Returns stochastic gradient descent; weight decay acts on kernels alone, through momentum."""
    return optax.chain(
        optax.add_decayed_weights(decay, _is_kernel),
        optax.sgd(rates, momentum=momentum, nesterov=nesterov),
    )


def _is_kernel(parameters: Any) -> Any:
    """Returns which parameters decay: kernels, not biases or scales of normalisation."""
    return jax.tree.map(lambda value: value.ndim > 1, parameters)


def start(task: StepSpec, variables: Any, labels: np.ndarray, classes: int) -> TrainingState:
    """Returns the state before the first step.

    Args:
        task: what will be done.
        variables: to begin with.
        labels: of the training images, (n,).
        classes: K.
    """
    variables = dict(variables)
    counts = jnp.asarray(np.bincount(labels, minlength=classes))
    return TrainingState(
        variables,
        task.optimiser.init(variables["params"]),
        _begun(task, variables),
        task.method.start(counts),
        no_samples(classes),
        jnp.zeros((), jnp.int32),
    )


def evaluated_variables(state: TrainingState) -> Any:
    """Returns the variables that are evaluated and kept: the average where there is one."""
    if isinstance(state.average, GatedAverage):
        return state.average.variables
    return state.average or state.variables


def evaluates_average(task: StepSpec) -> bool:
    """Returns whether what is evaluated is an average, not the network in training."""
    return bool(task.ema) or task.method.average is not None


def update_gated_average(task: StepSpec, state: TrainingState, worst: float) -> TrainingState:
    """Returns the state after the method's average has been shown the network of an epoch.

    Until one is good enough to enter it, the average is the network in training.

    Args:
        task: with a method that keeps an average.
        state: after an epoch.
        worst: least robust accuracy of a class on held-out images, of the network in training.
    """
    if task.method.average is None:
        raise InvalidInput(f"fairness = {task.method.name}: keeps no average")
    held = state.average if bool(state.average.begun) else start_average(state.variables)
    return state._replace(average=task.method.average(held, state.variables, worst))


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Returns the order of the images in an epoch, from a stream that numpy never changes."""
    words = np.random.PCG64((ORDER, seed, epoch)).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int32)


def batches(seed: int, epoch: int, count: int, batch: int) -> Iterator[np.ndarray]:
    """Yields the indices of each batch; a last one that is not full is left out of its epoch."""
    chosen = order(seed, epoch, count)
    for begin in range(0, count - batch + 1, batch):
        yield chosen[begin : begin + batch]


def make_step(task: StepSpec) -> Step:
    """Returns `step_of` the task, compiled."""
    return compiled(task, step_of(task))


def compiled(task: StepSpec, step: Step) -> Step:
    """Returns a step compiled for the devices of the task."""
    if task.mesh is None:
        return jit(step)
    return jit(step, out_shardings=devices.replicated(task.mesh))


def step_of(task: StepSpec) -> Step:
    """Returns the step (state, pixels, labels, chosen, epoch, number, seed) -> (state, loss).

    `pixels` and `labels` are the whole training set, `chosen` the indices of the batch (B,), int32,
    and `epoch`, `number` and `seed` scalars, uint32, from which its random numbers follow.
    """

    def step(
        state: TrainingState,
        pixels: jax.Array,
        labels: jax.Array,
        chosen: jax.Array,
        epoch: jax.Array,
        number: jax.Array,
        seed: jax.Array,
    ) -> tuple[TrainingState, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), epoch), number)
        views, mixes, attacks = jax.random.split(key, 3)
        y = labels[chosen]
        x = to_floats(augment(views, pixels[chosen], task.pad, task.flip))
        if task.mix < 1:
            x = mixup.mix(mixes, x, y, task.mix)
        return _move(task, state, attacks, *devices.spread(task.mesh, (x, y)))

    return step


def _move(
    task: StepSpec, state: TrainingState, key: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[TrainingState, jax.Array]:
    """Returns the state after a step on x and y, and the loss before it."""
    inner = task.inner and fairness.inner(task.method, state.fairness, task.inner, y)
    if inner and task.rise:
        inner = shrunk(inner, jnp.minimum(1, (state.steps + 1).astype(jnp.float32) / task.rise))
    method = {
        "weigh": fairness.weigh(task.method, state.fairness),
        "label_loss": fairness.label_loss(task.method, state.fairness),
    }

    def loss_of(parameters: Any) -> tuple[jax.Array, Any]:
        variables = {**state.variables, "params": parameters}
        return task.objective(key, task.apply, variables, x, y, inner, **method)

    parameters = state.variables["params"]
    (loss, outcome), slope = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    updates, kept = task.optimiser.update(slope, state.optimiser, parameters)
    variables = {**outcome.variables, "params": optax.apply_updates(parameters, updates)}
    seen = outcome.clean if outcome.adversarial is None else outcome.adversarial
    moved = TrainingState(
        variables,
        kept,
        _ema_step(task.ema, state, variables),
        state.fairness,
        add(state.sums, seen, y),
        state.steps + 1,
    )
    return moved, loss


def _begun(task: StepSpec, variables: Any) -> Any:
    if task.method.average is not None:
        return start_average(variables)
    return variables if task.ema else ()


def _ema_step(decay: float, state: TrainingState, variables: Any) -> Any:
    """Returns the moving average, faster at first: of decay (1 + t) / (10 + t), as in DM's code.

    Without a decay what is held stays: a method's average moves between epochs.
    """
    if not decay:
        return state.average
    taken = state.steps.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + taken) / (10 + taken))
    return jax.tree.map(
        lambda old, new: old + (1 - kept).astype(old.dtype) * (new - old), state.average, variables
    )


def run_epoch(
    step: Step,
    state: TrainingState,
    data: tuple[jax.Array, jax.Array],
    seed: int,
    epoch: int,
    batch: int,
    after: Callable[[int], None] = lambda number: None,
) -> tuple[TrainingState, float]:
    """Returns the state after an epoch and its mean loss.

    Args:
        step: from `make_step`.
        state: before it; its sums begin anew.
        data: pixels and labels, on the device.
        seed, epoch, batch: see `batches`; the first epoch is 1.
        after: called with the number of steps done, each time one has been handed to the device.

    Raises:
        InvalidInput: where the loss is no longer finite.
    """
    state, losses = with_zero_sums(state), []
    for number, chosen in enumerate(batches(seed, epoch, len(data[1]), batch)):
        moment = np.uint32(epoch), np.uint32(number)
        state, loss = step(state, *data, chosen, *moment, np.uint32(seed))
        losses.append(loss)
        after(number + 1)
    return state, mean_loss(jax.device_get(losses), epoch)


def with_zero_sums(state: TrainingState) -> TrainingState:
    """Returns the state before an epoch: its sums begin anew."""
    return state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))


def mean_loss(losses: Any, epoch: int) -> float:
    """Returns the mean loss of the steps of an epoch; InvalidInput where it is not finite."""
    mean = float(np.mean(losses, dtype=np.float64))
    if not np.isfinite(mean):
        raise InvalidInput(f"rate: the loss is {mean} in epoch {epoch}; take a smaller rate")
    return mean


def update_fairness_state(
    task: StepSpec, state: TrainingState, held_out: Statistics
) -> TrainingState:
    """Returns the state after the fairness method has learned from an epoch.

    Args:
        task, state: as they stand.
        held_out: statistics of held-out images; those of training come from the state.
    """
    found = held_out._replace(
        similarity=similarity(state.sums), training_accuracy=accuracy(state.sums)
    )
    return state._replace(
        fairness=fairness.update_fairness_state(task.method, state.fairness, found)
    )
