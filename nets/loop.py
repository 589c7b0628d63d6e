"""Training from epoch to epoch: measure, learn, select, stop at a collapse, and remember."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from nets import collapse, devices, together, train
from nets.data import Images, take
from nets.fairness.method import require_data
from nets.fairness.statistics import HELD_OUT, Statistics
from nets.monitor import HELD_OUT_STEPS, Monitor, Standing, held_out, standing
from nets.train import State, Step, Task
from theory.problem import InvalidInput

PROBE = 8  # of the choice of the probe, beside the purposes of `nets.subsets`


class Parts(NamedTuple):
    """The images of a training.

    Args:
        training: that the steps see.
        held_out: for selection and for fairness methods; None for none.
        probe: of the training images, on which a collapse shows.
    """

    training: Images
    held_out: Images | None
    probe: Images


class Progress(NamedTuple):
    """How far a training has come: all that it needs to go on.

    Args:
        state: after the last epoch.
        chosen: the variables of the best epoch.
        records: one for each epoch, of what JSON can hold; nothing in them depends on the clock.
    """

    state: State
    chosen: Any
    records: tuple[dict[str, Any], ...]


class Plan(NamedTuple):
    """A training but for its progress.

    Args:
        task: what a step does.
        step: made of it once, by `nets.train.make_step`.
        monitor: what is measured between epochs.
        parts: the images.
        class_names: K of them.
        epochs, batch: see `nets.train.run_epoch`.
        drop: percentage points that the probe may fall, see `nets.collapse`.
    """

    task: Task
    step: Step
    monitor: Monitor
    parts: Parts
    class_names: tuple[str, ...]
    epochs: int
    batch: int
    drop: float = 20.0


def split(training: Images, held: Images | None, seed: int) -> Parts:
    """Returns the parts, with a probe of at most 256 training images, random but for the seed."""
    count = len(training.labels)
    words = np.random.PCG64((PROBE, seed)).random_raw(count)
    chosen = np.sort(np.argsort(words, kind="stable")[: collapse.IMAGES])
    return Parts(training, held, take(training, chosen))


def require_plan(plan: Plan) -> None:
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


def begin(plan: Plan, variables: Any) -> Progress:
    """Returns the progress before the first epoch."""
    labels, classes = plan.parts.training.labels, len(plan.class_names)
    return Progress(train.start(plan.task, variables, labels, classes), dict(variables), ())


def run(
    plan: Plan,
    progress: Progress,
    save: Callable[[Progress], None] = lambda progress: None,
    share: Callable[[float], None] = lambda share: None,
) -> Progress:
    """Returns the progress after the last epoch, or after that in which robustness collapsed.

    Args:
        plan: see `require_plan`.
        progress: from `begin`, or what `save` was given: what follows does not depend on which.
        save, share: see `run_seeds`.

    Raises:
        InvalidInput: where the loss is no longer finite.
    """

    def save_one(progresses: Sequence[Progress]) -> None:
        save(progresses[0])

    return run_seeds((plan,), (progress,), save_one, share)[0]


def run_seeds(
    plans: Sequence[Plan],
    progresses: Sequence[Progress],
    save: Callable[[Sequence[Progress]], None] = lambda progresses: None,
    share: Callable[[float], None] = lambda share: None,
) -> list[Progress]:
    """Returns the progress of each seed, as `run` does of one.

    Args:
        plans: of one training but for seed and images. The step of the first is taken, of
            `nets.together.make_step` if there are several that do not take turns.
        progresses: of each, after the same epoch, or after that in which it collapsed.
        save: called after every epoch.
        share: called with the share done, in [0, 1].

    Raises:
        InvalidInput: where the loss is no longer finite.
    """
    found, epochs = list(progresses), plans[0].epochs
    for place, (plan, progress) in enumerate(zip(plans, progresses, strict=True)):
        if not progress.records:
            found[place] = progress._replace(state=_learned(plan, progress.state, 0))
    several = len(plans) > 1 and not together.in_turn(plans[0].task)
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
            found[place] = _after(plans[place], found[place], state, loss)
        save(found)
    share(1.0)
    return found


def _over(progress: Progress, epochs: int) -> bool:
    return len(progress.records) >= epochs or stopped(progress)


# Of the seeds at some places: (places, states, epoch, after) -> state and mean loss of each.
_Epoch = Callable[
    [Sequence[int], list[State], int, Callable[[int], None]], list[tuple[State, float]]
]


def _in_turn(plans: Sequence[Plan]) -> _Epoch:
    """Returns an epoch that the seeds take one after the other; `after` counts all their steps."""
    step, batch, mesh = plans[0].step, plans[0].batch, plans[0].task.mesh
    parts = [plan.parts.training for plan in plans]
    placed = {id(part): _placed(mesh, part) for part in parts}  # once what they share
    steps = len(parts[0].labels) // batch

    def run_epoch(
        places: Sequence[int], states: list[State], epoch: int, after: Callable[[int], None]
    ) -> list[tuple[State, float]]:
        def one(turn: int) -> tuple[State, float]:
            place, state = places[turn], devices.replicate(mesh, states[turn])
            seed = plans[place].task.seed
            count = lambda number: after(turn * steps + number)  # noqa: E731
            data = placed[id(parts[place])]
            return train.run_epoch(step, state, data, seed, epoch, batch, count)

        return [one(turn) for turn in range(len(places))]

    return run_epoch


def _together(plans: Sequence[Plan]) -> _Epoch:
    """Returns an epoch of one step for all seeds."""
    step, batch, mesh = plans[0].step, plans[0].batch, plans[0].task.mesh
    images, begins = together.joined([plan.parts.training for plan in plans])
    data, count = _placed(mesh, images), len(plans[0].parts.training.labels)

    def run_epoch(
        places: Sequence[int], states: list[State], epoch: int, after: Callable[[int], None]
    ) -> list[tuple[State, float]]:
        seeds = [plans[place].task.seed for place in places]
        orders = [
            [begins[place] + rows for rows in train.batches(seed, epoch, count, batch)]
            for place, seed in zip(places, seeds, strict=True)
        ]
        size = len(places)
        states = devices.replicate(mesh, states)
        return together.run_epoch(
            step, states, data, seeds, orders, epoch, lambda number: after(size * number)
        )

    return run_epoch


def _placed(mesh: Mesh | None, images: Images) -> tuple[jax.Array, jax.Array]:
    pair = jnp.asarray(images.images), jnp.asarray(images.labels)
    placed: tuple[jax.Array, jax.Array] = devices.replicate(mesh, pair)
    return placed


def stopped(progress: Progress) -> bool:
    """Returns whether robustness has collapsed in the last epoch."""
    return bool(progress.records) and progress.records[-1]["collapsed"]


def best(progress: Progress) -> int:
    """Returns the epoch, from 1, whose variables are `chosen`: the first of the best score."""
    scores = [record["score"] for record in progress.records]
    return 1 + scores.index(max(scores))


def _after(plan: Plan, progress: Progress, state: State, loss: float) -> Progress:
    """Returns the progress with one more epoch: measured, learned from, recorded."""
    epoch = len(progress.records) + 1
    state, entry = _averaged(plan, state)
    shown = train.released(state)
    probe = standing(plan.monitor, shown, plan.parts.probe, collapse.STEPS)
    held = _held_out(plan, shown)
    state = _learned(plan, state, epoch, held)
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
    return Progress(state, shown if better else progress.chosen, (*progress.records, record))


def _whole(counts: Any) -> int:
    return int(np.asarray(counts).sum())


def _classes(task: Task, state: State) -> dict[str, Any]:
    """Returns what the fairness method makes of the classes, where it changes their radii."""
    if task.method.radii is None:
        return {}
    return {"radii": np.asarray(task.method.radii(state.fairness)).tolist()}


def _averaged(plan: Plan, state: State) -> tuple[State, dict[str, Any]]:
    """Returns the state after the method's average, if it keeps one, and what the record says."""
    held = plan.parts.held_out
    if plan.task.method.average is None or held is None:
        return state, {}
    found = standing(plan.monitor, state.variables, held, HELD_OUT_STEPS)
    worst = float(np.min(found.robust / found.samples))
    state = train.averaged(plan.task, state, worst)
    return state, {"average": {"worst": worst, "begun": bool(state.average.begun)}}


def _held_out(plan: Plan, variables: Any) -> Standing | None:
    held = plan.parts.held_out
    return held and standing(plan.monitor, variables, held, HELD_OUT_STEPS)


def _learned(plan: Plan, state: State, epoch: int, seen: Standing | None = None) -> State:
    """Returns the state after the fairness method has learned from an epoch, 0 for none yet.

    What it learns from held-out images is of the network being trained; `seen`, if given, is of
    the average where there is one.
    """
    if not plan.task.method.due(epoch):
        return state
    held, needs = plan.parts.held_out, plan.task.method.needs
    if held is None or not set(needs) & set(HELD_OUT):
        return train.learned(plan.task, state, Statistics())
    if seen is None or train.averages(plan.task):
        seen = standing(plan.monitor, state.variables, held, HELD_OUT_STEPS)
    with_losses = "held_out_losses" in needs
    found = held_out(plan.monitor, state.variables, held, seen, with_losses)
    return train.learned(plan.task, state, found)
