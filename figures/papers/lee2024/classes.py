"""Figures of Lee et al. (DAFA, ICLR 2024) on three and four classes."""

import itertools
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.panel import (
    DENSE,
    Estimates,
    draw_estimates,
    draw_failing,
    draw_panel,
    estimates_of,
)
from figures.kit.picture import picture
from figures.kit.style import SERIES
from theory.claims import evaluate
from theory.claims.lee2024.classes import NEAR
from theory.claims.registry import find

ERRORS, GAP, NEIGHBOUR = (
    "line-class-errors",
    "radius-raises-class-gap",
    "near-neighbour-sets-class-gap",
)
REACH, DILUTE = "nearest-class-is-most-reachable", "attacks-dilute-the-similar-class"
AVERAGE, NEAREST = "average-distance-orders-errors", "nearest-distance-orders-errors"
RADIUS_LABEL = "$\\ell_2$ radius, sds, [0, ∞)"


def _rates(dataset: xr.Dataset) -> Estimates:
    """Returns rates and simultaneous exact bounds of what is counted, (*axes, label)."""
    from sims.stats.interval import clopper_pearson

    errors, trials = dataset["errors"].values, dataset["trials"].values
    low, high = clopper_pearson(errors, trials, float(dataset.level) / errors.size)
    return Estimates(errors / trials, low, high)


def near_share(dataset: xr.Dataset) -> Estimates:
    """Returns the near class's share of what attacks on the middle one reach, (*axes), bounded.

    Args:
        dataset: a judged sweep whose labels name the class that the middle one is taken for.
    """
    labels = dataset["label"].values.tolist()
    near, far = labels.index("middle to near"), labels.index("middle to far")

    def share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        reached: np.ndarray = a[..., near] / (a[..., near] + b[..., far])
        return reached

    rate, low, high = _rates(dataset)
    # The share rises with the near rate and falls with the far one: the box has its ends there.
    return Estimates(share(rate, rate), share(low, high), share(high, low))


def class_variance(dataset: xr.Dataset) -> Estimates:
    """Returns the variance of the class errors, (*axes), and its bounds over their intervals.

    The variance is convex: over the box of intervals it is largest at a corner, and smallest where
    every error is as near as its interval lets it be to one common value.

    Args:
        dataset: a judged sweep with the errors of every class.
    """
    rate, low, high = _rates(dataset)
    corners = [
        np.where(np.array(choice), high, low).var(-1)
        for choice in itertools.product((False, True), repeat=rate.shape[-1])
    ]
    # Alternating projections: the mean of the nearest errors is the next common value. Each step
    # lowers the variance, and 200 are far more than three or four classes need.
    common = rate.mean(-1, keepdims=True)
    for _ in range(200):
        common = np.clip(common, low, high).mean(-1, keepdims=True)
    return Estimates(rate.var(-1), np.clip(common, low, high).var(-1), np.max(corners, 0))


