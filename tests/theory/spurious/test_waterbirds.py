"""The report on a spurious attribute, against the law it speaks of, and its command."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

import theory.__main__ as command
from theory.problem import L2Ball, LinfBall
from theory.spurious.risk import SpuriousAttribute
from theory.spurious.waterbirds import waterbirds_report

MODEL = SpuriousAttribute(1.6, 1.2, 1.0, 0.9, core_pixels=4, spurious_pixels=9)


def _accuracies(angle, cost=0.0, spread=1.0):
    """Accuracy of the aligned and of the conflicting group, from SciPy."""
    core, other = 1.6 * np.cos(angle), 1.2 * np.sin(angle)
    return stats.norm.cdf((core + np.array([1, -1]) * other - cost) / spread)


def _accuracy(angle, agreement=0.9, **attack):
    return np.array([1 + agreement, 1 - agreement]) / 2 @ _accuracies(angle, **attack)


@pytest.mark.parametrize("radius", [0.0, 0.4])
def test_the_report_says_what_the_law_says(radius):
    report = waterbirds_report(MODEL, L2Ball(radius), L2Ball(0.4), jnp.asarray(1.0))
    best = optimize.minimize_scalar(
        lambda angle: -_accuracy(angle, cost=radius), bounds=(0, np.pi / 2), method="bounded"
    )
    angle = float(report.angle)
    assert angle == pytest.approx(best.x, abs=1e-5)
    for found, cost in ((report.clean, 0.0), (report.attacked, 0.4)):
        aligned, conflicting = _accuracies(angle, cost)
        assert float(found.aligned) == pytest.approx(aligned, rel=1e-12)
        assert float(found.worst) == pytest.approx(conflicting, rel=1e-12)
        assert float(found.gap_balanced) == pytest.approx(aligned - conflicting, rel=1e-10)
    assert float(report.accuracy) == pytest.approx(_accuracy(angle), rel=1e-12)
    assert float(report.robust_accuracy) == pytest.approx(_accuracy(angle, cost=0.4), rel=1e-12)
    assert float(report.background) == pytest.approx(
        _accuracies(angle)[0] - _accuracy(angle, agreement=0.0), rel=1e-10
    )
    weight = np.r_[np.full(4, np.cos(angle) / 2), np.full(9, np.sin(angle) / 3)]
    assert float(report.weights.share) == pytest.approx(weight[4:].sum() / weight.sum(), rel=1e-12)
    assert float(report.weights.ratio) == pytest.approx(np.tan(angle), rel=1e-12)
    core, background = (
        _accuracy(angle, spread=np.hypot(1, exposed)) for exposed in (np.cos(angle), np.sin(angle))
    )
    mean = (core + background) / 2
    expected = (background - core) / (2 * min(mean, 1 - mean))
    assert float(report.sensitivity) == pytest.approx(expected, rel=1e-10)


def test_effective_robustness_is_the_distance_from_the_line_of_other_angles():
    report = waterbirds_report(MODEL, L2Ball(0.4), L2Ball(0.4), jnp.asarray(1.0))
    others = np.linspace(0, np.pi / 2, 33)[1:-1]
    x, y = (special.logit([_accuracy(a, agreement=r) for a in others]) for r in (0.9, 0.0))
    line = stats.linregress(x, y)
    angle = float(report.angle)
    logit = line.intercept + line.slope * special.logit(_accuracy(angle))
    expected = _accuracy(angle, agreement=0.0) - special.expit(logit)
    assert float(report.effective) == pytest.approx(expected, abs=1e-10)


def test_training_against_a_large_l2_radius_relies_more_and_against_linf_less():
    gaps = {}
    for name, ball in (("none", L2Ball(0.0)), ("l2", L2Ball(0.8)), ("linf", LinfBall(0.35))):
        gaps[name] = float(waterbirds_report(MODEL, ball, ball, jnp.asarray(1.0)).clean.gap_pooled)
    assert gaps["linf"] < gaps["none"] < gaps["l2"]


def _call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["theory", "waterbirds", *arguments])
    command.main()


def test_the_command_prints_both_rules_side_by_side(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        _call(monkeypatch, "--radius", "0.4", "--spurious", "1.2", "--agreement", "0.9")
    assert stopped.value.code == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert "l2 of radius 0.4" in first
    printed = {line[:42].strip(): [float(v) for v in line[42:].split()] for line in lines}
    with jax.enable_x64(True):
        reports = [
            waterbirds_report(MODEL, L2Ball(radius), L2Ball(0.4), jnp.asarray(1.0))
            for radius in (0.0, 0.4)
        ]
    for name, field in (("accuracy", "accuracy"), ("accuracy under attack", "robust_accuracy")):
        expected = [float(getattr(report, field)) for report in reports]
        assert printed[name] == pytest.approx(expected, abs=6e-5)
    assert printed["gap"][1] > printed["gap"][0]


def test_what_is_not_defined_says_so(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        _call(monkeypatch, "--noise", "1e-100")
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[-2:] == ["undef.", "undef."]
    assert lines[-1].startswith("undef.: not defined, as")
    assert "nan" not in "".join(lines)


@pytest.mark.parametrize("bad", [("--radius", "-1"), ("--agreement", "2")])
def test_the_command_refuses_bad_input_in_a_line(bad, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        _call(monkeypatch, *bad)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {bad[0][2:]} = ")
    assert error.count("\n") == 1
