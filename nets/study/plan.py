"""A study: several methods of training with several seeds under one budget, as one TOML file."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from nets.configs import recipes, toml
from nets.configs.settings import KEYS as SETTINGS
from nets.configs.settings import Config, as_number
from nets.evaluation import protocols
from sims.files.records import typed
from sims.files.refusal import shown
from sims.stats.interval import require_level
from theory.domain import InvalidInput, require_known

FORMAT = 1
STUDIES = pathlib.Path(__file__).parents[1] / "studies"
WARM_UP = "warm-up"
# What the study itself sets, or all its networks must share to be compared: the same network
# on the same classes, evaluated alike. Images, objective and optimisation may differ.
FIXED = ("seed", "seeds", "start", "protocol", "samples", "data", "classes", "model", "options")


class StudyFile(msgspec.Struct, forbid_unknown_fields=True):
    """What a study's file holds beside its format: see `read`."""

    config: str
    seeds: Any
    reference: str
    methods: dict[str, dict[str, Any]]
    level: float = 0.05
    settings: dict[str, Any] = {}
    warm_up: dict[str, Any] | None = None
    evaluation: dict[str, Any] = {}


KEYS = StudyFile.__struct_fields__


class Study(NamedTuple):
    """Which networks are trained, and how they are compared.

    Args:
        name: of the file.
        shared: the config that all trainings share.
        seeds: of each method; paired over the methods, from data to first weights.
        reference: the method with which the others are compared.
        level: chance that any interval of the report misses.
        warm_up: settings of a first training, once a seed, from whose network all methods begin;
            None for none.
        methods: settings of each by name, in place of the shared ones.
    """

    name: str
    shared: Config
    seeds: tuple[int, ...]
    reference: str
    level: float
    warm_up: Mapping[str, Any] | None
    methods: Mapping[str, Mapping[str, Any]]


class Planned(NamedTuple):
    """A training of a study.

    Args:
        method: its name, or `WARM_UP`.
        seed: of all its randomness.
        folder: of the run.
        config: of the training, with `start` where it begins from a warm-up.
    """

    method: str
    seed: int
    folder: pathlib.Path
    config: Config


def names() -> list[str]:
    """Returns the names of the files that come with the package."""
    return sorted(path.stem for path in STUDIES.glob("*.toml"))


def read(words: Sequence[str]) -> Study:
    """Returns the study that a file and settings in place of the file's describe.

    A file has `format = 1`; `config`, of `nets.configs` or a .toml beside the study's file;
    `seeds`; `reference`; a table `[methods.NAME]` of settings for each method; and, where wanted,
    `level`, `[settings]` of all trainings in place of the config's, `[warm_up]` and `[evaluation]`
    with `protocol` and `samples`.

    Args:
        words: first the name of a file in `STUDIES` or a path that ends in .toml; then key=value
            or table.key=value, such as seeds=[0], methods.dafa.mix=0.5 or, of all trainings,
            epochs=3.

    Raises:
        InvalidInput: naming file and key: unreadable, of another format, unknown (with the nearest
            names), missing, of another type or not allowed.
    """
    if not words or "=" in words[0]:
        raise InvalidInput(f"study: name one of {', '.join(names())}, or a path that ends in .toml")
    path = pathlib.Path(words[0])
    if path.suffix != ".toml":
        require_known("study", words[0], names())
        path = STUDIES / f"{words[0]}.toml"
    content = toml.read(path, "study", FORMAT)
    for word in words[1:]:
        _set(content, word)
    return _study(path, content)


