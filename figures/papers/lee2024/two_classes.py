"""Figures of Lee et al. (DAFA, ICLR 2024)."""

from collections.abc import Mapping

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.kit.legend import Place, shared_legend
from figures.kit.panel import draw_panel
from figures.kit.picture import picture
from theory.fairness import dafa_warm_up
from theory.fairness.distance import class_errors
from theory.fairness.distance_fairness import peak_error
from theory.weights.dafa import dafa_weights

LOGIT_SCALE, COST = 2.0, 0.5
ERRORS, DISPARITY, FALLS = (
    "distance-class-errors",
    "distance-raises-disparity",
    "distance-lowers-every-error",
)
BELOW: Place = "outside lower center"
DISTANCE_LABEL = "distance under attack, sds of class −, [0, ∞)"


def _ratios(dataset: xr.Dataset) -> np.ndarray:
    return dataset["scale_ratio"].values[[0, -1]]


@picture(
    "lee2024-disparity",
    (DISPARITY, FALLS),
    """
    Robust fairness against class distance, the positive class K times as wide. Top: the
    accuracy disparity never falls below what it would be 0.5 sds farther apart (line): it grows
    as classes come closer. Bottom: 'distance lowers every class's error' (line: the errors at
    distance zero) is false for the narrow class in the shaded region (hollow points).
    """,
)
def disparity(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns disparity and class errors against distance, the region of failure shaded."""
    figure, axes = plt.subplots(2, 2, figsize=(8.4, 6.6), sharex=True, sharey="row")
    for column, k in enumerate(_ratios(datasets[DISPARITY])):
        draw_panel(axes[0, column], datasets[DISPARITY], {"scale_ratio": k})
        draw_panel(axes[1, column], datasets[FALLS], {"scale_ratio": k})
        # Where the narrow class's error is back at what it is at distance zero, after its peak.
        back = 2 * k * np.sqrt(2 * np.log(k) / (k * k - 1))
        axes[1, column].axvspan(0, back, color="0.9", zorder=0, label="false for class −")
        axes[0, column].set_title(f"K = {k:g}")
        axes[1, column].set_xlabel(DISTANCE_LABEL)
    axes[0, 0].set_ylabel("robust accuracy disparity, [−1, 1]")
    axes[1, 0].set_ylabel("robust error, [0, 1]")
    axes[0, 0].legend(loc="upper right")
    shared_legend(figure, axes[1:, 0], 3, BELOW)
    return figure


@picture(
    "lee2024-class-errors",
    (ERRORS, "narrow-class-error-peak"),
    """
    Robust class errors of the optimal rule against class distance. The narrow class's error
    rises with distance up to sqrt(2 log K), where it peaks at Phi(-sqrt(2 log K)) (dotted).
    """,
)
def errors(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns class errors against distance, with the peak of the narrow class marked."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 4.0), sharey=True)
    for panel, k in zip(axes, _ratios(datasets[ERRORS]), strict=True):
        draw_panel(panel, datasets[ERRORS], {"scale_ratio": k})
        height, place = (float(value) for value in peak_error(k))
        panel.plot([0, place, place], [height, height, 0], ":", color="black", label="peak")
        panel.set_title(f"K = {k:g}: peak {height:.3f} at {place:.2f}")
        panel.set_xlabel(DISTANCE_LABEL)
    axes[0].set_ylabel("robust error, [0, 1]")
    shared_legend(figure, axes[:1], 3, BELOW)
    return figure


@picture(
    "lee2024-weights",
    (ERRORS,),
    """
    DAFA in the Gaussian model, K = 2.5. Left: robust class errors of equal weights, closed form
    and simulation. Middle: DAFA's class weights from the warmed-up rule (logit 2 per sd).
    Right: the disparity that training with them leaves: in the loss, in the radii (cost 0.5),
    in both.
    """,
)
def weights(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns class errors, DAFA weights, and the disparity after training, against distance."""
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 4.0))
    k = float(_ratios(datasets[ERRORS])[-1])
    draw_panel(axes[0], datasets[ERRORS], {"scale_ratio": k})
    x = np.linspace(0, 6, 121)
    with jax.enable_x64(True):
        chosen = dafa_weights(dafa_warm_up.warm_up_similarity(x, k, LOGIT_SCALE)).weights
        before = class_errors(x, k)
        gaps = {"equal weights": before.positive - before.negative}
        for scheme in ("loss", "radius", "both"):
            # The abscissa is the distance under attack, which takes COST from both sides.
            after = dafa_warm_up.weighted_errors(x + 2 * COST, k, COST, chosen, scheme)
            gaps[f"DAFA, {scheme}"] = after.positive - after.negative
    for column, (name, style) in enumerate((("class −", "--"), ("class +", "-"))):
        axes[1].plot(x, np.asarray(chosen)[:, column], style, color="black", label=name)
    for (name, gap), style in zip(gaps.items(), ("-", "--", ":", "-."), strict=True):
        axes[2].plot(x, np.asarray(gap), style, color="black", label=name)
    for panel, label in zip(
        axes,
        ("robust error, [0, 1]", "DAFA weight, (0, 2)", "robust accuracy disparity, [−1, 1]"),
        strict=True,
    ):
        panel.set_xlabel(DISTANCE_LABEL)
        panel.set_ylabel(label)
    axes[1].legend()
    axes[2].legend()
    shared_legend(figure, axes[:1], 3, BELOW)
    return figure
