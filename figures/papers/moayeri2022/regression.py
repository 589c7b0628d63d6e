"""Figures of Moayeri, Banihashem and Feizi (NeurIPS 2022): regression."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.labels import NORMS, RESIDUAL, radius_label
from figures.kit.legend import shared_legend
from figures.kit.panel import DENSE, draw_estimates, draw_panel, estimates_of
from figures.kit.picture import picture
from figures.kit.style import SERIES, Series
from figures.papers.moayeri2022.classification import BALLS
from theory.claims import evaluate
from theory.claims.registry import find
from theory.claims.settings.pair_regressions import CORRELATION, pair
from theory.regression.pair import pair_natural_radius
from theory.regression.risk import zero_radius

FIXED = tuple(f"adversarial-squared-risk-{norm}" for norm in NORMS)
TRAINED = tuple(f"trained-squared-risk-{norm}" for norm in NORMS)
COSTS = tuple(f"spurious-shift-cost-{norm}" for norm in NORMS)
OPTIMAL = tuple(f"trained-weights-are-optimal-{norm}" for norm in ("l2", "linf"))
PRICE = tuple(f"flip-doubles-price-{norm}" for norm in ("l2", "linf"))
GROWS = tuple(f"spurious-reliance-grows-{norm}" for norm in ("l1", "l2"))
ONE, FOUR = (f"linf-relies-on-larger-scale-only-{cores}" for cores in ("one-core", "four-cores"))
KEPT = "preserved-correlation-helps-l2"
TRAINING_RADIUS = "training radius"
PAIR = {"scale_ratio": 2.0, "noise": 0.5}
# Along each side of a phase diagram: every node is a problem to be trained.
NODES = 49


def _weights(name: str, **points: np.ndarray) -> np.ndarray:
    """Returns the trained weights of a claim's problems, of the shape of the points and (d,)."""
    shaped = dict(zip(points, np.broadcast_arrays(*points.values()), strict=True))
    # A claim takes points in a row; the plane is folded back afterwards.
    flat = {key: values.ravel() for key, values in shaped.items()}
    weight = evaluate.problems(find(name), flat).weight[:, 0]
    shape = next(iter(shaped.values())).shape
    return np.asarray(weight).reshape(*shape, -1)


