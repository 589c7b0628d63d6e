"""Figures on where the theorem of Zhong and Tandon (2024) on mixup and disparity fails."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.legend import shared_legend
from figures.kit.picture import picture
from figures.papers.zhong2024.mixup import COEFFICIENT, Curves, draw_size
from theory.claims.settings.mixup import SPREAD
from theory.claims.settings.two_classes import HALF_GAP
from theory.claims.zhong2024.heavy_tails import (
    HEAVY_RATIO,
    LIGHT_INDEX,
    LIGHT_RATIO,
    mixed_disparity,
)
from theory.fairness import mixup
from theory.rules.intercept import optimal_shift, shift_risks

FAILURES = (
    "mixup-shrinks-disparity-rare-narrow-class",
    "mixup-shrinks-disparity-stronger-attack",
    "mixup-shrinks-disparity-mixed-law",
)
HEAVY = ("mixup-shrinks-disparity-heavy-tails", "mixup-shrinks-disparity-separated")
# Along each side of a plane: edges of regions are then sharp to a pixel or two of the panel.
NODES = 161


@picture(
    "zhong2024-failure",
    FAILURES,
    """
    Where mixing widens the disparity. Top: disparity with mixing leaves the band of its size
    without. Bottom: where it does at λ = 1/2 (grey; hatched: a constant rule is optimal), and
    the simulated problems of that coefficient, hollow where the sentence fails. Left: the class
    of smaller scale is rare, natural risk. Middle: tested with a stronger attack than trained
    for. Right: on the mixed data themselves, past the margin (dotted line).
    """,
)
def failure(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns three ways in which the sentence fails, and the phase diagram of each."""
    figure, axes = plt.subplots(2, 3, figsize=(11.5, 6.6))
    rare, attack, mixed = (datasets[name] for name in FAILURES)
    draw_size(axes[0, 0], rare, {"imbalance_ratio": 0.4}, "coefficient")
    draw_size(axes[0, 1], attack, {"coefficient": 0.5}, "test_radius")
    draw_size(axes[0, 2], mixed, {"coefficient": 0.5}, "radius")
    titles = ("rare narrow class, R = 0.4", "stronger attack, λ = 0.5", "mixed data, λ = 0.5")
    labels = (COEFFICIENT, "$\\ell_\\infty$ radius of the attack", "$\\ell_2$ radius")
    for panel, title, label in zip(axes[0], titles, labels, strict=True):
        panel.set_title(title)
        panel.set_xlabel(label)
        panel.set_ylabel("accuracy disparity, [−1, 1]")
    _rare(axes[1, 0])
    _attack(axes[1, 1])
    _mixed(axes[1, 2])
    _mark(axes[1, 0], rare.sel(coefficient=0.5), "imbalance_ratio", SPREAD)
    _mark(axes[1, 1], attack.sel(coefficient=0.5), "test_radius", 0.2)
    _mark(axes[1, 2], mixed.sel(coefficient=0.5), "radius", SPREAD)
    shared_legend(figure, columns=3)
    return figure


def _mark(axes: Axes, dataset: xr.Dataset, along: str, height: float) -> None:
    """Marks simulated problems, hollow where the sentence is known to fail."""
    failing = dataset["fails"].values.astype(bool).any(-1)
    for hollow, chosen in ((False, ~failing), (True, failing)):
        x = dataset[along].values[chosen]
        label = "simulated problem" + (", claim fails" if hollow else ", claim holds")
        face = "white" if hollow else "black"
        axes.plot(x, np.full(len(x), height), "o", color="black", markerfacecolor=face, label=label)


def _shade(axes: Axes, x: np.ndarray, y: np.ndarray, growth: np.ndarray, none: np.ndarray) -> None:
    """Shades where the disparity grows, and hatches where no finite intercept is optimal."""
    grey = "0.75"
    # From 1e-6, not from 0: where mixing changes nothing, rounding gives either sign.
    axes.contourf(x, y, np.where(none, np.nan, growth), [1e-6, 2], colors=[grey])
    # Contours have no entry in a legend; a patch without area has.
    axes.fill(np.nan, np.nan, facecolor=grey, label="mixing widens the disparity, theory")
    if none.any():
        axes.contourf(x, y, none, [0.5, 1.5], colors="none", hatches=["////"])
        label = "a constant rule is optimal, theory"
        axes.fill(np.nan, np.nan, facecolor="none", edgecolor="0.3", hatch="////", label=label)
    axes.grid(False)


