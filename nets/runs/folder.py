"""A run folder: what a network is, how it came about, and its parameters, without pickle."""

import hashlib
import json
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen, traverse_util

from nets.models import registry as models
from sims.files import replace_whole, require_writable
from theory.domain import InvalidInput

SETTINGS, PARAMETERS, LOG = "run.json", "parameters.npz", "log.jsonl"
FORMAT = 1


class Run(NamedTuple):
    """A trained network.

    Args:
        settings: `model`, `options`, `image_shape`, `class_names`, `data`, `fingerprint`,
            `precision`, float32 if it is missing, and whatever training records.
        module: the linen module.
        variables: its parameters and statistics.
    """

    settings: dict[str, Any]
    module: linen.Module
    variables: Mapping[str, Any]


def module_of(settings: Mapping[str, Any]) -> linen.Module:
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
    flat = traverse_util.flatten_dict(run.variables, sep="/")
    arrays = {name: np.asarray(value) for name, value in flat.items()}
    text = json.dumps({"format": FORMAT, **run.settings}, indent=1)

    def write_arrays(path: pathlib.Path) -> None:
        with path.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **arrays)

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
    shape = (1, *settings["image_shape"])
    wanted = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, np.float32))
    shapes = traverse_util.flatten_dict(wanted, sep="/")
    for name in sorted(shapes.keys() | arrays.keys()):
        theirs = arrays[name].shape if name in arrays else "none"
        ours = shapes[name].shape if name in shapes else "none"
        if theirs != ours:
            raise InvalidInput(
                f"run = {folder}: parameters of another model: {name} is {theirs}, "
                f"{settings['model']} has {ours}"
            )
    return Run(settings, module, traverse_util.unflatten_dict(arrays, sep="/"))


def checksum(variables: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of variables: of names, types, shapes and bytes of all arrays."""
    found = hashlib.sha256()
    for name, value in sorted(traverse_util.flatten_dict(variables, sep="/").items()):
        array = np.asarray(value)
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _settings(folder: pathlib.Path) -> dict[str, Any]:
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


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, because numpy leaves a damaged archive open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"run = {path}: not readable as parameters ({error})") from error
