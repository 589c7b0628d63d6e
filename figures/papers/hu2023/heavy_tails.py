"""Figures of Hu, Wu, Zhang and Zhao (ICML 2023): imbalance under light and heavy tails."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.labels import IMBALANCE_RATIO, law_name, radius_label
from figures.kit.legend import shared_legend
from figures.kit.panel import dense_points, draw_panel, estimates_of
from figures.kit.picture import picture
from figures.kit.style import SERIES
from theory.claims import evaluate
from theory.claims.evaluate import row_by_row
from theory.claims.hu2023.heavy_tails import SEPARATION
from theory.claims.registry import find
from theory.rules.direction import optimal_direction
from theory.rules.intercept import critical_ratio

GAUSSIAN, HEAVY = "robustness-costs-every-class-linf", "stable-optimal-risks-linf"
FALLING = "stable-imbalance-raises-disparity-linf"
CONSTANT = "stable-constant-rule-linf"


@picture(
    "hu2023-laws",
    (GAUSSIAN, HEAVY),
    """
    Natural risk of each class (top) and accuracy disparity (bottom) of the rule trained for an
    l_inf radius, against the imbalance ratio, under three noise laws. Under heavy tails the
    rule becomes constant at a finite ratio and the disparity jumps to one.
    """,
)
def laws(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns class risks and disparity against the imbalance ratio, two columns for each law."""
    heavy = datasets[HEAVY]
    indices = heavy["stability_index"].values[::-1].tolist()
    parts: list[tuple[str, xr.Dataset, dict[str, float]]] = [("Gaussian", datasets[GAUSSIAN], {})]
    parts += [(law_name(index), heavy, {"stability_index": index}) for index in indices]
    figure, axes = plt.subplots(2, 2 * len(parts), figsize=(13, 5.6), sharex="col", sharey=True)
    for column, (title, dataset, law) in enumerate(parts):
        for side, radius in enumerate(dataset["radius"].values):
            top, bottom = axes[:, 2 * column + side]
            fixed = law | {"radius": float(radius)}
            draw_panel(top, dataset, fixed)
            top.set_title(f"{title}\ntrained for radius {radius:g}")
            _disparity(bottom, dataset, fixed)
            bottom.set_xlabel(IMBALANCE_RATIO)
    axes[0, 0].set_ylabel("natural risk, [0, 1]")
    axes[1, 0].set_ylabel("accuracy disparity, [−1, 1]")
    # One column stands for all: they draw the same quantities.
    shared_legend(figure, axes[:, -1], 6)
    return figure


def _disparity(axes: Axes, dataset: xr.Dataset, fixed: Mapping[str, float]) -> None:
    """Draws the difference of the two class risks of a sweep, with its simultaneous interval."""
    part, look = dataset.sel(dict(fixed)), SERIES[2]
    ratio = part["imbalance_ratio"].values
    points = dense_points(dataset, "imbalance_ratio", fixed)
    negative, positive = evaluate.simulated(find(dataset.claim), points).T
    dense = points["imbalance_ratio"]
    axes.plot(dense, positive - negative, look.line, color=look.colour, label="disparity, theory")
    estimate, low, high = estimates_of(part)
    # The classes have simultaneous intervals: where both hold, so does that of the difference.
    middle = estimate[:, 1] - estimate[:, 0]
    down, up = middle - (low[:, 1] - high[:, 0]), high[:, 1] - low[:, 0] - middle
    label = "disparity, simulation"
    axes.errorbar(
        ratio, middle, yerr=[down, up], fmt=look.marker, color=look.colour, zorder=3, label=label
    )
    axes.set_xscale("log")