def plan(study: Study, out: pathlib.Path) -> list[Planned]:
    """Returns all trainings in the order in which they run: seed by seed, the warm-up first.

    Args:
        study: from `read`.
        out: the folder that holds one folder METHOD-seedSEED for each.
    """
    trainings = []
    for seed in study.seeds:
        shared = study.shared.replace(seed=seed)
        first = out / f"{WARM_UP}-seed{seed}"
        if study.warm_up is not None:
            warm_up = recipes.replaced(shared, study.warm_up, "warm_up")
            trainings.append(Planned(WARM_UP, seed, first, warm_up))
            # After the warm-up has its config: it begins from random weights itself.
            shared = shared.replace(start=str(first))
        for name, settings in study.methods.items():
            config = recipes.replaced(shared, settings, f"methods.{name}")
            trainings.append(Planned(name, seed, out / f"{name}-seed{seed}", config))
    return trainings


def _set(content: dict[str, Any], word: str) -> None:
    """Puts one key=value in place; a key of configs alone is one of all trainings."""
    key, equals, text = word.partition("=")
    first, *rest = key.split(".")
    if not equals:
        raise InvalidInput(f"setting = {shown(word)}: must be key=value")
    if first not in KEYS:
        require_known("key", first, (*KEYS, *SETTINGS))
        first, rest = "settings", [first, *rest]
    *tables, last = first, *rest
    table = content
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise InvalidInput(f"key = {key!r}: {name} is no table")
    table[last] = toml.as_value(text)


def _study(path: pathlib.Path, content: dict[str, Any]) -> Study:
    """Returns the study once everything in it has been looked at."""
    where = f"study = {path}"
    level = {"level": as_number(float, content["level"])} if "level" in content else {}
    wanted = typed(content | level, StudyFile, where)
    for name, settings in wanted.methods.items():
        _require_name(where, name)
        _require_settings(f"methods.{name}", settings)
    _require_settings("warm_up", wanted.warm_up or {})
    require_known(f"{where}: reference", wanted.reference, wanted.methods)
    require_level(wanted.level)
    study = Study(
        path.stem,
        _shared(path, wanted),
        _seeds(where, wanted.seeds),
        wanted.reference,
        wanted.level,
        wanted.warm_up,
        wanted.methods,
    )
    # Looks at every key and type of every table, wherever the runs will lie.
    plan(study, pathlib.Path())
    return study


def _shared(path: pathlib.Path, wanted: StudyFile) -> Config:
    """Returns the config of all trainings: that of the recipe, then the study's own tables."""
    name = wanted.config
    if name.endswith(".toml"):
        # Beside the study's file, so that a folder of both can be moved.
        name = str(path.parent / name)
    _, shared = recipes.read([name])
    for key in wanted.evaluation:
        require_known("evaluation: key", key, ("protocol", "samples"))
    for key in ("seed", "seeds", "start", "protocol", "samples"):
        if key in wanted.settings:
            raise InvalidInput(f"settings: {key}: is set by the study's own keys")
    shared = recipes.replaced(shared, wanted.settings, "settings")
    shared = recipes.replaced(shared, wanted.evaluation, "evaluation")
    require_known("evaluation: protocol", shared.evaluation.protocol, protocols.PROTOCOLS)
    return shared


def _require_name(where: str, name: str) -> None:
    """Raises InvalidInput unless a method's name can be part of the name of a folder."""
    is_plain = all(c.isalnum() or c in "-_" for c in name)
    if not (name and name != WARM_UP and is_plain):
        raise InvalidInput(
            f"{where}: methods.{name!r}: must be letters, digits, - and _, and not {WARM_UP}"
        )


def _require_settings(where: str, settings: Mapping[str, Any]) -> None:
    """Raises InvalidInput unless a table leaves alone what the networks share."""
    for key in settings:
        if key in FIXED:
            raise InvalidInput(f"{where}: {key}: the networks of a study share it")


def _seeds(where: str, seeds: Any) -> tuple[int, ...]:
    seeds = as_number(tuple[int, ...], seeds)
    are_integers = isinstance(seeds, list) and seeds and all(type(s) is int for s in seeds)
    if not are_integers or len(set(seeds)) < len(seeds) or not all(0 <= s < 2**32 for s in seeds):
        raise InvalidInput(
            f"{where}: seeds = {shown(seeds)}: must be different integers in [0, 2^32)"
        )
    return tuple(seeds)
