"""The result file of a study of training methods: all that its tables and figures need, in one."""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import xarray as xr

from nets.evaluation import file as evaluation_file
from nets.evaluation.outcomes import CLEAN
from sims.files import read, records, require_variables, schema, unverified_note
from sims.provenance import versions
from sims.stats.interval import require_level
from theory.domain import InvalidInput, require_known

KIND = "network study"
VARIABLES = ("correct", "label", "confusion", "settings", "epochs")
# What all evaluations of a study share beside the samples.
SHARED = (*evaluation_file.IDENTITY, "model")
# The axis of the methods, which earlier versions called "method": a keyword of xarray's own, so
# that `.sel(method=...)` could not mean the axis.
TRAINING, _EARLIER = "training", "method"
_RUNS = (TRAINING, "seed")
TABLE = schema.Table(
    "a study",
    variables={
        "correct": schema.Row((*_RUNS, "condition", "sample"), schema.INTEGER, low=0, high=1),
        "label": schema.Row(("sample",), schema.INTEGER, low=0),
        "confusion": schema.Row((*_RUNS, "class", "said"), schema.INTEGER, low=0),
        "settings": schema.Row(_RUNS, schema.TEXT, json=True),
        "warm_up": schema.Row(("seed",), schema.TEXT, json=True, optional=True),
        "epochs": schema.Row(_RUNS, schema.INTEGER, low=0),
    },
    coordinates={
        TRAINING: schema.Row((TRAINING,), schema.TEXT, unique=True),
        "seed": schema.Row(("seed",), schema.INTEGER, low=0, high=2**32 - 1, unique=True),
        "condition": schema.Row(("condition",), schema.TEXT, unique=True),
        "class": schema.Row(("class",), schema.TEXT, unique=True),
        "said": schema.Row(("said",), schema.TEXT, unique=True),
    },
    attributes={
        "kind": schema.Attribute(choices=(KIND,)),
        "reference": schema.Attribute(),
        "level": schema.Attribute(schema.NUMBER, low=0, high=1),
        "norm": schema.Attribute(choices=("linf", "l2", "l1")),
        "radius": schema.Attribute(schema.NUMBER, low=0),
        **{
            name: schema.Attribute(optional=name == "name")
            for name in ("name", "data", "fingerprint", "split", "model", "protocol", "attacks")
        },
    },
)


class RecordedTraining(msgspec.Struct):
    """What a study reads of the settings of a training; further ones are let through."""

    epochs: Annotated[int, msgspec.Meta(ge=0)]


class RecordedRun(msgspec.Struct):
    """What a study reads of the record of a run; further fields are let through."""

    training: RecordedTraining
    epochs: Annotated[int, msgspec.Meta(ge=0)]
    parameters: str = ""


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
        `correct` (training, seed, condition, sample) int8, without attack and after all attacks;
        `label` (sample); `confusion` (method, seed, class, said) int64, under attack; `settings`
        (training, seed) and `warm_up` (seed), JSON; `epochs` (training, seed) int64.

    Raises:
        InvalidInput: for an unknown reference, a run that is missing, a level outside (0, 1),
            evaluations of different samples or threats, or one of other parameters than its run.
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
            _require_of_run(
                f"{method}, seed {seed}", evaluations[method, seed], settings[method, seed]
            )

    def table(value: Callable[[str, int], Any]) -> npt.NDArray[Any]:
        return np.array([[value(method, seed) for seed in seeds] for method in methods])

    names, runs = first["class"].values.tolist(), _RUNS
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
            TRAINING: methods,
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
    require(path, dataset)
    unverified_note(path, dataset)
    return renamed(dataset)


def require(path: pathlib.Path, dataset: xr.Dataset) -> None:
    """Raises InvalidInput unless a data set is a study whose parts agree with each other.

    Args:
        path: where it was read, for the message.
        dataset: of any kind.
    """
    require_variables(path, dataset, VARIABLES)
    if dataset.attrs.get("kind") != KIND:
        raise InvalidInput(f"results = {path}: is no {KIND}")
    dataset = renamed(dataset)
    schema.require(path, dataset, TABLE)
    for complaint in _contradictions(path, dataset):
        raise InvalidInput(f"results = {path}: not a study, {complaint}")


