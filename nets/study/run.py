"""A study from plan to result file: what is there is verified, what is not is trained."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from nets.configs.settings import completed
from nets.data.load import DataSet, load
from nets.data.select import select_classes
from nets.evaluation import file as evaluation_file
from nets.evaluation.run import (
    Progress,
    Request,
    evaluate_run,
    identity,
    require_no_orphan,
    require_pixel_radius,
    require_samples,
)
from nets.experiment import leftovers
from nets.experiment.prepare import Experiment, prepare
from nets.experiment.prepare import identity as training_identity
from nets.experiment.run import run_experiment
from nets.runs import folder as run_folder
from nets.study import file as study_file
from nets.study.plan import WARM_UP, Planned, Study, plan
from nets.training import checkpoint
from sims import files
from theory.domain import InvalidInput

STUDY_FILE, EVALUATION_FILE = "study.nc", "evaluation.nc"
# Of a finished training these are recorded; that of another machine is as good.
RECORDED = ("versions", "backend")


def run(
    study: Study,
    out: pathlib.Path,
    directory: pathlib.Path | None,
    progress: Progress,
    say: Callable[[str], None] = lambda line: None,
) -> pathlib.Path:
    """Trains and evaluates all that is missing, and returns the path of the result file.

    Args:
        study: from `nets.study.plan.read`.
        out: folder of the study.
        directory: where data sets are, see `nets.data.load.load`.
        progress: given a name returns what takes the share done.
        say: given a line for each training that is done.

    Raises:
        InvalidInput: before any computation, for settings or data that training refuses, or a
            folder with a run, checkpoint or evaluation of other settings; later, for a file that
            cannot be written or a loss that is no longer finite.
    """
    data = load(study.shared.data.name, directory)
    planned = plan(study, out)
    require_plan(study, planned, data)
    files.require_writable(out)
    for training in planned:
        say(_finish(study, training, data, progress))
    path = out / STUDY_FILE
    files.save(collect(study, planned), path)
    return path


def require_plan(study: Study, planned: list[Planned], data: DataSet) -> None:
    """Raises InvalidInput, before any computation, unless every training can begin or go on."""
    of_classes = select_classes(data, study.shared.data.classes)
    require_samples(of_classes, study.shared.evaluation.samples or None)
    norm, radius, _, _ = _evaluation(study)
    require_pixel_radius(norm, radius, of_classes)
    count, seen = len(of_classes.test.labels), set()
    for training in planned:
        has_run = (training.folder / run_folder.SETTINGS).exists()
        has_begun = has_run or (training.folder / checkpoint.FOLDER).exists()
        require_no_orphan(training.folder / EVALUATION_FILE)
        # Of the seeds of a method the first is enough: they differ in nothing that could be wrong.
        if training.method in seen and not has_begun:
            continue
        seen.add(training.method)
        experiment = _prepared(training, data)
        if has_run:
            _require_same(training, experiment)
        elif has_begun and _can_start(training):
            # What it returns is of no use here: that it raises nothing is.
            checkpoint.restore(training.folder, training_identity(experiment), experiment.fresh)
        if training.method != WARM_UP:
            _require_evaluation(study, training, count)


def collect(study: Study, planned: list[Planned]) -> Any:
    """Returns the result of a study whose runs are all trained and evaluated.

    Args:
        study: from `nets.study.plan.read`.
        planned: from `nets.study.plan.plan`.

    Raises:
        InvalidInput: for a run or an evaluation that cannot be read, or of other images.
    """
    folders = {(training.method, training.seed): training.folder for training in planned}
    # The order of the file: methods, then seeds.
    keys = [(name, seed) for name in study.methods for seed in study.seeds]
    settings = {key: _record(folders[key]) for key in keys}
    return study_file.make(
        {key: evaluation_file.load(folders[key] / EVALUATION_FILE) for key in keys},
        settings,
        reference=study.reference,
        level=study.level,
        attributes={"name": study.name},
        warm_up={
            seed: _record(folder) for (name, seed), folder in folders.items() if name == WARM_UP
        },
    )


def _finish(study: Study, training: Planned, data: DataSet, progress: Progress) -> str:
    """Trains and evaluates a run as far as that is not done, and says what was done."""
    experiment, folder = _prepared(training, data), training.folder
    if (folder / run_folder.SETTINGS).exists():
        _require_same(training, experiment)
        leftovers.clear(folder)
        line = f"{folder}: trained already"
    else:
        files.require_writable(folder)
        line = run_experiment(experiment, folder, progress(folder.name))
    if training.method == WARM_UP:
        # Nothing is compared with it: it is where the methods begin.
        return line
    path = folder / EVALUATION_FILE
    if path.exists():
        _require_evaluation(
            study, training, len(select_classes(data, study.shared.data.classes).test.labels)
        )
        known = evaluation_file.PARAMETERS in evaluation_file.load(path).attrs
        doubt = (
            "" if known else " (by an earlier version, which did not record of which parameters)"
        )
        return f"{line}, evaluated already{doubt}"
    norm, radius, protocol, samples = _evaluation(study)
    request = Request(norm, radius, protocol, samples, seed=training.seed)
    evaluate_run(folder, path, request, progress, data=data)
    return f"{line}, evaluated"


def _evaluation(study: Study) -> tuple[str, float, str, int | None]:
    """Returns norm, radius, protocol and samples, those of all evaluations of the study.

    Those of the shared settings: a method may train at another radius and is still compared.
    """
    shared = study.shared
    samples = shared.evaluation.samples or None
    return shared.objective.norm, shared.objective.radius, shared.evaluation.protocol, samples


def _require_evaluation(study: Study, training: Planned, count: int) -> None:
    """Raises InvalidInput if a folder holds an evaluation of other settings."""
    norm, radius, protocol, samples = _evaluation(study)
    path = training.folder / EVALUATION_FILE
    if not path.exists():
        return
    wanted = identity(norm, radius, protocol, training.seed, samples, count, Request().block)
    # Beside an evaluation there is a run, see `require_no_orphan`: is it of this one?
    parameters = run_folder.checksum(run_folder.load(training.folder).variables)
    evaluation_file.require_free(path, wanted | {evaluation_file.PARAMETERS: parameters})


def _can_start(training: Planned) -> bool:
    """Returns whether the run that a training begins from, if any, is there."""
    start = training.config.optimisation.start
    return not start or (pathlib.Path(start) / run_folder.SETTINGS).exists()


def _prepared(training: Planned, data: DataSet) -> Experiment:
    """Returns the experiment; from random weights while the run that it begins from is missing."""
    config = training.config if _can_start(training) else training.config.replace(start="")
    try:
        return prepare(config, data)
    except InvalidInput as error:
        raise InvalidInput(f"{training.method}, seed {training.seed}: {error}") from error


def _require_same(training: Planned, experiment: Experiment) -> None:
    """Raises InvalidInput, naming the first difference, if a folder holds another training."""
    folder, ours = training.folder, training_identity(experiment)
    recorded = run_folder.load(folder).settings.get("training")
    if recorded is None:
        raise InvalidInput(f"out = {folder}: holds a network from elsewhere; move it away")
    # A run from before a key was there did what is now its default.
    theirs = completed(recorded, ours)
    # Without the run that it begins from, the network that it began from is not known.
    left_out = (*RECORDED, *(() if _can_start(training) else ("start",)))
    for name in sorted(set(theirs) - set(left_out)):
        if theirs[name] != ours.get(name):
            raise InvalidInput(
                f"out = {folder}: holds a run of other settings ({name} = {theirs[name]!r}, "
                f"this study has {ours.get(name)!r}); choose another --out or move it away"
            )


def _record(folder: pathlib.Path) -> Mapping[str, Any]:
    """Returns what a result file keeps of a run."""
    run = run_folder.load(folder)
    record = {key: value for key, value in run.settings.items() if key != "class_names"}
    record["parameters"] = run_folder.checksum(run.variables)
    # One line an epoch; fewer than the settings ask for where robustness collapsed.
    record["epochs"] = len(run_folder.read_log(folder))
    return record
