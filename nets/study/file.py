"""The result file of a study of training methods: all that its tables and figures need, in one."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from nets.evaluation import file as evaluation_file
from nets.evaluation.outcomes import CLEAN
from sims.files import read, require_variables, unverified_note
from sims.provenance import versions
from sims.stats.interval import require_level
from theory.domain import InvalidInput, require_known

KIND = "network study"
VARIABLES = ("correct", "label", "confusion", "settings", "epochs")
# What all evaluations of a study share beside the samples.
SHARED = (*evaluation_file.IDENTITY, "model", "protocol")


def make(
    evaluations: Mapping[tuple[str, int], xr.Dataset],
    settings: Mapping[tuple[str, int], Mapping[str, Any]],
    *,
    reference: str,
    level: float,
    attributes: Mapping[str, Any],
    warm_up: Mapping[int, Mapping[str, Any]] | None = None,
) -> xr.Dataset:
    """Returns the data set of a study.

    Args:
        evaluations: by method and seed, of every method with every seed: of the same samples under
            the same threat.
        settings: what JSON holds of each run, by method and seed; `epochs` are those that it took,
            fewer than its `training` asks for where it collapsed.
        reference: the method that the others are compared with.
        level: chance that any interval of the report misses, in (0, 1).
        attributes: for the record.
        warm_up: likewise of the run that those of a seed began from; None for none.

    Returns:
        `correct` (method, seed, condition, sample) int8, without attack and after all attacks;
        `label` (sample); `confusion` (method, seed, class, said) int64, under attack; `settings`
        (method, seed) and `warm_up` (seed), JSON; `epochs` (method, seed) int64.

    Raises:
        InvalidInput: for an unknown reference, a run that is missing, a level outside (0, 1), or
            evaluations of different samples or threats.
    """
    require_level(level)
    methods, seeds = (list(dict.fromkeys(keys)) for keys in zip(*evaluations, strict=True))
    require_known("reference", reference, methods)
    first = evaluations[methods[0], seeds[0]]
    for method in methods:
        for seed in seeds:
            if (method, seed) not in evaluations:
                raise InvalidInput(f"evaluations: none of {method} with seed {seed}")
            _require_alike(f"{method}, seed {seed}", first, evaluations[method, seed])

    def table(value: Callable[[str, int], Any]) -> npt.NDArray[Any]:
        return np.array([[value(method, seed) for seed in seeds] for method in methods])

    names, runs = first["class"].values.tolist(), ("method", "seed")
    dataset = xr.Dataset(
        {
            "correct": ((*runs, "condition", "sample"), table(lambda *k: _flags(evaluations[k]))),
            "label": ("sample", first["label"].values),
            "confusion": ((*runs, "class", "said"), table(lambda *k: _confusion(evaluations[k]))),
            "settings": (runs, table(lambda *k: json.dumps(settings[k])).astype(object)),
            "warm_up": (
                "seed",
                np.array([json.dumps((warm_up or {}).get(s)) for s in seeds], object),
            ),
            "epochs": (runs, table(lambda *k: settings[k]["epochs"]).astype(np.int64)),
        },
        coords={
            "method": methods,
            "seed": seeds,
            "condition": list(evaluation_file.CONDITIONS),
            "class": names,
            "said": names,
        },
        attrs={
            **attributes,
            **{name: first.attrs[name] for name in SHARED},
            "attacks": ", ".join(first["attack"].values.tolist()[1:]),
            "kind": KIND,
            "reference": reference,
            "level": level,
            "versions": versions(),
        },
    )
    # To a third: a study of 21 networks on 10,000 images is a file of 0.13 MB.
    for name in ("correct", "confusion", "label"):
        dataset[name].encoding = {"zlib": True, "complevel": 6, "shuffle": True}
    return dataset


def load(path: pathlib.Path) -> xr.Dataset:
    """Returns the study in a file.

    Raises:
        InvalidInput: if it cannot be read as one.
    """
    dataset = read(path)
    require_variables(path, dataset, VARIABLES)
    if dataset.attrs.get("kind") != KIND:
        raise InvalidInput(f"results = {path}: is no {KIND}")
    unverified_note(path, dataset)
    return dataset


def flags(dataset: xr.Dataset, method: str, condition: str) -> npt.NDArray[np.bool_]:
    """Returns whether the networks of a method are right on each image, bool, (seed, sample)."""
    correct = dataset["correct"].sel({"method": method, "condition": condition})
    # In the file they are int8, which netCDF has and bool it has not.
    return correct.values.astype(bool)


def others(dataset: xr.Dataset) -> Sequence[str]:
    """Returns the names of the methods but for the reference."""
    return [name for name in dataset["method"].values.tolist() if name != dataset.reference]


def stopped(dataset: xr.Dataset) -> list[str]:
    """Returns which trainings ended before their last epoch, because the probe collapsed."""
    lines = []
    for method in dataset["method"].values:
        for seed in dataset["seed"].values:
            run = dataset.sel({"method": method, "seed": seed})
            taken = int(run["epochs"])
            wanted = json.loads(str(run["settings"].values))["training"]["epochs"]
            if taken < wanted:
                lines.append(f"{method} with seed {seed} after {taken} of {wanted} epochs")
    return lines


def _flags(evaluation: xr.Dataset) -> npt.NDArray[Any]:
    """Returns what is correct without attack and after the last one, (2, n), int8."""
    # The flags of an attack are those after it and all before it: the last ones are of all.
    assert evaluation["attack"].values[0] == CLEAN
    return np.asarray(evaluation["correct"].isel(attack=[0, -1]).values)


def _confusion(evaluation: xr.Dataset) -> npt.NDArray[Any]:
    """Returns how often a class, by row, is taken for another under attack, (K, K), int64."""
    return np.asarray(evaluation["confusion"].sel(condition=evaluation_file.ROBUST).values)


def _require_alike(name: str, first: xr.Dataset, evaluation: xr.Dataset) -> None:
    """Raises InvalidInput unless two evaluations are of the same images under the same threat."""
    for key in SHARED:
        if evaluation.attrs[key] != first.attrs[key]:
            raise InvalidInput(
                f"evaluation of {name}: {key} = {evaluation.attrs[key]}, that of another run has "
                f"{first.attrs[key]}; a study compares the same samples under the same threat"
            )
    for axis in ("label", "attack", "class"):
        if not np.array_equal(evaluation[axis].values, first[axis].values):
            raise InvalidInput(f"evaluation of {name}: its {axis} values are not those of others")
