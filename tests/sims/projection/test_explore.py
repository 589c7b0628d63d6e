"""Exploration by projection: right cells, counts of the same law, and marked as no evidence."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import figures.__main__ as figures_command
import sims.__main__ as sims_command
from sims import files
from sims.cli.frame import run
from sims.projection import cells
from sims.projection import explore as projection
from sims.projection.explore import explore, project
from sims.simulate import two_classes
from sims.sweep import verdict
from sims.sweep.run import sweep
from support.small import CLAIM
from theory.claims.claim import Problem
from theory.claims.registry import find
from theory.domain import InvalidInput
from theory.problem import (
    EllipticalStableMixture,
    GaussianMixture,
    L1Ball,
    L2Ball,
    LinearClassifier,
    LinfBall,
    LpBall,
    StableMixture,
)
from theory.rules import risk as linear

MEANS = [[-1.0, 0.3, 0.0], [1.2, 0.5, -0.4]]
COVARIANCE = [[2.0, 0.6, 0.1], [0.6, 0.5, 0.0], [0.1, 0.0, 1.0]]
GAUSSIAN = GaussianMixture(MEANS, [0.8, 1.3], 0.3, COVARIANCE)
STABLE = StableMixture(MEANS, [0.8, 1.3], 0.3, 1.4)
RULE = LinearClassifier([1.0, 0.5, -0.7], 0.2)
BALLS = [None, L1Ball(0.4), L2Ball(0.4), LinfBall(0.2), LpBall(0.4, 3)]
NAMES = ["natural", "l1", "l2", "linf", "l3"]
NAME = "gaussian-robust-risk-l2"
MARK = "exploratory: the projection assumes the lemma under test; not evidence"


def line_risks(cell):
    """The closed form of the robust risks of a cell, as a mixture on a line."""
    means, rule = cell.locations[:, None], LinearClassifier([1.0], cell.bias)
    if cell.alpha is None:
        law = GaussianMixture(means, cell.scales, 0.5)
    else:
        law = StableMixture(means, cell.scales, 0.5, cell.alpha)
    return np.asarray(linear.class_risks(law, rule, L2Ball(cell.radius)))


@pytest.mark.parametrize("law", [GAUSSIAN, GAUSSIAN._replace(covariance=None), STABLE])
@pytest.mark.parametrize("threat", BALLS, ids=NAMES)
def test_the_cell_has_the_closed_form_of_the_problem(law, threat):
    """Float64 against float64, so a slip in the reduction is seen at 1e-12."""
    cell = project(Problem(law, RULE, threat))
    expected = np.asarray(linear.class_risks(law, RULE, threat))
    np.testing.assert_allclose(line_risks(cell), expected, rtol=1e-12)
    scaled = project(Problem(law, LinearClassifier(RULE.weight * 1e-30, RULE.bias * 1e-30), threat))
    np.testing.assert_allclose(line_risks(scaled), expected, rtol=1e-11)


count_points = jax.jit(two_classes.class_errors)


@pytest.mark.parametrize(
    ("law", "threat"),
    [(GAUSSIAN, LinfBall(0.2)), (STABLE, L2Ball(0.4)), (STABLE, L1Ball(0.4))],
    ids=["gaussian-linf", "stable-l2", "stable-l1"],
)
def test_counts_have_the_law_of_those_in_all_dimensions(law, threat):
    """Fisher's exact test of four pairs of counts, 3e-7 for each law: sees a risk off by 0.006."""
    trials, problem = 2**19, jax.tree.map(np.float32, Problem(law, RULE, threat))
    cell = jax.tree.map(lambda field: np.asarray(field)[None], project(Problem(law, RULE, threat)))
    line = np.concatenate(cells.count(jax.random.key(6), cell, trials), axis=None)
    wrong = cell._replace(radius=cell.radius + 0.04)
    off = np.concatenate(cells.count(jax.random.key(6), wrong, trials), axis=None)
    with jax.enable_x64(False):
        threats = [threat._replace(radius=np.float32(r)) for r in (0, threat.radius)]
        found = [
            count_points(jax.random.key(7), problem.mixture, problem.classifier, t, trials).errors
            for t in threats
        ]
    points = np.concatenate(found)

    def chances(counts):
        tables = [[[a, trials - a], [b, trials - b]] for a, b in zip(counts, points, strict=True)]
        return np.array([stats.fisher_exact(table).pvalue for table in tables])

    assert chances(line).min() > 3e-7 / 4
    assert chances(off)[2:].max() < 3e-7 / 4


def test_a_rule_of_zero_weight_is_constant():
    for bias, errors in ((0.5, [100, 0]), (-0.5, [0, 100]), (0.0, [100, 100])):
        cell = project(Problem(GAUSSIAN, LinearClassifier(np.zeros(3), bias), L2Ball(1.0)))
        cell = jax.tree.map(lambda field: np.asarray(field)[None], cell)
        found = cells.count(jax.random.key(0), cell, 100)
        assert [*found.natural.tolist(), *found.robust.tolist()] == [errors, errors]


def test_small_stability_and_large_biases_fit_into_float32():
    """At alpha = 0.05 the noise of 100 equal weights is 1e40 times that of one."""
    wide = np.ones((2, 100)) * [[-1.0], [1.0]]
    # Unchecked: there is no closed form below 0.1, but there are draws.
    law = StableMixture(wide + 1e6, [1.0, 1.0], 0.5, 0.1)._replace(alpha=jnp.asarray(0.05))
    cell = project(Problem(law, LinearClassifier(np.ones(100), -1e8), None))
    assert np.all(np.isfinite(np.float32(cell.locations)))
    np.testing.assert_allclose(cell.locations, [-1e-38, 1e-38], rtol=1e-6)


