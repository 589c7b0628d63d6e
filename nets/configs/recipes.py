"""A recipe, one small TOML file: found by name, changed by key=value, checked before it runs."""

import difflib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from nets.configs import toml
from nets.configs.settings import KEYS, Config, typed
from sims.files.refusal import shown
from theory.domain import InvalidInput, require_known

FORMAT = 1
FOLDER = pathlib.Path(__file__).parent
DEFAULT = "mnist-5k-pgd"


def names() -> list[str]:
    """Returns the names of the files that come with the package."""
    return sorted(_paths())


def path_of(name: str) -> pathlib.Path:
    """Returns the path of a file that comes with the package.

    Raises:
        InvalidInput: for another name, with the nearest ones.
    """
    require_known("config", name, names())
    return _paths()[name]


def read(words: Sequence[str]) -> tuple[str, Config]:
    """Returns the name of a training and its settings.

    Args:
        words: first, if it has no "=", one of `names()` or a path that ends in .toml; then settings
            key=value, or table.key=value, each in place of the file's. A value is written as in
            TOML; strings need no quotes.

    Raises:
        InvalidInput: naming the file and the key: unreadable, of another format, unknown (with the
            nearest names) or of another type.

    >>> name, config = read(["mnist-5k-pgd", "epochs=3", "options.hidden=[64]"])
    >>> name, config.optimisation.epochs, config.network.options["hidden"]
    ('mnist-5k-pgd', 3, [64])
    """
    is_named = bool(words) and "=" not in words[0]
    name = words[0] if is_named else DEFAULT
    path = pathlib.Path(name)
    if path.suffix != ".toml":
        path = path_of(name)
    settings = toml.read(path, "config", FORMAT)
    where = f"config = {path}"
    for key in settings:
        require_known(f"{where}: key", key, KEYS)
    settings = _typed(settings, where)
    for word in words[is_named:]:
        _set(settings, word)
    return path.stem, Config.of(**_typed(settings))


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
        require_known(f"{where}: key", key, KEYS)
    return config.replace(**_typed(settings, where))


def _paths() -> dict[str, pathlib.Path]:
    """Returns the files by name: one folder a data set, so that a name is one of all folders."""
    return {path.stem: path for path in FOLDER.glob("*/*.toml")}


def _typed(settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    return {key: typed(key, value, where) for key, value in settings.items()}


def _set(settings: dict[str, Any], word: str) -> None:
    """Puts one key=value into the settings."""
    key, equals, text = word.partition("=")
    if not equals:
        near = difflib.get_close_matches(key, [f"{name}=" for name in KEYS], 1)
        hint = f"; perhaps {near[0]}..." if near else ""
        raise InvalidInput(f"setting = {shown(word)}: must be key=value{hint}")
    table, dot, inner = key.partition(".")
    require_known("key", table, KEYS)
    if dot and KEYS[table].is_table:
        # A new table: that of the file, or of a default, is left as it is.
        settings[table] = {**settings.get(table, {}), inner: toml.as_value(text)}
    elif dot:
        raise InvalidInput(f"key = {key!r}: {table} is no table")
    else:
        # A string as it is written: TOML would read the value of data=1 as a number.
        settings[key] = text if KEYS[key].kind is str else toml.as_value(text)
