"""A study of training methods: classes beside the reference, what is traded, what is confused."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.labels import CONDITIONS, evaluation_title, plain
from figures.kit.legend import shared_legend
from figures.kit.panel import lengths
from figures.kit.style import SERIES
from figures.results.networks import label_classes, matrix, shares_of
from nets.study.file import TRAINING, others, renamed
from nets.study.report import GAP, ROBUST_AVERAGE, WORST, changes

COLUMNS = 4
WIDTH = 7.5  # That title and legend need, in inches.
# Both shape and colour tell methods apart; the reference is a black circle.
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
# Differences of shares beyond this are as dark as it.
STRONGEST = 0.2


class Look(NamedTuple):
    """Colour and marker of a method."""

    colour: str
    marker: str


def study(dataset: xr.Dataset) -> dict[str, Figure]:
    """Returns the figures of a study by name: "classes", "trade-off" and "confusion".

    Args:
        dataset: of `nets.study.file.make`.

    Raises:
        InvalidInput: for a study of the reference alone.
    """
    dataset = renamed(dataset)
    found = changes(dataset)
    return {
        "classes": classes(dataset, found),
        "trade-off": trade_off(dataset, found),
        "confusion": confusion(dataset, found),
    }


def classes(dataset: xr.Dataset, found: xr.Dataset) -> Figure:
    """Returns class accuracies of every method beside those of the reference, a panel for each.

    Hollow points are the reference, solid ones the method, both means over seeds; a bar is the
    interval of the change, drawn from the reference's point: where it misses that point the class
    has changed. Classes run from the reference's least robust, at the top, to its most.

    Args:
        dataset: of `nets.study.file.make`.
        found: of `nets.study.report.changes`.
    """
    # One order for all panels, so that a class is found in the same row of each.
    reference = found["class_value"].sel(all_methods=dataset.reference).mean("seed")
    order = np.argsort(reference.sel(condition="robust").values, kind="stable")
    found, reference = found.isel({"class": order}), reference.isel({"class": order})
    names = found[TRAINING].values
    rows = -(-len(names) // COLUMNS)
    columns = -(-len(names) // rows)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(max(1.6 + 2.6 * columns, WIDTH), 1.4 + rows * (0.8 + 0.26 * len(order))),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for panel, name in zip(axes.flat, names, strict=False):
        _classes(panel, found.sel({TRAINING: name}), reference)
        panel.set_title(f"{name}, rho {float(found['rho'].sel({TRAINING: name}).mean()):+.2f}")
    for panel in axes.flat[len(names) :]:
        panel.set_axis_off()
    for panel in axes.flat[max(len(names) - columns, 0) : len(names)]:
        panel.set_xlabel("accuracy, [0, 1]")
        panel.tick_params(labelbottom=True)
    axes[0, 0].set_yticks(range(len(order)), plain(found["class"].values))
    axes[0, 0].set_ylim(len(order) - 0.5, -0.5)
    axes[0, 0].set_xlim(-0.02, 1.02)
    shared_legend(figure, axes[:1, 0], 4 if columns > 2 else 2, "outside lower center")
    figure.suptitle(
        f"{_title(dataset)}\nbars: change from {dataset.reference}, intervals of the whole study "
        f"together {1 - found.level:g}"
    )
    return figure


def _classes(axes: Axes, part: xr.Dataset, reference: xr.DataArray) -> None:
    rows = np.arange(part.sizes["class"])
    for look, (condition, title), shift in zip(
        SERIES, CONDITIONS.items(), (-0.17, 0.17), strict=False
    ):
        mine = part.sel(condition=condition)
        before = reference.sel(condition=condition).values
        change, low, high = (mine[f"class_{n}"].values for n in ("change", "low", "high"))
        axes.errorbar(
            before + change,
            rows + shift,
            xerr=lengths(change - low, high - change),
            fmt=look.marker,
            color=look.colour,
            markersize=3.5,
            markeredgecolor="white",
            markeredgewidth=0.3,
            elinewidth=1.0,
            label=f"{title}, the panel's method",
            zorder=3,
        )
        axes.plot(
            before,
            rows + shift,
            look.marker,
            color=look.colour,
            markerfacecolor="white",
            markersize=3.5,
            label=f"{title}, {reference['all_methods'].values!s}",
            zorder=2.5,
        )


def trade_off(dataset: xr.Dataset, found: xr.Dataset) -> Figure:
    """Returns the gap, and the worst class, against the average under attack.

    On the left a small point is a network and a large one the mean of a method, joined with that of
    the reference. On the right bars are intervals of the change from the reference; both crossing
    its dotted lines or neither says what is decided.

    Args:
        dataset: of `nets.study.file.make`.
        found: of `nets.study.report.changes`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.4))
    reference = found["value"].sel(all_methods=dataset.reference)
    origin = reference.mean("seed")
    looks = _looks(dataset)
    for name, look in looks.items():
        value = found["value"].sel(all_methods=name)
        x, y = (value.sel(quantity=q).values for q in (ROBUST_AVERAGE, GAP))
        axes[0].plot(x, y, look.marker, color=look.colour, markersize=3, alpha=0.7, zorder=3)
        ends = [[float(o), v.mean()] for o, v in zip(_pair(origin, GAP), (x, y), strict=True)]
        axes[0].plot(*ends, color=look.colour, linewidth=0.8, zorder=2)
        _mean(axes[0], x.mean(), y.mean(), look, name)
    for line, at in zip((axes[1].axvline, axes[1].axhline), _pair(origin, WORST), strict=True):
        line(at, color="black", linestyle=":", linewidth=0.8)
    _mean(axes[1], *_pair(origin, WORST), looks[dataset.reference], None)
    for name in others(dataset):
        _cross(axes[1], found.sel({TRAINING: name}), _pair(origin, WORST), looks[name])
    axes[0].set_ylabel("best minus worst class under attack, [0, 1]")
    axes[0].set_title("small: one network; large: mean over seeds")
    axes[1].set_ylabel("worst class under attack, [0, 1]")
    axes[1].set_title(f"bars: change from {dataset.reference}, together {1 - found.level:g}")
    for panel in axes:
        panel.set_xlabel("average accuracy under attack, [0, 1]")
    shared_legend(figure, axes[:1], 1, "outside right center")
    figure.suptitle(_title(dataset))
    return figure


