"""Figure of Hu, Wu, Zhang and Zhao (ICML 2023): the parts of accuracy disparity."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.kit.labels import IMBALANCE_RATIO, law_name
from figures.kit.legend import shared_legend
from figures.kit.panel import estimates_of
from figures.kit.picture import picture
from figures.kit.style import SERIES
from theory.claims import evaluate
from theory.claims.evaluate import row_by_row
from theory.claims.registry import find
from theory.fairness.disparity import Decomposition, decomposition
from theory.problem import LinfBall, Mixture

GAUSSIAN, HEAVY = "imbalance-raises-disparity-linf", "stable-imbalance-raises-disparity-linf"
PARTS = ("standard rule", "inherent effect of robustness", "effect of the imbalance ratio")
HATCHES = ("", "//", "..")


@picture(
    "hu2023-decomposition",
    (GAUSSIAN, HEAVY),
    """
    Natural accuracy disparity of the robust-optimal rule, taken apart: the standard rule's,
    plus what the robust direction adds with its own best natural intercept (inherent effect),
    plus what the robust intercept adds (effect of the imbalance ratio). Bars that go down are
    drawn from the top of those before. Points: the simulated disparity of the robust rule.
    """,
)
def parts(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Returns stacked parts of the disparity, a panel for each law."""
    heavy = datasets[HEAVY]
    radius = float(datasets[GAUSSIAN]["radius"].values[-1])
    cases = [("Gaussian", datasets[GAUSSIAN].sel(radius=radius), {"radius": radius})]
    for index in heavy["stability_index"].values[::-1].tolist():
        fixed = {"radius": float(heavy["radius"].values[2]), "stability_index": index}
        cases.append((law_name(index), heavy.sel(fixed), fixed))
    figure, axes = plt.subplots(1, len(cases), figsize=(11, 3.8))
    for axis, (title, dataset, fixed) in zip(axes, cases, strict=True):
        _bars(axis, dataset, fixed)
        axis.set_title(f"{title}, trained for radius {fixed['radius']:g}")
        axis.set_xlabel(IMBALANCE_RATIO)
    axes[0].set_ylabel("natural accuracy disparity, [−1, 1]")
    shared_legend(figure, axes[:1])
    return figure


def _bars(axes: Axes, dataset: xr.Dataset, fixed: Mapping[str, float]) -> None:
    """Draws one bar for each part and imbalance ratio, and the simulated sum beside them."""
    ratios = dataset["imbalance_ratio"].values
    points = {"imbalance_ratio": ratios}
    # A claim takes all axes as arrays of one length.
    points |= {name: np.full(len(ratios), value) for name, value in fixed.items()}
    # At whole numbers: the ratios grow by factors, and bars of one width would overlap there.
    centre, base = np.arange(len(ratios)), np.zeros(len(ratios))
    for k, (height, label) in enumerate(zip(_heights(dataset.claim, points), PARTS, strict=True)):
        look = SERIES[k]
        axes.bar(
            centre + 0.24 * (k - 1),
            height,
            0.24,
            base,
            color=look.colour,
            hatch=HATCHES[k],
            edgecolor="white",
            label=f"{label}, theory",
        )
        base = base + height
    disparity = estimates_of(dataset.isel(component=0))
    axes.errorbar(
        centre + 0.42,
        disparity.middle,
        yerr=disparity.bars,
        fmt="D",
        color="black",
        markersize=4,
        label="robust rule, simulation",
    )
    axes.axhline(0, color="black", linewidth=0.8)
    # The feet of bars would pin the limits, and the margin below them would be lost.
    axes.use_sticky_edges = False
    axes.margins(y=0.08)
    axes.set_xticks(centre, [f"{ratio:g}" for ratio in ratios])


def _heights(name: str, points: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Returns the standard rule's disparity and the two parts, each (n,)."""
    claim = find(name)
    problems = jax.tree.map(jnp.asarray, evaluate.problems(claim, points))
    threat = LinfBall(jnp.asarray(points["radius"]))
    parts = row_by_row(_along_the_path, (problems.mixture, threat))
    changes = [np.asarray(part.positive - part.negative) for part in parts]
    return [evaluate.closed_form(claim, points)[:, 0], *changes]


def _along_the_path(law: tuple[Mixture, LinfBall]) -> Decomposition:
    return decomposition(*law, "path")
