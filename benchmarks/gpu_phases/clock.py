"""Seconds left of one command, epochs that stop in time, and a record that outlives a kill."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sims.files import replace_whole

FORMAT = 1


class OutOfTime(Exception):
    """Raised where the next piece of work would not end in time."""


class Clock:
    """The seconds of a command.

    Args:
        seconds: that it may take, from now.
        now: what tells the time, in seconds.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.began = now()
        self.seconds = seconds

    def spent(self) -> float:
        """Returns the seconds since the command began."""
        return self.now() - self.began

    def left(self) -> float:
        """Returns the seconds left, negative once they are used up."""
        return self.seconds - self.spent()


class EpochGuard:
    """Stops a training between two epochs if the next one would not end in time.

    It takes the share done, as `nets.experiment.run` tells it after each step: the first
    call of an epoch comes after the one before it has been measured and saved, and after
    compilation.

    Args:
        clock: of the command.
        epochs: of the whole training.
        reserve: seconds that must be left when it ends.
        first: seconds that the first epoch is taken to need.
    """

    def __init__(self, clock: Clock, epochs: int, reserve: float, first: float = 0.0) -> None:
        self.clock, self.epochs, self.reserve = clock, epochs, reserve
        self.expected = first
        self._current, self._since = 0, clock.now()
        self._ended: list[float] = []
        self._last: list[float] = []

    def __call__(self, share: float) -> None:
        """Takes the share done, in (0, 1].

        Raises:
            OutOfTime: at the first step of an epoch that would not end in time.
        """
        current, now = math.ceil(share * self.epochs - 1e-6), self.clock.now()
        if current == self._current:
            # The last step is handed over before it is done; the last call comes after all is.
            self._last = [now - self._since] if share >= 1 else []
            return
        if self._current:
            self._ended.append(now - self._since)
            # The first one compiles what measures the network.
            self.expected = max(self._ended[1:][-3:] or self._ended)
        self._current, self._since = current, now
        if share < 1 and self.clock.left() - self.reserve < self.expected:
            raise OutOfTime(
                f"stopped before epoch {current} of {self.epochs}: an epoch takes "
                f"{self.expected:.1f} s, {self.clock.left():.0f} s are left and {self.reserve:.0f} "
                "s of them kept for what follows"
            )

    @property
    def seconds(self) -> list[float]:
        """The seconds of each epoch, with what is measured and saved after it."""
        return self._ended + self._last


class Record:
    """What is known so far, as one JSON file, replaced whole after every phase.

    Args:
        paths: where the file is written.
        clock: of the command.
        kind: of the record.
        fields: that it will have; None until their phase is over.
    """

    def __init__(
        self, paths: Sequence[Path], clock: Clock, kind: str, fields: Sequence[str]
    ) -> None:
        self.paths, self.clock = paths, clock
        self.found: dict[str, Any] = {"kind": kind, "format": FORMAT, "complete": False}
        self.found |= dict.fromkeys(fields) | {"phases": {}, "shortened": []}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """Yields the dict of a phase; writes the file when it ends, by whatever."""
        began = self.clock.spent()
        entry: dict[str, Any] = {}
        self.found[name] = entry
        print(f"[{began:5.0f} s] {name}", flush=True)
        try:
            yield entry
        except BaseException as error:
            entry["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            seconds = self.clock.spent() - began
            self.found["phases"][name] = {
                "seconds": round(seconds, 3),
                "left": round(self.clock.left(), 3),
            }
            self.save()

    def shorten(self, what: str) -> None:
        """Remembers and prints what was done less of than asked for."""
        self.found["shortened"].append(what)
        print(f"  shortened: {what}", flush=True)

    def save(self) -> None:
        """Writes the file, at each of its paths."""
        text = json.dumps(_plain(self.found), indent=1, allow_nan=False)
        for path in self.paths:
            replace_whole(path, lambda at: at.write_text(text + "\n", "utf-8"), "results")


def _plain(value: Any) -> Any:
    """Returns what JSON can hold: lists of arrays, names of the rest, None for no finite number."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