def _looks(dataset: xr.Dataset) -> dict[str, Look]:
    looks = {dataset.reference: Look("black", "o")}
    for place, name in enumerate(others(dataset)):
        looks[name] = Look(SERIES[place % 3].colour, MARKERS[place % len(MARKERS)])
    return looks


def _pair(values: xr.DataArray, quantity: str) -> tuple[float, float]:
    """Returns the average under attack and a quantity."""
    return tuple(float(values.sel(quantity=q)) for q in (ROBUST_AVERAGE, quantity))  # type: ignore[return-value]


def _mean(axes: Axes, x: float, y: float, look: Look, label: str | None) -> None:
    axes.plot(
        x,
        y,
        look.marker,
        color=look.colour,
        markersize=8,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=label,
        linestyle="none",
        zorder=4,
    )


def _cross(axes: Axes, part: xr.Dataset, origin: tuple[float, float], look: Look) -> None:
    change, low, high = (np.array(_pair(part[name], WORST)) for name in ("change", "low", "high"))
    below, above = lengths(change - low, high - change)
    x, y = np.array(origin) + change
    axes.errorbar(
        x,
        y,
        xerr=[[below[0]], [above[0]]],
        yerr=[[below[1]], [above[1]]],
        color=look.colour,
        fmt="none",
        elinewidth=0.9,
        zorder=3,
    )
    _mean(axes, x, y, look, None)


def confusion(dataset: xr.Dataset, found: xr.Dataset) -> Figure:
    """Returns what is taken for what under attack: reference, best method, and the difference.

    The best method is that whose worst class is the most accurate under attack, as a mean over
    seeds. Classes run from the reference's least robust to its most.

    Args:
        dataset: of `nets.study.file.make`.
        found: of `nets.study.report.changes`.
    """
    # Chosen on these images, and shown without an interval: the table says what is decided.
    best = str(found["change"].sel(quantity=WORST).idxmax(TRAINING).values)
    reference = found["class_value"].sel(all_methods=dataset.reference, condition="robust")
    order = np.argsort(reference.mean("seed").values, kind="stable")
    ordered = dataset.isel({"class": order, "said": order})
    names = ordered["class"].values
    size = 1.5 + 0.28 * len(names)
    figure, axes = plt.subplots(1, 3, figsize=(3 * max(size, 3.4), max(size, 3.6) + 0.6))
    shares = [_shares(ordered, name) for name in (dataset.reference, best)]
    for panel, part, name in zip(axes, shares, (dataset.reference, best), strict=False):
        matrix(panel, part, names, f"{name}: % of the class under attack")
    _difference(axes[2], shares[1] - shares[0], names)
    axes[2].set_title(f"{best} minus {dataset.reference}, points")
    figure.suptitle(f"{_title(dataset)}\n{best}: the method with the most accurate worst class")
    return figure


def _shares(dataset: xr.Dataset, method: str) -> np.ndarray:
    """Returns the shares of each class taken for each, of all seeds together."""
    counts = dataset["confusion"].sel({TRAINING: method}).sum("seed").values
    return shares_of(counts)


def _difference(axes: Axes, difference: np.ndarray, names: np.ndarray) -> None:
    axes.imshow(difference, cmap="PuOr", vmin=-STRONGEST, vmax=STRONGEST)
    for (row, column), value in np.ndenumerate(difference):
        if abs(value) > 0.005:
            colour = "white" if abs(value) > 0.6 * STRONGEST else "black"
            text = f"{100 * value:+.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    label_classes(axes, names)


def _title(dataset: xr.Dataset) -> str:
    return evaluation_title(dataset.attrs, dataset.attrs["attacks"])
