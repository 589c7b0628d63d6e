"""An epoch of training: the order of its images, its steps one after the other, its mean loss."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nets.training.step import Step, TrainingState
from theory.domain import InvalidInput

ORDER = 7  # of the orders, beside the purposes of `nets.data.subsets`


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Returns the order of the images in an epoch, (count,), int32: a permutation.

    Args:
        seed: in [0, 2^32).
        epoch: from 1.
        count: of images.
    """
    # Raw words of a bit generator are the stream that numpy never changes (NEP 19); those of
    # `Generator.permutation` may change with a version. A stable sort, as words may be equal.
    words = np.random.PCG64((ORDER, seed, epoch)).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int32)


def batches(seed: int, epoch: int, count: int, batch: int) -> Iterator[np.ndarray]:
    """Yields the indices of each batch, (batch,), int32.

    A last one that is not full is left out of its epoch: another shape would be another program,
    and the images that it leaves out are others in the next epoch.
    """
    chosen = order(seed, epoch, count)
    for begin in range(0, count - batch + 1, batch):
        yield chosen[begin : begin + batch]


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
        data: pixels (n, height, width, channels), uint8, and labels (n,), int32, on the device.
        seed, epoch, batch: see `batches`; the first epoch is 1.
        after: called with the number of steps done, each time one has been handed to the device.

    Raises:
        InvalidInput: where the loss is no longer finite.
    """
    state, losses = with_zero_sums(state), []
    for number, chosen in enumerate(batches(seed, epoch, len(data[1]), batch)):
        # Numbers of a type, which are traced: a Python integer would be too large for int32 as a
        # seed of 2^31 or more.
        moment = np.uint32(epoch), np.uint32(number)
        state, loss = step(state, *data, chosen, *moment, np.uint32(seed))
        # It stays on the device: fetching it would wait for the step before the next is sent.
        losses.append(loss)
        after(number + 1)
    return state, mean_loss(jax.device_get(losses), epoch)


def with_zero_sums(state: TrainingState) -> TrainingState:
    """Returns the state before an epoch: its sums begin anew."""
    return state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))


def mean_loss(losses: Any, epoch: int) -> float:
    """Returns the mean loss of the steps of an epoch.

    Args:
        losses: one for each step, (), or an array of them, (steps,).
        epoch: from 1, for the message.

    Raises:
        InvalidInput: where it is not finite.
    """
    mean = float(np.mean(losses, dtype=np.float64))
    if not np.isfinite(mean):
        raise InvalidInput(f"rate: the loss is {mean} in epoch {epoch}; take a smaller rate")
    return mean
