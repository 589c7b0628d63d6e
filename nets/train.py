"""A plain training loop: natural training of any network, for something to evaluate.

Data stay on the device as uint8; every epoch is a fresh permutation of (seed, epoch).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

from nets.compiler import jit
from nets.data import Images
from nets.evaluate import to_floats
from theory.problem import InvalidInput

Progress = Callable[[float], None]


class Schedule(NamedTuple):
    """How long and how fast: cosine decay from `rate` to zero, momentum 0.9, weight decay."""

    epochs: int = 10
    batch: int = 128
    rate: float = 0.05
    decay: float = 5e-4


class State(NamedTuple):
    """What a step changes: variables of the module and the optimiser's state."""

    variables: dict[str, Any]
    optimiser: Any


class Trained(NamedTuple):
    """The last variables, the mean loss of each epoch and the seconds it took."""

    variables: dict[str, Any]
    losses: tuple[float, ...]
    seconds: float


def require_schedule(schedule: Schedule, images: Images) -> None:
    """Raises InvalidInput unless the schedule makes sense for these images."""
    if schedule.epochs < 1:
        raise InvalidInput(f"epochs = {schedule.epochs}: must be at least 1")
    if not 1 <= schedule.batch <= len(images.labels):
        raise InvalidInput(
            f"batch = {schedule.batch}: must lie between 1 and the {len(images.labels)} images"
        )
    if not schedule.rate > 0 or not schedule.decay >= 0:
        raise InvalidInput(
            f"rate = {schedule.rate}, decay = {schedule.decay}: must be > 0 and >= 0"
        )


def train(
    module: linen.Module,
    variables: Mapping[str, Any],
    images: Images,
    schedule: Schedule,
    seed: int,
    progress: Progress | None = None,
) -> Trained:
    """Returns the network after natural training by cross entropy.

    Args:
        module: takes (x, train).
        variables: to begin with.
        images: of the training set; a last batch that is not full is left out of its epoch.
        schedule: see `Schedule`.
        seed: of the order of the images, in [0, 2^32).
        progress: called after each epoch with the share done.

    Raises:
        InvalidInput: for a bad schedule, or where the loss is no longer finite.
    """
    require_schedule(schedule, images)
    started = time.perf_counter()
    batches = len(images.labels) // schedule.batch
    rates = _cosine(schedule.rate, schedule.epochs * batches)
    optimiser = optax.chain(
        optax.add_decayed_weights(schedule.decay, _is_kernel), optax.sgd(rates, momentum=0.9)
    )
    step = jit(_step(module, optimiser))
    state = State(dict(variables), optimiser.init(variables["params"]))
    pixels, labels = jnp.asarray(images.images), jnp.asarray(images.labels)
    losses = []
    for epoch in range(schedule.epochs):
        order = np.random.default_rng((seed, epoch)).permutation(len(images.labels))
        found = []
        for chosen in order[: batches * schedule.batch].reshape(batches, -1):
            state, loss = step(state, pixels, labels, chosen)
            found.append(loss)
        losses.append(float(jnp.mean(jnp.stack(found))))
        if not np.isfinite(losses[-1]):
            raise InvalidInput(
                f"rate = {schedule.rate}: diverged in epoch {epoch + 1}; take a smaller one"
            )
        if progress is not None:
            progress((epoch + 1) / schedule.epochs)
    return Trained(state.variables, tuple(losses), time.perf_counter() - started)


def _cosine(rate: float, steps: int) -> Callable[[jax.Array], jax.Array]:
    """Returns the rate at each step; optax's own schedule needs implicit promotion of integers."""
    return lambda count: 0.5 * rate * (1 + jnp.cos(jnp.pi / steps * count.astype(jnp.float32)))


def _is_kernel(parameters: Any) -> Any:
    """Returns which parameters decay: kernels, not biases or scales of normalisation."""
    return jax.tree.map(lambda value: value.ndim > 1, parameters)


def _step(
    module: linen.Module, optimiser: optax.GradientTransformation
) -> Callable[..., tuple[State, jax.Array]]:
    def step(
        state: State, pixels: jax.Array, labels: jax.Array, chosen: jax.Array
    ) -> tuple[State, jax.Array]:
        x, y = to_floats(pixels[chosen]), labels[chosen]
        rest = {k: v for k, v in state.variables.items() if k != "params"}

        def loss_of(parameters: Any) -> tuple[jax.Array, Any]:
            logits, changed = module.apply(
                {"params": parameters, **rest}, x, train=True, mutable=list(rest)
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return losses.mean(), changed

        (loss, changed), slope = jax.value_and_grad(loss_of, has_aux=True)(
            state.variables["params"]
        )
        parameters = state.variables["params"]
        updates, kept = optimiser.update(slope, state.optimiser, parameters)
        moved = optax.apply_updates(parameters, updates)
        return State({"params": moved, **rest, **changed}, kept), loss

    return step
