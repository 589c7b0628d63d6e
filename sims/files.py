"""Files that are whole or not there: written beside their place and renamed, read or refused."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import xarray as xr

from theory.domain import InvalidInput


def require_variables(path: pathlib.Path, dataset: xr.Dataset, needed: Sequence[str]) -> None:
    """Raises InvalidInput, naming the first that is missing, unless all variables are there."""
    if missing := [name for name in needed if name not in dataset]:
        raise InvalidInput(f"results = {path}: not a result file, it has no {missing[0]!r}")


def read(path: pathlib.Path) -> xr.Dataset:
    """Returns what is in a netCDF file, of whatever kind.

    Raises:
        InvalidInput: if it cannot be read.
    """
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            return dataset.load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "not a readable file"
        raise InvalidInput(f"results = {path}: {reason} (truncated or of another kind?)") from error


def save(dataset: xr.Dataset, path: pathlib.Path) -> None:
    """Writes the dataset to a temporary file beside `path` and renames it into place.

    Raises:
        InvalidInput: if it cannot be written; what `path` held before is untouched.
    """
    # Made in memory, as HDF5 crashes the process on a full disk.
    replace_whole(path, lambda at: at.write_bytes(dataset.to_netcdf(engine="h5netcdf")))


def replace_whole(
    path: pathlib.Path, write: Callable[[pathlib.Path], Any], kind: str = "results"
) -> None:
    """Puts what `write` leaves at a temporary path in the place of `path`, all of it or nothing.

    Args:
        path: the file.
        write: takes the temporary path, beside it.
        kind: what a message calls the file.

    Raises:
        InvalidInput: if it cannot be written; what `path` held before is untouched.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InvalidInput(f"{kind} = {path}: cannot be written ({error.strerror})") from error


def require_writable(folder: pathlib.Path, size: int = 0) -> None:
    """Makes the folder and checks that a file of `size` bytes can be written to it.

    Raises:
        InvalidInput: if not.
    """
    # Threads of one process may ask at the same time.
    probe = folder / f".writable-{os.getpid()}-{threading.get_ident()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as handle:
            handle.write(bytes(size))
            handle.flush()
            os.fsync(handle.fileno())
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise InvalidInput(
            f"output = {folder}: must be a folder that can be written to ({error.strerror})"
        ) from error
