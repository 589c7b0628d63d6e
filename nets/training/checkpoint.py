"""Checkpoints of a training by Orbax: the last epoch, whole or not at all, refused elsewhere.

A checkpoint is a folder RUN/checkpoints/EPOCH of arrays and one JSON text: settings, which must be
those of the training that goes on, and the records of all epochs. Nothing is pickled.
"""

import contextlib
import functools
import logging
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from nets.config import completed
from nets.training.loop import TrainingProgress
from sims.files import require_writable
from theory.domain import InvalidInput

FOLDER = "checkpoints"
FORMAT = 1
SLACK = 2**18  # bytes beside the arrays
_KEPT = "the one before it is kept, and the same command goes on from it"


def save(run: pathlib.Path, settings: Mapping[str, Any], progress: TrainingProgress) -> None:
    """Writes a checkpoint, then removes those before it.

    Args:
        run: the folder of the run.
        settings: what JSON can hold; see `restore`.
        progress: after at least one epoch.

    Raises:
        InvalidInput: if it cannot be written; the checkpoint before it is then untouched.
    """
    folder, epoch = (run / FOLDER).resolve(), len(progress.records)
    _require_room(folder, progress)
    _clear(folder, keep=(epoch - 1,))
    text = {
        "format": FORMAT,
        "settings": dict(settings),
        "arrays": _shapes(progress),
        "records": list(progress.records),
    }
    arguments = ocp.args.Composite(
        arrays=ocp.args.StandardSave(_arrays(progress)), text=ocp.args.JsonSave(text)
    )
    try:
        with _quiet(), _checkpointer() as checkpointer:
            checkpointer.save(folder / str(epoch), args=arguments)
    # TensorStore says ValueError where a file cannot be written.
    except (OSError, ValueError) as error:
        _clear(folder, keep=(epoch - 1,))
        raise InvalidInput(
            f"checkpoint = {folder}: cannot be written ({error}); {_KEPT}"
        ) from error
    _clear(folder, keep=(epoch,))


def restore(
    run: pathlib.Path, settings: Mapping[str, Any], fresh: TrainingProgress
) -> TrainingProgress:
    """Returns the progress to go on with: that of the last checkpoint, or `fresh` without one.

    Args:
        run: the folder of the run.
        settings: of the training that is to go on.
        fresh: progress before the first epoch, of the shapes of all arrays.

    Raises:
        InvalidInput: if the checkpoint is unreadable, of another format, of other settings (the
            first is named) or of another model (likewise its array); it is left as it is.
    """
    epochs = _epochs(run / FOLDER)
    if not epochs:
        return fresh
    path = (run / FOLDER).resolve() / str(max(epochs))
    text = _read(path, ocp.args.Composite(text=ocp.args.JsonRestore())).text
    if not isinstance(text, dict) or text.get("format") != FORMAT:
        said = text.get("format") if isinstance(text, dict) else None
        raise InvalidInput(f"checkpoint = {path}: format {said}, must be {FORMAT}")
    _require_same(path, "settings", completed(text["settings"], settings), settings)
    _require_same(path, "arrays", text["arrays"], _shapes(fresh))
    wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(fresh))
    found = _read(path, ocp.args.Composite(arrays=ocp.args.StandardRestore(wanted))).arrays
    # As arrays that are bound to no device, or the step would be compiled anew for them.
    free = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), found)
    return TrainingProgress(free["state"], free["chosen"], tuple(text["records"]))


def remove(run: pathlib.Path) -> None:
    """Removes all checkpoints of a run, which is finished and saved."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _arrays(progress: TrainingProgress) -> dict[str, Any]:
    return {"state": progress.state, "chosen": progress.chosen}


def _epochs(folder: pathlib.Path) -> list[int]:
    """Returns the epochs of whole checkpoints: Orbax renames a folder only once it is complete."""
    if not folder.is_dir():
        return []
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def _clear(folder: pathlib.Path, keep: tuple[int, ...]) -> None:
    for path in folder.iterdir():
        if not (path.name.isdecimal() and int(path.name) in keep):
            shutil.rmtree(path, ignore_errors=True)


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from printing the traceback of an error that is told in one line anyway."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _require_room(folder: pathlib.Path, progress: TrainingProgress) -> None:
    """Fills as much of the disk as the checkpoint will, and frees it: Orbax fails less cleanly."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(_arrays(progress)))
    try:
        require_writable(folder, size + SLACK)
    except InvalidInput as error:
        raise InvalidInput(f"{error}: no room for a checkpoint; {_KEPT}") from error


def _read(path: pathlib.Path, arguments: ocp.args.Composite) -> Any:
    try:
        with _quiet(), _checkpointer() as checkpointer:
            return checkpointer.restore(path, args=arguments)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"checkpoint = {path}: not readable as a checkpoint ({type(error).__name__}); "
            "move it away to start anew"
        ) from error


def _require_same(
    path: pathlib.Path, kind: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> None:
    for name in sorted({*theirs, *ours}):
        if theirs.get(name) != ours.get(name):
            raise InvalidInput(
                f"checkpoint = {path}: of other {kind} ({name} = {theirs.get(name)!r}, this "
                f"training has {ours.get(name)!r}); choose another output or move it away"
            )


def _shapes(progress: TrainingProgress) -> dict[str, str]:
    """Returns dtype and shape of every array by name, of which Orbax's own errors say little."""
    leaves = jax.tree_util.tree_flatten_with_path(_arrays(progress))[0]
    name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    return {name(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}
