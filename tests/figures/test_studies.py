"""Figures of a study: points and bars are the numbers, nothing overlaps, nothing is cut off."""

import itertools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from figures.__main__ import make
from figures.results import studies
from nets.evaluation import file as evaluation_file
from nets.evaluation.outcomes import Outcomes
from nets.study import file as study_file
from nets.study import report as study_report
from sims import files
from theory.domain import InvalidInput

METHODS = ("trades", "dafa", "frl", "a-method-of-a-long-name", "wat", "faal", "mixup")
SETTINGS = {"epochs": 1, "training": {"epochs": 1}}
CLASSES = ("T-shirt/top", "trouser", "pullover", "ankle boot")
EACH, SEEDS = 40, (0, 1)


@pytest.fixture(scope="module")
def dataset():
    """Seven methods whose classes are at different places, made up."""
    rng, labels, found = np.random.default_rng(0), np.arange(EACH * 4) % 4, {}
    for place, (method, seed) in enumerate(itertools.product(METHODS, SEEDS)):
        accuracy = np.clip([0.9, 0.4 + 0.03 * place, 0.6, 0.8 - 0.02 * place], 0, 1)
        robust = rng.random(len(labels)) < accuracy[labels]
        clean = robust | (rng.random(len(labels)) < 0.6)
        said = [np.where(flags, labels, (labels + 1) % 4) for flags in (clean, robust)]
        outcomes = Outcomes(
            ("clean", "apgd-ce", "apgd-t"),
            np.stack([clean, robust, robust]),
            np.stack(said).astype(np.int32),
            np.full((2, len(labels), 4), 0.25),
            np.zeros((len(labels), 1)),
            0,
        )
        attributes: dict[str, Any] = {
            "data": "fashion-mnist",
            "fingerprint": "f",
            "split": "all",
            "norm": "linf",
        }
        attributes |= {"radius": 0.1, "model": "small-cnn", "protocol": "budget"}
        found[method, seed] = evaluation_file.make(outcomes, labels, CLASSES, 0.05, attributes)
    return study_file.make(
        found, dict.fromkeys(found, SETTINGS), reference="trades", level=0.05, attributes={}
    )


@pytest.fixture(scope="module")
def found(dataset):
    return study_report.changes(dataset)


@pytest.fixture(scope="module")
def drawn(dataset, found):
    figures = {
        "classes": studies.classes(dataset, found),
        "trade-off": studies.trade_off(dataset, found),
        "confusion": studies.confusion(dataset, found),
        "classes of two methods": studies.classes(dataset, found.isel({"training": [0]})),
    }
    for one in figures.values():
        one.canvas.draw()
    yield figures
    for one in figures.values():
        plt.close(one)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classes", "classes of two methods", "trade-off", "confusion"])
def test_no_text_lies_on_another_or_outside(name, drawn):
    figure = drawn[name]
    # Tick labels beyond the limits of an axis are not drawn, though they have a box.
    shown = [
        t
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for t in _ticks(axis)
        if axes.axison and t.get_visible() and t.get_text()
    ]
    shown += [t for axes in figure.axes if axes.axison for t in (axes.title, *axes.texts)]
    shown += [axis.label for a in figure.axes if a.axison for axis in (a.xaxis, a.yaxis)]
    shown += [t for legend in figure.legends for t in legend.get_texts()]
    shown += [figure._suptitle]
    shown = [t for t in shown if t.get_text().strip() and t.get_visible()]
    boxes = [t.get_window_extent().shrunk(0.9, 0.8) for t in shown]
    assert len(boxes) > 15
    whole = figure.bbox
    for text, box in zip(shown, boxes, strict=True):
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text
    rotated = {id(t) for t in shown if t.get_rotation() not in (0, 90)}
    for (one, a), (two, b) in itertools.combinations(zip(shown, boxes, strict=True), 2):
        # The box of a slanted label is larger than the label; they are parallel.
        if not (id(one) in rotated and id(two) in rotated):
            assert not a.overlaps(b), (one.get_text(), two.get_text())


