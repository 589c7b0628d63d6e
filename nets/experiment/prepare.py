"""From settings to a plan of training: everything is checked here, before anything is compiled."""

from __future__ import annotations

import functools
import pathlib
import time
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from nets.attacks import threats
from nets.compute import devices
from nets.config import Config, as_settings, completed
from nets.data.load import fingerprint
from nets.data.select import select_classes, select_training
from nets.data.subsets import hold_out
from nets.evaluation import protocols
from nets.fairness import methods
from nets.models import registry as models
from nets.objectives.inner_attack import BatchNorm, InnerAttack, apply_of
from nets.objectives.losses import RECIPES, Objective
from nets.runs import folder as run_folder
from nets.runs import lock
from nets.training import checkpoint, loop, schedules
from nets.training import step as training_step
from nets.training.monitor import make_monitor
from sims.provenance import versions
from theory.domain import (
    NON_NEGATIVE,
    UNIT_INTERVAL,
    Interval,
    InvalidInput,
    require_inside,
    require_known,
)

if TYPE_CHECKING:
    from nets.data.load import DataSet
    from theory.problem import Threat

_BELOW_ONE = Interval.parse("[0, 1)")
WITH_BETA = ("trades", "mart")
SELECT = ("best", "last")
# Settings that training does not depend on.
EVALUATION_ONLY = ("protocol", "samples")


class Experiment(NamedTuple):
    """A training that has been checked: settings, data, network, plan and where it begins."""

    config: Config
    data: DataSet
    module: models.Network
    plan: loop.Training
    fresh: loop.TrainingProgress


