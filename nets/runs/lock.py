"""A folder that one process trains into: another is refused, and a kill leaves nothing stale."""

import contextlib
import os
import pathlib
import warnings
from collections.abc import Iterator

from theory.domain import InvalidInput

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


@contextlib.contextmanager
def held(folder: pathlib.Path, work: str = "training") -> Iterator[None]:
    """Holds the folder's advisory lock, which the system releases when the process ends.

    What counts is the lock on the open file FOLDER/.lock (`flock`), not that it is there: one that
    a kill left is taken over. Systems and file systems without `flock` get a warning, no lock.

    Args:
        folder: which can be written to.
        work: what it is held for, in messages.

    Raises:
        InvalidInput: if another process holds it, or the file cannot be made.
    """
    handle = _taken(folder / NAME, work)
    try:
        yield
    finally:
        # Removed before it is released: who opened it meanwhile sees that it is another one's.
        (folder / NAME).unlink(missing_ok=True)
        os.close(handle)


def _taken(path: pathlib.Path, work: str) -> int:
    """Returns the open file, locked, and still the one at its path."""
    # Again where a process that ended took the file away between our opening and our locking it:
    # then we hold a lock on a file that nobody else will find.
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InvalidInput(f"run = {path}: cannot be written ({error.strerror})") from error
        try:
            _lock(handle, path, work)
        except InvalidInput:
            os.close(handle)
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def _lock(handle: int, path: pathlib.Path, work: str) -> None:
    reason = "this system has no flock"
    # Without waiting: who comes second should hear at once, and not train a day later.
    if fcntl is not None:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInput(
                f"out = {path.parent}: another process is {work} into it; wait for it or choose "
                "another folder"
            ) from error
        except OSError as error:
            # Of some network file systems; a training is worth more than the lock.
            reason = str(error.strerror)
    warnings.warn(
        f"{path.parent} cannot be locked ({reason}): one process at a time may be {work} into it",
        stacklevel=2,
    )
    return None
