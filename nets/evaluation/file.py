"""The result file of an evaluation: one labelled data set, in the format of the sweeps."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nets.evaluation import paired
from nets.evaluation.consistency import contradictions
from nets.evaluation.masking import MaskingFindings, masking_lines, masking_variables
from nets.evaluation.outcomes import CLEAN, Outcomes
from nets.evaluation.per_class import (
    ClassCounts,
    class_counts,
    class_intervals,
    confusion,
    spread,
    worst_class,
)
from nets.evaluation.protocols import EXACT
from sims.files import read, require_variables, schema, unverified_note
from sims.provenance import versions
from sims.stats.interval import require_level
from theory.domain import InvalidInput, require_known
from theory.weights.dafa import class_similarity

KIND = "network evaluation"
ROBUST = "robust"
CONDITIONS = (CLEAN, ROBUST)
# The attribute that is the checksum of the network's parameters, `nets.runs.folder.checksum`.
PARAMETERS = "parameters"
VARIABLES = ("correct", "label", "errors", "trials", "confusion", "similarity")
# What two evaluations must share for their samples to be paired. Not block and seed, which move a
# sample's outcome by rounding and luck alone; nor level and masking, which move none.
IDENTITY = ("data", "fingerprint", "split", "norm", "radius", "protocol")
_CELLS = ("condition", "class")
_MATRIX = (*_CELLS, "said")
_SHARE = schema.Row(_CELLS, "f", low=0, high=1, nan=True)
TABLE = schema.Table(
    "an evaluation",
    variables={
        "correct": schema.Row(("attack", "sample"), schema.INTEGER, low=0, high=1),
        "label": schema.Row(("sample",), schema.INTEGER, low=0),
        "predicted": schema.Row(("condition", "sample"), schema.INTEGER, low=0, optional=True),
        "errors": schema.Row(_CELLS, schema.INTEGER, low=0, at_most="trials"),
        "trials": schema.Row(("class",), schema.INTEGER, low=0),
        "accuracy": _SHARE,
        "low": _SHARE,
        "high": _SHARE,
        "confusion": schema.Row(_MATRIX, schema.INTEGER, low=0),
        # Means of float32 numbers that are at most 1.
        "similarity": schema.Row(_MATRIX, "f", low=0, high=1 + 1e-5, nan=True),
        "masking": schema.Row(("check",), "f", nan=True, optional=True),
        "masking_limit": schema.Row(("check",), "f", nan=True, optional=True),
        "masking_advice": schema.Row(("check",), schema.TEXT, optional=True),
    },
    coordinates={
        "attack": schema.Row(("attack",), schema.TEXT, unique=True),
        "condition": schema.Row(("condition",), schema.TEXT, unique=True),
        "class": schema.Row(("class",), schema.TEXT, unique=True),
        "said": schema.Row(("said",), schema.TEXT, unique=True),
        "check": schema.Row(("check",), schema.TEXT, unique=True, optional=True),
    },
    attributes={
        "kind": schema.Attribute(choices=(KIND,)),
        "level": schema.Attribute(schema.NUMBER, low=0, high=1),
        "nonfinite": schema.Attribute(schema.INTEGER, low=0),
        "norm": schema.Attribute(choices=("linf", "l2", "l1"), optional=True),
        "radius": schema.Attribute(schema.NUMBER, low=0, optional=True),
        "seed": schema.Attribute(schema.INTEGER, low=0, high=2**32 - 1, optional=True),
        "block": schema.Attribute(schema.INTEGER, low=1, optional=True),
        **{
            name: schema.Attribute(optional=True)
            for name in ("data", "fingerprint", "split", "protocol", "model", "parameters")
        },
    },
)


def make(
    outcomes: Outcomes,
    labels: np.ndarray,
    class_names: Sequence[str],
    level: float,
    attributes: Mapping[str, Any],
    masking: MaskingFindings | None = None,
) -> xr.Dataset:
    """Returns the data set of an evaluation.

    Args:
        outcomes: of `nets.evaluation.outcomes.evaluate`.
        labels: true classes, (n,).
        class_names: K of them.
        level: chance that any class interval of the file misses, in (0, 1).
        attributes: what was evaluated and how, for the record.
        masking: what the checks for gradient masking found, where they were made.

    Returns:
        `correct` (attack, sample) int8, the flags after each attack and all before it; `label`
        (sample); `predicted` (condition, sample); `errors` (condition,
        class) and `trials` (class), int64; `accuracy`, `low`, `high` (condition, class);
        `confusion` (condition, class, said), int64; `similarity` (condition, class, said), the
        mean softmax of each class's samples without attack and under the first attack, of those
        whose logits are finite, nan where a class has none; and the variables of
        `nets.evaluation.masking.masking_variables`.

    Raises:
        InvalidInput: for a level outside (0, 1) or a class without samples.
    """
    require_level(level)
    names, classes = list(class_names), len(class_names)
    flags = {CLEAN: outcomes.correct[0], ROBUST: outcomes.correct[-1]}
    counts = [class_counts(labels, flags[name], classes) for name in CONDITIONS]
    require_every_class(counts[0], names)
    # Both conditions share the level, so that the whole file holds together.
    bounds = [class_intervals(part, level / len(CONDITIONS)) for part in counts]
    over = ("condition", "class")
    pairs = (*over, "said")
    matrices = [confusion(labels, said, classes) for said in outcomes.predicted]
    similar = [_similarity(p, labels) for p in outcomes.probabilities]
    evaluation = xr.Dataset(
        {
            "correct": (("attack", "sample"), outcomes.correct.astype(np.int8)),
            "label": ("sample", np.asarray(labels, np.int32)),
            "predicted": (("condition", "sample"), outcomes.predicted),
            "errors": (over, np.stack([part.trials - part.correct for part in counts])),
            "trials": ("class", counts[0].trials),
            "accuracy": (over, np.stack([part.accuracy for part in counts])),
            "low": (over, np.stack([part.low for part in bounds])),
            "high": (over, np.stack([part.high for part in bounds])),
            "confusion": (pairs, np.stack(matrices)),
            "similarity": (pairs, np.stack(similar)),
        },
        coords={
            "attack": list(outcomes.attacks),
            "condition": list(CONDITIONS),
            "class": names,
            "said": names,
        },
        attrs={
            **attributes,
            "kind": KIND,
            "level": level,
            "nonfinite": outcomes.nonfinite,
            "versions": versions(),
        },
    )
    if masking is None:
        return evaluation
    return evaluation.merge(masking_variables(masking), combine_attrs="no_conflicts")


def _similarity(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the mean softmax of each class's samples with finite logits, (K, K)."""
    finite = np.isfinite(probabilities).all(1)
    classes = probabilities.shape[1]
    similarity = np.full((classes, classes), np.nan, probabilities.dtype)
    if finite.any():
        known = np.unique(labels[finite])
        similarity[known] = np.asarray(class_similarity(probabilities[finite], labels[finite]))[
            known
        ]
    return similarity


