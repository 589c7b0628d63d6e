"""The settings of a training: five small records, and one flat list of keys over all of them.

Files, key=value words and the record of a run are flat: they know keys, not records. A key is
declared once, as a field below, and is the field's name, but for `data` and `objective`, which are
the names inside the records so called. A key is only ever added with a default that leaves earlier
trainings what they were: see `completed`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from sims.files.refusal import shown
from theory.command_line.numbers import parse_number
from theory.domain import InvalidInput, require_known


def _setting(default: Any, meaning: str, key: str | None = None) -> Any:
    """Returns a field with its default and meaning, of a key that may be another word."""
    return dataclasses.field(default=default, metadata=_described(meaning, key))


def _described(meaning: str, key: str | None = None) -> dict[str, str | None]:
    return {"meaning": meaning, "key": key}


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Which network is trained."""

    model: str = _setting("small-cnn", "a network of nets.models.registry")
    options: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata=_described("of the network")
    )
    precision: str = _setting(
        "float32", "of activations, float32 or bfloat16; all that is kept is float32 in both"
    )


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Which images it is trained and tested on."""

    name: str = _setting("mnist-5k", "a data set of nets.data.load", key="data")
    classes: tuple[int | str, ...] = _setting(
        (), "the only ones to train and to test on, by name or number; none for all"
    )
    # None by default: who selects or steers on them says how many, and trains on fewer.
    held_out: int = _setting(
        0, "training images of each class that are held out to select and to steer"
    )
    training_samples: int = _setting(
        0, "of the rest, those of each class to train on; 0 for all of them"
    )
    imbalance: float = _setting(
        1.0, "most over least frequent class of a long tail of training images; 1 for none"
    )
    profile: str = _setting("exponential", "of the long tail, see nets.data.select.select_training")


@dataclasses.dataclass(frozen=True)
class ObjectiveSettings:
    """What each step lowers, on which views of the images, and how classes are weighed."""

    name: str = _setting("pgd", "natural, pgd, fgsm-rs, trades or mart", key="objective")
    # TRADES on CIFAR-10: 1/lambda = 6.
    beta: float = _setting(6.0, "weight of the divergence of trades and mart")
    norm: str = _setting("linf", "of the ball")
    # Of CIFAR-10; recipes for other images say their own.
    radius: float = _setting(8 / 255, "of the ball; it may be written 8/255")
    attack_steps: int = _setting(
        0, "of the attack in training; 0 for as many as the objective's paper takes"
    )
    attack_step: float = _setting(
        0.0, "length of a step in units of the radius; 0 for that of the objective's paper"
    )
    batch_norm: str = _setting(
        "", "how the attack sees it: eval, batch or train; empty for that of the objective's paper"
    )
    radius_warm_up: int = _setting(0, "epochs over which the radius in training rises from zero")
    fairness: str = _setting("none", "a method of nets.fairness.methods")
    fairness_options: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata=_described("of the fairness method")
    )
    mix: float = _setting(
        1.0, "share of an image that is its own, the rest another of its class; 1 for no mixup"
    )
    crop: int = _setting(0, "pixels of padding for random crops")
    flip: bool = _setting(False, "whether to mirror images at random")


@dataclasses.dataclass(frozen=True)
class OptimisationSettings:
    """Where training begins, how it goes down, and which epoch is kept."""

    start: str = _setting(
        "", "folder of a run whose network training begins from; empty for random weights"
    )
    epochs: int = _setting(10, "passes over the training images")
    batch: int = _setting(128, "images in a step")
    seed: int = _setting(0, "of all randomness")
    seeds: int = _setting(
        1, "how many are trained together, from seed on, see nets.experiment.seeds"
    )
    devices: int = _setting(
        0, "over how many a batch is spread, see nets.compute.devices; 0 for all there are"
    )
    rate: float = _setting(0.1, "the largest, see nets.training.schedules")
    schedule: str = _setting("cosine", "constant, piecewise, cosine or cyclic")
    milestones: tuple[int, ...] = _setting((), "epochs at which a piecewise rate falls")
    factor: float = _setting(0.1, "by which a piecewise rate falls")
    # Where Rice et al. (2020) have it; Wong et al. (2020) take the middle.
    peak: float = _setting(0.4, "share of the epochs at which a cyclic rate is at its top")
    warm_up: int = _setting(0, "epochs over which the rate rises from zero besides")
    # Momentum and decay are those of Rice et al. (2020) and of nearly all recipes after them.
    momentum: float = _setting(0.9, "of stochastic gradient descent")
    nesterov: bool = _setting(False, "whether the momentum is Nesterov's")
    decay: float = _setting(5e-4, "of weights, of kernels alone")
    ema: float = _setting(
        0.0, "decay of an average of the variables, which is then evaluated; 0 for none"
    )
    select: str = _setting(
        "last", "best, the epoch best under attack on the held-out images, or last"
    )
    # Wong et al. (2020) stop where one epoch loses 20 points.
    drop: float = _setting(
        20.0, "percentage points that the probe may fall, see nets.training.collapse"
    )


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """The evaluation that follows; training does not depend on it."""

    protocol: str = _setting("budget", "of nets.evaluation.protocols")
    samples: int = _setting(0, "the first so many test images; 0 for all")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained on what, how, and how it is evaluated.

    The order of records and fields is that of the keys in `run.json`.
    """

    network: NetworkSettings = dataclasses.field(default_factory=NetworkSettings)
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    objective: ObjectiveSettings = dataclasses.field(default_factory=ObjectiveSettings)
    optimisation: OptimisationSettings = dataclasses.field(default_factory=OptimisationSettings)
    evaluation: EvaluationSettings = dataclasses.field(default_factory=EvaluationSettings)

    @classmethod
    def of(cls, **settings: Any) -> Config:
        """Returns the config with these keys, the others at their defaults; types as declared.

        >>> config = Config.of(model="mlp", data="mnist", epochs=3)
        >>> config.network.model, config.data.name, config.optimisation.epochs
        ('mlp', 'mnist', 3)
        """
        return cls().replace(**settings)

    def replace(self, **settings: Any) -> Config:
        """Returns the config with the values of some keys replaced; types as declared.

        Raises:
            InvalidInput: for an unknown key, with the nearest ones.
        """
        by_record: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            require_known("key", name, KEYS)
            by_record.setdefault(KEYS[name].record, {})[KEYS[name].field] = value
        changed = {
            record: dataclasses.replace(getattr(self, record), **values)
            for record, values in by_record.items()
        }
        return dataclasses.replace(self, **changed)

    def flat(self) -> dict[str, Any]:
        """Returns the value of every key."""
        return {name: getattr(getattr(self, key.record), key.field) for name, key in KEYS.items()}

    def as_json(self) -> dict[str, Any]:
        """Returns the value of every key as JSON holds it: lists in place of tuples."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.flat().items()
        }


class Key(NamedTuple):
    """A key of files, words and records.

    Args:
        record, field: where `Config` holds its value.
        kind: the type of the value.
        meaning: in words, for messages.
    """

    record: str
    field: str
    kind: Any
    meaning: str

    @property
    def is_table(self) -> bool:
        """Whether the value is a table."""
        return typing.get_origin(self.kind) is dict


def _keys() -> dict[str, Key]:
    # From the annotations alone: a type that is written down twice is one that will differ.
    keys = {}
    for record, holder in typing.get_type_hints(Config).items():
        hints = typing.get_type_hints(holder)
        for field in dataclasses.fields(holder):
            name = field.metadata["key"] or field.name
            keys[name] = Key(record, field.name, hints[field.name], field.metadata["meaning"])
    return keys


KEYS = _keys()
EVALUATION_KEYS = tuple(name for name, key in KEYS.items() if key.record == "evaluation")


def typed(name: str, value: Any, where: str = "") -> Any:
    """Returns a value, as TOML holds it, as the type of its key, once it is of that type.

    Args:
        name: of `KEYS`.
        value: a whole number will do for a float and 1e2 for an integer; a float may be written as
            a ratio in words, such as "8/255".
        where: what a message begins with, such as the file.

    Raises:
        InvalidInput: naming key, value and type.
    """
    key = KEYS[name]
    try:
        result = msgspec.convert(as_number(key.kind, value), key.kind)
        # What is recorded in run.json must be what JSON can hold: no dates, nan or infinities.
        json.dumps(result, allow_nan=False)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        start = f"{where}: " if where else ""
        raise InvalidInput(
            f"{start}{name} = {shown(value)}: must be of type {_in_words(key.kind)} ({key.meaning})"
        ) from error
    return result


def as_number(kind: Any, value: Any) -> Any:
    """Returns what words or TOML write in another way as the number it is, all else as it is.

    Args:
        kind: float, int or a tuple of them; other types have no other way.
        value: such as "8/255", or 100.0 for an integer.
    """
    if kind is float and isinstance(value, str):
        try:
            return parse_number(value)
        except ValueError:
            return value
    if kind is int and isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    entries = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        return [as_number(entries[0], entry) for entry in value]
    return value


def _in_words(kind: Any) -> str:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return f"list of {_in_words(inside[0])}"
    if origin is types.UnionType:
        return " or ".join(map(_in_words, inside))
    return "table of numbers, texts, lists and tables" if origin is dict else str(kind.__name__)


def completed(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Returns recorded settings with those keys of ours that came later, at their defaults.

    >>> completed({"epochs": 3}, {"epochs": 4, "imbalance": 2.0, "backend": "cpu"})
    {'imbalance': 1.0, 'epochs': 3}
    """
    # Trainings from before `devices` had one, whatever its default has become.
    defaults = Config.of(devices=1).as_json()
    missing = {k: defaults[k] for k in ours if k in defaults and k not in theirs}
    return missing | dict(theirs)
