"""What a study says: the change from the reference, with intervals, verdicts and tables."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from nets.evaluation import paired
from nets.evaluation.file import CONDITIONS, ROBUST
from nets.evaluation.outcomes import CLEAN
from nets.evaluation.per_class import ClassCounts, class_counts
from nets.evaluation.worst_class import accuracies, best_change_interval, worst_class_interval
from nets.study.file import TRAINING, flags, others, stopped
from sims.stats.average_mean import average_interval
from sims.stats.interval import Bounds, require_level
from theory.domain import InvalidInput

CLEAN_AVERAGE, ROBUST_AVERAGE, WORST, GAP = QUANTITIES = (
    "clean average",
    "robust average",
    "worst class",
    "gap",
)
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
HELPS, HURTS, UNDECIDED = "helps", "hurts", "too small to decide"
# Of which a rise is bad.
LOWER_IS_BETTER = (GAP,)


def measured(correct: Flags, labels: NDArray[np.integer[Any]], classes: int) -> Floats:
    """Returns the quantities of networks: averages, worst robust class, gap, (..., 4).

    Args:
        correct: flags without and under attack, bool, (..., 2, n).
        labels: in [0, classes), every class present, (n,).
        classes: K.

    >>> flags = np.array([[True, True, True], [False, True, True]])
    >>> measured(flags, np.array([0, 1, 1]), 2).round(3).tolist()
    [1.0, 0.667, 0.0, 1.0]
    """
    robust = accuracies(correct[..., 1, :], labels, classes)
    worst = robust.min(-1)
    return np.stack([*np.moveaxis(correct.mean(-1), -1, 0), worst, robust.max(-1) - worst], -1)


def changes(dataset: xr.Dataset, level: float | None = None) -> xr.Dataset:
    """Returns how every method changes every quantity from the reference, paired, with intervals.

    Given the trained networks the images are independent draws of their classes, and what is
    sought is the mean over seeds of the change on all images of that kind. All intervals hold
    together with probability 1 - level: half of the level is shared by the methods' four
    intervals (two averages, least and greatest class accuracy under attack; the gap is their
    difference and lies between the differences of their ends), half by the classes'. Intervals of
    Student are something else: of the mean over all seeds that there might be, at this level each,
    if the seeds' changes are normal; the images do not count there.

    Args:
        dataset: of `nets.study.file.make`.
        level: in (0, 1); that of the file if None.

    Returns:
        `value` (all_methods, seed, quantity); `by_seed` (training, seed, quantity); `change`,
        `low`, `high`, `student_low`, `student_high`, `verdict` (training, quantity); `rho`
        (training, seed); `class_value` (all_methods, seed, condition, class); `class_change`,
        `class_low` and `class_high` (training, condition, class).

    Raises:
        InvalidInput: for a level outside (0, 1), or a study of the reference alone.
    """
    level = dataset.level if level is None else level
    require_level(level)
    methods, labels, classes = others(dataset), dataset["label"].values, dataset.sizes["class"]
    if not methods:
        raise InvalidInput(f"methods: only the reference, {dataset.reference}; nothing to compare")
    correct = dataset["correct"].values.astype(bool)
    everything = dataset[TRAINING].values.tolist()
    value = measured(correct, labels, classes)
    mine = [everything.index(name) for name in methods]
    # Paired: seed by seed, as a seed is the same images, the same order and the same first weights.
    by_seed = value[mine] - value[[everything.index(dataset.reference)]]
    # Half of the level for the quantities and half for the classes, of each method alike
    # (Bonferroni).
    share = level / 2 / len(methods)
    bounds = np.array([_intervals(dataset, name, share) for name in methods])
    class_bounds = np.array([_class_intervals(dataset, name, share) for name in methods])
    student = [students(by_seed[:, :, k], level) for k in range(len(QUANTITIES))]
    per_class = accuracies(correct, labels, classes)
    parts, over = (TRAINING, "quantity"), (TRAINING, "condition", "class")
    reference = per_class[everything.index(dataset.reference)]
    return xr.Dataset(
        {
            "value": (("all_methods", "seed", "quantity"), value),
            "by_seed": ((TRAINING, "seed", "quantity"), by_seed),
            "change": (parts, by_seed.mean(1)),
            "low": (parts, bounds[..., 0]),
            "high": (parts, bounds[..., 1]),
            "student_low": (parts, np.stack([pair.low for pair in student], -1)),
            "student_high": (parts, np.stack([pair.high for pair in student], -1)),
            "verdict": (parts, _verdicts(bounds)),
            "rho": ((TRAINING, "seed"), _rho(dataset, methods)),
            "class_value": (("all_methods", "seed", "condition", "class"), per_class),
            "class_change": (over, (per_class[mine] - reference).mean(1)),
            "class_low": (over, class_bounds[..., 0]),
            "class_high": (over, class_bounds[..., 1]),
        },
        coords={
            "all_methods": everything,
            TRAINING: list(methods),
            "quantity": list(QUANTITIES),
            "seed": dataset["seed"].values,
            "condition": list(CONDITIONS),
            "class": dataset["class"].values,
        },
        attrs={"level": level, "reference": dataset.reference, "stopped": stopped(dataset)},
    )


def average_change(first: Flags, second: Flags, level: float) -> Bounds:
    """Returns an interval of the mean over networks of the change in accuracy of second to first.

    Args:
        first, second: flags of partners on the same independent images, bool, (S, n).
        level: error probability in (0, 1).
    """
    number = len(first)
    # By how many networks an image is gained: images are independent draws of 2 S + 1 known values,
    # so that the interval is finite-sample, however the S networks depend on one another.
    gained = first.astype(int).sum(0) - second.astype(int).sum(0)
    counts = np.bincount(gained + number, minlength=2 * number + 1)
    return average_interval(np.arange(-number, number + 1) / number, counts, level)


def _intervals(dataset: xr.Dataset, method: str, share: float) -> list[list[float]]:
    """Returns the ends of the intervals of all quantities, (4, 2); each may miss by share / 4."""
    labels, classes, each = dataset["label"].values, dataset.sizes["class"], share / 4
    pairs = {
        at: (flags(dataset, method, at), flags(dataset, dataset.reference, at)) for at in CONDITIONS
    }
    # Each for itself: the worst class of a network is that of its own, found on the same images.
    worst = worst_class_interval(*pairs[ROBUST], labels, classes, each)
    best = best_change_interval(*pairs[ROBUST], labels, classes, each)
    intervals = {
        CLEAN_AVERAGE: average_change(*pairs[CLEAN], each),
        ROBUST_AVERAGE: average_change(*pairs[ROBUST], each),
        WORST: worst,
        # No level of its own: it holds wherever the two above do.
        GAP: Bounds(best.low - worst.high, best.high - worst.low),
    }
    return [[float(end) for end in intervals[name]] for name in QUANTITIES]


def _class_intervals(dataset: xr.Dataset, method: str, share: float) -> list[list[list[float]]]:
    """Returns the ends of the classes' intervals, (2, K, 2)."""
    labels, classes = dataset["label"].values, dataset.sizes["class"]
    each = share / (len(CONDITIONS) * classes)
    ends = []
    for condition in CONDITIONS:
        mine, theirs = (flags(dataset, name, condition) for name in (method, dataset.reference))
        rows = [
            average_change(mine[:, labels == k], theirs[:, labels == k], each)
            for k in range(classes)
        ]
        ends.append([[float(end) for end in row] for row in rows])
    return ends


