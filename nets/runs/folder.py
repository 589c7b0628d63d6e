"""A run folder: what a network is, how it came about, and its parameters, without pickle."""

import hashlib
import json
import pathlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from flax import traverse_util

from nets.models import registry as models
from nets.models.network import Network
from sims.files import replace_whole, require_writable
from theory.domain import InvalidInput

# By name, as in params/head/kernel; flax gives them no types.
_flatten: Callable[..., dict[str, Any]] = traverse_util.flatten_dict
_unflatten: Callable[..., dict[str, Any]] = traverse_util.unflatten_dict

SETTINGS, PARAMETERS, LOG = "run.json", "parameters.npz", "log.jsonl"
FORMAT = 1


class Run(NamedTuple):
    """A trained network.

    Args:
        settings: `model`, `options`, `image_shape`, `class_names`, `data`, `fingerprint`,
            `precision`, float32 if it is missing, and whatever training records.
        module: the network.
        variables: its parameters and statistics.
    """

    settings: dict[str, Any]
    module: Network
    variables: Mapping[str, Any]


def module_of(settings: Mapping[str, Any]) -> Network:
    """Returns the module that the settings of a run describe."""
    return models.of_settings(
        settings["model"],
        len(settings["class_names"]),
        settings["options"],
        settings.get("precision", "float32"),
    )


def save(folder: pathlib.Path, run: Run) -> None:
    """Writes the run, parameters first, each file whole or not at all.

    Raises:
        InvalidInput: if the folder cannot be written to.
    """
    require_writable(folder)
    arrays = {name: np.asarray(value) for name, value in _flatten(run.variables, sep="/").items()}
    text = json.dumps({"format": FORMAT, **run.settings}, indent=1)

    def write_arrays(path: pathlib.Path) -> None:
        with path.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **arrays)

    # In this order: a folder is a run once its settings are there, see `seeds.finished` and others.
    replace_whole(folder / PARAMETERS, write_arrays, "run")
    replace_whole(
        folder / SETTINGS, lambda path: path.write_text(text + "\n", encoding="utf-8"), "run"
    )


def write_log(folder: pathlib.Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes one line of JSON for each epoch; the file is replaced whole.

    Raises:
        InvalidInput: if it cannot be written; the old one is then untouched.
    """
    lines = "".join(json.dumps(record) + "\n" for record in records)
    replace_whole(folder / LOG, lambda path: path.write_text(lines, encoding="utf-8"), "run")


def load(folder: pathlib.Path) -> Run:
    """Returns the run in a folder.

    Raises:
        InvalidInput: if it is not one, is truncated, or its parameters are of another model:
            naming the first that differs.
    """
    settings = _settings(folder)
    module = module_of(settings)
    arrays = _arrays(folder / PARAMETERS)
    image = np.zeros((1, *settings["image_shape"]), np.float32)
    # Shapes alone: nothing is computed, and no random number drawn.
    shapes = _flatten(jax.eval_shape(module.init, jax.random.key(0), image), sep="/")
    # Checked here, where model and array can be named: flax would fail at the first use.
    for name in sorted(shapes.keys() | arrays.keys()):
        theirs = arrays[name].shape if name in arrays else "none"
        ours = shapes[name].shape if name in shapes else "none"
        if theirs != ours:
            raise InvalidInput(
                f"run = {folder}: parameters of another model: {name} is {theirs}, "
                f"{settings['model']} has {ours}"
            )
    return Run(settings, module, _unflatten(arrays, sep="/"))


def checksum(variables: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of variables: of names, types, shapes and bytes of all arrays.

    Runs record it of the network that they began from: it never changes.
    """
    digest = hashlib.sha256()
    # Sorted, as dictionaries keep the order in which they were filled.
    for name, value in sorted(_flatten(variables, sep="/").items()):
        array = np.asarray(value)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _settings(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what a run's file says, once it has all that `load` and its callers read."""
    path = folder / SETTINGS
    try:
        settings = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"run = {folder}: no {SETTINGS} there ({error.strerror})") from error
    except ValueError as error:
        raise InvalidInput(f"run = {path}: not readable as JSON ({error})") from error
    needed = ("format", "model", "options", "image_shape", "class_names", "data", "fingerprint")
    if missing := [name for name in needed if name not in settings]:
        raise InvalidInput(f"run = {path}: has no {missing[0]!r}")
    if settings["format"] != FORMAT:
        raise InvalidInput(f"run = {path}: format {settings['format']}, must be {FORMAT}")
    return dict(settings)


def _arrays(path: pathlib.Path) -> dict[str, npt.NDArray[Any]]:
    try:
        # Opened here, because numpy leaves a damaged archive open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"run = {path}: not readable as parameters ({error})") from error
