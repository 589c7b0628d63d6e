"""What happens between two epochs, in this order: average, measure, learn, record, select.

The order decides what is measured. A method's average is shown the network first, so that it is the
average of this epoch that is measured and may be kept; the fairness method learns last, so that
what it changes acts from the next epoch on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nets.fairness import method as fairness
from nets.fairness.method import start_average
from nets.fairness.statistics import HELD_OUT, Statistics, accuracy, similarity
from nets.training import collapse
from nets.training import step as training_step
from nets.training.monitor import HELD_OUT_STEPS, ClassCorrect, count_correct, held_out_statistics
from nets.training.progress import Training, TrainingProgress
from nets.training.step import StepSpec, TrainingState
from theory.domain import InvalidInput


def before_first_epoch(training: Training, progress: TrainingProgress) -> TrainingProgress:
    """Returns the progress once the fairness method has learned what is due before training.

    A training that goes on from a checkpoint has done so.
    """
    if progress.records:
        return progress
    return progress._replace(state=_learn_from_epoch(training, progress.state, 0))


def finish_epoch(
    training: Training, progress: TrainingProgress, state: TrainingState, loss: float
) -> TrainingProgress:
    """Returns the progress with one more epoch.

    Args:
        training: the training.
        progress: before the epoch.
        state: after its steps.
        loss: their mean.
    """
    epoch, images = len(progress.records) + 1, training.images
    state, average_record = _show_gated_average(training, state)
    evaluated = training_step.evaluated_variables(state)
    probe = count_correct(training.monitor, evaluated, images.probe, collapse.STEPS)
    held_out = None
    if images.held_out is not None:
        held_out = count_correct(training.monitor, evaluated, images.held_out, HELD_OUT_STEPS)
    state = _learn_from_epoch(training, state, epoch, held_out)
    record = _record(training, progress, state, loss, probe, held_out) | average_record
    # Of equal scores the first epoch is kept: `progress.best` finds it again in the records.
    is_best = all(record["score"] > earlier["score"] for earlier in progress.records)
    chosen = evaluated if is_best else progress.chosen
    return TrainingProgress(state, chosen, (*progress.records, record))


def _record(
    training: Training,
    progress: TrainingProgress,
    state: TrainingState,
    loss: float,
    probe: ClassCorrect,
    held_out: ClassCorrect | None,
) -> dict[str, Any]:
    """Returns what is recorded of an epoch, of what JSON can hold."""
    earlier = [record["probe"] for record in progress.records]
    clean = [*(counts["clean"] for counts in earlier), int(probe.clean.sum())]
    robust = [*(counts["robust"] for counts in earlier), int(probe.robust.sum())]
    size = len(training.images.probe.labels)
    counts = None
    if held_out is not None:
        counts = {name: values.tolist() for name, values in held_out._asdict().items()}
    record = {
        "epoch": len(progress.records) + 1,
        "steps": int(state.steps),
        "loss": loss,
        "training": _total(state.sums.correct) / _total(state.sums.samples),
        "probe": {"clean": clean[-1], "robust": robust[-1], "of": size},
        "held_out": counts,
        # On images that the steps do not see, where there are any.
        "score": int((probe if held_out is None else held_out).robust.sum()),
        "collapsed": _has_collapsed(training, clean, robust),
    }
    radii = training.spec.method.radii
    if radii is not None:
        record["radii"] = np.asarray(radii(state.fairness)).tolist()
    return record


def _has_collapsed(training: Training, clean: Sequence[int], robust: Sequence[int]) -> bool:
    """Returns whether a training has overfitted to its attack, by the probe at all checks."""
    # Without an attack in training there is nothing to overfit to: natural training loses what
    # robustness it had, and that is no reason to end it.
    if training.spec.inner is None:
        return False
    is_last = len(robust) >= training.epochs
    size = len(training.images.probe.labels)
    return collapse.collapsed(robust, size, training.drop, None if is_last else clean)


def _total(counts: Any) -> int:
    """Returns the sum of counts, (K,), which the device keeps as floats."""
    return int(np.asarray(counts).sum())


def _show_gated_average(
    training: Training, state: TrainingState
) -> tuple[TrainingState, dict[str, Any]]:
    """Returns the state after the method's average, if it keeps one, and what the record says.

    The gate looks at the network in training, not at the average.
    """
    held_out = training.images.held_out
    if training.spec.method.average is None or held_out is None:
        return state, {}
    correct = count_correct(training.monitor, state.variables, held_out, HELD_OUT_STEPS)
    worst = float(np.min(correct.robust / correct.samples))
    state = update_gated_average(training.spec, state, worst)
    return state, {"average": {"worst": worst, "begun": bool(state.average.begun)}}


def update_gated_average(spec: StepSpec, state: TrainingState, worst: float) -> TrainingState:
    """Returns the state after the method's average has been shown the network of an epoch.

    Until one is good enough to enter it, the average is the network in training.

    Args:
        spec: with a method that keeps an average.
        state: after an epoch.
        worst: least robust accuracy of a class on held-out images, of the network in training.

    Raises:
        InvalidInput: for a method that keeps none.
    """
    if spec.method.average is None:
        raise InvalidInput(f"fairness = {spec.method.name}: keeps no average")
    average = state.average if bool(state.average.begun) else start_average(state.variables)
    return state._replace(average=spec.method.average(average, state.variables, worst))


def _learn_from_epoch(
    training: Training, state: TrainingState, epoch: int, evaluated: ClassCorrect | None = None
) -> TrainingState:
    """Returns the state after the fairness method has learned from an epoch, 0 for none yet.

    What it learns from held-out images is of the network being trained; `evaluated`, if given, is
    of the average where there is one.
    """
    spec = training.spec
    if not spec.method.due(epoch):
        return state
    held_out, needs = training.images.held_out, spec.method.needs
    if held_out is None or not set(needs) & set(HELD_OUT):
        return update_fairness_state(spec, state, Statistics())
    is_average = bool(spec.ema) or spec.method.average is not None
    # Measured a second time only where what was measured is another network.
    if evaluated is None or is_average:
        evaluated = count_correct(training.monitor, state.variables, held_out, HELD_OUT_STEPS)
    statistics = held_out_statistics(
        training.monitor, state.variables, held_out, evaluated, "held_out_losses" in needs
    )
    return update_fairness_state(spec, state, statistics)


def update_fairness_state(
    spec: StepSpec, state: TrainingState, held_out: Statistics
) -> TrainingState:
    """Returns the state after the fairness method has learned from an epoch.

    Args:
        spec: with the method.
        state: after the epoch.
        held_out: statistics of held-out images; those of training come from the state.
    """
    statistics = held_out._replace(
        similarity=similarity(state.sums), training_accuracy=accuracy(state.sums)
    )
    return state._replace(
        fairness=fairness.update_fairness_state(spec.method, state.fairness, statistics)
    )
