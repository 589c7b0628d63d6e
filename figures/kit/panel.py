"""One panel: a claim against one of its axes, everything else held fixed."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from figures.kit.style import BOUND, SERIES, Series
from theory.claims import evaluate
from theory.claims.claim import Claim
from theory.claims.registry import find

DENSE = 121
RELATIONS = {"==": "", "<=": "upper bound", ">=": "lower bound"}


def is_logarithmic(values: np.ndarray) -> bool:
    """Returns whether an axis with these values reads better on a logarithmic scale."""
    return bool(values.min() > 0 and values.max() / values.min() >= 20)


def _dense(values: np.ndarray) -> np.ndarray:
    space = np.geomspace if is_logarithmic(values) else np.linspace
    return space(values.min(), values.max(), DENSE)


def dense_points(
    dataset: xr.Dataset, along: str, fixed: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Returns points close enough for a curve along one axis of a sweep, the others held fixed."""
    values = _dense(dataset[along].values)
    return {along: values} | {name: np.full(len(values), v) for name, v in fixed.items()}


def _curves(claim: Claim, points: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    theory = evaluate.closed_form(claim, points)
    if claim.relation == "==":
        return {"line": theory}
    return {"line": evaluate.simulated(claim, points), "bound": theory}


def draw_panel(
    axes: Axes,
    dataset: xr.Dataset,
    fixed: Mapping[str, float],
    residual: Axes | None = None,
    along: str | None = None,
) -> None:
    """Draws closed forms as lines and the simulation as points with simultaneous intervals.

    Args:
        axes: where to draw.
        dataset: a judged sweep of a claim.
        fixed: the values of all axes but the one drawn along.
        residual: if given, simulation minus closed form is drawn there.
        along: the axis drawn along the abscissa, the first if None.
    """
    claim = find(dataset.claim)
    selected = dataset.sel(dict(fixed))
    along = along or claim.axes[0].name
    x = selected[along].values
    points = dense_points(dataset, along, fixed)
    dense, curves = points[along], _curves(claim, points)
    for k, name in enumerate(dataset["component"].values):
        look, part = SERIES[k], selected.sel(component=name)
        axes.plot(
            dense, curves["line"][:, k], look.line, color=look.colour, label=f"{name}, theory"
        )
        _points(axes, x, part, 0 * x, look, f"{name}, simulation")
        if "bound" in curves:
            label = f"{name}, {RELATIONS[claim.relation]}"
            axes.plot(dense, curves["bound"][:, k], BOUND, color=look.colour, label=label)
        if residual is not None:
            # Side by side, because the intervals of two series would hide each other.
            shift = (k - (len(curves["line"][0]) - 1) / 2) * 0.012 * (x.max() - x.min())
            _points(residual, x + shift, part, part["theory"].values, look, None)
    for axis in filter(None, (axes, residual)):
        if is_logarithmic(x):
            axis.set_xscale("log")
    if residual is not None:
        residual.axhline(0, color="black", linewidth=0.8)
        axes.tick_params(labelbottom=False)


def _points(
    axes: Axes, x: np.ndarray, part: xr.Dataset, origin: np.ndarray, look: Series, label: str | None
) -> None:
    """Draws estimates with their intervals; hollow where the published form is known to fail."""
    estimate, low, high = (part[name].values - origin for name in ("estimate", "low", "high"))
    failing = part["fails"].values.astype(bool)
    for hollow, chosen in ((False, ~failing), (True, failing)):
        if not chosen.any():
            continue
        axes.errorbar(
            x[chosen],
            estimate[chosen],
            yerr=np.stack([estimate - low, high - estimate])[:, chosen],
            fmt=look.marker,
            color=look.colour,
            markerfacecolor="white" if hollow else look.colour,
            markeredgecolor=look.colour if hollow else "white",
            markeredgewidth=1.0 if hollow else 0.4,
            label=f"{label} (claim fails)" if hollow and label else label,
            zorder=3,
        )


def label_of(claim: Claim, index: int = 0) -> str:
    """Returns the label of an axis of a claim: its meaning and its range."""
    axis = claim.axes[index]
    meaning = axis.meaning[0].upper() + axis.meaning[1:]
    domain = str(axis.domain).replace("-inf", "−∞").replace("inf", "∞")
    return f"{meaning}, {domain}"
