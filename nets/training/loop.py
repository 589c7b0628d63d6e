"""Training from epoch to epoch, of one seed or of several, until the last or a collapse."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from nets.compute import devices
from nets.data.load import Images
from nets.training import batched_seeds, between_epochs
from nets.training import epoch as training_epoch
from nets.training.progress import Training, TrainingProgress, stopped
from nets.training.step import TrainingState


def run(
    training: Training,
    progress: TrainingProgress,
    save: Callable[[TrainingProgress], None] = lambda progress: None,
    share: Callable[[float], None] = lambda share: None,
) -> TrainingProgress:
    """Returns the progress after the last epoch, or after that in which robustness collapsed.

    Args:
        training: see `nets.training.progress.require_training`.
        progress: from `begin`, or what `save` was given: what follows does not depend on which.
        save, share: see `run_seeds`.

    Raises:
        InvalidInput: where the loss is no longer finite.
    """

    def save_single(progresses: Sequence[TrainingProgress]) -> None:
        save(progresses[0])

    return run_seeds((training,), (progress,), save_single, share)[0]


def run_seeds(
    trainings: Sequence[Training],
    progresses: Sequence[TrainingProgress],
    save: Callable[[Sequence[TrainingProgress]], None] = lambda progresses: None,
    share: Callable[[float], None] = lambda share: None,
) -> list[TrainingProgress]:
    """Returns the progress of each seed, as `run` does of one.

    Args:
        trainings: the same but for seed and images. The step of the first is taken, of
            `nets.training.batched_seeds.make_step` if there are several that do not take turns.
        progresses: of each, after the same epoch, or after that in which it collapsed.
        save: called after every epoch.
        share: called with the share done, in [0, 1].

    Raises:
        InvalidInput: where the loss is no longer finite.
    """
    epochs = trainings[0].epochs
    current = [
        between_epochs.before_first_epoch(training, progress)
        for training, progress in zip(trainings, progresses, strict=True)
    ]
    are_batched = len(trainings) > 1 and not batched_seeds.seeds_take_turns(trainings[0].spec)
    run_epoch = _all_at_once(trainings) if are_batched else _in_turn(trainings)
    steps = len(trainings[0].images.train.labels) // trainings[0].batch
    # Indices of the seeds that go on: one whose robustness has collapsed stops by itself.
    while going := [i for i, progress in enumerate(current) if not _is_over(progress, epochs)]:
        epochs_before, steps_of_all = len(current[going[0]].records), len(going) * steps
        states = [current[i].state for i in going]

        def tell(steps_done: int, before: int = epochs_before, of_all: int = steps_of_all) -> None:
            share((before + steps_done / of_all) / epochs)

        ended = run_epoch(_Epoch(going, states, epochs_before + 1, tell))
        for i, (state, loss) in zip(going, ended, strict=True):
            current[i] = between_epochs.finish_epoch(trainings[i], current[i], state, loss)
        save(current)
    # A training that was finished before says so, too.
    share(1.0)
    return current


def _is_over(progress: TrainingProgress, epochs: int) -> bool:
    return len(progress.records) >= epochs or stopped(progress)


class _Epoch(NamedTuple):
    """An epoch of some of the seeds, before it.

    Args:
        going: indices of the seeds among the trainings.
        states: of these seeds.
        number: from 1.
        after: called with the steps done, those of all these seeds together.
    """

    going: Sequence[int]
    states: Sequence[TrainingState]
    number: int
    after: Callable[[int], None]


# To the state after it and the mean loss of each of its seeds.
_RunEpoch = Callable[[_Epoch], list[tuple[TrainingState, float]]]


def _in_turn(trainings: Sequence[Training]) -> _RunEpoch:
    """Returns an epoch that the seeds take one after the other."""
    step, batch, mesh = trainings[0].step, trainings[0].batch, trainings[0].spec.mesh
    images = [training.images.train for training in trainings]
    # By identity: what seeds share is on the device once.
    on_device = {id(shared): _on_device(mesh, shared) for shared in images}
    steps = len(images[0].labels) // batch

    def run_epoch(epoch: _Epoch) -> list[tuple[TrainingState, float]]:
        def run_seed(turn: int) -> tuple[TrainingState, float]:
            which = epoch.going[turn]
            seed, data = trainings[which].spec.seed, on_device[id(images[which])]
            state = devices.replicate(mesh, epoch.states[turn])
            after = lambda n: epoch.after(turn * steps + n)  # noqa: E731
            return training_epoch.run_epoch(step, state, data, seed, epoch.number, batch, after)

        return [run_seed(turn) for turn in range(len(epoch.going))]

    return run_epoch


def _all_at_once(trainings: Sequence[Training]) -> _RunEpoch:
    """Returns an epoch of one step for all seeds."""
    step, batch, mesh = trainings[0].step, trainings[0].batch, trainings[0].spec.mesh
    images, first_rows = batched_seeds.stacked_images([t.images.train for t in trainings])
    data, count = _on_device(mesh, images), len(trainings[0].images.train.labels)

    def run_epoch(epoch: _Epoch) -> list[tuple[TrainingState, float]]:
        seeds = [trainings[i].spec.seed for i in epoch.going]
        orders = [
            [begin + rows for rows in training_epoch.batches(seed, epoch.number, count, batch)]
            for begin, seed in zip((first_rows[i] for i in epoch.going), seeds, strict=True)
        ]
        states = devices.replicate(mesh, list(epoch.states))
        after = lambda n: epoch.after(len(seeds) * n)  # noqa: E731
        return batched_seeds.run_epoch(step, states, data, seeds, orders, epoch.number, after)

    return run_epoch


def _on_device(mesh: Mesh | None, images: Images) -> tuple[jax.Array, jax.Array]:
    """Returns pixels (n, height, width, channels), uint8, and labels (n,), int32."""
    # Of a type that holds any class, whatever the labels came in.
    pair = jnp.asarray(images.images), jnp.asarray(images.labels, jnp.int32)
    placed: tuple[jax.Array, jax.Array] = devices.replicate(mesh, pair)
    return placed