def test_other_laws_are_refused():
    law = EllipticalStableMixture(MEANS, [1.0, 1.0], 0.5, 1.5)
    with pytest.raises(InvalidInput, match="must be a GaussianMixture or a StableMixture"):
        project(Problem(law, RULE))


def test_a_grid_is_counted_with_intervals_that_hold():
    trials = 2**20
    found = explore(CLAIM, trials=trials, level=1e-6)
    assert found["errors"].dims == ("radius", "mean", "kind", "label")
    assert found["errors"].dtype == np.int64
    radius, mean = np.meshgrid(found["radius"], found["mean"], indexing="ij")
    risks = {"natural": stats.norm.cdf(-mean), "robust": stats.norm.cdf(radius - mean)}
    for kind, risk in risks.items():
        for label in ("negative", "positive"):
            one = found.sel(kind=kind, label=label)
            assert np.all((one["low"] <= risk) & (risk <= one["high"]))
    assert (found["high"] - found["low"]).max() < 0.007
    again = explore(CLAIM, {"radius": (0.0,)}, trials=1000, seed=1)
    assert again["errors"].sizes["radius"] == 1


def test_what_is_made_says_everywhere_that_it_is_no_evidence():
    found = explore(CLAIM, trials=100)
    assert found.standing == MARK
    assert all(found[name].standing == MARK for name in found.data_vars)
    printed = list(projection.lines(found))
    assert len(printed) == 6
    assert all(line.endswith(f"({MARK})") for line in printed)
    assert printed[0].startswith("small radius=0 mean=0.5: natural negative 0.")


def _call(monkeypatch, capsys, command, *arguments):
    """Runs a command in this process; returns its status, output and error output."""
    with pytest.raises(SystemExit) as stopped:
        run(command, "python -m sims", [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_the_command_marks_every_line_and_its_file(monkeypatch, capsys, tmp_path):
    arguments = ("--grid", "radius=0,1", "scale_ratio=1.5", "--trials", 2000, "--out", tmp_path)
    monkeypatch.setattr(sys, "argv", ["sims", "explore", NAME, *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        sims_command.main()
    captured = capsys.readouterr()
    assert (stopped.value.code, captured.err) == (0, "")
    assert [line.endswith(f"({MARK})") for line in captured.out.splitlines()] == [True] * 3
    (made,) = tmp_path.iterdir()
    assert made.name == f"{NAME}.exploratory-not-evidence.nc"
    assert files.read(made).standing == MARK

    # The same command writes the same file again; another one leaves it as it is.
    before = made.read_bytes()
    assert _call(monkeypatch, capsys, sims_command.explore, NAME, *arguments)[0] == 0
    assert made.read_bytes() == before
    again = (NAME, *arguments, "--seed", 3)
    status, out, error = _call(monkeypatch, capsys, sims_command.explore, *again)
    assert (status, out) == (2, "")
    assert "belongs to another sweep (seed = 0, this one has 3)" in error
    assert made.read_bytes() == before


def test_whatever_reads_evidence_refuses_the_file(monkeypatch, capsys, tmp_path):
    grid = {"radius": (0.0, 1.0), "scale_ratio": (1.5,)}
    path = tmp_path / f"{NAME}.nc"
    dataset = explore(find(NAME), grid, trials=2000, path=path)
    before, point = path.read_bytes(), ("--grid", "radius=0,1", "scale_ratio=1.5")
    figure = figures_command.make
    for command, arguments in (
        (sims_command.check, (NAME, *point, "--trials", 2000, "--out", tmp_path)),
        (sims_command.check, ("--merge", path, "--out", tmp_path / "merged")),
        (figure, (NAME, "--out", tmp_path)),
        (figure, ("--data", path, "--out", tmp_path / "drawn")),
    ):
        status, out, error = _call(monkeypatch, capsys, command, *arguments)
        assert (status, out) == (2, "")
        assert error == f"error: results = {path}: {MARK}; must be counts of `python -m sims`\n"
    with pytest.raises(InvalidInput, match="not evidence"):
        verdict.judge(dataset, find(NAME), 0.01)
    with pytest.raises(InvalidInput, match="not evidence"):
        verdict.summarise(dataset)
    with pytest.raises(InvalidInput, match="not evidence"):
        sweep(find(NAME), grid, trials=2000, path=path)
    assert path.read_bytes() == before


BAD = [
    (("no-such-claim",), "claim = 'no-such-claim': unknown; "),
    (
        ("adversarial-squared-risk-l2",),
        "claim = 'adversarial-squared-risk-l2': must be of a linear",
    ),
    (("line-class-errors",), "claim = 'line-class-errors': must be of a linear rule for a Gauss"),
    (("mixup-law-stable",), "claim = 'mixup-law-stable': must be of a linear rule for a Gauss"),
    ((NAME, "--trials", "0"), "trials = 0: points of each class, must be at least 1"),
    ((NAME, "--level", "2"), "level = 2.0: the error probability must lie in (0, 1)"),
    ((NAME, "--seed", "-1"), "seed = -1: must lie in [0, 2^32)"),
    ((NAME, "--trials", 2**41 + 1), "trials = 2199023255553: draws at each point, at most"),
    ((NAME, "--grid", "radius=-1"), "radius = -1: perturbation radius"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_status_2(arguments, message, monkeypatch, capsys, tmp_path):
    command = (sims_command.explore, *arguments, "--out", tmp_path / "out")
    status, printed, error = _call(monkeypatch, capsys, *command)
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"error: {message}")
    assert not list(tmp_path.rglob("*.nc"))