def require_storable(class_names: Sequence[str], attributes: Mapping[str, Any]) -> None:
    """Raises InvalidInput, before anything is computed, for what a file could not hold.

    Args:
        class_names: of an evaluation.
        attributes: of it.
    """
    names = list(class_names)
    wrong = [name for name in names if not isinstance(name, str) or not name.isprintable()]
    if wrong or "" in names or len(set(names)) < len(names):
        first = (wrong or sorted(n for n in names if names.count(n) > 1 or not n))[0]
        raise InvalidInput(f"class_names: {first!r}: each must be a printable text, and there once")
    for name, value in attributes.items():
        try:
            xr.Dataset(attrs={name: value}).to_netcdf(engine="h5netcdf")
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(
                f"attributes: {name} = {value!r}: must be a text, a number or a list of numbers"
            ) from error


def require_every_class(counts: ClassCounts, names: Sequence[str]) -> None:
    """Raises InvalidInput, naming it, for a class without samples."""
    if (empty := counts.trials == 0).any():
        missing = ", ".join(np.asarray(names, str)[empty])
        raise InvalidInput(f"labels: no sample of class {missing}; every class must be present")


def require_free(path: pathlib.Path, wanted: Mapping[str, Any]) -> None:
    """Raises InvalidInput if a file is there that is not an evaluation of the wanted settings."""
    if not path.exists():
        return
    present = load(path)
    for name, value in wanted.items():
        # Files of earlier versions do not say which parameters they are of.
        if name == PARAMETERS and name not in present.attrs:
            continue
        if present.attrs.get(name) != value:
            raise InvalidInput(
                f"results = {path}: belongs to another evaluation ({name} = "
                f"{present.attrs.get(name)}, this one has {value}); choose another --name or move "
                "the file away"
            )


def load(path: pathlib.Path) -> xr.Dataset:
    """Returns the evaluation in a file.

    Raises:
        InvalidInput: if it cannot be read as one.
    """
    evaluation = read(path)
    require(path, evaluation)
    unverified_note(path, evaluation)
    return evaluation


def require(path: pathlib.Path, evaluation: xr.Dataset) -> None:
    """Raises InvalidInput unless a data set is an evaluation whose parts agree with each other.

    Args:
        path: where it was read, for the message.
        evaluation: of any kind.
    """
    require_variables(path, evaluation, VARIABLES)
    schema.require(path, evaluation, TABLE)
    for complaint in contradictions(evaluation, CONDITIONS):
        raise InvalidInput(f"results = {path}: not an evaluation, {complaint}")


def counts_of(dataset: xr.Dataset, condition: str) -> ClassCounts:
    """Returns the class counts of an evaluation, "clean" or "robust"."""
    require_known("condition", condition, CONDITIONS)
    trials = dataset["trials"].values
    return ClassCounts(trials - dataset["errors"].sel(condition=condition).values, trials)


