"""Data sets in netCDF files that carry their digest: verified before any parser sees them.

A file is HDF5, as xarray writes it, and one line behind it with the SHA-256 of all that is before
it: xarray, h5netcdf and netCDF-C read it as they read any other. HDF5 can hang or crash on damaged
bytes, and no signal reaches it then: what carries no digest (files of earlier versions or of other
programs) is first walked through by a process of its own, with a limit, and is marked unverified.
"""

import io
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sims.files.digest import NAME, PROMISE, Damaged, last_line, verified
from sims.files.refusal import refusal
from sims.files.whole import contents, replace_whole

if TYPE_CHECKING:
    import xarray as xr

# Of processor time, in walk.py; this is for a process that waits, on a busy machine.
PATIENCE = 60.0
_HANGS = "not a readable file (damaged: reading it does not end)"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_WALK = pathlib.Path(__file__).with_name("walk.py")
# By the version of the head: where the width of addresses stands, and the length of the file.
_LENGTH_AT = {0: (13, 40), 1: (13, 44), 2: (9, 28), 3: (9, 28)}
# What h5py, h5netcdf and xarray raise on content that they cannot read: they promise no one type.
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    AssertionError,
)
_noted: set[pathlib.Path] = set()


def require_variables(path: pathlib.Path, dataset: "xr.Dataset", needed: Sequence[str]) -> None:
    """Raises InvalidInput, naming the first that is missing, unless all variables are there."""
    if missing := [name for name in needed if name not in dataset]:
        raise refusal(f"results = {path}: not a result file, it has no {missing[0]!r}")


def read(path: pathlib.Path) -> "xr.Dataset":
    """Returns what is in a netCDF file, of whatever kind.

    Its `encoding["verified"]` says whether the file carries its digest, which then fits; without
    one it is read all the same.

    Raises:
        InvalidInput: if it cannot be read, or is damaged.
    """
    data = contents(path)
    try:
        inside = verified(data)
    except Damaged as error:
        raise refusal(
            f"results = {path}: not a readable file (damaged: {error}; what another program wrote "
            f"anew must not keep the attribute {NAME!r})"
        ) from error
    content = _hdf5(path, data if inside is None else inside)
    if inside is None:
        _walk_through(path, content)
    dataset = _parsed(path, content)
    if dataset.attrs.get(NAME) == PROMISE:
        del dataset.attrs[NAME]
    dataset.encoding["verified"] = inside is not None
    return dataset


def save(dataset: "xr.Dataset", path: pathlib.Path) -> None:
    """Writes the dataset, with its digest, beside `path` and renames it into place.

    Raises:
        InvalidInput: if it cannot be written; what `path` held before is untouched.
    """
    # Made in memory, as HDF5 crashes the process on a full disk.
    data = dataset.assign_attrs({NAME: PROMISE}).to_netcdf(engine="h5netcdf")

    def write(at: pathlib.Path) -> None:
        with at.open("wb") as handle:
            handle.write(data)
            handle.write(last_line(data))

    replace_whole(path, write)


def unverified_note(path: pathlib.Path, dataset: "xr.Dataset | bool") -> None:
    """Says on stderr, once for each file, that what is shown of it is not verified.

    Args:
        path: which was read.
        dataset: as `read` returns it, or whether what was read there is verified.
    """
    known = dataset if isinstance(dataset, bool) else dataset.encoding.get("verified", True)
    path = pathlib.Path(os.path.abspath(path))
    if known or path in _noted:
        return
    _noted.add(path)
    print(
        f"note: {path} is unverified: it carries no digest (of an earlier version, or another "
        "program's)",
        file=sys.stderr,
    )


def _hdf5(path: pathlib.Path, data: bytes) -> bytes:
    """Returns the HDF5 part: all of it, or what stands behind a block of 512 * 2^n bytes."""
    start = 0
    while start < len(data) and data[start : start + len(_SIGNATURE)] != _SIGNATURE:
        start = 2 * start or 512
    content = data[start:]
    # The head says how long the file is; 96 bytes are the shortest head and its root.
    width, at = _LENGTH_AT.get(content[8] if len(content) > 8 else 0, (13, 40))
    length = int.from_bytes(content[at : at + 8], "little") if content[width:][:1] == b"\x08" else 0
    if len(content) < max(96, length - start):
        kind = "empty" if not data else "truncated" if content else "no netCDF-4"
        raise refusal(
            f"results = {path}: not a readable file ({kind}: truncated or of another kind?)"
        )
    return content


def _walk_through(path: pathlib.Path, data: bytes) -> None:
    """Raises InvalidInput unless a process of its own can read all that is in the file."""
    # By its path, so that none of our packages is loaded; -P keeps the modules beside it out.
    command = [sys.executable, "-P", str(_WALK)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise refusal(f"results = {path}: {_HANGS}") from error
    except OSError as error:
        raise refusal(f"results = {path}: cannot be checked ({error.strerror})") from error
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        hangs = ended == "SIGPROF"  # the timer of walk.py
        crashes = f"not a readable file (damaged: reading it crashes, {ended})"
        raise refusal(f"results = {path}: {_HANGS if hangs else crashes}")
    if done.returncode:
        # Of a traceback; the text of an error may have lines of its own.
        lines = done.stderr.decode(errors="replace").splitlines()
        errors = [line for line in lines if re.match(r"[\w.]+: ", line)]
        reason = (errors or ["its process failed"])[-1]
        raise refusal(f"results = {path}: not a readable file (damaged: {reason[:200]})")


def _parsed(path: pathlib.Path, data: bytes) -> "xr.Dataset":
    import xarray as xr

    try:
        with xr.open_dataset(io.BytesIO(data), engine="h5netcdf") as dataset:
            return dataset.load()
    except _UNREADABLE as error:
        raise refusal(
            f"results = {path}: not a readable file (of another kind? {type(error).__name__})"
        ) from error
