"""Figures of Moayeri, Banihashem and Feizi (NeurIPS 2022)."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.kit.labels import NORMS, radius_label
from figures.kit.legend import shared_legend
from figures.kit.panel import DENSE, draw_panel
from figures.kit.picture import picture
from figures.kit.style import SERIES
from theory.claims.moayeri2022.classification import tried
from theory.problem import L1Ball, L2Ball, LinfBall, Threat
from theory.spurious.risk import spurious_angle

BALLS: dict[str, Callable[..., Threat]] = {"l1": L1Ball, "l2": L2Ball, "linf": LinfBall}
CONFLICTING = tuple(f"spurious-conflicting-natural-risk-{norm}" for norm in NORMS)
ALIGNED = tuple(f"spurious-aligned-robust-risk-{norm}" for norm in NORMS)
BEST = tuple(f"spurious-best-angle-{norm}" for norm in NORMS)
# There are claims of these two norms.
HARM = tuple(f"robustness-costs-conflicting-group-{norm}" for norm in ("l2", "linf"))


@picture(
    "moayeri2022-groups",
    CONFLICTING + ALIGNED,
    """
    A classifier trained with a spurious attribute (agreement 0.95), against the training
    radius: natural risk where the attribute conflicts with the label (top), robust risk where
    it agrees.
    """,
)
def groups(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns group risks against the training radius, a column for each norm."""
    # Norms share no abscissa: a radius of one is no radius of another.
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
            panel.set_xlabel(radius_label(norm))
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
    """
    Natural risk of the group whose attribute conflicts with its label, against the training
    radius, and the standard rule's (dotted). Training against ℓ₂ always raises it; against ℓ∞
    it lowers it (hollow) where the spurious template is dim or the radius large.
    """,
)
def price(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns the conflicting group's risk, a row for each norm, a column for each amplitude."""
    amplitudes = datasets[HARM[0]]["spurious"].values
    figure, axes = plt.subplots(2, len(amplitudes), figsize=(9.6, 5.6), sharex="row")
    for row, name in zip(axes, HARM, strict=True):
        for panel, amplitude in zip(row, amplitudes, strict=True):
            draw_panel(panel, datasets[name], {"agreement": 0.95, "spurious": amplitude})
            panel.set_title(f"spurious amplitude {amplitude:g}, core 1.6")
            panel.set_xlabel(radius_label(name.rpartition("-")[2]))
        row[0].set_ylabel("natural risk, [0, 1]")
    shared_legend(figure)
    return figure


def angles_left(dataset: xr.Dataset) -> np.ndarray:
    """Returns between which angles simulation leaves the best one, (radii, 2).

    An angle is worse than another where its interval lies above the other's; as the risk has one
    valley, the best angle lies between the nearest worse ones on both sides.
    """
    part = dataset.sel(component="risk").transpose("radius", "angle", ...)
    # Not shown to be worse than the angle whose interval ends lowest.
    good = part["low"].values <= part["high"].values.min(1, keepdims=True)
    angle = part["angle"].values
    # One node further out on each side: the best angle may lie between two of the grid.
    first = np.maximum(good.argmax(1) - 1, 0)
    last = np.minimum(len(angle) - good[:, ::-1].argmax(1), len(angle) - 1)
    return np.stack([angle[first], angle[last]], -1)


@picture(
    "moayeri2022-angle",
    BEST,
    """
    The best rule without intercept in the linear model of Waterbirds, as its angle from the
    core template to the spurious one, against the training radius. Training against ℓ₁ and ℓ₂
    turns to the spurious template, against ℓ∞ away from it, whose pixels are the dimmer ones,
    and onto the core once the radius is n r / sqrt(k_S) (dotted). Points: the angle of least
    simulated risk on a grid; bars: from the last angle below to the first above that intervals
    show to be worse than another.
    """,
)
def angle(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns the optimal angle against the radius and what simulation leaves of it."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.6), sharey=True)
    for panel, norm, name, look in zip(axes, NORMS, BEST, SERIES, strict=True):
        part = datasets[name].sel(component="risk").transpose("radius", "angle", ...)
        radius = part["radius"].values
        dense = np.linspace(0, radius.max(), DENSE)
        with jax.enable_x64(True):
            model = tried(jnp.dtype(float))
            best = np.rad2deg(jax.jit(spurious_angle)(model, BALLS[norm](jnp.asarray(dense))))
        panel.plot(dense, best, look.line, color=look.colour, label="theory")
        least = part["angle"].values[part["estimate"].values.argmin(1)]
        panel.errorbar(
            radius,
            least,
            yerr=np.abs(angles_left(datasets[name]).T - least),
            fmt=look.marker,
            color=look.colour,
            label="simulation",
        )
        # From this radius on the spurious pixels are given up: n r / sqrt(k_S) of the caption.
        if norm == "linf":
            last = float(model.spurious * model.agreement) / model.spurious_pixels**0.5
            panel.axvline(last, color="0.5", linewidth=0.8, linestyle=":")
        panel.set_title(f"{NORMS[norm]} threat")
        panel.set_xlabel(radius_label(norm))
        panel.legend(loc="upper left")
    axes[0].set_ylabel("angle, degrees, [0, 90]")
    axes[0].set_ylim(-3, 93)
    return figure
