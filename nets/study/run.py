"""A study from plan to result file: what is there is verified, what is not is trained."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from nets import config
from nets.data.load import DataSet, load
from nets.data.select import select_classes
from nets.evaluation import file as evaluation_file
from nets.evaluation.run import Progress, Request, evaluate_run, identity, require_samples
from nets.experiment import prepare as experiment
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
    data = load(study.shared.data, directory)
    planned = plan(study, out)
    require_plan(study, planned, data)
    files.require_writable(out)
    for one in planned:
        say(_finish(study, one, data, progress))
    path = out / STUDY_FILE
    files.save(collect(study, planned), path)
    return path


def require_plan(study: Study, planned: list[Planned], data: DataSet) -> None:
    """Raises InvalidInput, before any computation, unless every training can begin or go on."""
    whole = select_classes(data, study.shared.classes)
    require_samples(whole, study.shared.samples or None)
    count, seen = len(whole.test.labels), set()
    for one in planned:
        found = any(
            (one.folder / name).exists() for name in (run_folder.SETTINGS, checkpoint.FOLDER)
        )
        if one.method in seen and not found:
            continue  # Seeds differ in nothing that could be wrong.
        seen.add(one.method)
        prepared = _prepared(one, data)
        if (one.folder / run_folder.SETTINGS).exists():
            _require_same(one, prepared)
        elif found and _can_start(one):
            checkpoint.restore(one.folder, experiment.identity(prepared), prepared.fresh)
        if one.method != WARM_UP:
            _require_evaluation(study, one, count)


def collect(study: Study, planned: list[Planned]) -> Any:
    """Returns the result of a study whose runs are all trained and evaluated.

    Args:
        study: from `nets.study.plan.read`.
        planned: from `nets.study.plan.plan`.

    Raises:
        InvalidInput: for a run or an evaluation that cannot be read, or of other images.
    """
    methods = {(one.method, one.seed): one for one in planned if one.method != WARM_UP}
    warm = {one.seed: one for one in planned if one.method == WARM_UP}
    # The order of the file: methods, then seeds.
    keys = [(name, seed) for name in study.methods for seed in study.seeds]
    settings = {key: _record(methods[key].folder) for key in keys}
    return study_file.make(
        {key: evaluation_file.load(methods[key].folder / EVALUATION_FILE) for key in keys},
        settings,
        reference=study.reference,
        level=study.level,
        attributes={"name": study.name},
        warm_up={seed: _record(one.folder) for seed, one in warm.items()},
    )


def _finish(study: Study, one: Planned, data: DataSet, progress: Progress) -> str:
    """Trains and evaluates a run as far as that is not done, and says what was done."""
    prepared = _prepared(one, data)
    if (one.folder / run_folder.SETTINGS).exists():
        _require_same(one, prepared)
        line = f"{one.folder}: trained already"
    else:
        run_folder.require_writable(one.folder)
        line = experiment.run(prepared, one.folder, progress(one.folder.name))
    if one.method == WARM_UP:
        return line
    path = one.folder / EVALUATION_FILE
    if path.exists():
        return f"{line}, evaluated already"
    shared = study.shared
    request = Request(
        shared.norm, shared.radius, shared.protocol, shared.samples or None, seed=one.seed
    )
    evaluate_run(one.folder, path, request, progress, data=data)
    return f"{line}, evaluated"


def _require_evaluation(study: Study, one: Planned, count: int) -> None:
    """Raises InvalidInput if a folder holds an evaluation of other settings."""
    norm, radius, protocol, samples = (
        getattr(study.shared, name) for name in ("norm", "radius", "protocol", "samples")
    )
    wanted = identity(norm, radius, protocol, one.seed, samples, count, Request().block)
    evaluation_file.require_free(one.folder / EVALUATION_FILE, wanted)


def _can_start(one: Planned) -> bool:
    start = one.config.start
    return not start or (pathlib.Path(start) / run_folder.SETTINGS).exists()


def _prepared(one: Planned, data: DataSet) -> experiment.Experiment:
    """Returns the experiment; from random weights while the run that it begins from is missing."""
    wanted = one.config if _can_start(one) else one.config._replace(start="")
    try:
        return experiment.prepare(wanted, data)
    except InvalidInput as error:
        raise InvalidInput(f"{one.method}, seed {one.seed}: {error}") from error


def _require_same(one: Planned, prepared: experiment.Experiment) -> None:
    """Raises InvalidInput, naming the first difference, if a folder holds another training."""
    ours = experiment.identity(prepared)
    # A run from before a key was there did what is now its default.
    recorded = run_folder.load(one.folder).settings.get("training")
    if recorded is None:
        raise InvalidInput(f"out = {one.folder}: holds a network from elsewhere; move it away")
    theirs = config.completed(recorded, ours)
    left_out = (*RECORDED, *(() if _can_start(one) else ("start",)))
    for name in sorted(set(theirs) - set(left_out)):
        if theirs[name] != ours.get(name):
            raise InvalidInput(
                f"out = {one.folder}: holds a run of other settings ({name} = {theirs[name]!r}, "
                f"this study has {ours.get(name)!r}); choose another --out or move it away"
            )


def _record(folder: pathlib.Path) -> Mapping[str, Any]:
    """Returns what a result file keeps of a run."""
    found = run_folder.load(folder)
    kept = {key: value for key, value in found.settings.items() if key not in ("class_names",)}
    kept["parameters"] = run_folder.checksum(found.variables)
    kept["epochs"] = len((folder / run_folder.LOG).read_text("utf-8").splitlines())
    return kept
