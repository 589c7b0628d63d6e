"""A network evaluated class by class: accuracies with intervals, and what is taken for what."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.labels import CONDITIONS, evaluation_title, plain
from figures.kit.panel import lengths
from figures.kit.style import SERIES

# Above this share of a class the ground is too dark for black letters.
DARK = 0.55


def evaluation(dataset: xr.Dataset) -> Figure:
    """Returns class accuracies, clean and robust, beside the two confusion matrices.

    Points are accuracies with simultaneous exact intervals, dotted lines their averages; classes
    run from the least robust, at the top, to the most. Entries of a matrix are percentages of its
    rows.

    Args:
        dataset: of `nets.evaluation.file.make`.
    """
    order = np.argsort(dataset["accuracy"].sel(condition="robust").values, kind="stable")
    ordered = dataset.isel({"class": order, "said": order})
    # A row for each class, and room for the title and labels.
    height = 1.6 + 0.28 * len(order)
    figure, axes = plt.subplots(1, 3, figsize=(12.5, max(height, 3.6)), width_ratios=(1.1, 1, 1))
    _accuracies(axes[0], ordered)
    for panel, condition in zip(axes[1:], CONDITIONS, strict=True):
        counts = ordered["confusion"].sel(condition=condition).values
        matrix(
            panel,
            shares_of(counts),
            ordered["class"].values,
            f"% of the class, {CONDITIONS[condition]}",
        )
    attacks = ", ".join(str(name) for name in dataset["attack"].values[1:])
    figure.suptitle(evaluation_title(dataset.attrs, attacks))
    return figure


def _accuracies(axes: Axes, dataset: xr.Dataset) -> None:
    rows = np.arange(dataset.sizes["class"])
    for look, (condition, title), shift in zip(
        SERIES, CONDITIONS.items(), (-0.12, 0.12), strict=False
    ):
        part = dataset.sel(condition=condition)
        accuracy, low, high = (part[name].values for name in ("accuracy", "low", "high"))
        axes.errorbar(
            accuracy,
            rows + shift,
            xerr=lengths(accuracy - low, high - accuracy),
            fmt=look.marker,
            color=look.colour,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=title,
        )
        # Of all samples, not the mean of the classes, which may have different numbers of them.
        if samples := int(dataset["trials"].sum()):
            average = 1 - float(part["errors"].sum() / samples)
            axes.axvline(average, color=look.colour, linestyle=":", linewidth=1.0)
    axes.set_yticks(rows, plain(dataset["class"].values))
    # The first row at the top, as in the matrices beside it.
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("accuracy of the class, [0, 1]")
    axes.set_title(f"intervals together {1 - dataset.level:g}; dotted: average")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)


def shares_of(counts: np.ndarray) -> np.ndarray:
    """Returns each row's shares, (K, K), of counts, (K, K); nan, which is left blank, of none."""
    totals = counts.sum(-1, keepdims=True)
    blank = np.full(counts.shape, np.nan)
    shares: np.ndarray = np.divide(counts, totals, out=blank, where=totals > 0)
    return shares


def matrix(axes: Axes, shares: np.ndarray, names: np.ndarray, title: str) -> None:
    """Draws what is taken for what as percentages of the true classes, which are the rows.

    Args:
        axes: where to draw.
        shares: of each row, in [0, 1], (K, K).
        names: of the classes.
        title: of the panel.
    """
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        # Less would be written as 0.
        if share > 0.005:
            colour = "white" if share > DARK else "black"
            text = f"{100 * share:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    label_classes(axes, names)
    axes.set_title(title)


def label_classes(axes: Axes, names: np.ndarray) -> None:
    """Labels rows and columns of a matrix (K, K) by the names of its classes, (K,)."""
    named = plain(names)
    axes.set_xticks(range(len(named)), named, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(named)), named)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    axes.grid(False)
