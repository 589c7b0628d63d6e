"""Figures of Zhong and Tandon (2024): same-class mixup, class-wise risk and disparity."""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.labels import RESIDUAL, radius_label
from figures.kit.legend import shared_legend
from figures.kit.panel import dense_points, draw_failing, draw_panel, estimates_of
from figures.kit.picture import picture
from figures.kit.style import SERIES
from theory.claims import evaluate
from theory.claims.registry import find

COEFFICIENT = "mixing coefficient λ, [0, 1]"
TRAINED = ("mixup-trained-risks-natural", "mixup-trained-risks-robust")
# From light to heavy tails, in the order of the columns.
LAWS = (
    "mixup-law-gaussian",
    "mixup-law-random-coefficient",
    "mixup-law-stable",
    "mixup-law-cauchy",
)
SHRINKS = ("mixup-shrinks-disparity-natural", "mixup-shrinks-disparity-robust")
PRICE = ("mixup-helps-the-wide-class", "mixup-costs-overall-risk", "mixup-optimal-intercept")


class Curves(NamedTuple):
    """A disparity with mixing, and its size without, along an axis, (n,) each."""

    x: np.ndarray
    disparity: np.ndarray
    size: np.ndarray


def _curves(dataset: xr.Dataset, fixed: Mapping[str, float], along: str) -> Curves:
    claim, points = find(dataset.claim), dense_points(dataset, along, fixed)
    disparity = evaluate.simulated(claim, points)[:, 0]
    return Curves(points[along], disparity, evaluate.closed_form(claim, points)[:, 0])


def draw_size(
    axes: Axes,
    dataset: xr.Dataset,
    fixed: Mapping[str, float],
    along: str,
    curves: Curves | None = None,
) -> None:
    """Draws a disparity and the band between plus and minus its size without mixing.

    Simulated points are hollow where the sentence that they stay inside is known to fail.

    Args:
        axes: where to draw.
        dataset: a judged sweep of a claim on the size of a disparity.
        fixed: the values of all axes but one.
        along: that one.
        curves: what to draw as lines; by default from the claim.
    """
    x, disparity, bound = curves or _curves(dataset, fixed, along)
    look = SERIES[0]
    # The sentence is about the size alone: a disparity that has changed its sign may stay inside.
    axes.fill_between(x, -bound, bound, color="0.88", label="size without mixing, theory")
    axes.plot(x, bound, ":", color="0.3")
    axes.plot(x, -bound, ":", color="0.3")
    axes.plot(x, disparity, look.line, color=look.colour, label="with mixing, theory")
    part = dataset.sel(dict(fixed))
    # Component 0 is the disparity; the claim of a point fails when any of its components does.
    failing = np.asarray(part["fails"].values.astype(bool).any(-1))
    label = "with mixing, simulation"
    simulated, labels = estimates_of(part.isel(component=0)), (label, f"{label} (claim fails)")
    draw_failing(axes, part[along].values, simulated, failing, look, labels)
    axes.axhline(0, color="black", linewidth=0.8)


