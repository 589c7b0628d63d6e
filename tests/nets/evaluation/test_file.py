"""The file of an evaluation: always made, and what contradicts itself is refused, part by part."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from nets.evaluation import file as evaluation_file
from nets.evaluation.outcomes import Outcomes, evaluate
from nets.study import file as study_file
from sims import files
from support.faults.datasets import with_value
from theory.domain import InvalidInput
from theory.problem import LinfBall

NAMES = ("a", "b")
LABELS = np.array([0, 1, 0, 1, 0], np.int32)
CORRECT = np.array([[1, 1, 1, 1, 0], [1, 0, 1, 1, 0], [0, 0, 1, 1, 0]], bool)
ATTRIBUTES = {
    "data": "d",
    "fingerprint": "f",
    "split": "s",
    "norm": "linf",
    "radius": 0.1,
    "protocol": "quick",
    "model": "m",
}
COMMITTED = pathlib.Path(__file__).parents[3] / "benchmarks" / "results"


def made(names=NAMES, labels=LABELS, correct=CORRECT, probabilities=None, **attributes):
    said = np.stack([np.where(row, labels, 1 - labels) for row in (correct[0], correct[-1])])
    if probabilities is None:
        probabilities = np.full((2, len(labels), 2), 0.5, np.float32)
    outcomes = Outcomes(
        ("clean", "pgd", "pgd-margin"), correct, said.astype(np.int32), probabilities, said, 0
    )
    return evaluation_file.make(outcomes, labels, names, 0.05, ATTRIBUTES | attributes)


def test_logits_that_are_not_finite_are_counted_and_the_file_is_made(tmp_path):
    """Of images of one pixel, which is the number of the sample's logits."""
    table = jnp.asarray([[2, 0], [0, 2], [jnp.inf, 0], [0, 2]], jnp.float32)
    x = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1) / 3
    labels = np.array([0, 1, 0, 1], np.int32)
    outcomes = evaluate(
        jax.random.key(0),
        lambda variables, x: variables[jnp.round(3 * x[:, 0, 0, 0]).astype(jnp.int32)],
        table,
        x,
        labels,
        LinfBall(0.0),
        {},
        classes=2,
        block=4,
    )
    assert outcomes.correct.tolist() == [[True, True, False, True]]
    dataset = evaluation_file.make(outcomes, labels, NAMES, 0.05, ATTRIBUTES)
    files.save(dataset, tmp_path / "evaluation.nc")
    read = evaluation_file.load(tmp_path / "evaluation.nc")
    assert read["errors"].values.tolist() == [[1, 0], [1, 0]]
    assert read["trials"].values.tolist() == [2, 2]
    assert read.nonfinite == 1
    assert "warning: 1 samples had logits that were not finite" in evaluation_file.summary(read)
    # Of class a the other sample alone: the softmax of (2, 0).
    np.testing.assert_allclose(read["similarity"][0, 0, 0], 1 / (1 + np.exp(-2.0)), rtol=1e-6)


def test_a_class_without_finite_logits_has_no_similarity(tmp_path):
    probabilities = np.full((2, 5, 2), 0.5, np.float32)
    probabilities[:, LABELS == 1] = np.nan
    files.save(made(probabilities=probabilities), tmp_path / "evaluation.nc")
    read = evaluation_file.load(tmp_path / "evaluation.nc")["similarity"]
    assert np.isnan(read.sel({"class": "b"})).all()
    assert (read.sel({"class": "a"}) == 0.5).all()


