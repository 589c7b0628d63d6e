"""One panel: a claim against one of its axes, everything else held fixed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from figures.kit.style import BOUND, Series, series
from theory.claims import evaluate
from theory.claims.claim import Claim
from theory.claims.registry import find

# Points of a curve: more cannot be told apart at the width of a panel.
DENSE = 121
# Between the residuals of two series at one point, as a share of the width of the points.
APART = 0.012
RELATIONS = {"==": "", "<=": "upper bound", ">=": "lower bound"}


class Estimates(NamedTuple):
    """What was simulated, with its simultaneous intervals: estimates and both ends, each (n,)."""

    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, index: Any) -> "Estimates":
        """Returns the estimates at an index of their arrays, such as a mask (n,)."""
        return Estimates(*(values[index] for values in self))

    def minus(self, origin: np.ndarray) -> "Estimates":
        """Returns the estimates less an exact value, (n,)."""
        return Estimates(*(values - origin for values in self))

    @property
    def bars(self) -> np.ndarray:
        """The lengths of the bars below and above, (2, n), as matplotlib takes them."""
        return lengths(self.middle - self.low, self.high - self.middle)


def lengths(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Returns the lengths of bars below and above, (n,) each, as matplotlib takes them: (2, n)."""
    # Rounding may leave an estimate beyond an end, and matplotlib refuses a negative length.
    return np.maximum([below, above], 0)


def estimates_of(part: xr.Dataset) -> Estimates:
    """Returns the estimates of a part of a judged sweep, of the shape of the part's axes, (n,)."""
    return Estimates(*(part[name].values for name in ("estimate", "low", "high")))


def is_logarithmic(values: np.ndarray) -> bool:
    """Returns whether an axis with these values, (n,), reads better on a logarithmic scale."""
    # From a factor of 20 on a linear axis crowds half of a geometric grid into its first fifth.
    return bool(values.min() > 0 and values.max() / values.min() >= 20)


def beside(axes: Axes, x: np.ndarray, steps: float) -> np.ndarray:
    """Returns where points lie that are moved aside by steps of one size on the paper, (n,).

    Args:
        axes: whose abscissa has its scale already.
        x: where the points are, (n,).
        steps: how many, to the right.
    """
    transform = axes.xaxis.get_transform()
    at = transform.transform(x)
    moved: np.ndarray = transform.inverted().transform(at + steps * APART * (at.max() - at.min()))
    return moved


def _scale_logarithmically(axes: Axes) -> None:
    """Makes the abscissa logarithmic, with plain numbers that leave each other room."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    # Over less than a decade matplotlib would label minor ticks too, as 2 x 10^-1, on one another.
    axes.xaxis.set_minor_formatter(NullFormatter())


def _dense(values: np.ndarray) -> np.ndarray:
    space = np.geomspace if is_logarithmic(values) else np.linspace
    dense: np.ndarray = space(values.min(), values.max(), DENSE)
    return dense


def dense_points(
    dataset: xr.Dataset, along: str, fixed: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Returns points close enough for a curve along one axis of a sweep, the others held fixed.

    Args:
        dataset: the sweep.
        along: the name of the axis.
        fixed: the values of all others.

    Returns:
        The values of every axis, (n,) each.
    """
    values = _dense(dataset[along].values)
    return {along: values} | {name: np.full(len(values), v) for name, v in fixed.items()}


def draw_estimates(
    axes: Axes,
    x: np.ndarray,
    estimates: Estimates,
    look: Series,
    label: str | None = None,
    **style: Any,
) -> None:
    """Draws estimates as points and their intervals as bars, in front of the curves.

    Args:
        axes: where to draw.
        x: where on the abscissa, (n,).
        estimates: what was simulated, each (n,).
        look: of the quantity.
        label: for the legend.
        style: of `matplotlib.axes.Axes.errorbar`.
    """
    named: dict[str, Any] = {"fmt": look.marker, "color": look.colour, "zorder": 3}
    axes.errorbar(x, estimates.middle, yerr=estimates.bars, label=label, **(named | style))


def draw_failing(
    axes: Axes,
    x: np.ndarray,
    estimates: Estimates,
    failing: np.ndarray,
    look: Series,
    labels: tuple[str | None, str | None] = (None, None),
) -> None:
    """Draws estimates as points, hollow where the published form is known to fail.

    Args:
        axes: where to draw.
        x: where on the abscissa, (n,).
        estimates: what was simulated, each (n,).
        failing: where the claim is false, booleans (n,).
        look: of the quantity.
        labels: of solid and of hollow points.
    """
    for hollow, chosen, label in zip((False, True), (~failing, failing), labels, strict=True):
        # Nothing is drawn of an empty set, or its label would stand in the legend all the same.
        if chosen.any():
            draw_estimates(
                axes,
                x[chosen],
                estimates.at(chosen),
                look,
                label,
                markerfacecolor="white" if hollow else look.colour,
                markeredgecolor=look.colour if hollow else "white",
                markeredgewidth=1.0 if hollow else 0.4,
            )


def _curves(claim: Claim, points: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    theory = evaluate.closed_form(claim, points)
    if claim.relation == "==":
        return {"line": theory}
    # The points must lie on a line of their own: a bound says nothing of where below it they are.
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
    # Before anything is drawn: what is put side by side lies apart on the axis as it is scaled.
    for axis in filter(None, (axes, residual)):
        if is_logarithmic(x):
            _scale_logarithmically(axis)
    for k, name in enumerate(dataset["component"].values):
        look, part = series(k), selected.sel(component=name)
        axes.plot(
            dense, curves["line"][:, k], look.line, color=look.colour, label=f"{name}, theory"
        )
        simulated, failing = estimates_of(part), part["fails"].values.astype(bool)
        label = f"{name}, simulation"
        draw_failing(axes, x, simulated, failing, look, (label, f"{label} (claim fails)"))
        if "bound" in curves:
            label = f"{name}, {RELATIONS[claim.relation]}"
            axes.plot(dense, curves["bound"][:, k], BOUND, color=look.colour, label=label)
        if residual is not None:
            # Side by side, because the intervals of two series would hide each other.
            aside = beside(residual, x, k - (len(curves["line"][0]) - 1) / 2)
            beyond = simulated.minus(part["theory"].values)
            draw_failing(residual, aside, beyond, failing, look)
    if residual is not None:
        residual.axhline(0, color="black", linewidth=0.8)
        axes.tick_params(labelbottom=False)
