"""Several seeds of one training at once, each as it would be alone, in a folder of its own.

They share one compiled step, see `nets.training.batched_seeds`, and one checkpoint in the folder
above theirs.
"""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nets.experiment import prepare as preparation
from nets.experiment.prepare import Experiment, identity, matches_recorded
from nets.experiment.run import STOPPED, duration_text, run_experiment, write_run
from nets.runs import folder as run_folder
from nets.runs import lock
from nets.training import batched_seeds, checkpoint, loop
from nets.training.progress import TrainingProgress
from sims.files import require_writable
from theory.domain import InvalidInput

if TYPE_CHECKING:
    from nets.configs.settings import Config
    from nets.data.load import DataSet


def prepare(config: Config, data: DataSet) -> list[Experiment]:
    """Returns the experiment of each of `config.seeds` seeds, from `config.seed` on.

    Where the seeds take turns their numbers are those of each alone, and so are their
    settings; where they are batched `seeds` stays in the settings, as rounding depends on it.

    Args:
        config, data: as `nets.experiment.prepare.prepare` takes them.

    Raises:
        InvalidInput: as `nets.experiment.prepare.prepare`.
    """
    first, count = preparation.prepare(config, data), config.optimisation.seeds
    if count == 1:
        return [first]
    spec, step, recorded = first.training.spec, first.training.step, 1
    if not batched_seeds.seeds_take_turns(spec):
        step, recorded = batched_seeds.make_step(spec), count
    experiments = []
    for seed in range(spec.seed, spec.seed + count):
        experiment = preparation.prepare(config.replace(seed=seed, seeds=recorded), data)
        # What is compiled does not depend on the seed.
        monitor = first.training.monitor._replace(seed=seed)
        training = experiment.training._replace(step=step, monitor=monitor)
        experiments.append(experiment._replace(training=training))
    return experiments


def folders(experiments: Sequence[Experiment], out: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folder of each run: `out` of a single one, and out/seed-SEED of several."""
    if len(experiments) == 1:
        return [out]
    return [out / f"seed-{experiment.config.optimisation.seed}" for experiment in experiments]


def finished(experiments: Sequence[Experiment], out: pathlib.Path) -> bool:
    """Returns whether all of these runs are there.

    Raises:
        InvalidInput: for a folder that holds another run.
    """
    all_there = True
    for folder, experiment in zip(folders(experiments, out), experiments, strict=True):
        if not (folder / run_folder.SETTINGS).exists():
            all_there = False
        elif not matches_recorded(run_folder.load(folder).settings.get("training"), experiment):
            raise InvalidInput(f"out = {folder}: holds a run already; choose another folder")
    # Of several seeds nothing but folders is left in `out`: a run there is of a single one.
    if len(experiments) > 1 and (out / run_folder.SETTINGS).exists():
        raise InvalidInput(f"out = {out}: holds a run already; choose another folder")
    return all_there


def any_stopped(run_folders: Sequence[pathlib.Path]) -> bool:
    """Returns whether a training that left one of these runs ended early, as it collapsed."""
    return any(run_folder.load(folder).settings.get(STOPPED) for folder in run_folders)


def run(
    experiments: Sequence[Experiment],
    out: pathlib.Path,
    share: Callable[[float], None] = lambda share: None,
) -> str:
    """Trains all seeds, leaves their runs, and says how it went; see `run_experiment`.

    Args:
        experiments: from `prepare`.
        out: see `folders`.
        share: called with the share done, in [0, 1].

    Raises:
        InvalidInput: as `nets.experiment.run.run_experiment`.
    """
    if len(experiments) == 1:
        return run_experiment(experiments[0], out, share)
    fresh = packed([experiment.fresh for experiment in experiments])
    # What the numbers of all seeds together depend on: how many they are, even in turns.
    settings = identity(experiments[0]) | {"seeds": len(experiments)}
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock.held(out))
        # Another process may have finished them since they were looked at.
        if finished(experiments, out):
            raise InvalidInput(f"out = {out}: holds a run already; choose another folder")
        progress = checkpoint.restore(out, settings, fresh)
        # After the checkpoint, so that one of another training is refused before anything is made;
        # and all of them, as a process may train a single seed into one of them.
        for folder in folders(experiments, out):
            require_writable(folder)
            locks.enter_context(lock.held(folder))
        return _run(experiments, out, settings, progress, share)


def _run(
    experiments: Sequence[Experiment],
    out: pathlib.Path,
    settings: Mapping[str, Any],
    progress: TrainingProgress,
    share: Callable[[float], None],
) -> str:
    began, epochs_before = time.perf_counter(), len(progress.records)
    run_folders = folders(experiments, out)

    def save(current: Sequence[TrainingProgress]) -> None:
        checkpoint.save(out, settings, packed(current))
        for folder, of_seed in zip(run_folders, current, strict=True):
            run_folder.write_log(folder, of_seed.records)

    trainings = [experiment.training for experiment in experiments]
    ended = loop.run_seeds(trainings, unpacked(progress), save, share)
    lines = [
        write_run(experiment, folder, of_seed)
        for experiment, folder, of_seed in zip(experiments, run_folders, ended, strict=True)
    ]
    checkpoint.remove(out)
    return "\n".join([*lines, f"{out}: {duration_text(began, epochs_before)}"])


def packed(progresses: Sequence[TrainingProgress]) -> TrainingProgress:
    """Returns the progress of all seeds as one that a checkpoint holds: tuples seed by seed.

    Its records are lists, one for each epoch, with None for a seed that had stopped before.
    """
    epochs = range(max(len(progress.records) for progress in progresses))
    records: Any = tuple(
        [
            progress.records[epoch] if epoch < len(progress.records) else None
            for progress in progresses
        ]
        for epoch in epochs
    )
    # Tuples where a training alone has a single state: to a checkpoint both are pytrees.
    states: Any = tuple(progress.state for progress in progresses)
    chosen = tuple(progress.chosen for progress in progresses)
    return TrainingProgress(states, chosen, records)


def unpacked(progress: TrainingProgress) -> list[TrainingProgress]:
    """Returns the progress of each seed of `packed`."""
    records: Any = progress.records
    states = zip(progress.state, progress.chosen, strict=True)
    return [
        TrainingProgress(state, chosen, tuple(row[i] for row in records if row[i]))
        for i, (state, chosen) in enumerate(states)
    ]