@picture(
    "zhong2024-mixed-law",
    LAWS,
    """
    Robust class risks, on mixed data, of a rule that does not change: what mixing does to the
    noise. From the left: Gaussian pairs with a fixed coefficient (none at 1) and with one of
    the law Beta(a, a); stable pairs, where mixing adds noise at α = 0.7, does nothing for
    Cauchy's law and takes noise away at α = 1.5. Points: pairs drawn and mixed. The strips are
    simulation minus closed form.
    """,
)
def mixed_law(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns class risks on mixed data, a column for each law, residuals below."""
    gaussian, random, stable, cauchy = (datasets[name] for name in LAWS)
    columns = (
        ("Gaussian", gaussian, {"radius": gaussian["radius"].values[-1]}),
        ("Gaussian, random λ", random, {"radius": random["radius"].values[-1]}),
        ("stable, α = 0.7", stable, {"alpha": 0.7}),
        ("Cauchy, α = 1", cauchy, {"radius": cauchy["radius"].values[-1]}),
        ("stable, α = 1.5", stable, {"alpha": 1.5}),
    )
    # Columns share no abscissa: that of the second is the parameter of the coefficient's law.
    figure, axes = plt.subplots(
        2, len(columns), figsize=(13, 4.2), height_ratios=(3, 1), sharex="col", sharey="row"
    )
    for (top, bottom), (title, dataset, fixed) in zip(axes.T, columns, strict=True):
        draw_panel(top, dataset, fixed, bottom)
        top.set_title(title)
        bottom.set_xlabel(COEFFICIENT if dataset is not random else "Beta parameter a, (0, ∞)")
    axes[0, 0].set_ylabel("robust risk on mixed data, [0, 1]")
    axes[1, 0].set_ylabel(RESIDUAL)
    shared_legend(figure)
    return figure


@picture(
    "zhong2024-class-risks",
    TRAINED,
    """
    Natural and robust risk of each class, on the original law, of the rule that is optimal on
    mixed data: against the coefficient (top; 1 is no mixing) and against the radius it is
    trained for (bottom). The positive class has twice the scale of the negative one. Mixing
    takes risk from the class that has more of it and gives it to the other.
    """,
)
def class_risks(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns class risks against the coefficient and against the radius."""
    figure, axes = plt.subplots(2, 4, figsize=(11, 6), sharey=True, sharex="row")
    for half, name in enumerate(TRAINED):
        dataset, evaluation = datasets[name], name.rpartition("-")[2]
        for side in (0, 1):
            # A small radius beside the largest, and no mixing beside the most.
            radius = dataset["radius"].values[(1, -1)[side]]
            coefficient = dataset["coefficient"].values[(-1, 0)[side]]
            top, bottom = axes[:, 2 * half + side]
            draw_panel(top, dataset, {"radius": radius})
            top.set_title(f"{evaluation} risk, trained for radius {radius:g}")
            top.set_xlabel(COEFFICIENT)
            draw_panel(bottom, dataset, {"coefficient": coefficient}, along="radius")
            mixing = f"λ = {coefficient:g}" if side else "no mixing"
            bottom.set_title(f"{evaluation} risk, {mixing}")
            bottom.set_xlabel(radius_label("linf", "training radius"))
    for row in axes:
        row[0].set_ylabel("class risk, [0, 1]")
    shared_legend(figure)
    return figure


@picture(
    "zhong2024-disparity",
    SHRINKS,
    """
    Accuracy disparity, risk of the class of larger scale minus risk of the other, of robust
    rules trained on mixed data, on the original law. It stays inside the band: its size without
    mixing. Columns: imbalance ratios; at 1/2 log(R s_+ / s_-) is zero and mixing changes
    nothing.
    """,
)
def disparity(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns natural and robust disparity against the coefficient."""
    ratios = datasets[SHRINKS[0]]["imbalance_ratio"].values
    figure, axes = plt.subplots(2, len(ratios), figsize=(11.5, 5.4), sharex=True, sharey="col")
    for row, name in zip(axes, SHRINKS, strict=True):
        for panel, ratio in zip(row, ratios, strict=True):
            draw_size(panel, datasets[name], {"imbalance_ratio": ratio}, "coefficient")
            panel.set_title(f"{name.rpartition('-')[2]}, imbalance ratio {ratio:g}")
        row[0].set_ylabel("accuracy disparity, [−1, 1]")
    for panel in axes[-1]:
        panel.set_xlabel(COEFFICIENT)
    shared_legend(figure)
    return figure


@picture(
    "zhong2024-price",
    PRICE,
    """
    What mixing costs. Left: robust risk of the class of larger scale falls. Middle: overall
    robust risk on the original law rises. Right: on the mixed data the rule is optimal; no
    other intercept has a smaller risk.
    """,
)
def price(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns the worst class's risk, the overall risk, and the risk around the intercept."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.5))
    wide, overall, intercept = (datasets[name] for name in PRICE)
    for panel, dataset in zip(axes, (wide, overall), strict=False):
        draw_panel(panel, dataset, {"imbalance_ratio": 1.0})
        panel.set_xlabel(COEFFICIENT)
        panel.set_title("imbalance ratio 1")
    draw_panel(axes[2], intercept, {"coefficient": 0.5})
    axes[2].set_xlabel("intercept minus the optimal one, (−∞, ∞)")
    axes[2].set_title("on mixed data, λ = 0.5")
    for panel, label in zip(axes, ("class risk", "risk", "risk on mixed data"), strict=True):
        panel.set_ylabel(f"robust {label}, [0, 1]")
        panel.legend()
    return figure