@picture(
    "lee2024-targets",
    (REACH, DILUTE, AVERAGE, NEAREST),
    """
    Who absorbs the errors, and what orders them. Left: how often an attack on the middle of
    three classes on a line reaches the far one, never more often than the near one (dotted).
    Middle: the near class's share of what is reached stays above one half and falls with the
    radius: attacks dilute the preference for the similar class, they do not make it. Right:
    robust error of a class with a close twin minus that of a hub with three neighbours; the
    twin has the larger average distance, which would put it below zero, and the nearer
    neighbour, which would put it above: hollow points refute the average distance, and near
    closeness 1 both curves fall below zero, where the nearest distance fails.
    """,
)
def targets(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns reach and share against the radius, and the order of a twin and a hub."""
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 4.2))
    far = float(datasets[REACH]["far_distance"].values[-1])
    draw_panel(axes[0], datasets[REACH], {"far_distance": far})
    claim, radius = find(DILUTE), datasets[DILUTE]["radius"].values
    dense = np.linspace(0, radius.max(), DENSE)
    share = near_share(datasets[DILUTE])
    # How often the near class is reached depends on its own distance alone, which is the same.
    points = {"radius": dense, "far_distance": np.full(DENSE, far)}
    near = evaluate.closed_form(find(REACH), points)[:, 0]
    for k, distance in enumerate(datasets[DILUTE]["far_distance"].values):
        look, name = SERIES[k], f"far class at {distance:g}"
        points = {"radius": dense, "far_distance": np.full(DENSE, distance)}
        line = near / (near + evaluate.simulated(claim, points)[:, 0])
        axes[1].plot(dense, line, look.line, color=look.colour, label=f"{name}, theory")
        draw_estimates(axes[1], radius, share.at((..., k)), look, f"{name}, simulation")
    axes[0].set_title(f"far class at {far:g}, near class at {NEAR:g}")
    axes[1].axhline(0.5, color="0.5", linewidth=0.8, linestyle=":")
    _draw_order(axes[2], datasets[AVERAGE])
    for panel, label in zip(
        axes,
        (RADIUS_LABEL, RADIUS_LABEL, "distance of the twins over that to the hub, (0, 1)"),
        strict=True,
    ):
        panel.set_xlabel(label)
    axes[0].set_ylabel("chance of reaching the far class, [0, 1]")
    axes[1].set_ylabel("share of the near class, [0, 1]")
    axes[2].set_ylabel("robust error, twin − hub, [−1, 1]")
    for panel in axes:
        panel.legend(fontsize="x-small")
    return figure


def _draw_order(axes: Axes, dataset: xr.Dataset) -> None:
    """Draws the difference of a twin's and the hub's error against closeness, for both radii."""
    claim, closeness = find(dataset.claim), dataset["closeness"].values
    # To where the twins all but coincide: at closeness 1 they are one class.
    dense = np.linspace(closeness.min(), 0.995, DENSE)
    for look, radius in zip(SERIES, dataset["radius"].values, strict=False):
        points = {"closeness": dense, "radius": np.full(DENSE, radius)}
        line = evaluate.simulated(claim, points)[:, 0]
        axes.plot(dense, line, look.line, color=look.colour, label=f"radius {radius:g}, theory")
        part = dataset.sel(radius=radius, component="twin − hub")
        failing = part["fails"].values.astype(bool)
        # The hollow points alone are named, as most are: the legend covers part of the curves.
        labels = (None, f"radius {radius:g}, simulation")
        draw_failing(axes, closeness, estimates_of(part), failing, look, labels)
    axes.axhline(0, color="black", linewidth=0.8)


@picture(
    "lee2024-line",
    (ERRORS, GAP, NEIGHBOUR),
    """
    Three classes on a line, the near neighbour 3 sds from the middle class and the far one 4.
    Left: robust class errors. Middle: their gap and what it was at a radius smaller by 0.4
    (dotted); it grows until the middle class is always wrong (shaded, from (d₁ + d₂) / 4 on)
    and then falls (hollow points: 'a larger radius is less fair' is false). Right: the variance
    of the class errors first falls as the far class comes closer, though no class gains and the
    gap stays.
    """,
)
def line(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns class errors and their gap against the radius, and the variance by distance."""
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 4.2))
    far = float(datasets[ERRORS]["far_distance"].values[0])
    draw_panel(axes[0], datasets[ERRORS], {"far_distance": far})
    draw_panel(axes[1], datasets[GAP], {"far_distance": far})
    # The boundaries of the middle class are (d1 + d2) / 2 apart: from half of that on, every point
    # between them can be moved past one.
    start = (NEAR + far) / 4
    axes[0].axvline(start, color="0.5", linewidth=0.8, linestyle=":")
    axes[1].axvspan(start, datasets[GAP]["radius"].values.max(), color="0.9", zorder=0)
    dataset = datasets[NEIGHBOUR]
    distance, values = dataset["far_distance"].values, class_variance(dataset)
    dense = np.linspace(distance.min(), distance.max(), DENSE)
    for k, radius in enumerate(dataset["radius"].values):
        look, name = SERIES[k], f"radius {radius:g}"
        points = {"radius": np.full(DENSE, radius), "far_distance": dense}
        variance = evaluate.closed_form(find(ERRORS), points).var(-1)
        axes[2].plot(dense, variance, look.line, color=look.colour, label=f"{name}, theory")
        draw_estimates(axes[2], distance, values.at((..., k)), look, f"{name}, simulation")
    for panel, label in zip(
        axes, (RADIUS_LABEL, RADIUS_LABEL, "distance of the far class, sds, [3, ∞)"), strict=True
    ):
        panel.set_xlabel(label)
    axes[0].set_ylabel("robust class error, [0, 1]")
    axes[1].set_ylabel("largest − smallest error, [0, 1]")
    axes[2].set_ylabel("variance of the class errors, [0, 2/9]")
    axes[2].set_ylim(bottom=0)
    for panel in axes:
        panel.legend(fontsize="x-small")
    return figure
