"""Figures are pure functions of datasets; labels, series and intervals are where they belong."""

import pathlib
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colors
from matplotlib.figure import Figure

from figures import papers
from figures.kit import registry, style
from figures.kit.legend import shared_legend
from figures.kit.panel import Estimates, draw_panel, is_logarithmic
from figures.kit.picture import DRAWN
from sims.sweep import file as sweep_file
from sims.sweep import verdict
from sims.sweep.plan import make_plan
from theory.claims import evaluate
from theory.claims.registry import find, registered

pytestmark = pytest.mark.slow

PICTURES = registry.pictures()
# One function draws all claims that no paper's picture does: each third of them shows it.
LIKE_OTHERS = {n for i, n in enumerate(sorted(PICTURES.keys() - DRAWN.keys())) if i % 3}


def _dataset(name):
    """A judged sweep with totals made up, so that no simulation is needed."""
    claim = find(name)
    dataset = sweep_file.empty(make_plan(claim, trials=1000))
    for total in set(sweep_file.totals(dataset)) - {"nonfinite"}:
        dataset[total][:] = 1000 if total == "trials" else 300
    return verdict.judge(dataset, claim, 1e-3)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] if name in LIKE_OTHERS else [])
        for name in sorted(PICTURES)
    ],
)
def test_every_picture_is_drawn_and_labelled(name):
    picture = PICTURES[name]
    drawn = picture.draw({claim: _dataset(claim) for claim in picture.claims})
    assert isinstance(drawn, Figure)
    labelled = [axes.get_xlabel() for axes in drawn.axes] + [drawn.get_supxlabel()]
    assert any(labelled)
    assert any(axes.get_ylabel() for axes in drawn.axes)
    text = [
        t.get_text()
        for legend in [*drawn.legends, *(a.get_legend() for a in drawn.axes)]
        if legend
        for t in legend.get_texts()
    ]
    assert any("theory" in line for line in text)
    assert any("simulation" in line for line in text)
    assert picture.caption
    plt.close(drawn)


def test_every_claim_is_in_a_picture():
    drawn = {claim for picture in PICTURES.values() for claim in picture.claims}
    assert drawn == set(registered())


def test_points_are_the_estimates_and_bars_the_intervals():
    dataset = _dataset("robust-risk-bound-l2")
    drawn, axes = plt.subplots()
    draw_panel(axes, dataset, {})
    (container,) = axes.containers
    points, _, (bars,) = container
    np.testing.assert_array_equal(points.get_ydata(), dataset["estimate"].values[:, 0])
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends[:, 0], dataset["low"].values[:, 0], rtol=1e-12)
    np.testing.assert_allclose(ends[:, 1], dataset["high"].values[:, 0], rtol=1e-12)
    plt.close(drawn)


def test_series_stay_apart_in_grey_and_by_shape():
    grey = [np.dot([0.2126, 0.7152, 0.0722], colors.to_rgb(s.colour)) for s in style.SERIES]
    assert np.abs(np.subtract.outer(grey, grey))[np.triu_indices(3, 1)].min() > 0.08
    assert len({s.marker for s in style.SERIES}) == len({s.line for s in style.SERIES}) == 3


def test_six_series_have_looks_of_their_own():
    looks = [style.series(k) for k in range(6)]
    assert looks[:3] == list(style.SERIES)
    assert len({look.marker for look in looks}) == 6
    assert len({(look.colour, look.line) for look in looks}) == 6
    # Dotted lines are bounds.
    assert style.BOUND not in {look.line for look in looks}


def test_a_shared_legend_names_every_label_once():
    drawn, panels = plt.subplots(1, 3)
    for panel, labels in zip(panels, (("a", "b"), ("b", "c"), ("d",)), strict=True):
        for label in labels:
            panel.plot([0, 1], [0, 1], label=label)
    shared_legend(drawn)
    shared_legend(drawn, panels[1:], 1, "outside lower center")
    named = [[text.get_text() for text in legend.get_texts()] for legend in drawn.legends]
    assert named == [["a", "b", "c", "d"], ["b", "c", "d"]]
    plt.close(drawn)


def test_bars_are_never_negative():
    # Rounding may leave an estimate just beyond the end of its interval.
    estimates = Estimates(np.array([0.3, 0.5]), np.array([0.3 + 1e-16, 0.4]), np.array([0.6, 0.5]))
    assert (estimates.bars >= 0).all()
    assert estimates.at(np.array([False, True])).low.tolist() == [0.4]


def test_no_paper_needs_another():
    for paper in pathlib.Path(papers.__path__[0]).iterdir():
        for path in [paper] if paper.suffix == ".py" else paper.glob("*.py"):
            used = set(re.findall(r"figures\.papers\.(\w+)", path.read_text("utf-8")))
            assert used <= {paper.stem}, path


def test_the_simulated_quantity_is_the_claim_where_the_claim_is_an_equality():
    claim = find("robust-optimal-risk-linf")
    points = {"imbalance_ratio": np.array([1.0, 7.0]), "radius": np.array([0.2, 0.9])}
    np.testing.assert_allclose(
        evaluate.simulated(claim, points), evaluate.closed_form(claim, points), rtol=1e-12
    )


def test_names_choose_pictures_by_figure_or_by_claim():
    chosen = registry.choose(("cauchy-robust-risk-l1", "hu2023-robust-risk"))
    assert [picture.name for picture in chosen] == ["hu2023-robust-risk"]
    assert len(registry.choose(())) == len(PICTURES)


@pytest.mark.parametrize(
    ("values", "expected"), [((1, 100), True), ((0, 100), False), ((1, 3), False)]
)
def test_wide_positive_axes_are_logarithmic(values, expected):
    assert is_logarithmic(np.array(values, float)) == expected