def students(by_seed: Floats, level: float) -> Bounds:
    """Returns Student's intervals of means, (...), from values (..., S); nan for a single one.

    Args:
        by_seed: taken for draws of a normal law.
        level: error probability of each, in (0, 1).

    >>> [round(float(end), 3) for end in students(np.array([1.0, 2.0, 3.0]), 0.05)]
    [-0.484, 4.484]
    """
    number = by_seed.shape[-1]
    mean = by_seed.mean(-1)
    if number < 2:
        # A spread cannot be seen: the reports leave the interval out.
        return Bounds(mean * np.nan, mean * np.nan)
    reach = stats.t.isf(level / 2, number - 1) * by_seed.std(-1, ddof=1) / number**0.5
    return Bounds(mean - reach, mean + reach)


def _verdicts(bounds: Floats) -> NDArray[np.str_]:
    """Returns the verdict of each method and quantity, (M, 4), from its ends, (M, 4, 2)."""
    lower = [name in LOWER_IS_BETTER for name in QUANTITIES]
    return np.array(
        [
            [verdict(low, high, flip) for (low, high), flip in zip(row, lower, strict=True)]
            for row in bounds.tolist()
        ]
    )


def verdict(low: float, high: float, lower_is_better: bool = False) -> str:
    """Returns "helps", "hurts" or "too small to decide": what an interval of a change shows.

    >>> verdict(0.01, 0.2), verdict(0.01, 0.2, lower_is_better=True), verdict(-0.1, 0.1)
    ('helps', 'hurts', 'too small to decide')
    """
    # An interval that touches zero decides nothing: no change is not excluded.
    if low <= 0 <= high:
        return UNDECIDED
    return HELPS if (low > 0) != lower_is_better else HURTS


