"""What a study says of made-up networks: numbers, intervals, verdicts, tables, its file."""

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from nets.evaluation import file as evaluation_file
from nets.evaluation.outcomes import Outcomes
from nets.study import file as study_file
from nets.study import report as study_report
from sims import files
from support.faults.datasets import with_value
from theory.domain import InvalidInput

METHODS = ("old", "same", "new")
LABELS = np.arange(300) % 3
ACCURACY = {"old": (0.3, 0.7, 0.9), "same": (0.3, 0.7, 0.9), "new": (0.6, 0.7, 0.85)}


def made_up(seeds=(0, 1), level=0.05, settings=None, **changes):
    """Returns a study in which the images' luck is nearly that of all networks."""
    rng, found = np.random.default_rng(0), {}
    luck = rng.random(300)
    for method in METHODS:
        for seed in seeds:
            own = np.where(rng.random(300) < 0.95, luck, rng.random(300))
            robust = own < np.array(ACCURACY[method])[LABELS]
            clean = robust | (rng.random(300) < 0.5)
            said = np.stack([np.where(part, LABELS, (LABELS + 1) % 3) for part in (clean, robust)])
            probabilities = np.full((2, 300, 3), 1 / 3)
            outcomes = Outcomes(
                ("clean", "pgd"),
                np.stack([clean, robust]),
                said.astype(np.int32),
                probabilities,
                np.zeros((300, 1)),
                0,
            )
            attributes: dict[str, Any] = {
                "data": "d",
                "fingerprint": "f",
                "split": "all",
                "norm": "linf",
            }
            attributes |= {"radius": 0.1, "model": "m", "protocol": "quick"}
            found[method, seed] = evaluation_file.make(
                outcomes, LABELS, ("a", "b", "c"), 0.05, attributes
            )
    plain = {key: {"epochs": 2, "training": {"epochs": 2 + key[1]}} for key in found}
    settings = plain if settings is None else dict.fromkeys(found, settings)
    found = {key: one.assign_attrs(changes.get(key[0], {})) for key, one in found.items()}
    return study_file.make(
        found, settings, reference="old", level=level, attributes={"name": "made-up"}
    )


@pytest.fixture(scope="module")
def changed():
    return study_report.changes(made_up())


def test_every_number_is_that_of_the_flags(changed):
    dataset = made_up()
    for i, method in enumerate(METHODS[1:]):
        for j in range(2):
            values = []
            for name in (method, "old"):
                correct = dataset["correct"].sel({"training": name}).values[j]
                per_class = [correct[1][k == LABELS].mean() for k in range(3)]
                values.append([*correct.mean(-1), min(per_class), max(per_class) - min(per_class)])
            wanted = np.subtract(*values)
            np.testing.assert_allclose(changed["by_seed"].values[i, j], wanted, atol=1e-12)
            rho = wanted[2] / values[1][2] + wanted[1] / values[1][1]
            assert changed["rho"].values[i, j] == pytest.approx(rho, rel=1e-12)
    np.testing.assert_allclose(changed["change"], changed["by_seed"].mean("seed"))
    for k in range(3):
        own, before = (
            dataset["correct"].sel({"training": name}).values[..., k == LABELS].mean((0, 2))
            for name in ("new", "old")
        )
        found = changed["class_change"].sel({"training": "new"}).values[:, k]
        np.testing.assert_allclose(found, own - before, atol=1e-12)


def test_intervals_surround_what_was_seen_and_decide(changed):
    for low, middle, high in (
        ("low", "change", "high"),
        ("class_low", "class_change", "class_high"),
    ):
        assert (changed[low] < changed[middle]).all()
        assert (changed[middle] < changed[high]).all()
    verdicts = changed["verdict"].sel({"training": "new"}).values.tolist()
    assert verdicts[2:] == ["helps", "helps"]
    assert set(changed["verdict"].sel({"training": "same"}).values) == {"too small to decide"}
    gap = changed.sel({"training": "new", "quantity": "gap"})
    assert float(gap["high"]) < 0 < float(changed["low"].sel({"training": "new"})[2])


def test_intervals_share_the_level(changed):
    """Three quarters of the tests are of the classes, yet half of the level is theirs."""
    dataset = made_up()
    one, two = (study_file.flags(dataset, name, "robust") for name in ("new", "old"))
    average = study_report.average_change(one, two, 0.05 / 2 / 2 / 4)
    part = changed.sel({"training": "new", "quantity": "robust average"})
    assert (part["low"], part["high"]) == average
    row = study_report.average_change(
        one[:, LABELS == 1], two[:, LABELS == 1], 0.05 / 2 / 2 / (2 * 3)
    )
    part = changed.sel({"training": "new", "condition": "robust", "class": "b"})
    assert (part["class_low"], part["class_high"]) == row


def test_student_is_scipys(changed):
    values = changed["by_seed"].sel({"training": "new", "quantity": "gap"}).values
    wanted = stats.t.interval(0.95, 1, values.mean(), stats.sem(values))
    part = changed.sel({"training": "new", "quantity": "gap"})
    assert (part["student_low"], part["student_high"]) == pytest.approx(wanted)


