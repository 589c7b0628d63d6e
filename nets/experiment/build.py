"""From settings to a training: network, images, objective, step and what is measured.

Nothing is compiled here. That all a training computes is built here is what lets a checkpoint name
the code that it depends on: `nets.training.checkpoint.CODE` holds this module.
"""

from __future__ import annotations

import functools
import math
import typing
from typing import TYPE_CHECKING, Any

from nets.attacks import threats
from nets.compute import devices
from nets.data.load import require_images
from nets.data.select import select_training
from nets.data.subsets import hold_out
from nets.fairness import methods
from nets.models import registry as models
from nets.objectives.inner_attack import BatchNorm, InnerAttack, apply_of
from nets.objectives.losses import RECIPES, Objective
from nets.training import progress as training_progress
from nets.training import schedules
from nets.training import step as training_step
from nets.training.monitor import BOUNDS, make_monitor
from nets.training.progress import Training
from theory.domain import InvalidInput, require_known

if TYPE_CHECKING:
    from nets.configs.settings import Config
    from nets.data.load import DataSet, Images
    from nets.models.network import Network
    from theory.problem import Threat

WITH_BETA = ("trades", "mart")


def network_of(config: Config, data: DataSet) -> Network:
    """Returns the network that the settings name, for the classes of the data.

    Raises:
        InvalidInput: for an unknown network, option or precision.
    """
    settings = config.network
    return models.of_settings(
        settings.model, len(data.class_names), settings.options, settings.precision
    )


def training_of(config: Config, data: DataSet, network: Network) -> Training:
    """Returns the training that the settings describe, of a network on these classes.

    Args:
        config: the settings.
        data: of the classes to train on, see `nets.data.select.select_classes`.
        network: from `network_of`.

    Raises:
        InvalidInput: for a setting that is unknown or out of range, or data that do not allow it.
    """
    optimisation, classes = config.optimisation, len(data.class_names)
    threat = threats.threat_of(config.objective.norm, config.objective.radius)
    threats.require_radius(threat, BOUNDS, math.prod(data.train.images.shape[1:]))
    method = methods.build(config.objective.fairness, **config.objective.fairness_options)
    objective, inner = _objective(config, threat)
    train, held_out = _training_images(config, data)
    apply = apply_of(network)
    chosen_devices = devices.choose(optimisation.devices)
    devices.require_batch(optimisation.batch, len(chosen_devices))
    sgd = training_step.sgd(
        _rates(config, len(train.labels)),
        optimisation.momentum,
        optimisation.nesterov,
        optimisation.decay,
    )
    spec = training_step.StepSpec(
        apply=apply,
        optimiser=sgd,
        objective=objective,
        inner=inner,
        method=method,
        seed=optimisation.seed,
        pad=config.objective.crop,
        flip=config.objective.flip,
        mix=config.objective.mix,
        ema=optimisation.ema,
        radius_warm_up_steps=(
            config.objective.radius_warm_up * (len(train.labels) // optimisation.batch)
        ),
        mesh=devices.mesh_of(chosen_devices),
    )
    monitor = make_monitor(apply, objective, inner, threat, classes, optimisation.seed)
    training = Training(
        spec,
        training_step.make_step(spec),
        monitor._replace(devices=chosen_devices),
        training_progress.with_probe(train, held_out, optimisation.seed),
        data.class_names,
        optimisation.epochs,
        optimisation.batch,
        optimisation.drop,
    )
    training_progress.require_training(training)
    return training


def _training_images(config: Config, data: DataSet) -> tuple[Images, Images | None]:
    """Returns the images to train on, and those that are held out of them; None for none."""
    held_out, seed = None, config.optimisation.seed
    train = require_images("train", data.train, len(data.class_names))
    # Held out first: whatever is left to train on, networks of one seed are selected on the same
    # images.
    if config.data.held_out:
        train, held_out = hold_out(train, config.data.held_out, seed)
    train = select_training(
        train,
        data.class_names,
        config.data.training_samples,
        config.data.imbalance,
        config.data.profile,
        seed,
    )
    return train, held_out


def _rates(config: Config, count: int) -> schedules.Rates:
    """Returns the rate of each step of a training on so many images."""
    settings = config.optimisation
    if not 1 <= settings.batch <= count:
        raise InvalidInput(
            f"batch = {settings.batch}: must lie between 1 and the {count} training images"
        )
    return schedules.build(
        settings.schedule,
        settings.rate,
        settings.epochs,
        # A last batch that is not full is no step, see `nets.training.epoch.batches`.
        count // settings.batch,
        milestones=settings.milestones,
        factor=settings.factor,
        peak=settings.peak,
        warm_up=settings.warm_up,
    )


def _objective(config: Config, threat: Threat) -> tuple[Objective, InnerAttack | None]:
    """Returns the objective, with its beta, and the attack inside it."""
    settings = config.objective
    require_known("objective", settings.name, RECIPES)
    recipe = RECIPES[settings.name]
    objective = recipe.objective
    if settings.name in WITH_BETA:
        objective = functools.partial(objective, beta=settings.beta)
    options = _attack_options(config)
    if recipe.inner is None:
        if settings.radius_warm_up:
            options["radius_warm_up"] = settings.radius_warm_up
        # Refused and not ignored: who gives an attack expects one.
        if options:
            raise InvalidInput(f"objective = {settings.name}: has no attack to give {options}")
        return objective, None
    if settings.name == "fgsm-rs" and "steps" in options:
        raise InvalidInput(f"attack_steps = {settings.attack_steps}: fgsm-rs takes one step")
    return objective, recipe.inner(threat, **options)


def _attack_options(config: Config) -> dict[str, Any]:
    """Returns what the settings say of the attack; what they leave open the objective knows."""
    settings, options = config.objective, dict[str, Any]()
    if settings.attack_steps:
        options["steps"] = settings.attack_steps
    if settings.attack_step:
        options["step"] = settings.attack_step
    if settings.batch_norm:
        require_known("batch_norm", settings.batch_norm, typing.get_args(BatchNorm))
        options["batch_norm"] = settings.batch_norm
    return options
