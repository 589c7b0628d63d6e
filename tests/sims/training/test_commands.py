"""python -m sims train-grid, and python -m figures --data, which draws what it leaves."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

import figures.__main__ as figures_command
import sims.__main__ as sims_command
from figures.results.training_grid import training
from sims.cli.frame import run
from sims.training import file as training_file
from sims.training.grid import Grid, parse_threat
from sims.training.run import best_rates, train_grid
from theory.problem import GaussianMixture, L2Ball
from theory.rules.optimal import optimal_classifier
from theory.rules.risk import class_risks

SMALL = ("--ratios", 1, 5, "--seeds", 3, 4, "--rates", 0.01, "--epochs", 3)
THREATS = ("--threats", "natural", "l2=2.5", "l1=4")


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs a command line in this process; returns its status, output and error output."""

    commands = {
        "sims": sims_command.main,
        "figures": lambda: run(figures_command.make, "python -m figures"),
    }

    def made(module, *arguments):
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            commands[module]()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return made


@pytest.mark.slow
def test_a_grid_is_trained_kept_and_drawn(call, tmp_path):
    arguments = ("train-grid", "--law", "gaussian", *SMALL, *THREATS, "--out", tmp_path)
    status, out, _ = call("sims", *arguments)
    assert status == 0
    assert out.startswith("gaussian: 12 models, 36 of 36 epochs\n")
    path = tmp_path / "train-grid-gaussian.nc"
    assert out.splitlines()[-1] == str(path)
    before = path.stat().st_mtime_ns
    assert call("sims", *arguments)[:2] == (0, out)
    assert path.stat().st_mtime_ns == before
    status, _, error = call("sims", *arguments, "--gradient", "mixed")
    assert status == 2
    assert "belongs to another sweep (gradient = adversarial, this one has mixed)" in error
    status, out, _ = call("figures", "--data", path, "--out", tmp_path / "gallery")
    assert (status, out) == (0, f"{tmp_path / 'gallery' / 'train-grid-gaussian.png'}\n")
    made = sorted(file.name for file in (tmp_path / "gallery").iterdir())
    assert made == ["train-grid-gaussian.pdf", "train-grid-gaussian.png"]


BAD = [
    (("--law", "gauss"), "law = 'gauss': unknown; did you mean gaussian"),
    (("--law", "cauchy", "--threats", "l2=-1"), "radius = -1: the perturbation radius must lie"),
    (("--law", "cauchy", "--threats", "l2"), "threat = 'l2': must look like l2=2.5"),
    (("--law", "cauchy", "--batch", "1200"), "batch = 1200: must lie between 1 and"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_status_2(arguments, message, call, tmp_path):
    status, out, error = call("sims", "train-grid", *arguments, "--out", tmp_path / "new")
    assert (status, out) == (2, "")
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_claim_is_still_the_first_word(call, tmp_path):
    status, _, error = call("sims", "train", "--out", tmp_path)
    assert status == 2
    assert error.startswith("error: claim = 'train': unknown")


def test_figures_refuse_a_file_of_another_kind(call, tmp_path):
    (tmp_path / "other.nc").write_text("nothing")
    status, _, error = call("figures", "--data", tmp_path / "other.nc", "--out", tmp_path / "new")
    assert status == 2
    assert "not a readable file" in error
    assert not (tmp_path / "new").exists()


def test_an_interrupted_training_says_that_it_starts_anew(call, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training_file, "run_grid", interrupted)
    status, _, error = call("sims", "train-grid", "--law", "gaussian", "--out", tmp_path)
    assert (status, error) == (130, "stopped; the same command starts anew\n")


@pytest.mark.slow
def test_points_are_means_over_seeds_and_lines_the_optimal_rules():
    threats = tuple(map(parse_threat, ("natural", "l2=2.5", "linf=0.5")))
    grid = Grid("gaussian", (1.0, 5.0), (3, 4), (0.05, 0.01), threats, epochs=3)
    dataset = train_grid(grid)
    drawn = training(dataset)
    panels = np.array(drawn.axes).reshape(2, 3)
    assert [panel.get_title() for panel in panels[0]] == [
        *("natural training", "trained for $\\ell_2$", "trained for $\\ell_\\infty$")
    ]
    best = best_rates(dataset).isel(mixup=0, minority_weight=0).sel(threat="l2=2.5")
    right = 1 - best["errors"].values / 1000
    (container,) = panels[0, 1].containers
    disparity = (right[..., 0] - right[..., 1]).mean(1)
    np.testing.assert_allclose(container[0].get_ydata(), disparity, rtol=1e-12)
    (accuracy,) = panels[1, 1].containers
    wrong = best["imbalanced_errors"].sum("label").values / np.array([[2000], [1200]])
    np.testing.assert_allclose(accuracy[0].get_ydata(), 1 - wrong.mean(1), rtol=1e-12)
    # The line at R = 5 by the road of a whole mixture, in float64.
    mean = np.where(np.arange(100) < 25, 1.0, 0)
    mixture = GaussianMixture([-mean, mean], [3.0, 3.0], 1 / 6)
    risks = class_risks(mixture, optimal_classifier(mixture, L2Ball(2.5)))
    (line, *_) = panels[0, 1].get_lines()
    assert line.get_ydata()[-1] == pytest.approx(float(risks.positive - risks.negative), abs=1e-5)
    (line, *_) = panels[1, 1].get_lines()
    expected = 1 - (5 * float(risks.negative) + float(risks.positive)) / 6
    assert line.get_ydata()[-1] == pytest.approx(expected, abs=1e-5)
    plt.close(drawn)
