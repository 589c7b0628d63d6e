"""From settings to an experiment: everything is checked here, before anything is compiled."""

from __future__ import annotations

import pathlib
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from nets.compute import devices
from nets.configs.settings import EVALUATION_KEYS, Config, completed
from nets.data.load import fingerprint
from nets.data.select import select_classes
from nets.experiment.build import network_of, training_of
from nets.experiment.requirements import require_settings
from nets.models import registry as models
from nets.runs import folder as run_folder
from nets.training.progress import Training, TrainingProgress, begin
from sims.provenance import versions
from theory.domain import InvalidInput

if TYPE_CHECKING:
    from nets.data.load import DataSet
    from nets.models.network import Network


class Experiment(NamedTuple):
    """A training that has been checked.

    Args:
        config: its settings.
        data: of the classes that are trained on.
        network: untrained.
        training: all but its progress.
        fresh: the progress before the first epoch.
    """

    config: Config
    data: DataSet
    network: Network
    training: Training
    fresh: TrainingProgress


def prepare(config: Config, data: DataSet) -> Experiment:
    """Returns the experiment that the settings describe, before its first epoch.

    Args:
        config: the settings, of which `seeds` is for `nets.experiment.seeds`.
        data: the set that they name, whole.

    Raises:
        InvalidInput: for a setting that is unknown or out of range, or data that do not allow it.
    """
    require_settings(config)
    data = select_classes(data, config.data.classes)
    network = network_of(config, data)
    training = training_of(config, data, network)
    if config.optimisation.start:
        variables = _started(config, data)
    else:
        shape = typing.cast(tuple[int, int, int], training.images.train.images.shape[1:])
        key = jax.random.key(config.optimisation.seed, impl="threefry2x32")
        variables = models.initialise(key, network, shape)
    return Experiment(config, data, network, training, begin(training, variables))


def identity(experiment: Experiment) -> dict[str, Any]:
    """Returns all that the numbers of a training depend on, as JSON holds it.

    Runs record it: a key is never renamed, and what it says never changes.
    """
    settings = experiment.config.as_json()
    return {
        **{name: value for name, value in settings.items() if name not in EVALUATION_KEYS},
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


def description(experiment: Experiment) -> dict[str, Any]:
    """Returns what `nets.runs.folder.load` needs to know of network and data, and all settings."""
    config, data = experiment.config, experiment.data
    return {
        "model": config.network.model,
        "options": config.network.options,
        "precision": config.network.precision,
        "image_shape": list(data.train.images.shape[1:]),
        "class_names": list(data.class_names),
        "data": data.name,
        "classes": list(config.data.classes),
        "fingerprint": data.fingerprint,
        "training_fingerprint": fingerprint(experiment.training.images.train),
        "training": identity(experiment),
    }


def _started(config: Config, data: DataSet) -> Mapping[str, Any]:
    """Returns the variables of the run to begin from, once it is of this network and these data."""
    start = config.optimisation.start
    try:
        run = run_folder.load(pathlib.Path(start))
    except InvalidInput as error:
        raise InvalidInput(f"start = {start}: {error}") from error
    ours = {
        "model": config.network.model,
        "options": config.network.options,
        "class_names": list(data.class_names),
        "image_shape": list(data.train.images.shape[1:]),
    }
    for name, value in ours.items():
        if run.settings[name] != value:
            raise InvalidInput(
                f"start = {start}: of another {name}, {run.settings[name]}; this training "
                f"has {value}"
            )
    _require_unseen(config, data, run.settings)
    return run.variables


def _require_unseen(config: Config, data: DataSet, settings: Mapping[str, Any]) -> None:
    """Raises InvalidInput if the run to begin from was trained on images that are held out now."""
    held_out, seed = config.data.held_out, config.optimisation.seed
    # A run that says nothing of its training is taken as of this seed, with nothing held out.
    split = {"held_out": 0, "seed": seed} | settings.get("training", {})
    same_images = settings["fingerprint"] == data.fingerprint
    # Of one seed more images held out contain fewer; of two seeds they are different ones.
    if same_images and held_out and (split["held_out"] < held_out or split["seed"] != seed):
        raise InvalidInput(
            f"held_out = {held_out}: {config.optimisation.start} was trained on some of these "
            f"images (held_out = {split['held_out']}, seed = {split['seed']})"
        )
