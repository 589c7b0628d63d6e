"""The trained grid of Hu, Wu, Zhang and Zhao (ICML 2023) beside the closed-form robust optimum."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.labels import IMBALANCE_RATIO, LAWS, NORMS
from figures.kit.style import SERIES, Series
from sims.training.data import mixture
from sims.training.run import best_rates
from theory.problem import GaussianMixture, L1Ball, L2Ball, LinearClassifier, LinfBall, Threat
from theory.rules.direction import optimal_direction
from theory.rules.intercept import optimal_shift
from theory.rules.risk import class_risks, projection_scale

BALLS: dict[str, Callable[[Any], Threat]] = {"l1": L1Ball, "l2": L2Ball, "linf": LinfBall}
DENSE = 41
ROWS = {
    "disparity": "accuracy disparity, [−1, 1]\nmajority − minority",
    "accuracy": "natural accuracy, [0, 1]\ntest set of ratio R",
}


def training(dataset: xr.Dataset) -> Figure:
    """Returns accuracy disparity and natural accuracy against R: a column for each norm.

    Points are models of least validation loss over the rates, mean and standard error over the
    seeds; lines are the rules of least robust risk of the law that the data were drawn from. Of
    several mixup coefficients or minority weights the first is drawn.

    Args:
        dataset: the result of `sims.training.run.train_grid`.
    """
    best = best_rates(dataset).isel(mixup=0, minority_weight=0)
    columns, drawn = list(_columns(best)), best["imbalance_ratio"].values
    # Curves between the ratios that were trained, on which the points must fall.
    ratios = np.geomspace(drawn.min(), drawn.max(), DENSE)
    size = (3.6 * len(columns), 7.0)
    figure, axes = plt.subplots(
        2, len(columns), figsize=size, sharex=True, sharey="row", squeeze=False
    )
    for place, (norm, threats) in enumerate(columns):
        for index, (threat, look) in enumerate(zip(threats, itertools.cycle(SERIES))):
            part = best.sel(threat=threat)
            label = f"radius {float(part['radius']):g}" if norm else "natural"
            # Side by side on a logarithmic axis: by a factor.
            shift = 1 + 0.03 * (index - (len(threats) - 1) / 2)
            curves = _optimum(dataset.law, ratios, str(part["norm"].values), float(part["radius"]))
            reached = _trained(part)
            for row, panel in zip(ROWS, axes[:, place], strict=True):
                line = f"{label}, theory"
                panel.plot(ratios, curves[row], look.line, color=look.colour, label=line)
                _points(panel, reached[row], shift, look, f"{label}, simulation")
        _finish(axes[:, place], norm, drawn)
    for row, panel in zip(ROWS, axes[:, 0], strict=True):
        panel.set_ylabel(ROWS[row])
    figure.suptitle(_title(dataset))
    return figure


def _columns(best: xr.Dataset) -> Iterator[tuple[str, list[str]]]:
    """Yields a norm, empty for natural training, and the names of its threats."""
    natural = best["radius"].values == 0
    names, norms = best["threat"].values, best["norm"].values
    if natural.any():
        yield "", list(names[natural][:1])
    for norm in NORMS:
        if (chosen := (norms == norm) & ~natural).any():
            yield norm, list(names[chosen])


def _trained(part: xr.Dataset) -> dict[str, xr.DataArray]:
    """Returns for each row of panels what the models reached, (imbalance_ratio, seed)."""
    rates = part["errors"] / part["trials"]
    disparity = rates.sel(label="positive") - rates.sel(label="negative")
    wrong, all_points = part["imbalanced_errors"], part["imbalanced_trials"]
    return {
        "disparity": disparity,
        "accuracy": 1 - wrong.sum("label") / all_points.sum("label"),
    }


def _points(axes: Axes, values: xr.DataArray, shift: float, look: Series, label: str) -> None:
    colour, marker, _ = look
    error = values.std("seed") / np.sqrt(values.sizes["seed"])
    axes.errorbar(
        values["imbalance_ratio"].values * shift,
        values.mean("seed").values,
        yerr=error.values,
        fmt=marker,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.4,
        label=label,
        zorder=3,
    )


def _optimum(law: str, ratios: np.ndarray, norm: str, radius: float) -> dict[str, np.ndarray]:
    """Returns natural disparity and accuracy of the rule of least risk under the threat."""
    both = mixture(law, 1)
    threat = BALLS[norm](jnp.asarray(radius, jnp.float32)) if radius else None
    alpha = None if isinstance(both, GaussianMixture) else both.alpha
    # The direction is that of all ratios, which only shift the intercept.
    found = optimal_direction(both, threat)
    shift = optimal_shift(found.margin, both.scales, jnp.asarray(ratios, jnp.float32), alpha)
    # Past the critical ratio the best rule is constant: no weight, and the label as its intercept.
    constant = shift.trivial[:, None]
    bias = jnp.where(shift.trivial, shift.label, shift.beta * projection_scale(both, found.weight))
    rules = LinearClassifier(jnp.where(constant, 0, found.weight[None, :]), bias)
    negative, positive = (np.asarray(risk, float) for risk in class_risks(both, rules))
    return {
        "disparity": positive - negative,
        "accuracy": 1 - (ratios * negative + positive) / (ratios + 1),
    }


def _finish(panels: np.ndarray, norm: str, ratios: np.ndarray) -> None:
    panels[0].set_title(f"trained for {NORMS[norm]}" if norm else "natural training")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    panels[1].legend(fontsize=7, ncols=2, **below)
    panels[1].set_xlabel(IMBALANCE_RATIO)
    panels[1].set_xscale("log")
    panels[1].set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    panels[1].minorticks_off()


def _title(dataset: xr.Dataset) -> str:
    attack, gradient = dataset.attrs["attack"], dataset.attrs["gradient"]
    return (
        f"{LAWS[dataset.law]}: {attack} attack, {gradient} gradient, "
        f"stopped on {dataset.attrs['validation']} validation loss"
    )
