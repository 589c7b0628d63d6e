"""Files that are whole or not there: written beside their place and renamed, read in one piece."""

import contextlib
import glob
import os
import pathlib
import stat
import threading
from collections.abc import Callable
from typing import Any

from sims.files.refusal import refusal

# The most that is read into memory: 8 GiB. The largest of our result files has 0.1.
MOST = 2**33


def contents(path: pathlib.Path, kind: str = "results", most: int = MOST) -> bytes:
    """Returns the bytes of a regular file, read once.

    Args:
        path: the file.
        kind: what a message calls the file.
        most: the largest size that is read, in bytes.

    Raises:
        InvalidInput: if it is missing, cannot be read, is a folder, a pipe or a device, which
            might never end, or is larger.
    """
    try:
        # Without waiting for the other end of a pipe, which is refused once it is open.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise refusal(f"{kind} = {path}: no such file") from error
    except OSError as error:
        raise refusal(f"{kind} = {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise refusal(f"{kind} = {path}: is no name of a file ({error})") from error
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise refusal(f"{kind} = {path}: is a folder, must be a regular file")
        if not stat.S_ISREG(status.st_mode):
            raise refusal(f"{kind} = {path}: must be a regular file")
        if status.st_size > most:
            raise refusal(f"{kind} = {path}: has {status.st_size} bytes, at most {most} are read")
        with open(handle, "rb", closefd=False) as opened:
            data = opened.read(status.st_size)
    except OSError as error:
        raise refusal(f"{kind} = {path}: cannot be read ({error.strerror})") from error
    finally:
        os.close(handle)
    return data


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
    # A name for each writer: of two processes that save the same file at once either would put the
    # other's half in place.
    writer = f"{_node()}-{os.getpid()}-{threading.get_ident():x}"
    temporary = path.with_name(f".{path.name}.{writer}.partial")
    try:
        _remove_abandoned(path)
        write(temporary)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise refusal(f"{kind} = {path}: cannot be written ({error.strerror})") from error


def _remove_abandoned(path: pathlib.Path) -> None:
    """Removes what processes of this machine that were killed have left of the same file."""
    start = f".{path.name}."
    for left in path.parent.glob(f"{glob.escape(start)}*.partial"):
        # Of a node whose name may hold hyphens, too.
        writer = left.name.removeprefix(start).removesuffix(".partial").rsplit("-", 2)
        if len(writer) == 3 and writer[0] == _node() and not _is_running(writer[1]):
            left.unlink(missing_ok=True)


def _node() -> str:
    return os.uname().nodename if hasattr(os, "uname") else ""


def _is_running(number: str) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no question
        return True
    try:
        os.kill(int(number), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:  # of another user
        return True
    return True


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
        raise refusal(
            f"output = {folder}: must be a folder that can be written to ({error.strerror})"
        ) from error