@picture(
    "moayeri2022-squared-risk",
    FIXED + OPTIMAL,
    """
    Top: standard and adversarial squared risk of one linear rule on eight correlated features,
    against the radius; the strips are simulation minus closed form. Bottom: adversarial risk of
    weights a step away from the trained ones, up or down in either feature; none falls below
    the least risk (dotted).
    """,
)
def squared_risk(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns risk against radius for three norms, and risk around the optimum for two."""
    figure = plt.figure(figsize=(9.6, 7.2))
    grid = figure.add_gridspec(3, 3, height_ratios=(3, 1, 3))
    for column, (norm, name) in enumerate(zip(NORMS, FIXED, strict=True)):
        top = figure.add_subplot(grid[0, column])
        strip = figure.add_subplot(grid[1, column], sharex=top)
        draw_panel(top, datasets[name], {"noise": 1.0}, strip)
        top.set_title(f"{NORMS[norm]} threat, one rule")
        strip.set_xlabel(radius_label(norm))
        top.set_ylabel("squared risk, [0, ∞)" if not column else "")
        strip.set_ylabel(RESIDUAL if not column else "")
    figure.axes[0].legend()
    for column, name in enumerate(OPTIMAL):
        panel, dataset = figure.add_subplot(grid[2, column]), datasets[name]
        radius = dataset["radius"].values[-1]
        _steps(panel, dataset.sel(radius=radius, scale_ratio=2.0, noise=0.5), radius)
        panel.set_title(f"{NORMS[name.rpartition('-')[2]]} threat, radius {radius:g}")
        panel.set_ylabel("adversarial risk, [0, ∞)" if not column else "")
    # The sixth place is free for the legend of the bottom row.
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    last = figure.add_subplot(grid[2, 2])
    last.set_axis_off()
    last.legend(handles, labels, loc="center")
    return figure


def _steps(axes: Axes, part: xr.Dataset, radius: float) -> None:
    """Draws the risk of weights moved up (positive) and down along each axis."""
    steps = np.linspace(0, float(part["step"].max()), 41)
    fixed = {"radius": radius, **PAIR}
    points = {"step": steps} | {name: np.full(41, v) for name, v in fixed.items()}
    curves = evaluate.simulated(find(part.claim), points)
    for k, (name, look) in enumerate(zip(("core", "spurious"), SERIES, strict=False)):
        # One curve from the step down, component 2 k + 1, to the step up, component 2 k.
        x = np.concatenate([-steps[::-1], steps])
        y = np.concatenate([curves[::-1, 2 * k + 1], curves[:, 2 * k]])
        axes.plot(x, y, look.line, color=look.colour, label=f"{name} weight moved, theory")
        for side, row in ((1, 2 * k), (-1, 2 * k + 1)):
            moved = part.isel(component=row)
            label = f"{name} weight moved, simulation" if side > 0 else None
            draw_estimates(axes, side * moved["step"].values, estimates_of(moved), look, label)
    axes.axhline(float(part["theory"][0, 0]), linestyle=":", color="black", label="least, theory")
    axes.set_xlabel("step, (−∞, ∞)")


@picture(
    "moayeri2022-weights",
    COSTS,
    """
    Training on one core and one spurious feature (correlation 0.75, twice the scale). Top:
    optimal weights against the radius, with noise 0.5 in y and (thin) without; without noise
    nothing changes up to ε₁, with noise nothing is used from ε₀ on. Bottom: what the spurious
    weight costs in squared risk (noise 0.5) when the correlation changes its sign, and when
    noise of variance 4 is put on the spurious feature.
    """,
)
def weights(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns weights with their thresholds, and what shifts cost, a column for each norm."""
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.8), sharey="row", sharex="col")
    for (top, bottom), norm, name in zip(axes.T, NORMS, COSTS, strict=True):
        thresholds = _thresholds(norm)
        # A little past the last threshold, from which on both weights are zero.
        radius = np.linspace(0, 1.05 * thresholds[-1], 161)
        for noise, width in ((0.5, 1.4), (0.0, 0.6)):
            both = _weights(name, radius=radius, scale_ratio=np.array(2.0), noise=np.array(noise))
            for feature, look, values in zip(("core", "spurious"), SERIES, both.T, strict=False):
                label = f"{feature} weight, {'noise 0.5' if noise else 'no noise'}, theory"
                top.plot(radius, values, look.line, color=look.colour, linewidth=width, label=label)
        for at, symbol in zip(thresholds, ("$\\epsilon_1$", "$\\epsilon_0$"), strict=True):
            top.axvline(at, 0, 0.9, color="0.4", linewidth=0.8, linestyle=":")
            top.annotate(symbol, (at, 1.08), ha="center", annotation_clip=False)
        top.set_ylim(-0.04, 1.18)
        top.set_title(f"{NORMS[norm]} threat")
        draw_panel(bottom, datasets[name], PAIR)
        bottom.set_xlabel(radius_label(norm, TRAINING_RADIUS))
    axes[0, 0].set_ylabel("weight")
    axes[1, 0].set_ylabel("rise of the squared risk")
    shared_legend(figure, columns=2)
    return figure


def _thresholds(norm: str) -> tuple[float, float]:
    """Returns eps_1 of the pair without noise and eps_0 of the pair with it."""
    # The radius of the ball has no say in where thresholds lie, its norm has.
    with jax.enable_x64(True):
        ratio, ball = jnp.asarray(2.0), BALLS[norm](jnp.asarray(0.0))
        natural = pair_natural_radius(pair(ratio, jnp.asarray(0.0)), ball)
        return float(natural), float(zero_radius(pair(ratio, jnp.asarray(0.5)), ball))


