"""The evaluation of a run in its folder: what it must be of, computed and left as a file."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import xarray as xr

from nets.attacks import threats
from nets.data.load import DataSet, load
from nets.data.select import select_classes
from nets.evaluation import file as evaluation_file
from nets.evaluation import protocols, unfinished
from nets.evaluation.masking import check_masking, require_checkable
from nets.evaluation.outcomes import BLOCK
from nets.evaluation.outcomes import evaluate as outcomes_of
from nets.evaluation.per_class import class_counts
from nets.evaluation.requirements import PIXELS
from nets.evaluation.unfinished import KeptTurns, kept_turns
from nets.models import registry as models
from nets.runs import folder as run_folder
from nets.runs.folder import Run
from sims import files
from sims.stats.interval import require_level
from theory.domain import InvalidInput, require_known

Progress = Callable[[str], Callable[[float], None]]
_LONGEST_NAME = 150


class Request(NamedTuple):
    """How a run is evaluated.

    Args:
        norm, radius, seed: of the attacks; those of the training if None.
        protocol: of `nets.evaluation.protocols`.
        samples: the first so many of the test set; all if None.
        level: chance that any class interval misses.
        block: samples computed together.
        masking: look for gradient masking whatever the protocol; "standard", beside which the
            checks cost little, always does, unless the network is linear or the radius 0.
    """

    norm: str | None = None
    radius: float | None = None
    protocol: str = "budget"
    samples: int | None = None
    level: float = 0.05
    seed: int | None = None
    block: int = BLOCK
    masking: bool = False


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
    data = select_classes(whole, loaded.settings.get("classes", ()))
    _require_same_data(folder, loaded.settings, data)
    wanted = _wanted(folder, loaded, data, request)
    # Before an evaluation of hours: that its file can be written, and whose the present one is.
    _require_name(path)
    files.require_writable(path.parent)
    evaluation_file.require_free(path, wanted)
    evaluation_file.require_storable(data.class_names, _described(loaded, data, wanted))
    with kept_turns(path, _of(wanted, data), wanted["block"]) as kept:
        dataset = _evaluated(loaded, data, wanted, request, progress, kept)
        files.save(dataset, path)
        kept.remove()
    return dataset


def load_of_run(folder: pathlib.Path, path: pathlib.Path) -> xr.Dataset:
    """Returns the evaluation of a run, unless the run has other parameters by now.

    Args:
        folder: of the run; where there is none any more, nothing is compared.
        path: of the evaluation.

    Raises:
        InvalidInput: if it cannot be read, or is of other parameters than those in the folder.
    """
    evaluation = evaluation_file.load(path)
    recorded = evaluation.attrs.get(evaluation_file.PARAMETERS)
    if recorded is not None and (folder / run_folder.SETTINGS).exists():
        present = run_folder.checksum(run_folder.load(folder).variables)
        evaluation_file.require_free(path, {evaluation_file.PARAMETERS: present})
    return evaluation


def is_evaluated(folder: pathlib.Path, path: pathlib.Path) -> bool:
    """Returns whether the evaluation of a run is there.

    Args:
        folder: of the run.
        path: of the evaluation.

    Raises:
        InvalidInput: as `load_of_run`, if a file is there.
    """
    if not path.exists():
        return False
    load_of_run(folder, path)
    return True


def require_no_orphan(path: pathlib.Path) -> None:
    """Raises InvalidInput for an evaluation, whole or unfinished, beside which there is no run.

    Whatever is trained there would stand beside results of another network.
    """
    for left in (path, unfinished.folder_of(path)):
        if left.exists() and not (path.parent / run_folder.SETTINGS).exists():
            raise InvalidInput(
                f"out = {path.parent}: holds {left.name}, but not the run that it is of; move "
                "it away"
            )


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


def require_samples(data: DataSet, samples: int | None) -> None:
    """Raises InvalidInput unless there are so many test samples, and some of every class."""
    count, labels = len(data.test.labels), data.test.labels[:samples]
    if samples is not None and not 1 <= samples <= count:
        raise InvalidInput(f"samples = {samples}: must lie in [1, {count}]")
    counts = class_counts(labels, labels == labels, len(data.class_names))
    evaluation_file.require_every_class(counts, data.class_names)


def _wanted(folder: pathlib.Path, loaded: Run, data: DataSet, request: Request) -> dict[str, Any]:
    """Returns what identifies the evaluation, once all of it is in range."""
    require_samples(data, request.samples)
    norm, radius, seed = request.norm, request.radius, request.seed
    # What the run was trained for; where it does not say so, the request must.
    trained = {"norm": norm, "radius": radius, "seed": 0} | loaded.settings.get("training", {})
    norm, radius = norm or trained["norm"], trained["radius"] if radius is None else radius
    seed = trained["seed"] if seed is None else seed
    if norm is None or radius is None:
        raise InvalidInput(f"norm, radius: {folder} does not say what it was for; give both")
    if not 0 <= seed < 2**32:
        raise InvalidInput(f"seed = {seed}: must lie in [0, 2^32)")
    require_level(request.level)
    require_known("protocol", request.protocol, protocols.PROTOCOLS)
    if request.block < 1:
        raise InvalidInput(f"block = {request.block}: samples at a time, must be at least 1")
    require_pixel_radius(norm, radius, data)
    if request.masking:
        require_checkable(threats.threat_of(norm, radius), len(data.test.labels[: request.samples]))
    count = len(data.test.labels)
    wanted = identity(norm, radius, request.protocol, seed, request.samples, count, request.block)
    return wanted | {evaluation_file.PARAMETERS: run_folder.checksum(loaded.variables)}


def require_pixel_radius(norm: str, radius: float, data: DataSet) -> None:
    """Raises InvalidInput for a radius that is negative, or beyond the whole box of [0, 1]."""
    size = math.prod(data.test.images.shape[1:])
    threats.require_radius(threats.threat_of(norm, radius), PIXELS, size)


def _require_name(path: pathlib.Path) -> None:
    # With what a file that is not yet whole is called; most file systems take 255 bytes.
    if (size := len(os.fsencode(path.name))) > _LONGEST_NAME:
        raise InvalidInput(
            f"results = {path.name[:40]}...: a name of {size} bytes, must be at most "
            f"{_LONGEST_NAME}"
        )


def _described(loaded: Run, data: DataSet, wanted: dict[str, Any]) -> dict[str, Any]:
    """Returns what the file says of what was evaluated, and how."""
    return wanted | {
        "model": loaded.settings["model"],
        "data": data.name,
        "fingerprint": data.fingerprint,
    }


def _of(wanted: dict[str, Any], data: DataSet) -> dict[str, Any]:
    """Returns what outcomes that are kept must be of: not the level, which moves none of them."""
    return wanted | {"fingerprint": data.fingerprint}


def _evaluated(
    loaded: Run,
    data: DataSet,
    wanted: dict[str, Any],
    request: Request,
    progress: Progress,
    kept: KeptTurns,
) -> xr.Dataset:
    threat = threats.threat_of(wanted["norm"], wanted["radius"])
    classes = len(data.class_names)
    linear = models.is_linear(loaded.module)
    methods = protocols.methods(wanted["protocol"], classes, threat, linear)
    images, labels = data.test.images[: request.samples], data.test.labels[: request.samples]
    apply: Any = loaded.module.apply
    key = jax.random.key(wanted["seed"], impl="threefry2x32")
    # The exact attack follows no gradient that could be masked.
    usual = wanted["protocol"] == "standard" and not linear and wanted["radius"] > 0
    outcomes = outcomes_of(
        key,
        apply,
        loaded.variables,
        images,
        labels,
        threat,
        methods,
        classes=classes,
        block=wanted["block"],
        progress=progress,
        kept=kept,
    )
    # After the attacks, whose outcomes are kept: one that is stopped here has less to do again.
    findings = (
        check_masking(key, apply, loaded.variables, images, labels, threat)
        if usual or request.masking
        else None
    )
    described = _described(loaded, data, wanted)
    return evaluation_file.make(
        outcomes, labels, data.class_names, request.level, described, findings
    )


def _require_same_data(folder: pathlib.Path, settings: Mapping[str, Any], data: DataSet) -> None:
    if settings["fingerprint"] != data.fingerprint:
        raise InvalidInput(
            f"data = {data.name}: fingerprint {data.fingerprint[:12]}, but {folder} was trained "
            f"on {settings['fingerprint'][:12]}"
        )
