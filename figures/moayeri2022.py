"""Figures of Moayeri, Banihashem and Feizi (NeurIPS 2022)."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from figures.figure import picture
from figures.panel import draw_panel
from figures.zhong2024 import legend_above

NORMS = {"l1": "$\\ell_1$", "l2": "$\\ell_2$", "linf": "$\\ell_\\infty$"}
CONFLICTING = tuple(f"spurious-conflicting-natural-risk-{norm}" for norm in NORMS)
ALIGNED = tuple(f"spurious-aligned-robust-risk-{norm}" for norm in NORMS)
HARM = tuple(f"robustness-costs-conflicting-group-{norm}" for norm in ("l2", "linf"))


@picture(
    "moayeri2022-groups",
    CONFLICTING + ALIGNED,
    "A classifier trained with a spurious attribute (agreement 0.95), against the training radius: "
    "natural risk where the attribute conflicts with the label (top), robust risk where it agrees.",
)
def groups(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns group risks against the training radius, a column for each norm."""
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.6), sharey="row")
    for column, norm in zip(axes.T, NORMS, strict=True):
        column[0].set_title(f"{NORMS[norm]} threat")
        for panel, name in zip(
            column,
            (f"spurious-conflicting-natural-risk-{norm}", f"spurious-aligned-robust-risk-{norm}"),
            strict=True,
        ):
            draw_panel(panel, datasets[name], {"agreement": 0.95, "spurious": 1.6})
        for panel in column:
            panel.set_xlabel(f"{NORMS[norm]} radius, units of the inputs")
    for panel, label in zip(
        axes[:, 0],
        (
            "conflicting group,\nnatural risk, [0, 1]",
            "aligned group,\nrobust risk, [0, 1]",
        ),
        strict=True,
    ):
        panel.set_ylabel(label)
    axes[0, 0].legend()
    return figure


@picture(
    "moayeri2022-price",
    HARM,
    "Natural risk of the group whose attribute conflicts with its label, against the training "
    "radius, and the standard rule's (dotted). Training against ℓ₂ always raises it; against ℓ∞ "
    "it lowers it (hollow) where the spurious template is dim or the radius large.",
)
def price(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns the conflicting group's risk, a row for each norm, a column for each amplitude."""
    amplitudes = datasets[HARM[0]]["spurious"].values
    figure, axes = plt.subplots(2, len(amplitudes), figsize=(9.6, 5.6), sharex="row")
    for row, name in zip(axes, HARM, strict=True):
        for panel, amplitude in zip(row, amplitudes, strict=True):
            draw_panel(panel, datasets[name], {"agreement": 0.95, "spurious": amplitude})
            panel.set_title(f"spurious amplitude {amplitude:g}, core 1.6")
            panel.set_xlabel(f"{NORMS[name.rpartition('-')[2]]} radius, units of the inputs")
        row[0].set_ylabel("natural risk, [0, 1]")
    legend_above(figure)
    return figure
