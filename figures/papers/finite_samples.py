"""Figures of the claims on finite samples."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.legend import shared_legend
from figures.kit.panel import draw_estimates, estimates_of
from figures.kit.picture import picture
from figures.kit.style import SERIES, Series

COUNTED = ("hoeffding-bound", "empirical-bernstein-bound", "exact-binomial-bound")
FITTED = ("plug-in-excess-risk", "trained-intercept-excess-risk")
TITLES = {
    "hoeffding-bound": "Hoeffding",
    "empirical-bernstein-bound": "empirical Bernstein",
    "exact-binomial-bound": "exact binomial",
    "plug-in-excess-risk": "rule of the sample means",
    "trained-intercept-excess-risk": "trained intercept",
}


@picture(
    "finite-samples",
    COUNTED + FITTED,
    """
    Upper bounds (triangles) and what was simulated. Top: a bound on each class risk from the
    errors of one sample of n points; each pair is a sample. Bottom: the risk of rules fitted to
    a training sample, with a bound that holds with probability 99 % (left) or 90 %. All fall to
    the risk that they bound.
    """,
)
def finite_samples(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns bounds and simulated risks against the sample size, a panel for each claim."""
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 6))
    for panel, name in zip(axes.flat, COUNTED + FITTED, strict=False):
        dataset = datasets[name]
        for k, component in enumerate(dataset["component"].values):
            _bounds(panel, dataset.sel(component=component), SERIES[k], component)
        panel.set_title(TITLES[name])
        panel.set_xscale("log")
        panel.set_xlabel("points of each class, [2, ∞)")
    axes[0, 0].set_ylabel("robust class risk, [0, 1]")
    axes[1, 0].set_ylabel("robust risk, [0, 1]")
    for panel in axes[0]:
        panel.set_ylim(0.02, 0.32)
    axes[1, 2].set_axis_off()
    shared_legend(figure, columns=3)
    return figure


def _bounds(axes: Axes, part: xr.Dataset, look: Series, name: str) -> None:
    """Draws one quantity: bound and simulation of every sample, side by side."""
    samples = part["sample"].values
    # By factors, which are equal distances on the logarithmic axis.
    apart = 1.12 ** (np.arange(len(samples)) - (len(samples) - 1) / 2)
    for sample, step in zip(samples, apart, strict=True):
        drawn = part.sel(sample=sample)
        x = drawn["count"].values * step
        # Not in front, as elsewhere: a point must not hide the triangle of its bound.
        draw_estimates(axes, x, estimates_of(drawn), look, f"{name}, simulation", zorder=2)
        axes.plot(
            x,
            drawn["theory"].values,
            "v",
            color=look.colour,
            markerfacecolor="white",
            markersize=5,
            label=f"{name}, upper bound (theory)",
        )
    axes.plot(
        part["count"].values, part["theory"].values.max(-1), ":", color=look.colour, linewidth=1
    )
