"""A run folder: what a network is, how it came about, and its parameters, without pickle."""

import hashlib
import io
import json
import lzma
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from flax import traverse_util

from nets.models import registry as models
from nets.models.network import Network
from nets.runs import record
from sims.files import contents, replace_whole, require_writable, unverified_note
from sims.files import records as typed_records
from sims.files.digest import sha256
from theory.domain import InvalidInput

# By name, as in params/head/kernel; flax gives them no types.
_flatten: Callable[..., dict[str, Any]] = traverse_util.flatten_dict
_unflatten: Callable[..., dict[str, Any]] = traverse_util.unflatten_dict

SETTINGS, PARAMETERS, LOG = "run.json", "parameters.npz", "log.jsonl"
# What zipfile and NumPy's reader of headers raise on damaged content: they promise no one type.
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    EOFError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class Run(NamedTuple):
    """A trained network.

    Args:
        settings: `model`, `options`, `image_shape`, `class_names`, `data`, `fingerprint`,
            `precision`, float32 if it is missing, and whatever training records.
        module: the network.
        variables: its parameters and statistics.
        verified: False where it was read from a folder of an earlier version, without digests.
    """

    settings: dict[str, Any]
    module: Network
    variables: Mapping[str, Any]
    verified: bool = True


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

    The record of the run names the SHA-256 of the parameters and of the log that lies there.

    Raises:
        InvalidInput: if the folder cannot be written to.
    """
    require_writable(folder)
    arrays = {name: np.asarray(value) for name, value in _flatten(run.variables, sep="/").items()}
    # Of what was made, not of what the disk gives back.
    packed = io.BytesIO()

    def write_arrays(path: pathlib.Path) -> None:
        np.savez(packed, allow_pickle=False, **arrays)
        path.write_bytes(packed.getbuffer())

    # In this order: a folder is a run once its settings are there, see `seeds.finished` and others.
    replace_whole(folder / PARAMETERS, write_arrays, "run")
    named = {PARAMETERS: sha256(packed.getbuffer())}
    if (folder / LOG).exists():
        named[LOG] = sha256(contents(folder / LOG, "run"))
    text = record.text_of(run.settings, named)
    replace_whole(folder / SETTINGS, lambda path: path.write_text(text, encoding="utf-8"), "run")


def write_log(folder: pathlib.Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes one line of JSON for each epoch; the file is replaced whole.

    Raises:
        InvalidInput: if it cannot be written; the old one is then untouched.
    """
    lines = "".join(json.dumps(record) + "\n" for record in records)
    replace_whole(folder / LOG, lambda path: path.write_text(lines, encoding="utf-8"), "run")


def read_log(folder: pathlib.Path) -> tuple[Mapping[str, Any], ...]:
    """Returns what a finished run logged of each epoch.

    Raises:
        InvalidInput: if there is no run or no log, or one that is damaged or of another run.
    """
    path = folder / LOG
    data = _content(path, record.read(folder / SETTINGS), "log")
    lines = [line for line in data.split(b"\n") if line]
    epochs = [
        typed_records.from_json(line, f"run = {path}, line {i}") for i, line in enumerate(lines, 1)
    ]
    return typed_records.typed(tuple(epochs), tuple[dict[str, Any], ...], f"run = {path}")


def load(folder: pathlib.Path) -> Run:
    """Returns the run in a folder.

    Raises:
        InvalidInput: if it is not one, is damaged, its parameters are not those that were saved
            with it, or they are of another model: naming the first that differs.
    """
    read = record.read(folder / SETTINGS)
    settings = read.settings
    module, shapes = _described(folder, settings)
    arrays = _arrays(folder / PARAMETERS, _content(folder / PARAMETERS, read, "parameters"))
    # Checked here, where model and array can be named: flax would fail at the first use.
    for name in sorted(shapes.keys() | arrays.keys()):
        theirs = arrays[name].shape if name in arrays else "none"
        ours = shapes[name].shape if name in shapes else "none"
        if theirs != ours:
            raise InvalidInput(
                f"run = {folder}: parameters of another model: {name} is {theirs}, "
                f"{settings['model']} has {ours}"
            )
        if arrays[name].dtype != shapes[name].dtype:
            raise InvalidInput(
                f"run = {folder}: {name} is of type {arrays[name].dtype}: must be "
                f"{shapes[name].dtype}"
            )
    unverified_note(folder, read.verified)
    return Run(settings, module, _unflatten(arrays, sep="/"), read.verified)


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


def _described(
    folder: pathlib.Path, settings: Mapping[str, Any]
) -> tuple[Network, Mapping[str, jax.ShapeDtypeStruct]]:
    """Returns the network of a record, and the shapes of its arrays by name."""
    image = jax.ShapeDtypeStruct((1, *settings["image_shape"]), np.float32)
    try:
        module = module_of(settings)
        # Shapes alone: nothing is computed, and no random number drawn.
        key = jax.random.key(0, impl="threefry2x32")
        return module, _flatten(jax.eval_shape(module.init, key, image), sep="/")
    except InvalidInput as error:
        raise InvalidInput(f"run = {folder / SETTINGS}: {error}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        # What a network needs of its options and of an image is known to its layers alone.
        reason = str(error).partition("\n")[0]
        raise InvalidInput(
            f"run = {folder / SETTINGS}: options and image_shape make no network of {reason}"
        ) from error


def _content(path: pathlib.Path, read: record.SettingsRead, kind: str) -> bytes:
    """Returns the bytes of a file beside a record, once they are those that it names."""
    try:
        data = contents(path, "run")
    except InvalidInput as error:
        raise InvalidInput(f"{error}: not readable as {kind}") from error
    if not read.verified:
        return data
    if path.name not in read.digests:
        raise InvalidInput(f"run = {path}: {SETTINGS} does not name it: not readable as {kind}")
    if sha256(data) != read.digests[path.name]:
        raise InvalidInput(
            f"run = {path}: not readable as {kind} (damaged or of another run: its digest is not "
            f"that in {SETTINGS})"
        )
    return data


def _arrays(path: pathlib.Path, data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays in the bytes of an archive of NumPy, each once all its bytes are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Read whole, which compares the checksum of the archive; NumPy alone reads what a
            # damaged header asks for. Ours are not compressed: none is larger than the archive.
            entries = archive.infolist()
            if any(entry.file_size > len(data) for entry in entries):
                raise ValueError("an array larger than the file")
            return {
                entry.filename.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(entry)), allow_pickle=False
                )
                for entry in entries
            }
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInput(f"run = {path}: not readable as parameters ({reason})") from error
