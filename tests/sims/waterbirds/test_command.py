"""python -m sims waterbirds: a line a group, which the closed form must lie in."""

import re
import sys

import jax
import numpy as np
import pytest

import sims.__main__ as sims_command
from sims.waterbirds.images import GROUPS, draw_groups, make_scene
from sims.waterbirds.rules import group_errors, is_right, rule_at
from theory.problem import L1Ball, L2Ball, LinfBall
from theory.spurious.risk import SpuriousAttribute, group_accuracies

LINE = re.compile(r"(.{20}) error (\S+) \[(\S+), (\S+)\], under attack (\S+) \[(\S+), (\S+)\]")
BALLS = {"l1": L1Ball, "l2": L2Ball, "linf": LinfBall}


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the command in this process; returns its status, output and error output."""

    def made(*arguments):
        monkeypatch.setattr(sys, "argv", ["sims", "waterbirds", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            sims_command.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return made


@pytest.mark.parametrize(("norm", "radius"), [("l1", 3.0), ("l2", 0.8), ("linf", 0.05)])
def test_the_intervals_hold_the_closed_form_and_exclude_another_angle(call, norm, radius):
    """Level 1e-6 of each run; an error of 0.03 in any group would be seen."""
    options = ("--norm", norm, "--radius", radius, "--angle", 40, "--level", 1e-6)
    status, out, err = call(*options, "--images", 50_000)
    assert (status, err) == (0, "")
    head, *lines = out.splitlines()
    assert head == "50000 images a group, 52 pixels of the disc and 204 around it"
    model = SpuriousAttribute(1.6, 1.6, 1.0, 0.5, 52, 204)
    threat = BALLS[norm](radius)
    excluded = 0
    for (label, attribute), line in zip(GROUPS, lines, strict=True):
        numbers = np.array(LINE.fullmatch(line).groups()[1:], float).reshape(2, 3)
        for ball, (rate, low, high) in zip((None, threat), numbers, strict=True):
            group = "aligned" if label == attribute else "conflicting"
            claimed, other = (
                1 - float(getattr(group_accuracies(model, np.deg2rad(angle), ball), group))
                for angle in (40, 45)
            )
            # Four digits are printed.
            assert low - 5e-5 <= claimed <= high + 5e-5
            assert low <= rate <= high
            assert high - low < 0.03
            excluded += not low <= other <= high
    assert excluded >= 4


def test_the_counts_are_those_of_the_first_images_of_each_group():
    scene, key, threat = make_scene(1.5, 1.2, 0.9), jax.random.key(3), L2Ball(np.float32(0.8))
    angle = np.float32(0.7)
    counts = group_errors(key, scene, angle, threat, np.int32(300))
    expected = np.zeros((2, 4), int)
    for block, used in ((0, 256), (1, 44)):
        images = draw_groups(jax.random.fold_in(key, block), scene, (256,) * 4)
        for row, ball in enumerate((None, threat)):
            wrong = ~np.asarray(is_right(images, rule_at(scene, angle), ball)).reshape(4, 256)
            expected[row] += wrong[:, :used].sum(1)
    assert np.array_equal(np.stack(counts), expected)


def test_the_same_command_prints_the_same(call):
    assert call("--images", 1000) == call("--images", 1000)
    assert call("--images", 1000) != call("--images", 1000, "--seed", 1)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--angle", 91, "angle = 91.0: must be in [0, 90] degrees"),
        ("--angle", -1, "angle = -1.0: must be in [0, 90] degrees"),
        ("--radius", -1, "radius = -1: the perturbation radius must lie in [0, inf)"),
        ("--core", 0, "core = 0.0: must be a positive number"),
        ("--size", 20, "size = 20: must be one of (16, 32)"),
        ("--images", 0, "images = 0: must be in [1, 2^30]"),
        ("--seed", -1, "seed = -1: must lie in [0, 2^32)"),
        ("--level", 1, "level = 1.0: the error probability must lie in (0, 1)"),
    ],
)
def test_bad_input_is_one_line(call, option, value, message):
    assert call(option, value) == (2, "", f"error: {message}\n")