def _rho(dataset: xr.Dataset, methods: Sequence[str]) -> Floats:
    """Returns rho, under attack, of each method and seed against the reference's, (M, S)."""
    labels, classes = dataset["label"].values, dataset.sizes["class"]

    def counts(name: str) -> list[ClassCounts]:
        return [class_counts(labels, row, classes) for row in flags(dataset, name, ROBUST)]

    before = counts(dataset.reference)
    return np.array(
        [[paired.rho(*pair) for pair in zip(before, counts(name), strict=True)] for name in methods]
    )


def summary(changed: xr.Dataset) -> str:
    """Returns a table of what `changes` found, for a screen."""
    lines = [
        "values in %, mean over seeds (each seed)",
        f"{'':12}" + "".join(f"  {name:26}" for name in QUANTITIES),
    ]
    for name in changed["all_methods"].values:
        cells = [_spread(changed["value"].sel(all_methods=name, quantity=q)) for q in QUANTITIES]
        lines.append(f"{name:12}" + "".join(f"  {cell:26}" for cell in cells))
    lines += ["", heading(changed)]
    for name in changed[TRAINING].values:
        lines.append(f"{name}: rho {_rho_cell(changed, name)}")
        for quantity in QUANTITIES:
            entry = changed.sel({TRAINING: name, "quantity": quantity})
            lines.append(
                f"  {quantity:15} {_interval(entry):24} {entry['verdict'].values!s:20} "
                f"seeds {_seeds(entry['by_seed'])}{_student(entry, '  Student ')}"
            )
    return "\n".join(lines)


def heading(changed: xr.Dataset) -> str:
    """Returns what the intervals of the tables are."""
    percent, number = f"{100 * (1 - changed.level):g} %", changed.sizes["seed"]
    text = (
        f"change from {changed.reference} in percentage points, mean over {number} seeds; "
        f"intervals given these networks, finite-sample, all of them together {percent}"
    )
    if number > 1:
        text += f"; Student: over seeds, {percent} each, assuming normality"
    if changed.stopped:
        text += f"; not the whole budget, as they collapsed: {', '.join(changed.stopped)}"
    return text


def markdown(changed: xr.Dataset) -> str:
    """Returns the tables of a results page: values, changes with verdicts, and the seeds."""
    names = list(QUANTITIES)
    rows = [
        [name, *(_spread(changed["value"].sel(all_methods=name, quantity=q)) for q in names)]
        for name in changed["all_methods"].values
    ]
    blocks = ["Values in %, mean over seeds (each seed):", _table(["method", *names], rows)]

    def each(cell: Callable[[xr.Dataset], str]) -> list[list[str]]:
        return [
            [name, *(cell(changed.sel({TRAINING: name, "quantity": q})) for q in names)]
            for name in changed[TRAINING].values
        ]

    rows = each(lambda entry: f"{_interval(entry)} {entry['verdict'].values}")
    rows = [[*row, _rho_cell(changed, row[0])] for row in rows]
    text = heading(changed)
    blocks += [f"{text[0].upper()}{text[1:]}.", _table(["method", *names, "rho"], rows)]
    if changed.sizes["seed"] > 1:
        rows = each(lambda entry: f"{_seeds(entry['by_seed'])}{_student(entry, '; ')}")
        blocks += ["Change with each seed; Student's interval:", _table(["method", *names], rows)]
    return "\n\n".join(blocks)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spread(values: xr.DataArray) -> str:
    each = f" ({', '.join(f'{100 * v:.1f}' for v in values.values)})" if values.size > 1 else ""
    return f"{100 * float(values.mean()):.1f}{each}"


def _interval(entry: xr.Dataset) -> str:
    change, low, high = (100 * float(entry[name]) for name in ("change", "low", "high"))
    return f"{change:+.1f} [{low:+.1f}, {high:+.1f}]"


def _seeds(values: xr.DataArray) -> str:
    return ", ".join(f"{100 * value:+.1f}" for value in values.values)


def _student(entry: xr.Dataset, before: str) -> str:
    low, high = (100 * float(entry[name]) for name in ("student_low", "student_high"))
    return "" if np.isnan(low) else f"{before}[{low:+.1f}, {high:+.1f}]"


def _rho_cell(changed: xr.Dataset, name: str) -> str:
    scores = changed["rho"].sel({TRAINING: name}).values
    return paired.rho_text(scores, f"a worst class of {changed.reference}")
