"""Work that outlives the reader of its output: streams that fail are left, and signals are met.

A command that counts for hours writes a line now and then. `| head -1`, a terminal that is closed
or a disk that is full under `> log` must not end it: the result is the file.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO, cast

HANG_UP, STOP, TERMINATE = 1, 2, 15  # as POSIX numbers them
# What is said of a process that one of them has ended.
ENDED = {HANG_UP: "hung up", STOP: "stopped", TERMINATE: "terminated"}


class LastingStream:
    """A text stream whose failures end nothing: from the first on, what is written goes nowhere.

    Args:
        stream: what is written to; all other methods are its own.
        tell: called once with the error, when the stream has been left.
    """

    def __init__(self, stream: TextIO, tell: Callable[[OSError], None]) -> None:
        self.stream, self.tell = stream, tell
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Writes the text, or drops it, and returns its length."""
        self._do(lambda: self.stream.write(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes every line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Writes what waits in the buffer, or drops it."""
        self._do(self.stream.flush)

    def _do(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except OSError as error:
            # What is still in the buffer would be tried again, at the latest when Python ends.
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())
                os.close(null)
            if self.failure is None:
                self.failure = error
                self.tell(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Ended(KeyboardInterrupt):
    """A signal that asks the process to end: whoever cleans up after an interrupt does so here.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def lasting_streams(tell: Callable[[OSError], None]) -> Iterator[LastingStream]:
    """Replaces standard output and error by streams that last; yields the output.

    Args:
        tell: called once when the output fails; a failing standard error has nobody to tell.
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    output = LastingStream(sys.stdout or _nowhere(), tell)
    error = LastingStream(sys.stderr or _nowhere(), lambda _: None)
    for stream in (output, error):
        if reconfigure := getattr(stream.stream, "reconfigure", None):
            # A name or a sign that the terminal's encoding lacks is no reason to stop either.
            reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, error)
    try:
        yield output
    finally:
        # Not those that were set: what runs may have set others, such as those of several hosts.
        sys.stdout.flush()
        sys.stderr.flush()
        if sys.stdout is cast(TextIO, output):
            sys.stdout, sys.stderr = before


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


def _open_closed_descriptors() -> None:
    """Opens what the shell has closed, so that no file of ours becomes standard output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def met_signals() -> Iterator[None]:
    """Turns the signals that end a process into `Ended`, where they would end it.

    One that is ignored, as nohup has it, stays so. A second one ends the process at once.
    """
    set_here: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Ended(number)

    # Python allows signals to be set in the main thread alone.
    if threading.current_thread() is threading.main_thread():
        for number in (HANG_UP, TERMINATE):
            # Windows has no signal 1.
            if number in set(signal.Signals) and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, end)
                set_here.append(number)
    try:
        yield
    finally:
        for number in set_here:
            signal.signal(number, signal.SIG_DFL)
