"""Several seeds of one training with one compiled step, each with numbers of its own.

On CPU, and on several devices, the seeds take their epochs in turn, by the very step of a training
alone, so that each has its bits. On any other device one step takes all seeds, batched: small
networks fill the device then, and sums are rounded in another order.
"""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from nets.data.load import Images
from nets.training import epoch as training_epoch
from nets.training import step as training_step
from nets.training.step import Step, StepSpec, TrainingState


def seeds_take_turns(spec: StepSpec) -> bool:
    """Returns whether seeds take turns.

    Batched kernels are slow on CPU (`nets.models.conv`), and XLA does not spread their convolutions
    over several devices. A loop over seeds inside the step would be compiled, and so rounded,
    unlike the step alone.
    """
    return spec.mesh is not None or jax.default_backend() == "cpu"


def make_step(spec: StepSpec) -> Step:
    """Returns the compiled step of `nets.training.step.make_step` over several states at once.

    State, `chosen`, `seed` and loss have an axis of seeds in front; pixels, labels, `epoch` and
    `number` have not.
    """
    # In the order of `Step`: state, pixels, labels, chosen, epoch, number, seed.
    over_seeds = jax.vmap(training_step.step_of(spec), (0, None, None, 0, None, None, 0))
    return training_step.compiled(spec, over_seeds)


def stacked_images(images_of_seeds: Sequence[Images]) -> tuple[Images, list[int]]:
    """Returns the training images of all seeds, and where those of each seed begin.

    Seeds that train on the same images share them.

    Args:
        images_of_seeds: of each seed, n of one shape.

    Returns:
        images (n, height, width, channels) and labels (n,) where they are shared, else of S n rows;
        and the first row of each seed.
    """
    first = images_of_seeds[0]
    if all(images is first for images in images_of_seeds):
        return first, [0] * len(images_of_seeds)
    count = len(first.labels)
    arrays = (np.concatenate(arrays) for arrays in zip(*images_of_seeds, strict=True))
    return Images(*arrays), [i * count for i in range(len(images_of_seeds))]


def run_epoch(
    step: Step,
    states: Sequence[TrainingState],
    data: tuple[jax.Array, jax.Array],
    seeds: Sequence[int],
    orders: Sequence[Iterable[np.ndarray]],
    epoch: int,
    after: Callable[[int], None] = lambda number: None,
) -> list[tuple[TrainingState, float]]:
    """Returns the state after an epoch and its mean loss, of each seed.

    Args:
        step: from `make_step`.
        states: before it, one for each seed.
        data: pixels (n, height, width, channels), uint8, and labels (n,), int32, of
            `stacked_images`, on the device.
        seeds: in [0, 2^32).
        orders: the batches of each seed, indices (B,) of `data`, as many for all.
        epoch, after: as in `nets.training.epoch.run_epoch`.

    Raises:
        InvalidInput: where a loss is no longer finite.
    """
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *map(training_epoch.with_zero_sums, states)
    )
    numbers, losses = np.asarray(seeds, np.uint32), []
    for number, rows in enumerate(zip(*orders, strict=True)):
        moment = np.uint32(epoch), np.uint32(number)
        stacked, loss = step(stacked, *data, np.stack(rows), *moment, numbers)
        losses.append(loss)
        after(number + 1)
    # (steps, S) on the device, of which each seed takes its own row here.
    losses_by_seed = np.stack(jax.device_get(losses), 1)

    def state_of(i: int) -> TrainingState:
        state: TrainingState = jax.tree.map(lambda leaf: leaf[i], stacked)
        return state

    return [
        (state_of(i), training_epoch.mean_loss(row, epoch)) for i, row in enumerate(losses_by_seed)
    ]
