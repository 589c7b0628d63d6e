"""A training but for how far it has come, and how far it has come: all that it needs to go on."""

from typing import Any, NamedTuple

import numpy as np

from nets.data.load import Images, take
from nets.fairness.method import require_data
from nets.training import collapse
from nets.training import step as training_step
from nets.training.monitor import Monitor
from nets.training.step import Step, StepSpec, TrainingState
from theory.domain import InvalidInput

PROBE = 8  # of the choice of the probe, beside the purposes of `nets.data.subsets`


class TrainingImages(NamedTuple):
    """The images of a training.

    Args:
        train: that the steps see.
        held_out: for selection and for fairness methods; None for none.
        probe: of those of `train`, on which a collapse shows.
    """

    train: Images
    held_out: Images | None
    probe: Images


class Training(NamedTuple):
    """A training but for its progress.

    Args:
        spec: what a step does.
        step: made of it once, by `nets.training.step.make_step`.
        monitor: what is measured between epochs.
        images: of the training.
        class_names: K of them.
        epochs, batch: see `nets.training.epoch.run_epoch`.
        drop: percentage points that the probe may fall, see `nets.training.collapse`; of no meaning
            where the objective has no attack inside.
    """

    spec: StepSpec
    step: Step
    monitor: Monitor
    images: TrainingImages
    class_names: tuple[str, ...]
    epochs: int
    batch: int
    drop: float = 20.0


class TrainingProgress(NamedTuple):
    """How far a training has come: all that it needs to go on.

    Args:
        state: after the last epoch.
        chosen: the variables of the best epoch.
        records: one for each epoch, of what JSON can hold; nothing in them depends on the clock, so
            that a training that was stopped leaves the same as one that was not.
    """

    state: TrainingState
    chosen: Any
    records: tuple[dict[str, Any], ...]


def with_probe(train: Images, held_out: Images | None, seed: int) -> TrainingImages:
    """Returns the images, with a probe of at most 256 of `train`, random but for the seed."""
    count = len(train.labels)
    words = np.random.PCG64((PROBE, seed)).random_raw(count)
    # In the order of the images, in which a probe of all of them is `train` itself.
    chosen = np.sort(np.argsort(words, kind="stable")[: collapse.IMAGES])
    return TrainingImages(train, held_out, take(train, chosen))


def require_training(training: Training) -> None:
    """Raises InvalidInput, before anything is compiled, unless the data allow the training."""
    held_out = training.images.held_out
    labels = training.images.train.labels
    if not 1 <= training.batch <= len(labels):
        raise InvalidInput(
            f"batch = {training.batch}: must lie between 1 and the {len(labels)} training images"
        )
    method = training.spec.method
    if method.radii is not None and training.spec.inner is None:
        raise InvalidInput(
            f"fairness = {method.name}: changes the radius of an attack, and the objective has none"
        )
    if method.average is not None and training.spec.ema:
        raise InvalidInput(
            f"ema = {training.spec.ema:g}: {method.name} with average_gate keeps an average of "
            "its own; choose one of the two"
        )
    held_out_labels = None if held_out is None else held_out.labels
    require_data(method, labels, held_out_labels, training.class_names)


def begin(training: Training, variables: Any) -> TrainingProgress:
    """Returns the progress before the first epoch, of a network with these variables."""
    labels, classes = training.images.train.labels, len(training.class_names)
    state = training_step.start(training.spec, variables, labels, classes)
    return TrainingProgress(state, dict(variables), ())


def stopped(progress: TrainingProgress) -> bool:
    """Returns whether robustness has collapsed in the last epoch."""
    return bool(progress.records) and bool(progress.records[-1]["collapsed"])


def stop(progress: TrainingProgress, epochs: int) -> dict[str, Any] | None:
    """Returns what a run records of a collapse, None without one.

    Args:
        progress: of a training that is over.
        epochs: that it was to have.

    Returns:
        `epoch`, after which it ended; `epochs`; `robust`, how many images of the probe were
        robustly correct at best and in the end; `of`, the images of the probe.
    """
    if not stopped(progress):
        return None
    probes = [record["probe"] for record in progress.records]
    robust = [probe["robust"] for probe in probes]
    return {
        "epoch": len(probes),
        "epochs": epochs,
        "robust": [max(robust[:-1]), robust[-1]],
        "of": probes[-1]["of"],
    }


def best(progress: TrainingProgress) -> int:
    """Returns the epoch, from 1, whose variables are `chosen`: the first of the best score."""
    scores = [record["score"] for record in progress.records]
    return 1 + scores.index(max(scores))
