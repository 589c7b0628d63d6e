"""Figures of Hu, Wu, Zhang and Zhao (ICML 2023)."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from figures.kit.labels import IMBALANCE_RATIO, LAWS, NORMS, RESIDUAL, radius_label
from figures.kit.legend import shared_legend
from figures.kit.panel import draw_panel
from figures.kit.picture import picture

RISKS = tuple(f"{law}-robust-risk-{norm}" for norm in NORMS for law in LAWS)
SOLVED = ("l2", "linf")
COMPARED = tuple(
    f"{name}-{norm}"
    for name in ("imbalance-raises-disparity", "robustness-costs-every-class")
    for norm in SOLVED
)


@picture(
    "hu2023-robust-risk",
    RISKS,
    """
    Class-wise robust risk of one linear rule against the perturbation radius: three noise laws,
    three threat models. The positive class has 1.5 times the scale of the negative one. The
    strip under each panel is simulation minus closed form.
    """,
)
def robust_risk(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns class-wise robust risk against radius, a row for each norm, a column for each law."""
    figure, axes = plt.subplots(
        6, 3, figsize=(9.6, 10.2), sharex=False, sharey=False, height_ratios=(3, 1) * 3
    )
    for row, norm in enumerate(NORMS):
        for column, law in enumerate(LAWS):
            top, bottom = axes[2 * row, column], axes[2 * row + 1, column]
            dataset = datasets[f"{law}-robust-risk-{norm}"]
            draw_panel(top, dataset, {"scale_ratio": dataset["scale_ratio"].values[-1]}, bottom)
            # The same for all, so that laws and norms can be compared by eye.
            top.set_ylim(0, 0.72)
            bottom.set_ylim(-0.012, 0.012)
            bottom.set_xlabel(radius_label(norm))
            if row == 0:
                top.set_title(LAWS[law])
        axes[2 * row, 0].set_ylabel("robust risk, [0, 1]")
        axes[2 * row + 1, 0].set_ylabel(RESIDUAL)
    shared_legend(figure, axes[:1, 0])
    return figure


@picture(
    "hu2023-imbalance",
    COMPARED,
    """
    What robust training does to natural risk when classes are imbalanced (Gaussian, isotropic).
    Top: the accuracy disparity of the robust-optimal rule never falls below the standard rule's
    (dotted). Bottom: natural risk of each class; the minority's rises above the standard rule's
    (dotted), while the majority's falls below it (hollow: there the sentence 'every class pays'
    is false).
    """,
)
def imbalance(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns disparity and class-wise natural risk of robust rules against the imbalance ratio."""
    figure, axes = plt.subplots(2, 4, figsize=(11, 6.2), sharex=True, sharey="row")
    for row, name in enumerate(("imbalance-raises-disparity", "robustness-costs-every-class")):
        # The smallest radius and the largest, of each norm.
        panels = [(norm, k) for norm in SOLVED for k in (0, -1)]
        for place, (norm, k) in enumerate(panels):
            dataset = datasets[f"{name}-{norm}"]
            radius = dataset["radius"].values[k]
            draw_panel(axes[row, place], dataset, {"radius": radius})
            axes[0, place].set_title(f"trained for {NORMS[norm]} radius {radius:g}")
            axes[1, place].set_xlabel(IMBALANCE_RATIO)
    axes[0, 0].set_ylabel("natural accuracy disparity, [−1, 1]")
    axes[1, 0].set_ylabel("natural risk, [0, 1]")
    for panel in axes[1]:
        panel.set_yscale("log")
        # Below 1e-6 the simulation has no point to show.
        panel.set_ylim(1e-6, 1)
    axes[0, 0].legend(loc="upper left")
    shared_legend(figure, axes[1:, 0], where="outside lower center")
    return figure
