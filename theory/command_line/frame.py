"""Runs a command: its words are read before JAX is loaded, an error is one line and a status.

Exit statuses, the same for every command:

====  ==============================================================================================
   0  done; every claim that was tested agrees
   1  a claim is contradicted or has no verdict, a law is not that of the noise, a planted error
      was not seen
   2  bad input: nothing was computed and nothing changed
   3  another host was lost
   4  done, but a training stopped early: its robust accuracy had collapsed
  70  a bug of ours: one line says how to report it
  74  the machine could not: a full disk, a file that cannot be read or written, no memory
 129  the terminal has gone (SIGHUP)
 130  stopped from the keyboard (SIGINT)
 143  terminated (SIGTERM)
====  ==============================================================================================

A reader of the output that leaves, as `| head -1` does, ends nothing: the work goes on to its end
and the status is that of the work. A disk that is full under the output ends nothing either, but
the status is 74 where it would be 0.
"""

import contextlib
import errno
import os
import pathlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence

from theory.command_line.lasting import (
    ENDED,
    STOP,
    Ended,
    LastingStream,
    lasting_streams,
    met_signals,
)
from theory.command_line.words import parse

CONTRADICTED, USAGE, BUG, MACHINE = 1, 2, 70, 74
STOPPED = 128 + STOP
TRACEBACK = "ROBUST_RISK_TRACEBACK"
# Of a disk, whoever names the file that it failed: no room, a share that is used up, a broken one.
FAILED_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Of a path that someone wrote and that cannot be, whatever the disk holds.
IMPOSSIBLE_PATH = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
LONGEST_LINE = 1200
PACKAGES = ("theory", "sims", "nets", "figures")
ROOT = pathlib.Path(__file__).parents[2]


def run(
    command: Callable[..., int],
    program: str,
    arguments: Sequence[str] | None = None,
    goes_on: str = "the same command goes on from the last chunk",
) -> None:
    """Reads the arguments of `command` from its signature, runs it and exits with its status.

    Args:
        command: returns the status.
        program: what the help calls it.
        arguments: those of the command line if None.
        goes_on: what is said after an interrupt; empty for a command that only prints, which has
            nothing to go on with when its reader leaves.
    """
    words = sys.argv[1:] if arguments is None else arguments

    def tell(failure: OSError) -> None:
        reader_left = isinstance(failure, BrokenPipeError)
        reason = "the reader of the output has left"
        if not reader_left:
            reason = f"the output cannot be written ({failure.strerror})"
        if goes_on:
            _say(f"{reason}; the work goes on")
        elif not reader_left:
            _say(f"error: {reason}")

    with lasting_streams(tell) as output, met_signals(), _quiet_warnings():
        status = _status(command, program, words, goes_on)
        sys.stdout.flush()
        status = _with_output(status, output)
    sys.exit(status)


def _status(command: Callable[..., int], program: str, words: Sequence[str], goes_on: str) -> int:
    try:
        return parse(command, program, words)()
    except SystemExit as stop:  # help
        return int(stop.code or 0)
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, Ended) else STOP
        _say("; ".join(filter(None, [ENDED[number], goes_on])))
        return 128 + number
    # The outermost frame: nothing that goes wrong may end in a page that only we can read.
    except Exception as error:
        status, line = _explained(error)
        if status != USAGE and os.environ.get(TRACEBACK):
            traceback.print_exception(error, file=sys.stderr)
        _say(line)
        return status


def _with_output(status: int, output: LastingStream) -> int:
    lost = output.failure is not None and not isinstance(output.failure, BrokenPipeError)
    return status or (MACHINE if lost else 0)


def _explained(error: Exception) -> tuple[int, str]:
    """Returns the status and the line of an error, by whose it is: the user's, the machine's, ours.

    Args:
        error: anything that a command raised.
    """
    # Not at the top: --help and a usage error need no NumPy.
    from theory.domain import InvalidInput

    name, text = type(error).__name__, str(error)
    if isinstance(error, InvalidInput):
        return (MACHINE if _is_of_the_machine(error) else USAGE), f"error: {text}"
    if isinstance(error, MemoryError) or text.startswith("RESOURCE_EXHAUSTED"):
        return MACHINE, f"error: out of memory {_where(error)}: {text or name}"
    if isinstance(error, OSError):
        status = USAGE if error.errno in IMPOSSIBLE_PATH else MACHINE
        subject = error.filename if error.filename is not None else _where(error)
        return status, f"error: {subject}: {error.strerror or text or name}"
    return BUG, (
        f"internal error: {name}: {text} {_where(error)}; this is a bug: please report it with the "
        f"output of the same command under {TRACEBACK}=1"
    )


def _is_of_the_machine(error: BaseException) -> bool:
    """Returns whether a disk that failed is behind an error that names a file of ours."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    return isinstance(cause, OSError) and cause.errno in FAILED_DISK


def _where(error: Exception) -> str:
    """Returns the last line of this project that an error passed, in brackets."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = pathlib.Path(frame.filename)
        is_ours = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES
        # The frame itself is passed by every error.
        if is_ours and path.parent != pathlib.Path(__file__).parent:
            return f"({path.relative_to(ROOT)}, line {frame.lineno})"
    return "(outside of this project)"


def _say(text: str) -> None:
    """Prints one line on standard error, whatever is in the text."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE * 3 // 4]} ... {line[-LONGEST_LINE // 4 :]}"
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _quiet_warnings() -> Iterator[None]:
    """Lets warnings of libraries be and prints those of ours in a line, unless Python's -W asks.

    What a warning of NumPy would mean is looked at where it matters, and refused in words.
    """
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            for package in PACKAGES:
                warnings.filterwarnings("default", category=UserWarning, module=package)
            warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
        yield
