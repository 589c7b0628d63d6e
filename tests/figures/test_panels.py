"""Residuals lie beside their points on any scale; what a file says is drawn, whatever it says."""

import logging
import os

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from figures.__main__ import _quiet_matplotlib, make
from figures.kit import style
from figures.kit.labels import evaluation_title, plain
from figures.kit.panel import APART, beside, lengths
from figures.results.networks import label_classes, matrix, shares_of
from sims import files
from sims.sweep import file as sweep_file
from sims.sweep.plan import make_plan
from theory.claims.registry import find
from theory.domain import InvalidInput

X = np.array([0.1, 0.3, 1.0, 10.0, 100.0])


@pytest.mark.parametrize("scale", ["linear", "log", "symlog", "logit"])
@pytest.mark.parametrize("steps", [-0.5, 0.5, 1.0, -2.5])
def test_points_are_moved_by_one_size_on_the_paper(scale, steps):
    drawn, axes = plt.subplots()
    axes.set_xscale(scale)
    x = X / 1000 if scale == "logit" else X
    at = axes.transData.transform(np.stack([x, x * 0 + 0.5], -1))[:, 0]
    moved = axes.transData.transform(np.stack([beside(axes, x, steps), x * 0 + 0.5], -1))[:, 0]
    np.testing.assert_allclose(moved - at, steps * APART * (at.max() - at.min()), rtol=1e-6)
    plt.close(drawn)


def test_places_on_two_scales_are_these():
    drawn, axes = plt.subplots()
    linear = beside(axes, X, -0.5)
    np.testing.assert_array_equal(linear, X + -0.5 * APART * (X.max() - X.min()))
    axes.set_xscale("log")
    # Three decades, so half a step of 0.012 of them is 0.018 of a decade.
    np.testing.assert_allclose(beside(axes, X, -0.5), X * 10**-0.018, rtol=1e-12)
    plt.close(drawn)


def test_bars_are_never_negative_and_classes_without_samples_are_blank():
    assert lengths(np.array([-1e-17, 0.1]), np.array([0.2, -1e-18])).min() == 0
    shares = shares_of(np.array([[3, 1], [0, 0]]))
    np.testing.assert_array_equal(shares, [[0.75, 0.25], [np.nan, np.nan]])
    drawn, axes = plt.subplots()
    matrix(axes, shares, np.array(["a", "b"]), "shares")
    drawn.canvas.draw()
    assert [text.get_text() for text in axes.texts] == ["75", "25"]
    plt.close(drawn)


@pytest.mark.parametrize("name", ["$\\frac{$", "$x$", "a$b", "<script>", "a_b^c", "", "\\"])
def test_names_of_a_file_are_no_formula(name):
    drawn, axes = plt.subplots()
    axes.imshow(np.eye(2))
    label_classes(axes, np.array([name, "other"]))
    attributes = {"norm": name, "radius": 0.1, "model": name, "data": name}
    axes.set_title(evaluation_title(attributes, name))
    axes.set_xlabel(plain([name])[0])
    drawn.canvas.draw()
    plt.close(drawn)


def _missing(folder):
    return folder / "no.nc"


def _folder(folder):
    return folder


def _sweep(folder):
    dataset = sweep_file.empty(make_plan(find("robust-risk-bound-l2"), trials=1000))
    files.save(dataset, folder / "sweep.nc")
    return folder / "sweep.nc"


def _exploratory(folder):
    dataset = files.read(_sweep(folder)).assign_attrs(standing=sweep_file.EXPLORATORY)
    files.save(dataset, folder / "explored.nc")
    return folder / "explored.nc"


def _other(folder):
    files.save(files.read(_sweep(folder)).drop_attrs()[["trials"]], folder / "other.nc")
    return folder / "other.nc"


def _text(folder):
    (folder / "text.nc").write_text("text")
    return folder / "text.nc"


REFUSED = {
    _missing: "no such file",
    _folder: "is a folder",
    _sweep: "data = .*sweep.nc: is a sweep of 'robust-risk-bound-l2', whose figure",
    _exploratory: "exploratory",
    _other: "not a result file, it has no 'weight'",
    _text: "not a readable file",
}


@pytest.mark.parametrize("given", REFUSED)
def test_files_that_cannot_be_drawn_are_a_line(tmp_path, given):
    with pytest.raises(InvalidInput, match=REFUSED[given]) as refused:
        make(data=(given(tmp_path),), out=tmp_path / "gallery")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "gallery").exists()


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("a",), {"data": ("b.nc",)}, "figure = 'a': has no effect with --data"),
        ((), {"data": ("b.nc",), "fresh": True}, "fresh: has no effect with --data"),
        (("../up",), {}, "figure = '../up': unknown"),
        ((), {"level": 2}, "level = 2"),
        (("robust-risk-bound-l2",), {"seed": -1}, "seed = -1"),
        (("robust-risk-bound-l2",), {"trials": -1}, "trials = -1"),
        (("robust-risk-bound-l2",), {"trials": 10**30}, "at most 2.53"),
    ],
)
def test_options_that_cannot_be_are_a_line_at_once(tmp_path, names, options, message):
    with pytest.raises(InvalidInput, match=message):
        make(names, out=tmp_path / "gallery", **options)
    assert not (tmp_path / "gallery").exists() or not list((tmp_path / "gallery").iterdir())


def test_no_setting_of_a_user_reaches_a_picture(monkeypatch):
    style.use()
    ours = dict(mpl.rcParams)
    mpl.rcParams["axes.facecolor"] = "red"
    mpl.rcParams["text.usetex"] = True
    mpl.rcParams["font.size"] = 30
    style.use()
    assert dict(mpl.rcParams) == ours
    monkeypatch.setenv("MPLBACKEND", "no-backend")
    monkeypatch.setattr(logging.getLogger("matplotlib"), "level", logging.NOTSET)
    _quiet_matplotlib()
    assert os.environ["MPLBACKEND"] == "Agg"
    assert not logging.getLogger("matplotlib.font_manager").isEnabledFor(logging.WARNING)
