"""Training from epoch to epoch: measure, learn, select, stop at a collapse, and remember."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from nets.compute import devices
from nets.data.load import Images, take
from nets.fairness.method import require_data
from nets.fairness.statistics import HELD_OUT, Statistics
from nets.training import batched_seeds, collapse
from nets.training import step as training_step
from nets.training.monitor import HELD_OUT_STEPS, ClassCorrect, Monitor, count_correct, held_out
from nets.training.step import Step, StepSpec, TrainingState
from theory.domain import InvalidInput

PROBE = 8  # of the choice of the probe, beside the purposes of `nets.data.subsets`


class TrainingImages(NamedTuple):
    """The images of a training.

    Args:
        training: that the steps see.
        held_out: for selection and for fairness methods; None for none.
        probe: of the training images, on which a collapse shows.
    """

    training: Images
    held_out: Images | None
    probe: Images


class TrainingProgress(NamedTuple):
    """How far a training has come: all that it needs to go on.

    Args:
        state: after the last epoch.
        chosen: the variables of the best epoch.
        records: one for each epoch, of what JSON can hold; nothing in them depends on the clock.
    """

    state: TrainingState
    chosen: Any
    records: tuple[dict[str, Any], ...]


class Training(NamedTuple):
    """A training but for its progress.

    Args:
        task: what a step does.
        step: made of it once, by `nets.training.step.make_step`.
        monitor: what is measured between epochs.
        parts: the images.
        class_names: K of them.
        epochs, batch: see `nets.training.step.run_epoch`.
        drop: percentage points that the probe may fall, see `nets.training.collapse`.
    """

    task: StepSpec
    step: Step
    monitor: Monitor
    parts: TrainingImages
    class_names: tuple[str, ...]
    epochs: int
    batch: int
    drop: float = 20.0


def split(training: Images, held: Images | None, seed: int) -> TrainingImages:
    """Returns the parts, with a probe of at most 256 training images, random but for the seed."""
    count = len(training.labels)
    words = np.random.PCG64((PROBE, seed)).random_raw(count)
    chosen = np.sort(np.argsort(words, kind="stable")[: collapse.IMAGES])
    return TrainingImages(training, held, take(training, chosen))


def require_training(plan: Training) -> None:
    """Raises InvalidInput, before anything is compiled, unless the data allow the plan."""
    held = plan.parts.held_out
    labels = plan.parts.training.labels
    if not 1 <= plan.batch <= len(labels):
        raise InvalidInput(
            f"batch = {plan.batch}: must lie between 1 and the {len(labels)} training images"
        )
    method = plan.task.method
    if method.radii is not None and plan.task.inner is None:
        raise InvalidInput(
            f"fairness = {method.name}: changes the radius of an attack, and the objective has none"
        )
    if method.average is not None and plan.task.ema:
        raise InvalidInput(
            f"ema = {plan.task.ema:g}: {method.name} with average_gate keeps an average of "
            "its own; choose one of the two"
        )
    require_data(method, labels, None if held is None else held.labels, plan.class_names)


def begin(plan: Training, variables: Any) -> TrainingProgress:
    """Returns the progress before the first epoch."""
    labels, classes = plan.parts.training.labels, len(plan.class_names)
    return TrainingProgress(
        training_step.start(plan.task, variables, labels, classes), dict(variables), ()
    )


def run(
    plan: Training,
    progress: TrainingProgress,
    save: Callable[[TrainingProgress], None] = lambda progress: None,
    share: Callable[[float], None] = lambda share: None,
) -> TrainingProgress:
    """Returns the progress after the last epoch, or after that in which robustness collapsed.

    Args:
        plan: see `require_plan`.
        progress: from `begin`, or what `save` was given: what follows does not depend on which.
        save, share: see `run_seeds`.

    Raises:
        InvalidInput: where the loss is no longer finite.
    """

    def save_one(progresses: Sequence[TrainingProgress]) -> None:
        save(progresses[0])

    return run_seeds((plan,), (progress,), save_one, share)[0]


def run_seeds(
    plans: Sequence[Training],
    progresses: Sequence[TrainingProgress],
    save: Callable[[Sequence[TrainingProgress]], None] = lambda progresses: None,
    share: Callable[[float], None] = lambda share: None,
) -> list[TrainingProgress]:
    """Returns the progress of each seed, as `run` does of one.

    Args:
        plans: of one training but for seed and images. The step of the first is taken, of
            `nets.training.batched_seeds.make_step` if there are several that do not take turns.
        progresses: of each, after the same epoch, or after that in which it collapsed.
        save: called after every epoch.
        share: called with the share done, in [0, 1].

    Raises:
        InvalidInput: where the loss is no longer finite.
    """
    found, epochs = list(progresses), plans[0].epochs
    for place, (plan, progress) in enumerate(zip(plans, progresses, strict=True)):
        if not progress.records:
            found[place] = progress._replace(state=_learn_from_epoch(plan, progress.state, 0))
    several = len(plans) > 1 and not batched_seeds.seeds_take_turns(plans[0].task)
    run_epoch = _together(plans) if several else _in_turn(plans)
    steps = len(plans[0].parts.training.labels) // plans[0].batch
    while going := [place for place, progress in enumerate(found) if not _over(progress, epochs)]:
        before, size = len(found[going[0]].records), len(going) * steps
        ended = run_epoch(
            going,
            [found[place].state for place in going],
            before + 1,
            lambda number: share((before + number / size) / epochs),  # noqa: B023
        )
        for place, (state, loss) in zip(going, ended, strict=True):
            found[place] = _finish_epoch(plans[place], found[place], state, loss)
        save(found)
    share(1.0)
    return found


def _over(progress: TrainingProgress, epochs: int) -> bool:
    return len(progress.records) >= epochs or stopped(progress)


# Of the seeds at some places: (places, states, epoch, after) -> state and mean loss of each.
_Epoch = Callable[
    [Sequence[int], list[TrainingState], int, Callable[[int], None]],
    list[tuple[TrainingState, float]],
]


def _in_turn(plans: Sequence[Training]) -> _Epoch:
    """Returns an epoch that the seeds take one after the other; `after` counts all their steps."""
    step, batch, mesh = plans[0].step, plans[0].batch, plans[0].task.mesh
    parts = [plan.parts.training for plan in plans]
    placed = {id(part): _placed(mesh, part) for part in parts}  # once what they share
    steps = len(parts[0].labels) // batch

    def run_epoch(
        places: Sequence[int], states: list[TrainingState], epoch: int, after: Callable[[int], None]
    ) -> list[tuple[TrainingState, float]]:
        def one(turn: int) -> tuple[TrainingState, float]:
            place, state = places[turn], devices.replicate(mesh, states[turn])
            seed = plans[place].task.seed
            count = lambda number: after(turn * steps + number)  # noqa: E731
            data = placed[id(parts[place])]
            return training_step.run_epoch(step, state, data, seed, epoch, batch, count)

        return [one(turn) for turn in range(len(places))]

    return run_epoch


def _together(plans: Sequence[Training]) -> _Epoch:
    """Returns an epoch of one step for all seeds."""
    step, batch, mesh = plans[0].step, plans[0].batch, plans[0].task.mesh
    images, begins = batched_seeds.stacked_images([plan.parts.training for plan in plans])
    data, count = _placed(mesh, images), len(plans[0].parts.training.labels)

    def run_epoch(
        places: Sequence[int], states: list[TrainingState], epoch: int, after: Callable[[int], None]
    ) -> list[tuple[TrainingState, float]]:
        seeds = [plans[place].task.seed for place in places]
        orders = [
            [begins[place] + rows for rows in training_step.batches(seed, epoch, count, batch)]
            for place, seed in zip(places, seeds, strict=True)
        ]
        size = len(places)
        states = devices.replicate(mesh, states)
        return batched_seeds.run_epoch(
            step, states, data, seeds, orders, epoch, lambda number: after(size * number)
        )

    return run_epoch


def _placed(mesh: Mesh | None, images: Images) -> tuple[jax.Array, jax.Array]:
    pair = jnp.asarray(images.images), jnp.asarray(images.labels)
    placed: tuple[jax.Array, jax.Array] = devices.replicate(mesh, pair)
    return placed


def stopped(progress: TrainingProgress) -> bool:
    """Returns whether robustness has collapsed in the last epoch."""
    return bool(progress.records) and progress.records[-1]["collapsed"]


def best(progress: TrainingProgress) -> int:
    """Returns the epoch, from 1, whose variables are `chosen`: the first of the best score."""
    scores = [record["score"] for record in progress.records]
    return 1 + scores.index(max(scores))


def _finish_epoch(
    plan: Training, progress: TrainingProgress, state: TrainingState, loss: float
) -> TrainingProgress:
    """Returns the progress with one more epoch: measured, learned from, recorded."""
    epoch = len(progress.records) + 1
    state, entry = _average_finished_epoch(plan, state)
    shown = training_step.evaluated_variables(state)
    probe = count_correct(plan.monitor, shown, plan.parts.probe, collapse.STEPS)
    held = _held_out(plan, shown)
    state = _learn_from_epoch(plan, state, epoch, held)
    robust = [record["probe"]["robust"] for record in progress.records]
    robust.append(int(probe.robust.sum()))
    score = (probe if held is None else held).robust.sum()
    size = len(plan.parts.probe.labels)
    record = {
        "epoch": epoch,
        "steps": int(state.steps),
        "loss": loss,
        "training": _whole(state.sums.correct) / _whole(state.sums.samples),
        "probe": {"clean": int(probe.clean.sum()), "robust": robust[-1], "of": size},
        "held_out": held and {name: value.tolist() for name, value in held._asdict().items()},
        "score": int(score),
        "collapsed": collapse.collapsed(robust, size, plan.drop),
    }
    record |= _classes(plan.task, state) | entry
    better = not progress.records or record["score"] > max(r["score"] for r in progress.records)
    return TrainingProgress(
        state, shown if better else progress.chosen, (*progress.records, record)
    )


def _whole(counts: Any) -> int:
    return int(np.asarray(counts).sum())


def _classes(task: StepSpec, state: TrainingState) -> dict[str, Any]:
    """Returns what the fairness method makes of the classes, where it changes their radii."""
    if task.method.radii is None:
        return {}
    return {"radii": np.asarray(task.method.radii(state.fairness)).tolist()}


def _average_finished_epoch(
    plan: Training, state: TrainingState
) -> tuple[TrainingState, dict[str, Any]]:
    """Returns the state after the method's average, if it keeps one, and what the record says."""
    held = plan.parts.held_out
    if plan.task.method.average is None or held is None:
        return state, {}
    found = count_correct(plan.monitor, state.variables, held, HELD_OUT_STEPS)
    worst = float(np.min(found.robust / found.samples))
    state = training_step.update_gated_average(plan.task, state, worst)
    return state, {"average": {"worst": worst, "begun": bool(state.average.begun)}}


def _held_out(plan: Training, variables: Any) -> ClassCorrect | None:
    held = plan.parts.held_out
    return held and count_correct(plan.monitor, variables, held, HELD_OUT_STEPS)


def _learn_from_epoch(
    plan: Training, state: TrainingState, epoch: int, seen: ClassCorrect | None = None
) -> TrainingState:
    """Returns the state after the fairness method has learned from an epoch, 0 for none yet.

    What it learns from held-out images is of the network being trained; `seen`, if given, is of
    the average where there is one.
    """
    if not plan.task.method.due(epoch):
        return state
    held, needs = plan.parts.held_out, plan.task.method.needs
    if held is None or not set(needs) & set(HELD_OUT):
        return training_step.update_fairness_state(plan.task, state, Statistics())
    if seen is None or training_step.evaluates_average(plan.task):
        seen = count_correct(plan.monitor, state.variables, held, HELD_OUT_STEPS)
    with_losses = "held_out_losses" in needs
    found = held_out(plan.monitor, state.variables, held, seen, with_losses)
    return training_step.update_fairness_state(plan.task, state, found)
