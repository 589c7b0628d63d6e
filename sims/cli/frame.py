"""The frame of the command lines: parse before JAX is imported, one line for an error."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

CONTRADICTED, USAGE, STOPPED, UNREAD = 1, 2, 130, 141


def run(
    command: Callable[..., int],
    program: str,
    arguments: Sequence[str] | None = None,
    goes_on: str = "the same command goes on from the last chunk",
) -> None:
    """Parses the arguments of `command` from its signature, runs it and exits with its status.

    Bad input is one line on standard error and status 2; an interrupt is status 130; a reader of
    the output that leaves early is status 141, as of commands that the signal ends.

    Args:
        command: returns the status.
        program: what the help calls it.
        arguments: those of the command line if None.
        goes_on: what is said after an interrupt.
    """
    try:
        status = _status(command, program, arguments, goes_on)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try once more to write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = UNREAD
    sys.exit(status)


def _status(
    command: Callable[..., int], program: str, arguments: Sequence[str] | None, goes_on: str
) -> int:
    # Only the words that the signature has: no --no-... beside each flag.
    config = (tyro.conf.FlagCreatePairsOff,)
    try:
        action = tyro.cli(_deferred(command), prog=program, args=arguments, config=config)
    except SystemExit as parsed:  # help, or a usage error
        return int(parsed.code or 0)
    # Not at the top: --help and a usage error need no NumPy.
    from theory.domain import InvalidInput

    try:
        return action()
    except InvalidInput as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(f"stopped; {goes_on}", file=sys.stderr)
        return STOPPED


def _deferred(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Returns a function of the same signature that returns the call instead of making it."""

    @functools.wraps(command)
    def parsed(*args: Any, **kwargs: Any) -> Callable[[], int]:
        return lambda: command(*args, **kwargs)

    return parsed


@contextlib.contextmanager
def side_by_side() -> Iterator[Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]]:
    """Yields a map whose calls run in as many threads as there are cores, results in order.

    Compiling and counting release the interpreter, so threads are enough. After an error or an
    interrupt what has not begun is dropped.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str], Callable[[float], None]]]:
    """Yields a function that adds a named bar with its estimated time, where a person can see it.

    What it returns takes the share done, in [0, 1].
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    bars = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # Otherwise lines meant for a file or a pipe would go to the bars' console.
        redirect_stdout=sys.stdout.isatty(),
    )

    def add(name: str) -> Callable[[float], None]:
        task = bars.add_task(name, total=1.0)
        return lambda share: bars.update(task, completed=share, visible=share < 1)

    with bars:
        yield add
