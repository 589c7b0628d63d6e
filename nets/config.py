"""A training as one small TOML file: read, changed by key=value, checked before anything runs."""

import difflib
import fractions
import pathlib
import tomllib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from theory.domain import InvalidInput, require_known

FORMAT = 1
CONFIGS = pathlib.Path(__file__).parent / "configs"
DEFAULT = "mnist-5k-pgd"


class Config(NamedTuple):
    """What is trained on what, how, and how it is evaluated; every key of a file is one of these.

    Args:
        model, options: a network of `nets.models.registry` and its options.
        precision: of activations, "float32" or "bfloat16"; all that is kept is float32 in both.
        data: a data set of `nets.data.load`.
        classes: the only ones to train and to test on, by name or number; none for all.
        held_out: training images of each class that are held out to select and to steer.
        training_samples: of the rest, those of each class to train on; 0 for all.
        imbalance, profile: of a long tail of training images, the first class the most frequent,
            see `nets.data.select.select_training`; 1 for none.
        objective: "natural", "pgd", "fgsm-rs", "trades" or "mart".
        beta: weight of the divergence of "trades" and "mart".
        norm, radius: of the ball; a radius may be written "8/255".
        attack_steps, attack_step, batch_norm: of the attack in training, steps in units of the
            radius; 0, 0.0 and "" for what the objective's paper does.
        radius_warm_up: epochs over which the radius in training rises from zero.
        fairness, fairness_options: a method of `nets.fairness.methods` and its options.
        mix: share of an image that is its own, the rest of another of its class; 1 for no mixup.
        crop, flip: pixels of padding for random crops, and whether to mirror at random.
        start: folder of a run whose network training begins from; "" for random weights.
        epochs, batch, seed: passes over the training images, images in a step, of all randomness.
        seeds: how many are trained together, from `seed` on, see `nets.experiment.seeds`.
        devices: over how many a batch is spread, see `nets.compute.devices`; 0 for all there are.
        rate, schedule, milestones, factor, peak, warm_up: see `nets.training.schedules`.
        momentum, nesterov, decay: of stochastic gradient descent; decay of kernels alone.
        ema: decay of an average of the variables, which is then evaluated; 0 for none.
        select: "best", the epoch best under attack on the held-out images, or "last".
        drop: percentage points that the probe may fall before training stops, see
            `nets.training.collapse`.
        protocol, samples: of the evaluation that follows; 0 samples for all test images.
    """

    model: str = "small-cnn"
    options: dict[str, Any] = {}  # noqa: RUF012
    precision: str = "float32"
    data: str = "mnist-5k"
    classes: tuple[int | str, ...] = ()
    held_out: int = 0
    training_samples: int = 0
    imbalance: float = 1.0
    profile: str = "exponential"
    objective: str = "pgd"
    beta: float = 6.0
    norm: str = "linf"
    radius: float = 8 / 255
    attack_steps: int = 0
    attack_step: float = 0.0
    batch_norm: str = ""
    radius_warm_up: int = 0
    fairness: str = "none"
    fairness_options: dict[str, Any] = {}  # noqa: RUF012
    mix: float = 1.0
    crop: int = 0
    flip: bool = False
    start: str = ""
    epochs: int = 10
    batch: int = 128
    seed: int = 0
    seeds: int = 1
    devices: int = 0
    rate: float = 0.1
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    peak: float = 0.4
    warm_up: int = 0
    momentum: float = 0.9
    nesterov: bool = False
    decay: float = 5e-4
    ema: float = 0.0
    select: str = "last"
    drop: float = 20.0
    protocol: str = "budget"
    samples: int = 0


KINDS = typing.get_type_hints(Config)
# What the entries of a list may be.
LISTS: dict[str, tuple[type, ...]] = {"milestones": (int,), "classes": (int, str)}


