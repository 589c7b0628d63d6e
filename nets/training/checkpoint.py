"""Checkpoints of a training by Orbax: the last epoch, whole or not at all, refused elsewhere.

A checkpoint is a folder RUN/checkpoints/EPOCH of arrays and one JSON text: settings, which must be
those of the training that goes on, the code and the libraries that made it, likewise, and the
records of all epochs. Nothing is pickled. It gets its name once all is written, and with it a
manifest of the SHA-256 of every file, which is compared before Orbax reads any of them.
"""

import contextlib
import errno
import functools
import importlib.metadata
import logging
import pathlib
import shutil
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from nets.configs.settings import completed
from nets.training.progress import TrainingProgress
from sims.files import manifest, require_writable
from sims.provenance import code_digest
from theory.domain import InvalidInput

FOLDER = "checkpoints"
FORMAT = 1
# Numbers of an epoch depend on what these modules reach by imports, and on nothing else of ours:
# how a training is built from settings, and how it runs. Named, not imported: one lies above.
CODE = ("nets.experiment.build", "nets.training.loop")
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
SLACK = 2**18  # bytes beside the arrays
_KEPT = "the one before it is kept, and the same command goes on from it"


def provenance() -> dict[str, str]:
    """Returns what an epoch's numbers depend on beside settings: our code, and the libraries.

    A comment or a docstring is no part of the code, nor is a module that no epoch runs.
    """
    return {"code": code_digest(*CODE)} | {
        library: importlib.metadata.version(library) for library in LIBRARIES
    }


def save(run: pathlib.Path, settings: Mapping[str, Any], progress: TrainingProgress) -> None:
    """Writes a checkpoint, then removes those before it.

    Args:
        run: the folder of the run.
        settings: what JSON can hold; see `restore`.
        progress: after at least one epoch.

    Raises:
        InvalidInput: if it cannot be written; the checkpoint before it is then untouched.
    """
    # Orbax takes absolute paths alone.
    folder, epoch = (run / FOLDER).resolve(), len(progress.records)
    half = folder / f"{epoch}.partial"
    _require_room(folder, progress)
    # Halves of earlier attempts would be in the way; the last whole one stays until this is whole.
    _clear(folder, keep=(epoch - 1,))
    text = {
        "format": FORMAT,
        "made_by": provenance(),
        "settings": dict(settings),
        "arrays": _shapes(progress),
        "records": list(progress.records),
    }
    arguments = ocp.args.Composite(
        arrays=ocp.args.StandardSave(_arrays(progress)), text=ocp.args.JsonSave(text)
    )
    try:
        with _quiet(), _checkpointer() as checkpointer:
            checkpointer.save(half, args=arguments)
        manifest.write(half)
        # Only now is it a checkpoint: a kill before leaves a half, and the one before it.
        half.rename(folder / str(epoch))
    except (OSError, ValueError) as error:
        _clear(folder, keep=(epoch - 1,))
        # TensorStore says ValueError where a file cannot be written: a failure of the disk, too.
        failed = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
        raise InvalidInput(
            f"checkpoint = {folder}: cannot be written ({error}); {_KEPT}"
        ) from failed
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
        InvalidInput: if the checkpoint is damaged, of another format, of other code or another
            version of a library, of other settings (the first is named) or of another model
            (likewise its array); it is left as it is.
    """
    # Before anything is computed: the source is read once a process, so that an edit during the
    # training does not end up in its checkpoints as the code that made them.
    made_by = provenance()
    epochs = _epochs(run / FOLDER)
    if not epochs:
        return fresh
    path = (run / FOLDER).resolve() / str(max(epochs))
    _require_intact(path)
    text = _read(path, ocp.args.Composite(text=ocp.args.JsonRestore())).text
    if not isinstance(text, dict) or text.get("format") != FORMAT:
        its_format = text.get("format") if isinstance(text, dict) else None
        raise InvalidInput(f"checkpoint = {path}: format {its_format}, must be {FORMAT}")
    _require_provenance(path, text.get("made_by"), made_by)
    _require_same(path, "settings", completed(text["settings"], settings), settings)
    _require_same(path, "arrays", text["arrays"], _shapes(fresh))
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(fresh))
    arrays = _read(path, ocp.args.Composite(arrays=ocp.args.StandardRestore(like))).arrays
    # As arrays that are bound to no device, or the step would be compiled anew for them.
    free = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), arrays)
    return TrainingProgress(free["state"], free["chosen"], tuple(text["records"]))


def settings_of(run: pathlib.Path) -> Mapping[str, Any] | None:
    """Returns the settings of the training that the last checkpoint would go on with.

    None where there is no checkpoint that anything could go on from.
    """
    epochs = _epochs(run / FOLDER)
    path = (run / FOLDER).resolve() / str(max(epochs, default=0))
    try:
        if not epochs or manifest.difference(path) is not None:
            return None
        text = _read(path, ocp.args.Composite(text=ocp.args.JsonRestore())).text
    except InvalidInput:
        return None
    return typing.cast(Mapping[str, Any], text["settings"])


def remove(run: pathlib.Path) -> None:
    """Removes all checkpoints of a run, which is finished and saved."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _arrays(progress: TrainingProgress) -> dict[str, Any]:
    return {"state": progress.state, "chosen": progress.chosen}


def _epochs(folder: pathlib.Path) -> list[int]:
    """Returns the epochs of whole checkpoints: a folder gets its name only once it is complete."""
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


def _require_intact(path: pathlib.Path) -> None:
    """Raises InvalidInput unless every file is the one that was written."""
    if not (path / manifest.NAME).exists():
        # Refused and not read: Orbax may hang on what is damaged. It costs the epochs so far.
        raise InvalidInput(
            f"checkpoint = {path}: not readable as a checkpoint (no {manifest.NAME}: from before "
            "there was one, or damaged); go on with the version of this package that made it, or "
            "move it away to start anew"
        )
    if (damage := manifest.difference(path)) is not None:
        raise InvalidInput(
            f"checkpoint = {path}: not readable as a checkpoint (damaged: {damage}); move it away "
            "to start anew"
        )


def _require_provenance(
    path: pathlib.Path, recorded: Mapping[str, str] | None, ours: Mapping[str, str]
) -> None:
    """Raises InvalidInput, naming the first difference, unless this code made the checkpoint."""
    again = "the epochs to come may differ from those of a training that was not stopped"
    if recorded is None:
        # Refused and not read: nothing says that its code was this. It costs the epochs so far.
        raise InvalidInput(
            f"checkpoint = {path}: from before checkpoints recorded what made them: {again}; go on "
            "with the version of this package that made it, or move it away to start anew"
        )
    for name in ours:
        if recorded.get(name) != ours[name]:
            raise InvalidInput(
                f"checkpoint = {path}: made by other versions ({name} {recorded.get(name)}, here "
                f"{ours[name]}): {again}; go on with those, or move it away to start anew"
            )


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