def _ticks(axis):
    low, high = sorted(axis.get_view_interval())
    for tick in axis.get_major_ticks():
        if low - 1e-9 <= tick.get_loc() <= high + 1e-9:
            yield tick.label1


def test_bars_of_classes_are_changes_drawn_from_the_reference(drawn, found):
    panels = [axes for axes in drawn["classes"].axes if axes.axison]
    assert [axes.get_title().split(",")[0] for axes in panels] == list(METHODS[1:])
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    before = found["class_value"].sel(all_methods="trades").mean("seed")
    assert np.all(np.diff(before.sel({"class": names, "condition": "robust"})) >= 0)
    part = found.sel({"training": "dafa", "condition": "robust", "class": names})
    container = panels[0].containers[1]
    origin = before.sel({"condition": "robust", "class": names}).values
    np.testing.assert_allclose(container[0].get_xdata(), origin + part["class_change"].values)
    ends = np.array([segment[:, 0] for segment in container[2][0].get_segments()])
    np.testing.assert_allclose(ends[:, 0], origin + part["class_low"].values)
    np.testing.assert_allclose(ends[:, 1], origin + part["class_high"].values)


def test_every_network_is_a_point_and_every_mean_joined(drawn, found):
    left, right = drawn["trade-off"].axes
    points = np.concatenate([line.get_xydata() for line in left.lines])
    for method, seed in itertools.product(METHODS, SEEDS):
        part = found["value"].sel(all_methods=method, seed=seed)
        wanted = [float(part.sel(quantity=name)) for name in ("robust average", "gap")]
        assert np.abs(points - wanted).max(-1).min() < 1e-12
    assert len(right.containers) == len(METHODS) - 1
    origin = found["value"].sel(all_methods="trades").mean("seed")
    part = found.sel({"training": "dafa", "quantity": "worst class"})
    vertical = right.containers[0][2][1].get_segments()[0][:, 1]
    base = float(origin.sel(quantity="worst class"))
    np.testing.assert_allclose(vertical, [base + float(part[name]) for name in ("low", "high")])
    legend = [text.get_text() for text in drawn["trade-off"].legends[0].get_texts()]
    assert legend == list(METHODS)


def test_methods_stay_apart_by_shape_alone(dataset):
    looks = studies._looks(dataset)
    assert len({look.marker for look in looks.values()}) == len(METHODS)


def test_confusion_is_of_the_best_method_and_adds_up(drawn, found, dataset):
    one, two, difference = (axes.images[0].get_array() for axes in drawn["confusion"].axes)
    np.testing.assert_allclose(difference, two - one, atol=1e-12)
    np.testing.assert_allclose(one.sum(-1), 1)
    change = found["change"].sel(quantity="worst class").values
    best = found["training"].values[change.argmax()]
    assert drawn["confusion"].axes[1].get_title().startswith(best)
    counts = dataset["confusion"].sel({"training": best}).sum("seed")
    worst = found["class_value"].sel(all_methods="trades", condition="robust").mean("seed")
    first = str(worst.idxmin().values)
    own = counts.sel({"class": first, "said": first}) / counts.sel({"class": first}).sum()
    assert two[0, 0] == pytest.approx(float(own))


@pytest.mark.slow
def test_a_result_file_gives_three_pictures(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(plt.Figure, "savefig", lambda self, to, **_: to.write(b"drawn"))
    folder = tmp_path / "fashion"
    folder.mkdir()
    files.save(dataset, folder / "study.nc")
    assert make(data=(folder / "study.nc",), out=tmp_path / "gallery") == 0
    names = sorted(path.name for path in (tmp_path / "gallery").glob("*.png"))
    assert names == [f"fashion-study-{name}.png" for name in ("classes", "confusion", "trade-off")]
    files.save(dataset.drop_vars("confusion"), folder / "other.nc")
    with pytest.raises(InvalidInput, match="confusion"):
        make(data=(folder / "other.nc",), out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
