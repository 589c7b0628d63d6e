"""`python -m sims rare`: what it prints, what contradicts a claim, and what it refuses."""

import dataclasses
import sys

import numpy as np
import pytest

import sims.__main__ as command
from sims.rare import claims as rare_claims
from support.small import CLAIM
from theory.claims.registry import find
from theory.domain import InvalidInput

NAME = "distance-class-errors"
POINT = ("--grid", "distance=10", "scale_ratio=1.5", "--trials", "20000")


def _call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["sims", "rare", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_it_prints_each_risk_and_a_verdict(monkeypatch, capsys):
    status, out, _ = _call(monkeypatch, capsys, NAME, *POINT, "--level", "1e-6")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("distance=10 scale_ratio=1.5 negative: 2.4")
    assert "closed form 2.447e-05: inside" in lines[0]
    assert lines[2].startswith(f"{NAME}: not contradicted: a relative error of ±0.")
    assert lines[2].endswith("of risks down to 2.4e-05")


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_wrong_tail_is_contradicted(factor, monkeypatch, capsys):
    """A fifth of 4e-5, which counting would see after a hundred million points."""
    true = find(NAME)

    def predict(**parameters):
        negative, positive = true.predict(**parameters)
        return negative, factor * positive

    wrong = dataclasses.replace(true, predict=predict)
    monkeypatch.setattr("theory.claims.registry.find", lambda _: wrong)
    status, out, _ = _call(monkeypatch, capsys, NAME, *POINT, "--level", "1e-6")
    assert status == 1
    assert out.splitlines()[1].endswith(": contradicted")
    assert out.splitlines()[2] == f"{NAME}: contradicted at 1 of 2 points"


def test_spoiled_draws_give_no_verdict():
    found = rare_claims.check(CLAIM, {"radius": (0.0,), "mean": (1.0,)}, trials=100)
    risks = found[0].risks
    spoiled = [c._replace(risks=risks._replace(spoiled=np.array([0, 3]))) for c in found]
    text, agrees = rare_claims.summary(spoiled)
    assert text.startswith("no verdict: 3 draws were not finite")
    assert not agrees


def test_a_point_does_not_depend_on_the_grid_around_it():
    one = rare_claims.check(CLAIM, {"radius": (0.5,), "mean": (1.0,)}, trials=5000)
    many = rare_claims.check(CLAIM, {"radius": (0.0, 0.5), "mean": (0.7, 1.0)}, trials=5000)
    assert one[0].where == many[6].where
    assert np.array_equal(one[0].risks.estimate, many[6].risks.estimate)


BAD = [
    ((), "names = (): name at least one claim"),
    (("no-such-claim",), "claim = 'no-such-claim': unknown"),
    (("mixup-law-gaussian",), "claim = 'mixup-law-gaussian': rare risks are for a Gaussian"),
    (("distance-raises-disparity",), "claim = 'distance-raises-disparity': rare risks are for"),
    ((NAME, "--trials", "0"), "trials = 0: points of each class"),
    ((NAME, "--level", "0"), "level = 0.0: the error probability"),
    ((NAME, "--grid", "radius=1"), f"axis of {NAME} = 'radius': unknown"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_status_2(arguments, message, monkeypatch, capsys):
    status, out, error = _call(monkeypatch, capsys, *arguments)
    assert (status, out) == (2, "")
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_every_kind_of_claim_that_it_cannot_test_is_refused():
    from theory.claims.registry import registered

    for claim in registered().values():
        if claim.relation != "==" or len(claim.estimand.labels) != 2:
            with pytest.raises(InvalidInput, match=f"claim = '{claim.name}': rare risks are for"):
                rare_claims.require_checkable(claim, None, trials=10, seed=0)
