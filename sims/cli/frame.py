"""What commands of simulations share: the frame of all commands, bars of progress, threads."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from theory.command_line.frame import CONTRADICTED, STOPPED, USAGE, run
from theory.command_line.words import require_file_name

__all__ = [
    "CONTRADICTED",
    "STOPPED",
    "USAGE",
    "progress_bar",
    "require_file_name",
    "run",
    "side_by_side",
]


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
