"""The evaluation of a run in its folder: what it must be of, computed and left as a file."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import xarray as xr

from nets.attacks import threats
from nets.data.load import DataSet, load
from nets.data.select import select_classes
from nets.evaluation import file as evaluation_file
from nets.evaluation import protocols
from nets.evaluation.outcomes import BLOCK
from nets.evaluation.outcomes import evaluate as outcomes_of
from nets.runs import folder as run_folder
from nets.runs.folder import Run
from sims import files
from sims.stats.interval import require_level
from theory.domain import InvalidInput

Progress = Callable[[str], Callable[[float], None]]


class Request(NamedTuple):
    """How a run is evaluated.

    Args:
        norm, radius, seed: of the attacks; those of the training if None.
        protocol: of `nets.evaluation.protocols`.
        samples: the first so many of the test set; all if None.
        level: chance that any class interval misses.
        block: samples computed together.
    """

    norm: str | None = None
    radius: float | None = None
    protocol: str = "budget"
    samples: int | None = None
    level: float = 0.05
    seed: int | None = None
    block: int = BLOCK


def evaluate_run(
    folder: pathlib.Path,
    path: pathlib.Path,
    request: Request,
    progress: Progress,
    *,
    directory: pathlib.Path | None = None,
    data: DataSet | None = None,
) -> xr.Dataset:
    """Returns the evaluation of a run and leaves it in a file.

    Args:
        folder: of the run.
        path: of the file; one of the same settings is replaced.
        request: how.
        progress: given the name of an attack returns what takes the share done.
        directory: where data sets are, see `nets.data.load.load`.
        data: the whole data set of the run where it is loaded already.

    Raises:
        InvalidInput: before any computation, for settings out of range, a folder that holds no run
            or one of other data, or a file of another evaluation.
    """
    loaded = run_folder.load(folder)
    whole = load(loaded.settings["data"], directory) if data is None else data
    # As in training: the same classes, numbered alike.
    found = select_classes(whole, loaded.settings.get("classes", ()))
    _require_same_data(folder, loaded.settings, found)
    wanted = _wanted(folder, loaded, found, request)
    files.require_writable(path.parent)
    evaluation_file.require_free(path, wanted)
    dataset = _evaluated(loaded, found, wanted, request, progress)
    files.save(dataset, path)
    return dataset


def identity(
    norm: str, radius: float, protocol: str, seed: int, samples: int | None, count: int, block: int
) -> dict[str, Any]:
    """Returns what the file of an evaluation must say for it to be this one.

    Args:
        norm, radius, protocol, seed, samples, block: see `Request`; none is None but the samples.
        count: images of the test set.
    """
    return {
        "norm": norm,
        "radius": radius,
        "protocol": protocol,
        "seed": seed,
        "block": block,
        "split": f"first {samples or count} of the test set",
    }


def require_samples(found: DataSet, samples: int | None) -> None:
    """Raises InvalidInput unless there are so many test samples, and some of every class."""
    count, labels = len(found.test.labels), found.test.labels[:samples]
    if samples is not None and not 1 <= samples <= count:
        raise InvalidInput(f"samples = {samples}: must lie in [1, {count}]")
    counts = evaluation_file.class_counts(labels, labels == labels, len(found.class_names))
    evaluation_file.require_every_class(counts, found.class_names)


def _wanted(folder: pathlib.Path, loaded: Run, found: DataSet, request: Request) -> dict[str, Any]:
    """Returns what identifies the evaluation, once all of it is in range."""
    require_samples(found, request.samples)
    norm, radius, seed = request.norm, request.radius, request.seed
    trained = {"norm": norm, "radius": radius, "seed": 0} | loaded.settings.get("training", {})
    norm, radius = norm or trained["norm"], trained["radius"] if radius is None else radius
    seed = trained["seed"] if seed is None else seed
    if norm is None or radius is None:
        raise InvalidInput(f"norm, radius: {folder} does not say what it was for; give both")
    if not 0 <= seed < 2**32:
        raise InvalidInput(f"seed = {seed}: must lie in [0, 2^32)")
    return identity(
        norm,
        radius,
        request.protocol,
        seed,
        request.samples,
        len(found.test.labels),
        request.block,
    )


def _evaluated(
    loaded: Run, found: DataSet, wanted: dict[str, Any], request: Request, progress: Progress
) -> xr.Dataset:
    require_level(request.level)
    threat = threats.threat_of(wanted["norm"], wanted["radius"])
    classes = len(found.class_names)
    methods = protocols.methods(wanted["protocol"], classes, threat)
    images, labels = found.test.images[: request.samples], found.test.labels[: request.samples]
    apply: Any = loaded.module.apply
    outcomes = outcomes_of(
        jax.random.key(wanted["seed"]),
        apply,
        loaded.variables,
        images,
        labels,
        threat,
        methods,
        classes=classes,
        block=wanted["block"],
        progress=progress,
    )
    described = wanted | {
        "model": loaded.settings["model"],
        "data": found.name,
        "fingerprint": found.fingerprint,
    }
    return evaluation_file.make(outcomes, labels, found.class_names, request.level, described)


def _require_same_data(folder: pathlib.Path, settings: Mapping[str, Any], found: DataSet) -> None:
    if settings["fingerprint"] != found.fingerprint:
        raise InvalidInput(
            f"data = {found.name}: fingerprint {found.fingerprint[:12]}, but {folder} was trained "
            f"on {settings['fingerprint'][:12]}"
        )
