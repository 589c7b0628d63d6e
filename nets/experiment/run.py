"""An experiment from its last checkpoint to a run folder: trained, saved and told of."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nets.experiment.prepare import Experiment, description, identity
from nets.runs import folder as run_folder
from nets.runs import lock
from nets.training import checkpoint, collapse, loop
from nets.training import progress as training_progress
from nets.training.progress import TrainingProgress
from nets.training.step import evaluated_variables
from theory.domain import InvalidInput

# Of run.json: null, or what `nets.training.progress.stop` says of a training that ended early.
STOPPED = "stopped"

if TYPE_CHECKING:
    from nets.configs.settings import Config


def run_experiment(
    experiment: Experiment,
    folder: pathlib.Path,
    share: Callable[[float], None] = lambda share: None,
) -> str:
    """Trains, from the last checkpoint where there is one, leaves the run, and says how it went.

    Args:
        experiment: from `nets.experiment.prepare.prepare`.
        folder: of the run, which can be written to.
        share: called with the share done, in [0, 1].

    Raises:
        InvalidInput: for a folder that another process trains into or that holds a run, a
            checkpoint of another training, a file that cannot be written, or a loss that is no
            longer finite.
    """
    with lock.held(folder):
        # Another process may have finished it since it was looked at.
        if (folder / run_folder.SETTINGS).exists():
            raise InvalidInput(f"out = {folder}: holds a run already; choose another folder")
        return _run(experiment, folder, share)


def _run(experiment: Experiment, folder: pathlib.Path, share: Callable[[float], None]) -> str:
    began, settings = time.perf_counter(), identity(experiment)
    progress = checkpoint.restore(folder, settings, experiment.fresh)
    epochs_before = len(progress.records)

    def save(current: TrainingProgress) -> None:
        # In this order: a kill between the two leaves a log that is an epoch short, and
        # `write_run` completes it. The other way round a log could tell of an epoch twice.
        checkpoint.save(folder, settings, current)
        run_folder.write_log(folder, current.records)

    progress = loop.run(experiment.training, progress, save, share)
    words = write_run(experiment, folder, progress)
    # Only once the run is whole: until then the checkpoint is all that there is.
    checkpoint.remove(folder)
    return f"{words}; {duration_text(began, epochs_before)}"


def write_run(experiment: Experiment, folder: pathlib.Path, progress: TrainingProgress) -> str:
    """Writes a run that is finished, and says how it went; see `run_experiment`."""
    # A kill between the last checkpoint and its log leaves a log without that epoch.
    run_folder.write_log(folder, progress.records)
    epoch, variables = _selected(experiment.config, progress)
    stop = training_progress.stop(progress, experiment.training.epochs)
    settings = description(experiment) | {"epoch": epoch, STOPPED: stop}
    run_folder.save(folder, run_folder.Run(settings, experiment.network, variables))
    if stop is not None:
        return f"{folder}: {_stop_words(stop)}; kept epoch {epoch}; {_advice(experiment, progress)}"
    return f"{folder}: epoch {epoch} of {len(progress.records)} kept"


def _stop_words(stop: Mapping[str, Any]) -> str:
    before, after = (f"{100 * count / stop['of']:.0f} %" for count in stop["robust"])
    return (
        f"stopped after epoch {stop['epoch']} of {stop['epochs']}: robust accuracy of the probe "
        f"fell from {before} to {after}"
    )


def _advice(experiment: Experiment, progress: TrainingProgress) -> str:
    """Returns what to change: the steps, and the attack where clean accuracy has stayed."""
    probes = [record["probe"] for record in progress.records]
    robust, clean = ([probe[name] for probe in probes] for name in ("robust", "clean"))
    first = (
        "lower rate" if collapse.is_shared(robust, clean) else "raise attack_steps or lower rate"
    )
    return f"{first}, or take drop=100 to go on (now drop={experiment.training.drop:g})"


def duration_text(began: float, epochs_before: int) -> str:
    """Returns the words on how long a training took, and from which epoch it has gone on.

    Args:
        began: what `time.perf_counter` said then, in seconds.
        epochs_before: that an earlier process had done.
    """
    seconds = f"{time.perf_counter() - began:.0f} s"
    return f"{seconds}, gone on from epoch {epochs_before}" if epochs_before else seconds


def _selected(config: Config, progress: TrainingProgress) -> tuple[int, Any]:
    """Returns the epoch that is kept and its variables; after a collapse, the best one."""
    if config.optimisation.select == "best" or training_progress.stopped(progress):
        return training_progress.best(progress), progress.chosen
    return len(progress.records), evaluated_variables(progress.state)