def prepare(config: Config, data: DataSet) -> Experiment:
    """Returns the experiment that the settings describe, before its first epoch.

    Args:
        config: the settings, of which `seeds` is for `nets.experiment.seeds`.
        data: the set that they name, whole.

    Raises:
        InvalidInput: for a setting that is unknown or out of range, or data that do not allow it.
    """
    _require_numbers(config)
    data = select_classes(data, config.classes)
    module = models.of_settings(
        config.model, len(data.class_names), config.options, config.precision
    )
    threat = threats.threat_of(config.norm, config.radius)
    method = methods.build(config.fairness, **config.fairness_options)
    objective, inner = _objective(config, threat)
    training, held = data.train, None
    if config.held_out:
        training, held = hold_out(data.train, config.held_out, config.seed)
    training = select_training(
        training,
        data.class_names,
        config.training_samples,
        config.imbalance,
        config.profile,
        config.seed,
    )
    apply = apply_of(module)
    places = devices.choose(config.devices)
    devices.require_batch(config.batch, len(places))
    task = training_step.StepSpec(
        apply,
        training_step.sgd(
            _rates(config, len(training.labels)), config.momentum, config.nesterov, config.decay
        ),
        objective,
        inner,
        method,
        config.seed,
        config.crop,
        config.flip,
        config.mix,
        config.ema,
        config.radius_warm_up * (len(training.labels) // config.batch),
        devices.mesh_of(places),
    )
    made = loop.Training(
        task,
        training_step.make_step(task),
        make_monitor(apply, objective, inner, threat, len(data.class_names), config.seed)._replace(
            devices=places
        ),
        loop.split(training, held, config.seed),
        data.class_names,
        config.epochs,
        config.batch,
        config.drop,
    )
    loop.require_training(made)
    shape = typing.cast(tuple[int, int, int], training.images.shape[1:])
    if config.start:
        variables = _started(config, data)
    else:
        variables = models.initialise(jax.random.key(config.seed), module, shape)
    return Experiment(config, data, module, made, loop.begin(made, variables))


def identity(experiment: Experiment) -> dict[str, Any]:
    """Returns all that the numbers of a training depend on, as JSON holds it."""
    settings = as_settings(experiment.config)
    return {
        **{name: value for name, value in settings.items() if name not in EVALUATION_ONLY},
        # What a training begins from counts, not where it lies.
        "start": settings["start"] and run_folder.checksum(experiment.fresh.chosen),
        # How many there are, if all: sums over a batch are rounded in another order.
        "devices": len(devices.choose(settings["devices"])),
        "fingerprint": experiment.data.fingerprint,
        "versions": versions(),
        "backend": jax.default_backend(),
        "float64": bool(jax.config.read("jax_enable_x64")),
    }


def matches_recorded(recorded: Mapping[str, Any] | None, experiment: Experiment) -> bool:
    """Returns whether the settings that a run records as its training are those of an experiment.

    Args:
        recorded: "training" of `nets.runs.folder.Run.settings`; None for a network from elsewhere.
        experiment: from `prepare`.
    """
    ours = identity(experiment)
    return recorded is not None and completed(recorded, ours) == ours


def run(
    experiment: Experiment,
    folder: pathlib.Path,
    share: Callable[[float], None] = lambda share: None,
) -> str:
    """Trains, from the last checkpoint where there is one, leaves the run, and says how it went.

    Args:
        experiment: from `prepare`.
        folder: of the run, which can be written to.
        share: called with the share done.

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
    before = len(progress.records)

    def save(now: loop.TrainingProgress) -> None:
        checkpoint.save(folder, settings, now)
        run_folder.write_log(folder, now.records)

    progress = loop.run(experiment.plan, progress, save, share)
    how = write_run(experiment, folder, progress)
    checkpoint.remove(folder)
    return f"{how}; {duration_text(began, before)}"


def write_run(experiment: Experiment, folder: pathlib.Path, progress: loop.TrainingProgress) -> str:
    """Writes a run that is finished, and says how it went; see `run`."""
    # A kill between the last checkpoint and its log leaves a log without that epoch.
    run_folder.write_log(folder, progress.records)
    kept, variables = _selected(experiment.config, progress)
    found = description(experiment) | {"epoch": kept}
    run_folder.save(folder, run_folder.Run(found, experiment.module, variables))
    how = f"{folder}: epoch {kept} of {len(progress.records)} kept"
    if loop.stopped(progress):
        how += f", stopped: the probe fell by more than {experiment.config.drop:g} points"
    return how


def duration_text(began: float, before: int) -> str:
    """Returns the words on how long a training took, and from which epoch it has gone on."""
    seconds = f"{time.perf_counter() - began:.0f} s"
    return f"{seconds}, gone on from epoch {before}" if before else seconds


def _selected(config: Config, progress: loop.TrainingProgress) -> tuple[int, Any]:
    """Returns the epoch that is kept and its variables; after a collapse, the best one."""
    last = len(progress.records)
    if config.select == "best" or loop.stopped(progress):
        return loop.best(progress), progress.chosen
    return last, training_step.evaluated_variables(progress.state)


def description(experiment: Experiment) -> dict[str, Any]:
    """Returns what `nets.runs.folder.load` needs to know of network and data, and all settings."""
    config, data = experiment.config, experiment.data
    return {
        "model": config.model,
        "options": config.options,
        "precision": config.precision,
        "image_shape": list(data.train.images.shape[1:]),
        "class_names": list(data.class_names),
        "data": data.name,
        "classes": list(config.classes),
        "fingerprint": data.fingerprint,
        "training_fingerprint": fingerprint(experiment.plan.parts.training),
        "training": identity(experiment),
    }


def _started(config: Config, data: DataSet) -> Any:
    """Returns the variables of the run to begin from, once it is of this network and these data."""
    try:
        found = run_folder.load(pathlib.Path(config.start))
    except InvalidInput as error:
        raise InvalidInput(f"start = {config.start}: {error}") from error
    ours = {
        "model": config.model,
        "options": config.options,
        "class_names": list(data.class_names),
        "image_shape": list(data.train.images.shape[1:]),
    }
    for name, value in ours.items():
        if found.settings[name] != value:
            raise InvalidInput(
                f"start = {config.start}: of another {name}, {found.settings[name]}; this training "
                f"has {value}"
            )
    theirs = found.settings.get("training", {})
    split = {"held_out": 0, "seed": config.seed} | theirs
    same_images = found.settings["fingerprint"] == data.fingerprint
    if (
        same_images
        and config.held_out
        and (split["held_out"] < config.held_out or split["seed"] != config.seed)
    ):
        raise InvalidInput(
            f"held_out = {config.held_out}: {config.start} was trained on some of these images "
            f"(held_out = {split['held_out']}, seed = {split['seed']})"
        )
    return found.variables


def _rates(config: Config, count: int) -> schedules.Rates:
    if not 1 <= config.batch <= count:
        raise InvalidInput(
            f"batch = {config.batch}: must lie between 1 and the {count} training images"
        )
    return schedules.build(
        config.schedule,
        config.rate,
        config.epochs,
        count // config.batch,
        milestones=config.milestones,
        factor=config.factor,
        peak=config.peak,
        warm_up=config.warm_up,
    )


def _objective(config: Config, threat: Threat) -> tuple[Objective, InnerAttack | None]:
    """Returns the objective, with its beta, and the attack inside it."""
    require_known("objective", config.objective, RECIPES)
    recipe = RECIPES[config.objective]
    objective = recipe.objective
    if config.objective in WITH_BETA:
        objective = functools.partial(objective, beta=config.beta)
    wanted: dict[str, Any] = {}
    if config.attack_steps:
        wanted["steps"] = config.attack_steps
    if config.attack_step:
        wanted["step"] = config.attack_step
    if config.batch_norm:
        require_known("batch_norm", config.batch_norm, typing.get_args(BatchNorm))
        wanted["batch_norm"] = config.batch_norm
    if recipe.inner is None:
        if config.radius_warm_up:
            wanted["radius_warm_up"] = config.radius_warm_up
        if wanted:
            raise InvalidInput(f"objective = {config.objective}: has no attack to give {wanted}")
        return objective, None
    if config.objective == "fgsm-rs" and "steps" in wanted:
        raise InvalidInput(f"attack_steps = {config.attack_steps}: fgsm-rs takes one step")
    return objective, recipe.inner(threat, **wanted)


def _require_numbers(config: Config) -> None:
    require_known("select", config.select, SELECT)
    require_known("protocol", config.protocol, protocols.PROTOCOLS)
    if not 0 <= config.seed < 2**32:
        raise InvalidInput(f"seed = {config.seed}: must lie in [0, 2^32)")
    if not 1 <= config.seeds <= 2**32 - config.seed:
        raise InvalidInput(f"seeds = {config.seeds}: must be at least 1, the last below 2^32")
    if not 0 <= config.radius_warm_up <= config.epochs:
        raise InvalidInput(
            f"radius_warm_up = {config.radius_warm_up}: must lie from 0 to the {config.epochs} "
            "epochs"
        )
    for name in ("held_out", "crop", "samples", "attack_steps"):
        if getattr(config, name) < 0:
            raise InvalidInput(f"{name} = {getattr(config, name)}: must be at least 0")
    require_inside("mix", config.mix, UNIT_INTERVAL, "the share of an image that is its own")
    if config.norm == "linf" and config.radius > 1:
        raise InvalidInput(
            f"radius = {config.radius:g}: must be at most 1, as pixels lie in [0, 1]; perhaps "
            f"{config.radius:g}/255 is meant"
        )
    for name in ("momentum", "ema"):
        require_inside(name, getattr(config, name), _BELOW_ONE, f"the {name}")
    for name in ("decay", "beta"):
        require_inside(name, getattr(config, name), NON_NEGATIVE, f"the {name}")
    if not 0 < config.drop <= 100:
        raise InvalidInput(f"drop = {config.drop:g}: must lie in (0, 100], in percentage points")
    if config.select == "best" and not config.held_out:
        raise InvalidInput("select = best: needs held_out images of each class to select on")