CONTRADICTIONS = {
    "correct": (with_value("correct", 2, 0, 0), r"correct has a value 2: must be in \[0, 1\]"),
    "rises": (with_value("correct", 1, 2, 1), "correct rises from one attack to the next"),
    "label": (with_value("label", 2, 0), "a class has the number 2: must be below 2"),
    "negative label": (with_value("label", -1, 0), "label has a value -1"),
    "other label": (with_value("label", 1, 0), "trials is not that of its samples"),
    "predicted": (with_value("predicted", 7, 0, 0), "a class has the number 7"),
    "said": (with_value("predicted", 1, 0, 0), "confusion is not that of its samples"),
    "errors": (with_value("errors", 2, 0, 0), "errors is not that of its samples"),
    "more errors": (with_value("errors", 4, 0, 0), "errors has a value 4: must be at most trials"),
    "trials": (with_value("trials", 4, 0), "trials is not that of its samples"),
    "accuracy": (with_value("accuracy", 0.7, 0, 0), "accuracy is not that of its samples"),
    "low": (with_value("low", 0.6, 0, 0), "low is not that of its samples"),
    "high": (with_value("high", 1.5, 0, 0), r"high has a value 1.5: must be in \[0, 1\]"),
    "confusion": (with_value("confusion", 9, 1, 0, 0), "confusion is not that of its samples"),
    "similarity": (with_value("similarity", -0.1, 0, 0, 0), "similarity has a value -0.1"),
    "level": (lambda d: d.assign_attrs(level=1.5), "its attribute level = 1.5"),
    "nonfinite": (lambda d: d.assign_attrs(nonfinite=6), "its attribute nonfinite = 6"),
    "negative": (lambda d: d.assign_attrs(nonfinite=-1), "its attribute nonfinite = -1"),
    "radius": (lambda d: d.assign_attrs(radius="a"), "its attribute radius = 'a'"),
    "norm": (lambda d: d.assign_attrs(norm="l3"), "its attribute norm = 'l3'"),
    "kind": (lambda d: d.assign_attrs(kind="study"), "its attribute kind = 'study'"),
    "condition": (lambda d: d.assign_coords(condition=["robust", "clean"]), "condition is"),
    "class": (lambda d: d.assign_coords({"class": ["a", "a"]}), "class has a value twice"),
    "names": (lambda d: d.assign_coords(said=["b", "a"]), "said has other names than class"),
    "attack": (lambda d: d.assign_coords(attack=["x", "y", "z"]), "attack must begin with 'clean'"),
    "missing": (lambda d: d.drop_vars("errors"), "has no 'errors'"),
    "turned": (lambda d: d.transpose(), r"correct has the dimensions \(sample, attack\)"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(name, tmp_path):
    change, message = CONTRADICTIONS[name]
    path = tmp_path / "evaluation.nc"
    files.save(change(made()), path)
    with pytest.raises(InvalidInput, match=message) as refused:
        evaluation_file.load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_right_is_read(tmp_path):
    files.save(made(), tmp_path / "evaluation.nc")
    xr.testing.assert_identical(evaluation_file.load(tmp_path / "evaluation.nc"), made())
    # Of an earlier version.
    evaluation_file.load(COMMITTED / "mnist-pgd" / "evaluation.nc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "budget"}, "protocol = quick and budget"),
        ({"radius": 0.2}, "radius = 0.1 and 0.2"),
        ({"norm": "l2"}, "norm = linf and l2"),
        ({"fingerprint": "g"}, "fingerprint = f and g"),
        ({"split": "t"}, "split = s and t"),
        ({"names": ("a", "c")}, "class = a, b and a, c"),
        ({"labels": 1 - LABELS}, "the samples of the two evaluations differ"),
    ],
)
def test_evaluations_that_cannot_be_paired_are_refused(change, message):
    with pytest.raises(InvalidInput, match=f"compare: .*{message}"):
        evaluation_file.comparison(made(), made(**change), 0.05)


def test_other_attacks_are_not_paired():
    exact = made().isel(attack=[0, 2]).assign_coords(attack=["clean", "exact"])
    with pytest.raises(
        InvalidInput, match="compare: attack = clean, pgd, pgd-margin and clean, ex"
    ):
        evaluation_file.comparison(made(), exact, 0.05)


@pytest.mark.parametrize("change", [{"seed": 1}, {"block": 64}, {"level": 0.1}])
def test_luck_rounding_and_level_do_not_keep_two_apart(change):
    text = evaluation_file.comparison(made(seed=0, block=128), made(**change), 0.05)
    assert "rho +0.000" in text


def test_what_is_missing_is_said_and_not_nan():
    dataset = made(correct=np.zeros((3, 5), bool))
    text = evaluation_file.comparison(dataset, made(), 0.05)
    assert "rho undefined: the worst class of the first has accuracy 0" in text
    assert "nan" not in text
    assert "inf" not in text
    # Files of other programs may have classes without samples; ours are refused.
    empty = made()
    empty["trials"][1], empty["errors"][:, 1] = 0, 0
    assert "no samples" in evaluation_file.summary(empty)


def test_every_axis_can_be_selected_by_its_name():
    """A keyword of xarray's own would be taken for itself and not for an axis."""
    study = study_file.load(COMMITTED / "fashion-fairness" / "study.nc")
    for dataset in (made(), study):
        for name in dataset.indexes:
            first = dataset[name].values[0]
            assert name not in dataset.sel(**{name: first}).dims
            assert dataset.sel(**{name: [first]}).sizes[name] == 1
