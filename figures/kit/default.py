"""The figure of a claim without one of its own: a panel for each value of its other axes."""

import itertools
from collections.abc import Mapping

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from figures.kit.labels import axis_label
from figures.kit.legend import shared_legend
from figures.kit.panel import draw_panel
from figures.kit.picture import Picture
from theory.claims.registry import find

MOST_PANELS = 4
LEGEND_ROW = 0.17  # inches


def picture_of(name: str) -> Picture:
    """Returns the default figure of the claim of that name."""
    return Picture(name, (name,), find(name).statement, lambda datasets: draw(datasets[name]))


def draw(dataset: xr.Dataset) -> Figure:
    """Returns the figure of a judged sweep: closed form, simulation, and their difference below."""
    claim = find(dataset.claim)
    others = [axis.name for axis in claim.axes[1:]]
    fixed = [
        dict(zip(others, values, strict=True))
        for values in itertools.product(*(dataset[name].values.tolist() for name in others))
    ][:MOST_PANELS]
    equal = claim.relation == "=="
    figure, axes = plt.subplots(
        2 if equal else 1,
        len(fixed),
        figsize=(3.4 * max(len(fixed), 1.4), 3.9 if equal else 3.0),
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=(3, 1) if equal else None,
    )
    for column, values in enumerate(fixed):
        top, bottom = axes[0, column], axes[-1, column]
        draw_panel(top, dataset, values, bottom if equal else None)
        top.set_title(_title(values))
    axes[0, 0].set_ylabel(f"{claim.estimand.name}, {claim.estimand.range}")
    if equal:
        axes[1, 0].set_ylabel("simulation\n− theory")
    figure.supxlabel(axis_label(claim), fontsize="medium")
    rows = shared_legend(figure, axes[:1, 0])
    # The figure has room for two rows; more of them must not squeeze the panels.
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * max(rows - 2, 0))
    return figure


def _title(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} = {value:g}" for name, value in values.items())
