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

from nets.config import Config
from nets.experiment import prepare as experiment
from nets.experiment.prepare import Experiment
from nets.runs import folder as run_folder
from nets.runs import lock
from nets.training import batched_seeds, checkpoint, loop
from nets.training.loop import TrainingProgress
from theory.domain import InvalidInput

if TYPE_CHECKING:
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
    first = experiment.prepare(config, data)
    if config.seeds == 1:
        return [first]
    alone = batched_seeds.seeds_take_turns(first.plan.task)
    seeds = 1 if alone else config.seeds
    step = first.plan.step if alone else batched_seeds.make_step(first.plan.task)
    found = []
    for seed in range(config.seed, config.seed + config.seeds):
        one = experiment.prepare(config._replace(seed=seed, seeds=seeds), data)
        # What is compiled does not depend on the seed.
        plan = one.plan._replace(step=step, monitor=first.plan.monitor._replace(seed=seed))
        found.append(one._replace(plan=plan))
    return found


def folders(experiments: Sequence[Experiment], out: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folder of each run: `out` of a single one, and out/seed-SEED of several."""
    if len(experiments) == 1:
        return [out]
    return [out / f"seed-{one.config.seed}" for one in experiments]


def finished(experiments: Sequence[Experiment], out: pathlib.Path) -> bool:
    """Returns whether all of these runs are there.

    Raises:
        InvalidInput: for a folder that holds another run.
    """
    places = folders(experiments, out)
    held = [(place / run_folder.SETTINGS).exists() for place in places]
    for place, one, there in zip(places, experiments, held, strict=True):
        if there and not experiment.matches_recorded(
            run_folder.load(place).settings.get("training"), one
        ):
            raise InvalidInput(f"out = {place}: holds a run already; choose another folder")
    if len(places) > 1 and (out / run_folder.SETTINGS).exists():
        raise InvalidInput(f"out = {out}: holds a run already; choose another folder")
    return all(held)


def run(
    experiments: Sequence[Experiment],
    out: pathlib.Path,
    share: Callable[[float], None] = lambda share: None,
) -> str:
    """Trains all seeds, leaves their runs, and says how it went; see `nets.experiment.prepare.run`.

    Args:
        experiments: from `prepare`.
        out: see `folders`.
        share: called with the share done.

    Raises:
        InvalidInput: as `nets.experiment.prepare.run`.
    """
    if len(experiments) == 1:
        return experiment.run(experiments[0], out, share)
    settings, fresh = _identity(experiments), packed([one.fresh for one in experiments])
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock.held(out))
        # Another process may have finished them since they were looked at.
        if finished(experiments, out):
            raise InvalidInput(f"out = {out}: holds a run already; choose another folder")
        progress = checkpoint.restore(out, settings, fresh)
        for place in folders(experiments, out):
            run_folder.require_writable(place)
            locks.enter_context(lock.held(place))
        return _run(experiments, out, settings, progress, share)


def _run(
    experiments: Sequence[Experiment],
    out: pathlib.Path,
    settings: Mapping[str, Any],
    progress: TrainingProgress,
    share: Callable[[float], None],
) -> str:
    began, places = time.perf_counter(), folders(experiments, out)

    def save(now: Sequence[TrainingProgress]) -> None:
        checkpoint.save(out, settings, packed(now))
        for place, one in zip(places, now, strict=True):
            run_folder.write_log(place, one.records)

    plans = [one.plan for one in experiments]
    found = loop.run_seeds(plans, unpacked(progress), save, share)
    lines = [experiment.write_run(*each) for each in zip(experiments, places, found, strict=True)]
    checkpoint.remove(out)
    return "\n".join([*lines, f"{out}: {experiment.duration_text(began, len(progress.records))}"])


def _identity(experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Returns what the numbers of all seeds together depend on."""
    return experiment.identity(experiments[0]) | {"seeds": len(experiments)}


def packed(progresses: Sequence[TrainingProgress]) -> TrainingProgress:
    """Returns the progress of all seeds as one that a checkpoint holds: tuples seed by seed.

    Its records are lists, one for each epoch, with None for a seed that had stopped before.
    """
    epochs = range(max(len(one.records) for one in progresses))
    records = [
        [one.records[epoch] if epoch < len(one.records) else None for one in progresses]
        for epoch in epochs
    ]
    states = tuple(one.state for one in progresses)
    chosen = tuple(one.chosen for one in progresses)
    return TrainingProgress(states, chosen, tuple(records))  # type: ignore[arg-type]


def unpacked(progress: TrainingProgress) -> list[TrainingProgress]:
    """Returns the progress of each seed of `packed`."""
    records: Any = progress.records
    parts = zip(progress.state, progress.chosen, strict=True)
    return [
        TrainingProgress(state, chosen, tuple(each[place] for each in records if each[place]))
        for place, (state, chosen) in enumerate(parts)
    ]