@picture(
    "moayeri2022-tradeoff",
    TRAINED + PRICE + (KEPT,),
    """
    Top: adversarial risk on the training law against standard risk after the correlation b has
    become −b, along the training radius from 0 (lower left): the same curve where the spurious
    feature is not used. Bottom: risk after the flip minus twice the standard risk, at least
    minus the noise variance where the flip doubles the price of training (hollow: it does not);
    right: risk with minus without the spurious feature while the correlation is preserved.
    """,
)
def tradeoff(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns adversarial against shifted risk for three norms, and three signed differences."""
    figure, axes = plt.subplots(2, 3, figsize=(10.2, 6.6))
    for panel, label, name in zip(axes[0], NORMS.values(), TRAINED, strict=True):
        for look, ratio in zip(SERIES, datasets[name]["scale_ratio"].values, strict=False):
            _along(panel, datasets[name].sel(scale_ratio=ratio, noise=0.5), look, ratio)
        panel.set_title(f"{label} threat")
        panel.set_xlabel("adversarial risk at b, [0, ∞)")
    axes[0, 0].set_ylabel("standard risk at −b, [0, ∞)")
    for panel, name, ratio in zip(axes[1], (*PRICE, KEPT), (2.0, 0.8, 2.0), strict=True):
        draw_panel(panel, datasets[name], {"scale_ratio": ratio, "noise": 0.5})
        norm = name.rpartition("-")[2]
        panel.set_title(f"{NORMS[norm]} threat, scale ratio {ratio:g}")
        panel.set_xlabel(radius_label(norm, TRAINING_RADIUS))
    axes[1, 0].set_ylabel("flipped − 2 standard risk")
    axes[1, 2].set_ylabel("with − without spurious")
    shared_legend(figure, columns=4)
    return figure


def _along(axes: Axes, part: xr.Dataset, look: Series, ratio: float) -> None:
    """Draws both risks along the radius, each point with the intervals of both."""
    radius = np.linspace(0, part["radius"].values[-1], DENSE)
    fixed = {"scale_ratio": np.full(DENSE, ratio), "noise": np.full(DENSE, 0.5)}
    x, y = evaluate.closed_form(find(part.claim), {"radius": radius} | fixed).T
    axes.plot(x, y, look.line, color=look.colour, label=f"scale ratio {ratio:g}, theory")
    adversarial, shifted = (estimates_of(part.isel(component=k)) for k in range(2))
    label = f"scale ratio {ratio:g}, simulation"
    draw_estimates(axes, adversarial.middle, shifted, look, label, xerr=adversarial.bars)


@picture(
    "moayeri2022-reliance",
    (ONE, FOUR, *GROWS, COSTS[-1]),
    """
    Where training relies on the spurious feature (grey: its share of the weights; white: none,
    or no feature is used). From the left: ℓ∞ with one core feature, only above |corr| sd_S =
    sd_C (dashed); ℓ∞ with four, each correlated 0.45 with it: also where its scale is smaller;
    ℓ₁ and ℓ₂ against the noise in y: with little of it, reliance starts late and falls short of
    growth in proportion to the radius (hatched). Points: simulated problems, triangles where
    noise on the spurious feature is seen to cost something, hollow where the sentence fails.
    """,
)
def reliance(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns four phase diagrams of the share of the spurious weight."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 4.2))
    # The edges: |corr| sd_S = sd_C with one core feature; 4 * 0.45 sd_S = sd_C with four.
    _scales(axes[0], ONE, np.linspace(0.2, 2.4, NODES), 1 / CORRELATION, CORRELATION)
    _scales(axes[1], FOUR, np.linspace(0.2, 1.1, NODES), 5 / 9, 1.0)
    _mark(axes[0], datasets[ONE].isel(noise=0, component=0), "scale_ratio", CORRELATION)
    # Component 1 is what noise on the spurious feature costs.
    costs = datasets[COSTS[-1]].isel(noise=0, component=1, radius=slice(1, 5))
    _mark(axes[0], costs, "scale_ratio", CORRELATION)
    _mark(axes[1], datasets[FOUR].isel(noise=0, component=0), "scale_ratio", 1.0)
    for panel, name in zip(axes[2:], GROWS, strict=True):
        _noises(panel, name)
        part = datasets[name].sel(scale_ratio=2.0).isel(component=0, radius=slice(1, None))
        _mark(panel, part, "noise", 1.0)
        panel.set_title(f"{NORMS[name.rpartition('-')[2]]} threat, scale ratio 2")
    titles = ("one core feature, $\\ell_\\infty$", "four core features, $\\ell_\\infty$")
    for panel, title in zip(axes, titles, strict=False):
        panel.set_title(title)
    axes[0].set_ylabel("|corr| sd_S / sd_C, (0, ∞)")
    axes[1].set_ylabel("sd_S / sd_C, (0, ∞)")
    for panel in axes[2:]:
        panel.set_ylabel("noise in y, [0, ∞)")
    for panel in axes:
        panel.set_xlabel("training radius")
    shared_legend(figure, columns=4)
    return figure


def _scales(axes: Axes, name: str, ratios: np.ndarray, edge: float, unit: float) -> None:
    """Shades the plane of radius and scale; a row on each side of the edge keeps it sharp."""
    ratios = np.sort(np.append(ratios, [edge - 1e-9, edge + 1e-6]))
    radii = np.linspace(0.01, 1.3, NODES)
    trained = _weights(name, radius=radii, scale_ratio=ratios[:, None], noise=np.array(0.5))
    _share(axes, radii, unit * ratios, trained)
    axes.axhline(unit * edge, linestyle="--", color="black", label="threshold, theory")


def _noises(axes: Axes, name: str) -> None:
    """Shades the plane of radius and noise, and hatches where the claim of growth fails."""
    radii, noises = np.linspace(0.01, 0.8, NODES), np.linspace(0, 0.8, NODES)
    plane = dict(zip(("radius", "noise"), np.meshgrid(radii, noises), strict=True))
    plane["scale_ratio"] = np.full_like(plane["noise"], 2.0)
    _share(axes, radii, noises, _weights(name, **plane))
    late = evaluate.failing(find(name), {key: values.ravel() for key, values in plane.items()})
    axes.contourf(
        radii, noises, late.reshape(NODES, NODES), [0.5, 1.5], colors="none", hatches=["////"]
    )
    label = "slower than in proportion, theory"
    axes.fill(np.nan, np.nan, facecolor="none", edgecolor="0.2", hatch="////", label=label)


def _share(axes: Axes, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> None:
    """Shades the spurious share of the weights' l_1 norm in four greys, white where all are zero.

    Past the radius from which on nothing is used the share is continued, and covered in white up
    to where the weights end, so that its edge is not the grid's.
    """
    size = np.abs(weight)
    total = size.sum(-1)
    used = total > 1e-9
    share = size[..., -1] / np.where(used, total, 1)
    # Column after column, as each takes over from the one before it.
    for column in range(1, len(x)):
        share[:, column] = np.where(used[:, column], share[:, column], share[:, column - 1])
    edges, greys = (1e-9, 0.25, 0.5, 0.75, 1.01), ("0.88", "0.76", "0.64", "0.52")
    axes.contourf(x, y, share, edges, colors=greys)
    # The weights fall to zero in proportion to the radius that is left.
    axes.contourf(x, y, _beyond(total, used), [0, np.inf], colors=["white"])
    for low, high, grey in zip(edges, edges[1:], greys, strict=False):
        text = f"spurious share {100 * low:.0f} to {min(100 * high, 100):.0f} %, theory"
        axes.fill(np.nan, np.nan, facecolor=grey, label=text)
    axes.grid(False)


def _beyond(total: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Returns a function that is positive where nothing is used, crossing zero at the edge."""
    beyond = -total
    for column in range(2, total.shape[1]):
        slope = beyond[:, column - 1] - beyond[:, column - 2]
        ahead = beyond[:, column - 1] + np.maximum(slope, 1e-6)
        beyond[:, column] = np.where(used[:, column], beyond[:, column], np.maximum(ahead, 1e-9))
    return beyond


def _mark(axes: Axes, dataset: xr.Dataset, along: str, unit: float) -> None:
    """Marks simulated problems, hollow where the sentence is known to fail."""
    radius, other = xr.broadcast(dataset["radius"], dataset[along])
    failing, low = (dataset[k].transpose(*radius.dims).values for k in ("fails", "low"))
    for seen, marker in ((False, "o"), (True, "^")):
        for hollow in (False, True):
            chosen = (failing.astype(bool) == hollow) & ((low > 0) == seen)
            if not chosen.any():
                continue
            verdict = ("reliance" if seen else "none") + " seen"
            verdict += " (claim fails)" if hollow else ""
            axes.plot(
                radius.values[chosen],
                unit * other.values[chosen],
                marker,
                color="black",
                markerfacecolor="white" if hollow else "black",
                label=f"simulation, {verdict}",
            )