@picture(
    "hu2023-disparity-radius",
    (FALLING,),
    """
    Natural accuracy disparity of the robust-optimal rule against its radius under heavy tails.
    It falls below the standard rule's (dotted; hollow points: there the sentence carried over
    from Gaussian classes is false) and jumps to one where the constant rule takes over.
    """,
)
def disparity_against_radius(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns disparity against radius, a column for each law and imbalance ratio.

    The top row shows all of the range, the bottom row what happens below the jump.
    """
    dataset = datasets[FALLING]
    ratios, indices = (dataset[name].values for name in ("imbalance_ratio", "stability_index"))
    panels = [(float(r), float(i)) for i in indices for r in ratios]
    figure, axes = plt.subplots(2, len(panels), figsize=(11, 5.2), sharex=True, sharey="row")
    for place, (ratio, index) in enumerate(panels):
        for axis in axes[:, place]:
            draw_panel(axis, dataset, {"imbalance_ratio": ratio, "stability_index": index})
        axes[0, place].set_title(f"{law_name(index)}\nimbalance ratio {ratio:g}")
        axes[1, place].set_xlabel(radius_label("linf"))
    # Below the jump to one, before which the top row shows a flat line.
    axes[1, 0].set_ylim(-0.03, 0.17)
    axes[0, 0].set_ylabel("natural accuracy disparity")
    axes[1, 0].set_ylabel("the same, below the jump")
    shared_legend(figure)
    return figure


# From Gaussian noise, whose intercept never escapes, to Cauchy's.
ALPHAS = (2.0, 1.5, 1.0)
MARGINS = (0.5, 8.0)


@picture(
    "hu2023-escape",
    (CONSTANT,),
    """
    Left: the optimal intercept over the margin against the imbalance ratio; under heavy tails
    it ends at a finite ratio (cross), where the optimum escapes to the constant rule. Right:
    the critical ratio against the stability index; above a curve the constant rule is optimal.
    Points: the simulated problem, whose curve is the solid one, with three finite intercepts
    each; hollow where one of them beat the constant rule.
    """,
)
def escape(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns the escape of the intercept and the phase diagram of ratio and stability index."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2))
    _intercepts(left)
    _phases(right)
    _simulated(right, datasets[CONSTANT])
    left.legend()
    right.legend(loc="upper left", fontsize=7)
    return figure


def _intercepts(axes: Axes) -> None:
    ratios, radius = np.geomspace(1, 300, 400), 0.4 * SEPARATION
    for alpha, look in zip(ALPHAS, SERIES, strict=True):
        fixed = {"radius": radius, "stability_index": alpha}
        points = {name: np.full(400, value) for name, value in fixed.items()}
        problems = evaluate.problems(find(HEAVY), {"imbalance_ratio": ratios, **points})
        rule, gap = problems.classifier, problems.mixture.means[:, 1]
        reach = np.sum(rule.weight * gap, -1) - radius * np.abs(rule.weight).sum(-1)
        # The constant rule has no weight; the scale of the noise cancels.
        depth = np.where(reach > 0, -rule.bias / np.where(reach > 0, reach, 1), np.nan)
        axes.plot(ratios, depth, look.line, color=look.colour, label=f"theory, α = {alpha:g}")
        # Where the curve ends: beyond it the best rule has no weight, and no depth.
        last = np.flatnonzero(np.isfinite(depth))[-1]
        if alpha < 2:
            axes.plot(ratios[last], depth[last], "x", color=look.colour, markersize=8)
    axes.set_xscale("log")
    axes.set_xlabel(IMBALANCE_RATIO)
    axes.set_ylabel("−intercept / margin, [0, ∞)")


def _critical_ratio(margin_and_alpha: tuple[jax.Array, jax.Array]) -> jax.Array:
    margin, alpha = margin_and_alpha
    ratio: jax.Array = critical_ratio(margin, jnp.ones(2), alpha)[1]
    return ratio


def _phases(axes: Axes) -> None:
    # Not to 2, where the critical ratio is infinite.
    alphas = np.linspace(0.5, 1.98, 75)
    points = {"imbalance_ratio": np.ones(75), "intercept": np.ones(75), "stability_index": alphas}
    problems = jax.tree.map(jnp.asarray, evaluate.problems(find(CONSTANT), points))
    simulated = row_by_row(lambda p: optimal_direction(p.mixture, p.threat).margin, problems)
    margins: dict[str, jax.Array] = {"the simulated problem": simulated}
    margins |= {f"margin {margin:g}": jnp.full(75, margin) for margin in MARGINS}
    for (label, margin), look in zip(margins.items(), SERIES, strict=False):
        critical = row_by_row(_critical_ratio, (margin, jnp.asarray(alphas)))
        axes.plot(
            alphas, critical, look.line, color=look.colour, label=f"critical ratio, theory, {label}"
        )
    axes.set_yscale("log")
    axes.set_ylim(1, 1e5)
    axes.set_xlabel("stability index α, (0, 2)")
    axes.set_ylabel("imbalance ratio, [1, ∞)")


def _simulated(axes: Axes, dataset: xr.Dataset) -> None:
    """Marks simulated imbalance ratios, filled where no intercept beat the constant rule."""
    # The whole interval below the constant rule's risk: simulation shows that it is beaten.
    beaten = (dataset["high"] < dataset["theory"]).any(["intercept", "component"])
    ratio, alpha = xr.broadcast(dataset["imbalance_ratio"], dataset["stability_index"])
    beaten = beaten.transpose(*ratio.dims)
    for colour, label in (("black", "none"), ("white", "one")):
        chosen = beaten.values == (label == "one")
        axes.plot(
            alpha.values[chosen],
            ratio.values[chosen],
            "o",
            color="black",
            markerfacecolor=colour,
            label=f"simulation: {label} of three intercepts beat the constant rule",
        )