def renamed(dataset: xr.Dataset) -> xr.Dataset:
    """Returns a study with the names of its axes as they are now; those of earlier versions too."""
    if _EARLIER not in dataset.dims or TRAINING in dataset.variables:
        return dataset
    encoding = dict(dataset.encoding)
    dataset = dataset.rename({_EARLIER: TRAINING})
    # Whether the file was verified is not lost on the way.
    dataset.encoding.update(encoding)
    return dataset


def _contradictions(path: pathlib.Path, dataset: xr.Dataset) -> Iterator[str]:
    """Yields what in a study contradicts its samples, of which all counts are."""
    names, label = dataset["class"].values.tolist(), dataset["label"].values
    methods = dataset[TRAINING].values.tolist()
    if dataset.attrs["reference"] not in methods:
        yield f"its reference {dataset.attrs['reference']!r} is none of {', '.join(methods)}"
    if dataset["condition"].values.tolist() != list(evaluation_file.CONDITIONS):
        yield f"condition must be {list(evaluation_file.CONDITIONS)}"
    if dataset["said"].values.tolist() != names:
        yield "said has other names than class"
    missing = set(range(len(names))) - set(label.tolist())
    if label.max(initial=0) >= len(names) or missing:
        yield f"label must have every number below {len(names)} and no other"
        return
    correct = dataset["correct"].values.astype(bool)
    if (correct[..., 1, :] & ~correct[..., 0, :]).any():
        yield "correct rises under attack: what is wrong without attack is wrong under it"
    trials = np.bincount(label, minlength=len(names))
    if (dataset["confusion"].sum("said").values != trials).any():
        yield "rows of confusion do not sum to the samples of their class"
    right = np.stack([correct[..., 1, label == k].sum(-1) for k in range(len(names))], -1)
    if (np.diagonal(dataset["confusion"].values, axis1=-2, axis2=-1) != right).any():
        yield "the diagonal of confusion is not what is correct under attack"
    for at in np.ndindex(dataset["settings"].shape):
        record = _record(dataset, at, f"results = {path}, settings[{', '.join(map(str, at))}]")
        if record.epochs != dataset["epochs"].values[at]:
            yield f"epochs has {dataset['epochs'].values[at]}, but settings say {record.epochs}"


def _record(dataset: xr.Dataset, at: tuple[int, ...], name: str) -> RecordedRun:
    text = str(dataset["settings"].values[at])
    return records.typed(records.from_json(text.encode(), name), RecordedRun, name)


def flags(dataset: xr.Dataset, method: str, condition: str) -> npt.NDArray[np.bool_]:
    """Returns whether the networks of a method are right on each image, bool, (seed, sample)."""
    correct = dataset["correct"].sel({TRAINING: method, "condition": condition})
    # In the file they are int8, which netCDF has and bool it has not.
    return correct.values.astype(bool)


def others(dataset: xr.Dataset) -> Sequence[str]:
    """Returns the names of the methods but for the reference."""
    return [name for name in dataset[TRAINING].values.tolist() if name != dataset.reference]


def stopped(dataset: xr.Dataset) -> list[str]:
    """Returns which trainings ended before their last epoch, because the probe collapsed."""
    lines = []
    for i, method in enumerate(dataset[TRAINING].values):
        for j, seed in enumerate(dataset["seed"].values):
            taken = int(dataset["epochs"].values[i, j])
            wanted = _record(dataset, (i, j), f"settings of {method}, seed {seed}").training.epochs
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


def _require_of_run(name: str, evaluation: xr.Dataset, settings: Mapping[str, Any]) -> None:
    """Raises InvalidInput for an evaluation of other parameters than those of its run."""
    judged, present = evaluation.attrs.get(evaluation_file.PARAMETERS), settings.get("parameters")
    # Evaluations of earlier versions do not say which parameters they are of.
    if None not in (judged, present) and judged != present:
        raise InvalidInput(
            f"evaluation of {name}: parameters = {judged}, its run has {present}: the network was "
            "trained anew since; remove the evaluation"
        )
