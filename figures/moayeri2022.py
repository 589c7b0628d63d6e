"""Figures of Moayeri, Banihashem and Feizi (NeurIPS 2022)."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.figure import picture
from figures.panel import draw_panel
from figures.style import SERIES
from figures.zhong2024 import legend_above
from theory.problem import L1Ball, L2Ball, LinfBall, Threat
from theory.regression import Regression, zero_radius
from theory.regression_fit import natural_radius
from theory.regression_pair import pair_fit

NORMS = {"l1": "$\\ell_1$", "l2": "$\\ell_2$", "linf": "$\\ell_\\infty$"}
BALLS: dict[str, Callable[..., Threat]] = {"l1": L1Ball, "l2": L2Ball, "linf": LinfBall}
CONFLICTING = tuple(f"spurious-conflicting-natural-risk-{norm}" for norm in NORMS)
ALIGNED = tuple(f"spurious-aligned-robust-risk-{norm}" for norm in NORMS)
HARM = tuple(f"robustness-costs-conflicting-group-{norm}" for norm in ("l2", "linf"))
# Variances 1 and 4 and a correlation of 0.75: |corr| sd_S / sd_C = 1.5.
COVARIANCE = [[1.0, 1.5], [1.5, 4.0]]


def draw_weights(axes: Axes, norm: str) -> None:
    """Draws the noiseless optimal weights of a pair against the radius, and both thresholds."""
    with jax.enable_x64(True):
        problem = Regression(*(jnp.asarray(v) for v in ([1.0, 0.0], COVARIANCE, 0.0)))
        ball = BALLS[norm]
        first, last = (float(f(problem, ball(0.0))) for f in (natural_radius, zero_radius))
        radius = np.linspace(0, 1.08 * last, 241)
        weights = np.asarray(pair_fit(problem, ball(jnp.asarray(radius))))
    for name, look, values in zip(("core", "spurious"), SERIES, weights.T, strict=False):
        axes.plot(radius, values, look.line, color=look.colour, label=f"{name} weight, theory")
    for place, name in ((first, "$\\epsilon_1$"), (last, "$\\epsilon_0$")):
        axes.axvline(place, color="0.5", linewidth=0.8, linestyle=":")
        axes.annotate(name, (place, 1.04), ha="center", annotation_clip=False)
    axes.set_ylim(-0.04, 1.14)


@picture(
    "moayeri2022-groups",
    CONFLICTING + ALIGNED,
    "Top: optimal weights of one core and one spurious feature in regression without noise, "
    "against the training radius; up to ε₁ nothing changes, from ε₀ on nothing is used. Below: a "
    "classifier with a spurious attribute (agreement 0.95): natural risk where the attribute "
    "conflicts with the label, robust risk where it agrees.",
)
def groups(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns weights and group risks against the training radius, a column for each norm."""
    figure, axes = plt.subplots(3, 3, figsize=(9.6, 8.4), sharey="row")
    for column, norm in zip(axes.T, NORMS, strict=True):
        draw_weights(column[0], norm)
        column[0].set_title(f"{NORMS[norm]} threat")
        for panel, name in zip(
            column[1:],
            (f"spurious-conflicting-natural-risk-{norm}", f"spurious-aligned-robust-risk-{norm}"),
            strict=True,
        ):
            draw_panel(panel, datasets[name], {"agreement": 0.95, "spurious": 1.6})
        for panel in column:
            panel.set_xlabel(f"{NORMS[norm]} radius, units of the inputs")
    for panel, label in zip(
        axes[:, 0],
        (
            "weight",
            "conflicting group,\nnatural risk, [0, 1]",
            "aligned group,\nrobust risk, [0, 1]",
        ),
        strict=True,
    ):
        panel.set_ylabel(label)
    axes[0, 0].legend()
    axes[1, 0].legend()
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