def test_one_seed_has_no_spread():
    found = study_report.changes(made_up(seeds=(0,)))
    assert np.isnan(found["student_low"]).all()
    assert "Student" not in study_report.summary(found) + study_report.markdown(found)


def test_tables_hold_the_numbers(changed):
    text = study_report.markdown(changed)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len(block) - 2 for block in blocks] == [3, 2, 2]
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
    part = changed.sel({"training": "new", "quantity": "worst class"})
    low, middle, high = (100 * float(part[name]) for name in ("low", "change", "high"))
    cell = f"{middle:+.1f} [{low:+.1f}, {high:+.1f}] helps"
    assert cell in text
    assert "new with seed 1 after 2 of 3 epochs" in text
    assert "with seed 0 after" not in text
    assert cell.removesuffix(" helps") in study_report.summary(changed)
    assert f"{float(changed['rho'].sel({'training': 'new'}).mean()):+.3f}" in text


def test_a_file_comes_back_as_it_was(tmp_path):
    dataset = made_up()
    files.save(dataset, tmp_path / "study.nc")
    xr.testing.assert_identical(study_file.load(tmp_path / "study.nc"), dataset)
    assert (dataset["epochs"] == 2).all()
    assert json.loads(str(dataset["warm_up"].values[0])) is None
    files.save(dataset.drop_vars("correct"), tmp_path / "other.nc")
    with pytest.raises(InvalidInput, match="not a result file"):
        study_file.load(tmp_path / "other.nc")


def test_a_file_of_an_earlier_version_is_read_as_one_of_this(tmp_path):
    earlier = made_up().rename(training="method")
    files.save(earlier, tmp_path / "study.nc")
    xr.testing.assert_identical(study_file.load(tmp_path / "study.nc"), made_up())


CONTRADICTIONS = {
    "correct": (with_value("correct", 2, 0, 0, 0, 0), "correct has a value 2"),
    "rises": (with_value("correct", [0, 1], 0, 0, slice(None), 0), "correct rises under attack"),
    "label": (with_value("label", 3, 0), "label must have every number below 3"),
    "confusion": (with_value("confusion", 0, 0, 0, 0, 0), "rows of confusion do not sum"),
    "diagonal": (
        lambda d: d.assign(confusion=d["confusion"].roll(said=1)),
        "the diagonal of confusion is not what is correct",
    ),
    "epochs": (with_value("epochs", 32, 0, 0), "epochs has 32, but settings say 2"),
    "negative": (with_value("epochs", -1, 0, 0), "epochs has a value -1"),
    "JSON": (with_value("settings", "{", 0, 0), "settings has a value '{': must be JSON"),
    "record": (with_value("settings", "3", 0, 1), r"settings\[0, 1\]: value = 3: must be a table"),
    "field": (
        with_value("settings", '{"epochs": 2, "training": {"epochs": "a"}}', 0, 0),
        r"training.epochs = 'a': must be an integer",
    ),
    "reference": (lambda d: d.assign_attrs(reference="x"), "its reference 'x' is none of"),
    "seed": (lambda d: d.assign_coords(seed=[0, 0]), "seed has a value twice"),
    "kind": (lambda d: d.assign_attrs(kind="sweep"), "is no network study"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(name, tmp_path):
    change, message = CONTRADICTIONS[name]
    files.save(change(made_up()), tmp_path / "study.nc")
    with pytest.raises(InvalidInput, match=message) as refused:
        study_file.load(tmp_path / "study.nc")
    assert "\n" not in str(refused.value)


def test_a_score_that_is_undefined_is_said_and_not_nan():
    dataset = made_up().copy(deep=True)
    dataset["correct"].values[0, 0, 1, dataset["label"].values == 0] = 0
    found = study_report.changes(dataset)
    for text in (study_report.summary(found), study_report.markdown(found)):
        assert "undefined: a worst class of old has accuracy 0" in text
        assert "nan" not in text


def test_an_evaluation_of_other_parameters_than_its_run_is_refused():
    settings = {"epochs": 2, "training": {"epochs": 2}, "parameters": "a"}
    with pytest.raises(InvalidInput, match="evaluation of new, seed 0: parameters = b, its run"):
        made_up(seeds=(0,), new={"parameters": "b"}, settings=settings)


def test_evaluations_that_cannot_be_paired_are_refused():
    for change in ({"radius": 0.2}, {"fingerprint": "g"}, {"protocol": "budget"}):
        with pytest.raises(InvalidInput, match=f"evaluation of new, seed 0: {next(iter(change))}"):
            made_up(new=change)
    with pytest.raises(InvalidInput, match="level = 0"):
        made_up(level=0.0)
    alone = made_up().sel({"training": ["old"]})
    with pytest.raises(InvalidInput, match="nothing to compare"):
        study_report.changes(alone)