def summary(dataset: xr.Dataset) -> str:
    """Returns a table of the classes, clean and robust; then the worst class and the spread."""
    percent = 1 - dataset.level
    lines = [
        f"accuracy in % with intervals that all hold together with probability {percent:g}",
        f"{'class':16}{'n':>6}  {'clean':>22}  {'robust':>22}",
    ]
    for name in dataset["class"].values:
        part = dataset.sel({"class": name})
        cells = "".join(f"  {_cell(part.sel(condition=c)):>22}" for c in CONDITIONS)
        lines.append(f"{name:16}{int(part['trials']):6d}{cells}")
    lines += [_conclusion(dataset, condition) for condition in CONDITIONS]
    if len(dataset["attack"]) > 1:
        falls = (f"{n} {100 * s:.1f}" for n, s in _survivors(dataset).items())
        lines.append("still correct in % after " + ", ".join(falls))
    if dataset["attack"].values[1:].tolist() == [EXACT]:
        lines.append(
            "robust accuracy is exact, no bound: the network is linear, and the worst point of "
            "each ball has a closed form"
        )
    lines += masking_lines(dataset)
    if dataset.nonfinite:
        lines.append(f"warning: {dataset.nonfinite} samples had logits that were not finite")
    return "\n".join(lines)


def _cell(part: xr.Dataset) -> str:
    if not int(part["trials"]):
        return "no samples"
    accuracy, low, high = (100 * float(part[k]) for k in ("accuracy", "low", "high"))
    return f"{accuracy:5.1f} [{low:5.1f}, {high:5.1f}]"


def _conclusion(dataset: xr.Dataset, condition: str) -> str:
    counts = counts_of(dataset, condition)
    worst, unequal = worst_class(counts, dataset.level / len(CONDITIONS)), spread(counts)
    return (
        f"{condition}: average {100 * unequal.average:.1f}; worst class "
        f"{dataset['class'].values[worst.label]} {100 * worst.accuracy:.1f} "
        f"[{100 * worst.low:.1f}, {100 * worst.high:.1f}] (chosen on these samples: bias about "
        f"{100 * worst.selection_bias:+.1f}); gap {100 * unequal.gap:.1f}; standard deviation "
        f"{100 * unequal.variance**0.5:.1f}"
    )


def _survivors(dataset: xr.Dataset) -> dict[str, float]:
    shares = dataset["correct"].mean("sample").values
    return dict(zip(dataset["attack"].values.tolist(), shares.tolist(), strict=True))


def comparison(first: xr.Dataset, second: xr.Dataset, level: float) -> str:
    """Returns a table of paired differences, second minus first, class by class and in all.

    Args:
        first, second: evaluations of the same samples under the same threat.
        level: for the intervals, which all hold together, and for the family of tests (Holm).

    Raises:
        InvalidInput: if the two are not of the same samples and threat.
    """
    require_level(level)
    require_paired(first, second)
    names, labels = first["class"].values, first["label"].values
    lines = [
        f"accuracy of the second minus the first in points, intervals together {1 - level:g}; "
        "p: exact McNemar, Holm over classes and conditions"
    ]
    tables = {
        condition: paired.paired(labels, _flags(first, at), _flags(second, at), len(names))
        for condition, at in zip(CONDITIONS, (0, -1), strict=True)
    }
    # One family over classes and both conditions: twenty tests of ten classes, not two of ten.
    adjusted = paired.holm(np.concatenate([paired.mcnemar(t) for t in tables.values()]))
    for (condition, table), p in zip(tables.items(), np.split(adjusted, 2), strict=True):
        bounds = paired.difference_intervals(table, level / len(CONDITIONS))
        lines.append(condition)
        for k, name in enumerate(names):
            if not table.trials[k]:
                lines.append(f"  {name:16} no samples")
                continue
            lines.append(
                f"  {name:16}{100 * table.difference[k]:+7.1f} [{100 * bounds.low[k]:+.1f}, "
                f"{100 * bounds.high[k]:+.1f}]  p = {p[k]:.3g}"
            )
        # The question whether the average differs is one of its own, asked beforehand.
        whole = paired.pooled(table)
        lines.append(
            f"  {'all':16}{100 * whole.difference[0]:+7.1f}  "
            f"p = {paired.mcnemar(whole)[0]:.3g} (by itself)"
        )
        score = paired.rho(counts_of(first, condition), counts_of(second, condition))
        lines.append(f"  rho {paired.rho_text(score, 'the worst class of the first')}")
    return "\n".join(lines)


def _flags(dataset: xr.Dataset, attack: int) -> np.ndarray:
    return dataset["correct"].isel(attack=attack).values.astype(bool)


def require_paired(first: xr.Dataset, second: xr.Dataset) -> None:
    """Raises InvalidInput, naming the first difference, unless both are of the same samples."""
    for name in IDENTITY:
        one, two = first.attrs.get(name), second.attrs.get(name)
        if one != two:
            raise InvalidInput(
                f"compare: {name} = {one} and {two}: only evaluations of the same samples under "
                "the same threat can be paired"
            )
    # Linear networks have an exact attack in place of those of a protocol.
    for axis in ("attack", "class"):
        one, two = (", ".join(dataset[axis].values.tolist()) for dataset in (first, second))
        if one != two:
            raise InvalidInput(
                f"compare: {axis} = {one} and {two}: only evaluations of the same samples under "
                "the same attacks can be paired"
            )
    if not np.array_equal(first["label"], second["label"]):
        raise InvalidInput("compare: the samples of the two evaluations differ")
