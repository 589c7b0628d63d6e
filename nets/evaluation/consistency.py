"""What the parts of an evaluation must agree on: every count is one of its samples."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from nets.evaluation.outcomes import CLEAN
from nets.evaluation.per_class import class_counts, class_intervals, confusion


def contradictions(evaluation: xr.Dataset, conditions: Sequence[str]) -> Iterator[str]:
    """Yields what in an evaluation contradicts its samples, of which all counts are.

    Args:
        evaluation: that has the variables of an evaluation, of their dimensions and types.
        conditions: what its axis `condition` must be.
    """
    correct, label = evaluation["correct"].values.astype(bool), evaluation["label"].values
    names = evaluation["class"].values.tolist()
    if evaluation["said"].values.tolist() != names:
        yield "said has other names than class"
        return
    if (present := evaluation["condition"].values.tolist()) != list(conditions):
        yield f"condition is {present}: must be {list(conditions)}"
        return
    if evaluation["attack"].values.tolist()[:1] != [CLEAN]:
        yield f"attack must begin with {CLEAN!r}"
        return
    said = [evaluation["predicted"].values] if "predicted" in evaluation else []
    for values in (label, *said):
        if values.max(initial=0) >= len(names):
            yield f"a class has the number {values.max()}: must be below {len(names)}"
            return
    if (correct[1:] & ~correct[:-1]).any():
        yield "correct rises from one attack to the next: what has fallen stays fallen"
    if evaluation.attrs["nonfinite"] > len(label):
        yield f"its attribute nonfinite = {evaluation.attrs['nonfinite']}: must be at most n"
    counts = [class_counts(label, flags, len(names)) for flags in (correct[0], correct[-1])]
    bounds = [class_intervals(part, evaluation.attrs["level"] / len(conditions)) for part in counts]
    expected = {
        "trials": counts[0].trials,
        "errors": np.stack([part.trials - part.correct for part in counts]),
        "accuracy": np.stack([part.accuracy for part in counts]),
        "low": np.stack([part.low for part in bounds]),
        "high": np.stack([part.high for part in bounds]),
    }
    if said:
        tables = [confusion(label, row, len(names)) for row in said[0]]
        expected["confusion"] = np.stack(tables)
    for name, values in expected.items():
        # Of other versions of SciPy the intervals may differ in the last places.
        if not np.allclose(evaluation[name].values, values, rtol=0, atol=1e-6, equal_nan=True):
            yield f"{name} is not that of its samples"
    right = np.diagonal(evaluation["confusion"].values, axis1=1, axis2=2)
    if (right != expected["trials"] - expected["errors"]).any():
        yield "the diagonal of confusion is not what is correct"
    if (evaluation["confusion"].sum("said").values != expected["trials"]).any():
        yield "rows of confusion do not sum to trials"