@jax.jit
def _sizes(
    trained: jax.Array, tested: jax.Array, spread: jax.Array, ratio: jax.Array, factor: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the size of the disparity without mixing and with, and where a rule is constant.

    `factor` multiplies the scales on which the mixed rule is evaluated.
    """
    scales = jnp.stack([jnp.ones_like(spread), spread], -1)
    plain = optimal_shift(trained, scales, ratio)
    mixed = mixup.mixed_shift(trained, scales, ratio, 0.5)
    before = shift_risks(plain, tested, scales)
    after = shift_risks(mixed, tested, scales * factor)
    sizes = (jnp.abs(risks.positive - risks.negative) for risks in (before, after))
    return *sizes, plain.trivial | mixed.trivial


Phase = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]


def _phase(axes: Axes, x: np.ndarray, y: np.ndarray, problem: Phase, factor: float = 1.0) -> None:
    """Shades the plane where mixing widens the disparity.

    `problem` takes the plane to training margin, test margin, ratio of scales and of priors.
    """
    # Every plane has the same number of nodes, so that one executable serves all of them.
    plane = np.meshgrid(x, y)
    fields = np.broadcast_arrays(*problem(*plane), plane[0])[:4]
    before, after, none = map(np.asarray, _sizes(*map(jnp.asarray, fields), factor))
    _shade(axes, x, y, after - before, none)


def _linf_direction(radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns natural margin and loss for each unit of radius, of directions trained for radii."""
    # The optimal direction of isotropic classes: the means' difference, soft-thresholded.
    weight = np.maximum(HALF_GAP - np.asarray(radius)[..., None], 0)
    length = np.linalg.norm(weight, axis=-1)
    return weight @ HALF_GAP / length, weight.sum(-1) / length


def _rare(axes: Axes) -> None:
    natural, loss = _linf_direction(np.array(0.6))
    ratios, spreads = np.geomspace(0.05, 2, NODES), np.linspace(1, 4, NODES)
    # Natural risk: tested at the margin without an attack, trained at that of radius 0.6.
    _phase(axes, ratios, spreads, lambda r, k: (natural - 0.6 * loss, natural, k, r))
    axes.plot(1 / spreads, spreads, "k--", label="$R\\,s_+ = s_-$")
    axes.set_xlim(ratios[0], ratios[-1])
    axes.set_xscale("log")
    axes.set_xlabel("imbalance ratio R = P(−)/P(+), (0, ∞)")
    axes.set_ylabel("ratio of scales $s_+/s_-$, [1, ∞)")


def _attack(axes: Axes) -> None:
    tests, trains = np.linspace(0, 2.6, NODES), np.linspace(0, 1.1, NODES)

    def problem(test: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, ...]:
        natural, loss = _linf_direction(train)
        return natural - train * loss, natural - test * loss, np.array(SPREAD), np.array(1.0)

    _phase(axes, tests, trains, problem)
    axes.plot(trains, trains, "k--", label="tested as trained")
    axes.set_xlim(-0.1, 2.6)
    axes.set_xlabel("$\\ell_\\infty$ radius of the attack")
    axes.set_ylabel("$\\ell_\\infty$ training radius")


def _mixed(axes: Axes) -> None:
    margin = float(np.linalg.norm(HALF_GAP))
    radii, spreads = np.linspace(0, 4.1, NODES), np.linspace(1.02, 4, NODES)
    _phase(
        axes,
        radii,
        spreads,
        lambda radius, k: (margin - radius, margin - radius, k, np.array(1.0)),
        # The scale of the mean of two points: tested on the mixed data themselves.
        0.5**0.5,
    )
    axes.set_xlim(0, 4.1)
    axes.axvline(margin, linestyle=":", color="black", label="margin $\\|\\Delta\\|_2$")
    axes.set_xlabel("$\\ell_2$ radius in training and test")
    axes.set_ylabel("ratio of scales $s_+/s_-$, [1, ∞)")


@picture(
    "zhong2024-heavy-tails",
    HEAVY,
    """
    Mixing under heavy tails. Left three: robust disparity against the coefficient; for α < 1
    mixing widens it, for Cauchy noise it does nothing. Right: at α = 1.9 and halves it shrinks
    the disparity of classes that overlap, and widens that of classes further apart.
    """,
)
def heavy_tails(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns disparity against the coefficient for three indices, and against the margin."""
    heavy, light = (datasets[name] for name in HEAVY)
    coefficients, margins = np.linspace(0.5, 1, NODES), np.geomspace(2.5, 8, NODES)
    figure, axes = plt.subplots(1, 4, figsize=(12.5, 3.6))
    for panel, alpha in zip(axes, heavy["alpha"].values, strict=False):
        curves = _stable_curves(1.0, SPREAD, HEAVY_RATIO, alpha, coefficients)
        draw_size(panel, heavy, {"alpha": alpha, "margin": 1.0}, "coefficient", curves)
        panel.set_title(f"α = {alpha:g}, margin 1")
        panel.set_xlabel(COEFFICIENT)
        panel.set_ylim(-0.02, 0.35)
    curves = _stable_curves(margins, 1.0, LIGHT_RATIO, LIGHT_INDEX, 0.5)
    draw_size(axes[3], light, {"coefficient": 0.5}, "margin", curves._replace(x=margins))
    axes[3].set_title("α = 1.9, λ = 0.5")
    axes[3].set_xlabel("robust margin / scale, [2.5, ∞)")
    axes[3].set_yscale("log")
    axes[0].set_ylabel("accuracy disparity, [−1, 1]")
    shared_legend(figure)
    return figure


# Here, not in the function: compiled once for all panels, which have one shape.
_stable_disparity = jax.jit(mixed_disparity)


def _stable_curves(
    margin: Any, spread: float, ratio: float, alpha: float, coefficient: Any
) -> Curves:
    """Returns the disparity with and without mixing: one executable serves every panel."""
    shaped = np.broadcast_arrays(margin, spread, ratio, alpha, coefficient)
    with jax.enable_x64(True):
        fields = [jnp.asarray(field, float) for field in shaped]
        with_mixing = np.asarray(_stable_disparity(*fields))
        without = np.asarray(_stable_disparity(*fields[:4], jnp.ones_like(fields[4])))
    return Curves(shaped[4], with_mixing, np.abs(without))
