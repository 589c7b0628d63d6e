"""The training step: any objective, any fairness method, any schedule.

Data stay on the device as uint8. Every random number of a step follows from (seed, epoch, step), so
that a run goes on from any epoch as if it had never stopped.
"""

from typing import Any, NamedTuple, Protocol

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
from nets.fairness.statistics import Sums, add, no_samples
from nets.objectives import mixup
from nets.objectives.augment import augment
from nets.objectives.inner_attack import Apply, InnerAttack, shrunk
from nets.objectives.losses import Objective, natural
from nets.training.schedules import Rates


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
        radius_warm_up_steps: over which the radius of the attack rises from zero; 0 for none.
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
    radius_warm_up_steps: int = 0
    mesh: Mesh | None = None


class TrainingState(NamedTuple):
    """What a step changes; a pytree of arrays.

    Args:
        variables: parameters and running statistics, of the network's shapes.
        optimiser: momentum, of the shapes of the parameters, and the number of steps, ().
        average: of the variables and of their shapes, or the method's `GatedAverage`; () where
            nothing is averaged.
        fairness: state of the fairness method, a pytree.
        sums: of the training points of this epoch, class by class, (K,) or (K, K).
        steps: taken so far, (), int32.
    """

    variables: dict[str, Any]
    optimiser: Any
    average: Any
    fairness: Any
    sums: Sums
    steps: jax.Array


class Step(Protocol):
    """One step of training on one batch: what `make_step` returns."""

    def __call__(
        self,
        state: TrainingState,
        pixels: jax.Array,
        labels: jax.Array,
        chosen: np.ndarray | jax.Array,
        epoch: np.uint32 | jax.Array,
        number: np.uint32 | jax.Array,
        seed: np.ndarray | np.uint32 | jax.Array,
        /,
    ) -> tuple[TrainingState, jax.Array]:
        """Returns the state after the step, and the loss before it, ().

        Of `nets.training.batched_seeds.make_step` the state, `chosen`, `seed` and the loss have an
        axis (S,) of seeds in front.

        Args:
            state: before the step.
            pixels: of all training images, (n, height, width, channels), uint8.
            labels: of them, (n,), int32, in [0, K).
            chosen: the images of the batch, (B,), int32, in [0, n).
            epoch: from 1, (), uint32; like the next two it decides the step's random numbers.
            number: of the step in its epoch, from 0, (), uint32.
            seed: of the training, (), uint32.
        """


def sgd(
    rates: Rates, momentum: float = 0.9, nesterov: bool = False, decay: float = 5e-4
) -> optax.GradientTransformation:
    """Returns stochastic gradient descent; weight decay acts on kernels alone, through momentum.

    Args:
        rates: the rate of each step, see `nets.training.schedules`.
        momentum: in [0, 1).
        nesterov: whether it is Nesterov's.
        decay: >= 0, of the sum of squares over two, so that its gradient is decay times a kernel.
    """
    return optax.chain(
        # Before the momentum, as the published recipes have it: their decay is part of the gradient
        # (L2), not AdamW's, which is taken off the weights after it.
        optax.add_decayed_weights(decay, _is_kernel),
        optax.sgd(rates, momentum=momentum, nesterov=nesterov),
    )


def _is_kernel(parameters: Any) -> Any:
    """Returns which parameters decay: kernels, not biases or scales of normalisation.

    Those are the vectors, whatever a network calls them.
    """
    return jax.tree.map(lambda value: value.ndim > 1, parameters)


def start(spec: StepSpec, variables: Any, labels: np.ndarray, classes: int) -> TrainingState:
    """Returns the state before the first step.

    Args:
        spec: what will be done.
        variables: to begin with.
        labels: of the training images, (n,), in [0, classes).
        classes: K.
    """
    # A dictionary and no mapping of another kind, as the steps return it: the structure of a state
    # must not change, or a step would be compiled twice.
    variables = dict(variables)
    counts = jnp.asarray(np.bincount(labels, minlength=classes))
    return TrainingState(
        variables,
        spec.optimiser.init(variables["params"]),
        _first_average(spec, variables),
        spec.method.start(counts),
        no_samples(classes),
        jnp.zeros((), jnp.int32),
    )


