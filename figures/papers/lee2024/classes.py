"""Figures of Lee et al. (DAFA, ICLR 2024) on three and four classes."""

import itertools
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.panel import draw_panel
from figures.kit.registry import picture
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


def _bounds(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns rates and simultaneous exact bounds of what is counted, (*axes, label)."""
    from sims.stats.interval import clopper_pearson

    errors, trials = dataset["errors"].values, dataset["trials"].values
    low, high = clopper_pearson(errors, trials, float(dataset.level) / errors.size)
    return errors / trials, low, high


def near_share(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the near class's share of what attacks on the middle one reach, and its bounds."""
    labels = dataset["label"].values.tolist()
    near, far = labels.index("middle to near"), labels.index("middle to far")

    def share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a[..., near] / (a[..., near] + b[..., far])

    rate, low, high = _bounds(dataset)
    return share(rate, rate), share(low, high), share(high, low)


def class_variance(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the variance of the class errors, and its bounds over the box of their intervals.

    The variance is convex: it is largest at a corner, and smallest where every error is as near
    as its interval lets it be to one common value.
    """
    rate, low, high = _bounds(dataset)
    corners = [
        np.where(np.array(choice), high, low).var(-1)
        for choice in itertools.product((False, True), repeat=rate.shape[-1])
    ]
    common = rate.mean(-1, keepdims=True)
    for _ in range(200):
        common = np.clip(common, low, high).mean(-1, keepdims=True)
    return rate.var(-1), np.clip(common, low, high).var(-1), np.max(corners, 0)


def _draw(axes: Axes, x: np.ndarray, values: tuple, look: int, label: str) -> None:
    middle, low, high = values
    axes.errorbar(
        x,
        middle,
        yerr=np.maximum([middle - low, high - middle], 0),
        fmt=SERIES[look].marker,
        color=SERIES[look].colour,
        label=label,
        zorder=3,
    )


@picture(
    "lee2024-targets",
    (REACH, DILUTE, AVERAGE, NEAREST),
    "Who absorbs the errors, and what orders them. Left: how often an attack on the middle of "
    "three classes on a line reaches the far one, never more often than "
    "the near one (dotted). Middle: "
    "the near class's share of what is reached stays above one half and falls with the radius: "
    "attacks dilute the preference for the similar class, they do not make it. Right: robust error "
    "of a class with a close twin minus that of a hub with three neighbours; the twin has the "
    "larger average distance, which would put it below zero, and the nearer neighbour, which would "
    "put it above: hollow points refute the average distance, and near closeness 1 both curves "
    "fall below zero, where the nearest distance fails.",
)
def targets(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns reach and share against the radius, and the order of a twin and a hub."""
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 4.2))
    far = float(datasets[REACH]["far_distance"].values[-1])
    draw_panel(axes[0], datasets[REACH], {"far_distance": far})
    claim, radius = find(DILUTE), datasets[DILUTE]["radius"].values
    dense = np.linspace(0, radius.max(), 121)
    share = near_share(datasets[DILUTE])
    near = evaluate.closed_form(find(REACH), {"radius": dense, "far_distance": np.full(121, far)})[
        :, 0
    ]
    for look, distance in enumerate(datasets[DILUTE]["far_distance"].values):
        points = {"radius": dense, "far_distance": np.full(121, distance)}
        line = near / (near + evaluate.simulated(claim, points)[:, 0])
        name = f"far class at {distance:g}"
        axes[1].plot(
            dense,
            line,
            SERIES[look].line,
            color=SERIES[look].colour,
            label=f"{name}, theory",
        )
        _draw(axes[1], radius, tuple(s[:, look] for s in share), look, f"{name}, simulation")
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
    dense = np.linspace(closeness.min(), 0.995, 121)
    for look, radius in enumerate(dataset["radius"].values):
        line = evaluate.simulated(claim, {"closeness": dense, "radius": np.full(121, radius)})[:, 0]
        style = SERIES[look]
        axes.plot(dense, line, style.line, color=style.colour, label=f"radius {radius:g}, theory")
        part = dataset.sel(radius=radius, component="twin − hub")
        middle, low, high = (part[name].values for name in ("estimate", "low", "high"))
        failing = part["fails"].values.astype(bool)
        for hollow, chosen in ((True, failing), (False, ~failing)):
            if chosen.any():
                axes.errorbar(
                    closeness[chosen],
                    middle[chosen],
                    yerr=np.stack([middle - low, high - middle])[:, chosen],
                    fmt=style.marker,
                    color=style.colour,
                    markerfacecolor="white" if hollow else style.colour,
                    markeredgecolor=style.colour,
                    label=f"radius {radius:g}, simulation" if hollow else None,
                    zorder=3,
                )
    axes.axhline(0, color="black", linewidth=0.8)


@picture(
    "lee2024-line",
    (ERRORS, GAP, NEIGHBOUR),
    "Three classes on a line, the near neighbour 3 sds from the middle class and the far one 4. "
    "Left: robust class errors. Middle: their gap and what it was at a radius smaller by 0.4 "
    "(dotted); it grows until the middle class is always wrong (shaded, from (d₁ + d₂) / 4 on) and "
    "then falls (hollow points: 'a larger radius is less fair' is false). Right: the variance of "
    "the class errors first falls as the far class comes closer, though no class gains and the "
    "gap stays.",
)
def line(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns class errors and their gap against the radius, and the variance by distance."""
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 4.2))
    far = float(datasets[ERRORS]["far_distance"].values[0])
    draw_panel(axes[0], datasets[ERRORS], {"far_distance": far})
    draw_panel(axes[1], datasets[GAP], {"far_distance": far})
    start = (NEAR + far) / 4
    axes[0].axvline(start, color="0.5", linewidth=0.8, linestyle=":")
    axes[1].axvspan(start, datasets[GAP]["radius"].values.max(), color="0.9", zorder=0)
    dataset = datasets[NEIGHBOUR]
    distance, values = dataset["far_distance"].values, class_variance(dataset)
    dense = np.linspace(distance.min(), distance.max(), 121)
    for look, radius in enumerate(dataset["radius"].values):
        points = {"radius": np.full(121, radius), "far_distance": dense}
        variance = evaluate.closed_form(find(ERRORS), points).var(-1)
        axes[2].plot(
            dense,
            variance,
            SERIES[look].line,
            color=SERIES[look].colour,
            label=f"radius {radius:g}, theory",
        )
        _draw(
            axes[2],
            distance,
            tuple(v[:, look] for v in values),
            look,
            f"radius {radius:g}, simulation",
        )
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
