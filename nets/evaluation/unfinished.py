"""What an evaluation has found so far, in files, so that one that is stopped goes on from there.

RUN/NAME.unfinished lies beside the result RUN/NAME.nc until that is whole. Every file in it carries
its digest, and says of which evaluation it is: settings, parameters, code, libraries.
"""

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nets.compute.blocks import Progress
from nets.evaluation.outcomes import SampleOutcomes
from nets.runs import lock
from sims import files
from sims.provenance import code_digest, versions
from theory.domain import InvalidInput

SUFFIX = ".unfinished"
# Seconds between two saves. One takes some hundredths of a second, and a kill costs no more work.
SAVE_EVERY = 20.0
# What outcomes depend on of ours: what this module reaches by imports.
CODE = "nets.evaluation.run"
_IDENTITY, _ATTACKS = "evaluation", "attacks"


def folder_of(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder in which an evaluation is kept until its file, at `path`, is whole."""
    return path.with_name(path.stem + SUFFIX)


def made_by() -> dict[str, str]:
    """Returns what outcomes depend on beside the settings: code, libraries, kind of device."""
    return {
        "code": code_digest(CODE),
        "versions": versions(),
        "backend": jax.default_backend(),
    }


class KeptTurns:
    """The outcomes of single samples under single turns of attacks, in memory and in files.

    Args:
        folder: of the files.
        wanted: what JSON holds of this evaluation; files of another are refused.
        block: samples computed together.

    Raises:
        InvalidInput: naming the first difference, for files of another evaluation.
    """

    def __init__(self, folder: pathlib.Path, wanted: Mapping[str, Any], block: int) -> None:
        self._folder, self._wanted, self._block = folder, dict(wanted), block
        self._known: dict[tuple[str, int], list[tuple[NDArray[Any], SampleOutcomes]]] = {}
        self._unsaved: list[tuple[str, int, NDArray[Any], SampleOutcomes]] = []
        self._blocks, self._number = len(jax.local_devices()), 0
        self._identity = ""
        for path in sorted(folder.glob("*.nc")):
            self._number = max(self._number, int(path.stem) if path.stem.isdecimal() else 0)
            # One that is damaged is as good as none: its outcomes are computed again.
            with contextlib.suppress(_DamagedFile):
                self._load(path)
        self._saved = time.monotonic()

    def __call__(
        self,
        name: str,
        turn: int,
        chosen: NDArray[np.integer[Any]],
        compute: Callable[[NDArray[np.integer[Any]], Progress | None], SampleOutcomes],
        progress: Progress | None,
    ) -> SampleOutcomes:
        """Returns the outcomes of the chosen samples: those that are known, the others computed.

        Args:
            name, turn: of the attack.
            chosen: numbers of samples, (n,).
            compute: of the numbers of some, (m,), and what takes the share done, the outcomes.
            progress: takes the share of this turn that is done.
        """
        # Each turn is asked for once: what it found is not held longer.
        turns = self._known.pop((name, turn), [])
        before = np.concatenate([samples for samples, _ in turns] or [chosen[:0]])
        missing = chosen[~np.isin(chosen, before)]
        start, done = 0, len(chosen) - len(missing)
        while start < len(missing):
            # Whole blocks, so that none is filled up that would not be in one go.
            rows = missing[start : start + self._blocks * self._block]
            begun, first = time.monotonic(), done + start

            def told(share: float, first: int = first, count: int = len(rows)) -> None:
                if progress is not None:
                    progress((first + share * count) / len(chosen))

            outcomes = compute(rows, told)
            turns.append((rows, outcomes))
            self._unsaved.append((name, turn, rows, outcomes))
            start += len(rows)
            now = time.monotonic()
            # Longer pieces while they are short: between two of them devices wait.
            self._blocks *= 2 if now - begun < SAVE_EVERY / 4 else 1
            if now - self._saved >= SAVE_EVERY:
                self.save()
        samples = np.concatenate([samples for samples, _ in turns])
        every = jax.tree.map(lambda *arrays: np.concatenate(arrays), *(each for _, each in turns))
        order = np.argsort(samples, kind="stable")
        at = order[np.searchsorted(samples, chosen, sorter=order)]
        result: SampleOutcomes = jax.tree.map(lambda array: array[at], every)
        return result

    def save(self) -> None:
        """Writes what is not yet in a file into one of its own."""
        if not self._unsaved:
            return
        names = sorted({name for name, *_ in self._unsaved})
        counts = [len(samples) for _, _, samples, _ in self._unsaved]
        every = [each for *_, each in self._unsaved]
        outcomes: SampleOutcomes = jax.tree.map(lambda *parts: np.concatenate(parts), *every)
        broken, shape = ~outcomes.correct, outcomes.x_adv.shape[1:]
        dataset = xr.Dataset(
            {
                "attack": ("row", np.repeat([names.index(u[0]) for u in self._unsaved], counts)),
                "turn": ("row", np.repeat([u[1] for u in self._unsaved], counts)),
                "sample": ("row", np.concatenate([u[2] for u in self._unsaved])),
                "correct": ("row", outcomes.correct.astype(np.int8)),
                "predicted": ("row", outcomes.predicted),
                "finite": ("row", outcomes.finite.astype(np.int8)),
                "probability": (("row", "said"), outcomes.probabilities),
                # Of the others nobody asks where they ended.
                "point": (
                    ("broken", "entry"),
                    outcomes.x_adv[broken].reshape(int(broken.sum()), math.prod(shape)),
                ),
            },
            attrs={
                _IDENTITY: self._said(),
                _ATTACKS: json.dumps(names),
                "shape": json.dumps(shape),
            },
        )
        files.save(dataset, self._folder / f"{self._number + 1}.nc")
        self._number += 1
        self._unsaved, self._saved = [], time.monotonic()

    def remove(self) -> None:
        """Removes all files: the result is whole."""
        self._unsaved = []
        for path in self._folder.glob("*.nc"):
            path.unlink(missing_ok=True)

    def _said(self) -> str:
        # Only when it is needed, as to read all code takes a second.
        if not self._identity:
            self._identity = json.dumps(self._wanted | made_by(), sort_keys=True)
        return self._identity

    def _load(self, path: pathlib.Path) -> None:
        try:
            dataset = files.read(path)
            theirs = json.loads(dataset.attrs[_IDENTITY])
        except (InvalidInput, LookupError, ValueError) as error:
            raise _DamagedFile from error
        ours = json.loads(self._said())
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise InvalidInput(
                    f"results = {self._folder}: an unfinished evaluation of other settings or "
                    f"code ({name} = {theirs.get(name)}, this one has {ours.get(name)}); choose "
                    "another --name or move the folder away"
                )
        names, shape = (json.loads(dataset.attrs[key]) for key in (_ATTACKS, "shape"))
        correct = dataset["correct"].values.astype(bool)
        points = dataset["point"].values
        x_adv = np.zeros((len(correct), *shape), points.dtype)
        x_adv[~correct] = points.reshape(len(points), *shape)
        outcomes = SampleOutcomes(
            correct,
            dataset["predicted"].values,
            dataset["probability"].values,
            x_adv,
            dataset["finite"].values.astype(bool),
            # Nothing that left the ball is kept.
            np.ones(len(correct), bool),
        )
        for place, name in enumerate(names):
            for turn in np.unique(dataset["turn"].values):
                rows = (dataset["attack"].values == place) & (dataset["turn"].values == turn)
                if rows.any():
                    kept = jax.tree.map(lambda array, rows=rows: array[rows], outcomes)
                    samples = dataset["sample"].values[rows]
                    self._known.setdefault((name, int(turn)), []).append((samples, kept))


class _DamagedFile(Exception):
    """A file of kept outcomes that cannot be read."""


@contextlib.contextmanager
def kept_turns(path: pathlib.Path, wanted: Mapping[str, Any], block: int) -> Iterator[KeptTurns]:
    """Holds the folder of an unfinished evaluation; what is found is saved however it ends.

    Args:
        path: of the result file, in a folder that can be written to.
        wanted: what JSON holds of this evaluation.
        block: samples computed together.

    Raises:
        InvalidInput: if another process evaluates into it, or it is of another evaluation.
    """
    folder = folder_of(path)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"results = {folder}: cannot be made ({error.strerror})") from error
    try:
        with lock.held(folder, "evaluating"):
            kept = KeptTurns(folder, wanted, block)
            try:
                yield kept
            finally:
                # Of one that was stopped; `remove` leaves nothing to save.
                kept.save()
    finally:
        # Unless something is kept in it.
        with contextlib.suppress(OSError):
            folder.rmdir()