def evaluated_variables(state: TrainingState) -> Any:
    """Returns the variables that are evaluated and kept: the average where there is one."""
    if isinstance(state.average, GatedAverage):
        return state.average.variables
    return state.average or state.variables


def make_step(spec: StepSpec) -> Step:
    """Returns `step_of` the spec, compiled."""
    return compiled(spec, step_of(spec))


def compiled(spec: StepSpec, step: Step) -> Step:
    """Returns a step compiled for the devices of the specification."""
    if spec.mesh is None:
        return jit(step)
    return jit(step, out_shardings=devices.replicated(spec.mesh))


def step_of(spec: StepSpec) -> Step:
    """Returns the step, not compiled."""

    def step(
        state: TrainingState,
        pixels: jax.Array,
        labels: jax.Array,
        chosen: np.ndarray | jax.Array,
        epoch: np.uint32 | jax.Array,
        number: np.uint32 | jax.Array,
        seed: np.ndarray | np.uint32 | jax.Array,
    ) -> tuple[TrainingState, jax.Array]:
        # Folded in, not split off the key of the step before: a training goes on from any epoch.
        whole = jax.random.key(seed, impl="threefry2x32")
        key = jax.random.fold_in(jax.random.fold_in(whole, epoch), number)
        # Three keys in any case, so that the attack's numbers do not depend on mixup or crops.
        views, mixes, attacks = jax.random.split(key, 3)
        y = labels[chosen]
        x = to_floats(augment(views, pixels[chosen], spec.pad, spec.flip))
        if spec.mix < 1:
            x = mixup.mix(mixes, x, y, spec.mix)
        return _move(spec, state, attacks, *devices.spread(spec.mesh, (x, y)))

    return step


def _move(
    spec: StepSpec, state: TrainingState, key: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[TrainingState, jax.Array]:
    """Returns the state after a step on x and y, and the loss before it."""
    inner = spec.inner and fairness.inner(spec.method, state.fairness, spec.inner, y)
    if inner and spec.radius_warm_up_steps:
        # One step ahead: the first has a ball already, and the last of the warm-up the whole one.
        steps = (state.steps + 1).astype(jnp.float32)
        inner = shrunk(inner, jnp.minimum(1, steps / spec.radius_warm_up_steps))
    weigh = fairness.weigh(spec.method, state.fairness)
    label_loss = fairness.label_loss(spec.method, state.fairness)

    def loss_of(parameters: Any) -> tuple[jax.Array, Any]:
        variables = {**state.variables, "params": parameters}
        return spec.objective(
            key, spec.apply, variables, x, y, inner, weigh=weigh, label_loss=label_loss
        )

    parameters = state.variables["params"]
    (loss, outcome), slope = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    updates, kept = spec.optimiser.update(slope, state.optimiser, parameters)
    # The running statistics come from the objective, which has moved them; its parameters are those
    # before the step.
    variables = {**outcome.variables, "params": optax.apply_updates(parameters, updates)}
    # Fairness methods learn from the points that were trained on, at no further pass.
    seen = outcome.clean if outcome.adversarial is None else outcome.adversarial
    moved = TrainingState(
        variables,
        kept,
        _ema_step(spec.ema, state, variables),
        state.fairness,  # moves between epochs alone
        add(state.sums, seen, y),
        state.steps + 1,
    )
    return moved, loss


def _first_average(spec: StepSpec, variables: Any) -> Any:
    """Returns the average before the first step: of the first network alone."""
    if spec.method.average is not None:
        return start_average(variables)
    return variables if spec.ema else ()


def _ema_step(decay: float, state: TrainingState, variables: Any) -> Any:
    """Returns the moving average, faster at first: of decay (1 + t) / (10 + t), as in DM's code.

    Without a decay what is held stays: a method's average moves between epochs.
    """
    if not decay:
        return state.average
    # Counted before the step, so that the first one keeps a tenth of the network of the start.
    taken = state.steps.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + taken) / (10 + taken))
    return jax.tree.map(
        # As a move towards the new value: exact where nothing has changed, which
        # kept * old + (1 - kept) * new is not.
        lambda old, new: old + (1 - kept).astype(old.dtype) * (new - old),
        state.average,
        variables,
    )