def names() -> list[str]:
    """Returns the names of the files that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def read(words: Sequence[str]) -> tuple[str, Config]:
    """Returns the name of a training and its settings.

    Args:
        words: first, if it has no "=", the name of a file in `CONFIGS` or a path that ends in
            .toml; then settings key=value, or table.key=value, each in place of the file's. A value
            is written as in TOML; strings need no quotes.

    Raises:
        InvalidInput: naming the file and the key: unreadable, of another format, unknown (with the
            nearest names) or of another type.

    >>> name, found = read(["mnist-5k-pgd", "epochs=3", "options.hidden=[64]"])
    >>> name, found.epochs, found.options["hidden"]
    ('mnist-5k-pgd', 3, [64])
    """
    first = words[0] if words and "=" not in words[0] else DEFAULT
    path = pathlib.Path(first)
    if path.suffix != ".toml":
        require_known("config", first, names())
        path = CONFIGS / f"{first}.toml"
    found = parsed(path, "config", FORMAT)
    for key in found:
        require_known(f"config = {path}: key", key, KINDS)
    for word in words[bool(words and "=" not in words[0]) :]:
        _set(found, word)
    return path.stem, Config(**{key: _typed(key, value) for key, value in found.items()})


def replaced(config: Config, settings: Mapping[str, Any], where: str) -> Config:
    """Returns the config with some of its settings replaced.

    Args:
        config: the others come from it.
        settings: by key, as TOML holds them; a table is replaced whole.
        where: what a message calls the settings.

    Raises:
        InvalidInput: for an unknown key, with the nearest names, or a value of another type.
    """
    for key in settings:
        require_known(f"{where}: key", key, KINDS)
    return config._replace(**{key: _typed(key, value) for key, value in settings.items()})


def as_value(text: str) -> Any:
    """Returns a value as TOML reads it; what TOML cannot read is a string without quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text


def parsed(path: pathlib.Path, kind: str, number: int) -> dict[str, Any]:
    """Returns what a TOML file holds beside its format.

    Args:
        path: of the file.
        kind: what it is, for errors.
        number: the format that it must have.

    Raises:
        InvalidInput: naming the file: unreadable or of another format.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"{kind} = {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InvalidInput(f"{kind} = {path}: not TOML ({error})") from error
    said = found.pop("format", "missing")
    if said != number:
        raise InvalidInput(f"{kind} = {path}: format = {said}, must be {number}")
    return found


def _set(found: dict[str, Any], word: str) -> None:
    """Puts one key=value into the settings."""
    key, equals, text = word.partition("=")
    if not equals:
        near = difflib.get_close_matches(key, [f"{name}=" for name in KINDS], 1)
        hint = f"; perhaps {near[0]}..." if near else ""
        raise InvalidInput(f"setting = {word!r}: must be key=value{hint}")
    table, dot, inner = key.partition(".")
    require_known("key", table, KINDS)
    if dot and _is_table(table):
        found[table] = {**found.get(table, {}), inner: as_value(text)}
    elif dot:
        raise InvalidInput(f"key = {key!r}: {table} is no table")
    else:
        found[key] = text if KINDS[key] is str else as_value(text)


def _is_table(key: str) -> bool:
    return typing.get_origin(KINDS[key]) is dict


def _typed(key: str, value: Any) -> Any:
    """Returns a value as the type of its key, once it is of that type."""
    kind = KINDS[key]
    if key == "radius" and isinstance(value, str):
        value = _ratio(value)
    if kind is float and type(value) is int:
        value = float(value)
    if key in LISTS and isinstance(value, list | tuple):
        value = tuple(value)
        good = all(type(entry) in LISTS[key] for entry in value)
    else:
        good = type(value) is (dict if _is_table(key) else kind)
    if not good:
        entries = " or ".join(entry.__name__ for entry in LISTS.get(key, ()))
        word = f"list of {entries}" if entries else getattr(kind, "__name__", str(kind))
        raise InvalidInput(f"{key} = {value!r}: must be of type {word}")
    return value


def _ratio(text: str) -> Any:
    try:
        return float(fractions.Fraction(text))
    except (ValueError, ZeroDivisionError):
        return text


def as_settings(config: Config) -> Mapping[str, Any]:
    """Returns the settings as JSON holds them."""
    return {**config._asdict(), **{key: list(getattr(config, key)) for key in LISTS}}


def completed(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Returns recorded settings with those keys of ours that came later, at their defaults.

    A key is only ever added with a default that leaves earlier trainings what they were.

    >>> completed({"epochs": 3}, {"epochs": 4, "imbalance": 2.0, "backend": "cpu"})
    {'imbalance': 1.0, 'epochs': 3}
    """
    # Trainings from before `devices` had one.
    defaults = as_settings(Config(devices=1))
    return {k: defaults[k] for k in ours if k in defaults and k not in theirs} | dict(theirs)
