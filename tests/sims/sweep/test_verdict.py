"""Verdicts on counts made by hand, so that nothing is left to chance."""

import dataclasses

import numpy as np
import pytest

from sims.stats.interval import clopper_pearson
from sims.sweep import file as sweep_file
from sims.sweep import verdict
from sims.sweep.plan import make_plan
from support.small import CLAIM
from theory.claims.claim import DISPARITY, RISK, Failure

LEVEL = 1e-3


def _judged(claim, rates, trials=10_000, nonfinite=0):
    """The verdict where each class errs at the given share of the trials."""
    dataset = sweep_file.empty(make_plan(claim, {"radius": [0.5], "mean": [1.0]}, trials=trials))
    dataset["trials"][:] = trials
    dataset["errors"][:] = np.round(np.asarray(rates) * trials).astype(int)
    dataset["nonfinite"][:] = nonfinite
    return verdict.judge(dataset, claim, LEVEL)


def _claim(relation, value, estimand=RISK, fails=None):
    return dataclasses.replace(
        CLAIM,
        relation=relation,
        estimand=estimand,
        fails=fails,
        predict=lambda radius, mean: (0 * radius + value,) * len(estimand.components),
    )


@pytest.mark.parametrize(
    ("relation", "value", "contradicted"),
    [
        ("==", 0.30, 0),
        ("==", 0.28, 1),
        ("==", 0.32, 1),
        ("<=", 0.30, 0),
        ("<=", 0.50, 0),
        ("<=", 0.28, 1),
        (">=", 0.30, 0),
        (">=", 0.10, 0),
        (">=", 0.32, 1),
        ("==", np.nan, 1),
    ],
)
def test_each_relation_is_contradicted_on_its_wrong_side_only(relation, value, contradicted):
    summary = verdict.summarise(_judged(_claim(relation, value), (0.3, 0.3)))
    assert summary.contradicted == contradicted
    assert summary.agrees == (not contradicted)
    assert ("not contradicted" in summary.text) == summary.agrees


def test_intervals_of_combinations_come_from_the_class_intervals():
    ends = clopper_pearson(np.array([1000, 4000]), 10_000, LEVEL / 2)
    risk = _judged(_claim("==", 0.25), (0.1, 0.4))
    assert risk["low"].item() == pytest.approx(ends.low.mean(), rel=1e-14)
    assert risk["high"].item() == pytest.approx(ends.high.mean(), rel=1e-14)
    gap = _judged(_claim("==", 0.3, DISPARITY), (0.1, 0.4))
    assert gap["estimate"].item() == pytest.approx(0.3)
    assert gap["low"].item() == pytest.approx(ends.low[1] - ends.high[0], rel=1e-14)
    assert gap["high"].item() == pytest.approx(ends.high[1] - ends.low[0], rel=1e-14)


def test_the_detectable_error_is_just_enough_to_be_seen():
    judged = _judged(_claim("==", 0.3), (0.3, 0.3))
    error = judged["detectable"].item()
    assert 0 < error < 0.02
    for sign in (-1, 1):
        seen = _judged(_claim("==", 0.3 + sign * error * 1.001), (0.3, 0.3))
        assert verdict.summarise(seen).contradicted
        unseen = _judged(_claim("==", 0.3 + sign * error * 0.9), (0.3, 0.3))
        assert not verdict.summarise(unseen).contradicted


def test_non_finite_draws_forbid_a_verdict():
    summary = verdict.summarise(_judged(_claim("==", 0.3), (0.3, 0.3), nonfinite=1))
    assert not summary.agrees
    assert summary.text == "no verdict: 2 draws were not finite"


@pytest.mark.parametrize(
    ("value", "contradicted", "refuted"), [(0.3, 0, 0), (0.4, 0, 1), (0.2, 1, 0)]
)
def test_where_the_published_form_fails_its_opposite_is_tested(value, contradicted, refuted):
    everywhere = Failure("everywhere", lambda radius, mean: (radius >= 0,))
    summary = verdict.summarise(_judged(_claim(">=", value, fails=everywhere), (0.3, 0.3)))
    assert (summary.contradicted, summary.refuted, summary.failing) == (contradicted, refuted, 1)


def test_points_not_counted_are_not_judged():
    dataset = sweep_file.empty(make_plan(CLAIM, trials=10))
    summary = verdict.summarise(verdict.judge(dataset, CLAIM, LEVEL))
    assert summary.points == 0
    assert not summary.agrees
