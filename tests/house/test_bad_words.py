"""Every option of every command, and what it refuses: one line, status 2, before anything is done.

In this process: a command of its own process takes a second, and the words are many.
"""

import re
import sys
import time

import pytest

import figures.__main__ as figures_command
import nets.__main__ as nets_command
import sims.__main__ as sims_command
import theory.__main__ as theory_command
from theory.command_line.frame import run

CLAIM = "gaussian-robust-risk-l2"
MAINS = {
    "theory": theory_command.main,
    "sims": sims_command.main,
    "nets": nets_command.main,
    "figures": lambda: run(figures_command.make, "python -m figures"),
}
NO_NUMBER = ["x", "", "nan", "inf", "1e999", "8/0", "\u0663", "1,5", "9" * 5000]
NO_WHOLE = [*NO_NUMBER, "1.5", "8/255"]
NO_PATH = ["", "a" * 300, "a/" * 3000]
NO_FILE_NAME = ["", "..", "../escaped", "/etc/x", "a/b", ".hidden", "a\nb", "a" * 201]

# What stands before the option, each option, and texts that no option of its kind takes.
OF_A_KIND = [
    ("theory waterbirds", "radius core spurious noise agreement extra", NO_NUMBER, "a number"),
    ("theory waterbirds", "core-pixels spurious-pixels", NO_WHOLE, "a whole number"),
    (f"sims {CLAIM}", "until level", NO_NUMBER, "a number"),
    (f"sims {CLAIM}", "trials seed patience", NO_WHOLE, "a whole number"),
    ("sims", "out merge", NO_PATH, "a path"),
    ("sims train-grid --law gaussian", "ratios rates mixup minority-weight", NO_NUMBER, "a number"),
    (
        "sims train-grid --law gaussian",
        "seeds batch epochs patience seed",
        NO_WHOLE,
        "a whole number",
    ),
    (f"sims rare {CLAIM}", "trials seed", NO_WHOLE, "a whole number"),
    (f"sims explore {CLAIM}", "trials seed", NO_WHOLE, "a whole number"),
    (f"sims explore {CLAIM}", "out", NO_PATH, "a path"),
    ("sims validate", "alpha tolerance level", NO_NUMBER, "a number"),
    ("sims validate", "trials seed", NO_WHOLE, "a whole number"),
    ("sims waterbirds", "angle radius core spurious noise level", NO_NUMBER, "a number"),
    ("sims waterbirds", "size images seed", NO_WHOLE, "a whole number"),
    ("nets train", "out directory", NO_PATH, "a path"),
    ("nets evaluate run", "radius level", NO_NUMBER, "a number"),
    ("nets evaluate run", "samples seed block", NO_WHOLE, "a whole number"),
    ("nets evaluate run", "name", NO_FILE_NAME, "the name of a file"),
    ("nets compare run run", "level", NO_NUMBER, "a number"),
    ("nets compare run run", "name", NO_FILE_NAME, "the name of a file"),
    ("nets report study.nc", "level", NO_NUMBER, "a number"),
    (f"figures {CLAIM}", "trials seed", NO_WHOLE, "a whole number"),
    (f"figures {CLAIM}", "level", NO_NUMBER, "a number"),
    ("figures", "out data", NO_PATH, "a path"),
]
# Texts of the right kind whose values no run can have, and what a message must name.
OF_A_VALUE = {
    "theory no-claim": "claim = 'no-claim': unknown",
    "theory waterbirds --radius -1": "radius = -1",
    "theory waterbirds --core 0": "core = 0",
    "theory waterbirds --agreement 2": "agreement = 2",
    "theory waterbirds --core-pixels 0": "core-pixels = 0",
    "theory waterbirds --spurious-pixels 1e30": r"spurious-pixels = 1e\+30",
    "theory waterbirds --norm l9": "invalid choice 'l9'",
    f"sims {CLAIM} --trials -1": "trials = -1",
    f"sims {CLAIM} --trials 1e30": "trials = 1000000000000000019884624838656|at most 2\\^53",
    f"sims {CLAIM} --until 0": "until = 0",
    f"sims {CLAIM} --until 1e-300": "until = 1e-300",
    f"sims {CLAIM} --seed 4294967296": "seed = 4294967296",
    f"sims {CLAIM} --level 1": "level = 1",
    f"sims {CLAIM} --shard 1/0": "shard = '1/0'",
    f"sims {CLAIM} --shard \u0661/2": "shard = ",
    f"sims {CLAIM} --host 1/2 --coordinator host:\u0663": "coordinator = 'host:",
    f"sims {CLAIM} --host 1/2 --coordinator {'a' * 300}:1": "coordinator = 'aaa",
    f"sims {CLAIM} --host 1/2 --coordinator host:99999": "coordinator = 'host:99999'",
    f"sims {CLAIM} --grid radius=0 radius=1": "the axis radius is given twice",
    f"sims {CLAIM} --grid radius=0 --grid radius=1": "the axis radius is given twice",
    f"sims {CLAIM} --grid": "--grid: at least one value must follow",
    f"sims {CLAIM} --trials 10 --trials 20": "--trials: is given twice",
    "sims --merge": "--merge: at least one value must follow",
    "sims --merge --out results": "--merge: at least one value must follow",
    "sims --merge a.nc --trials 7": "merge: --trials has no effect",
    f"sims {CLAIM} --merge a.nc b.nc --shard 1/2": "merge: claims has no effect",
    "sims --self-test --level 2": "level = 2",
    "sims --self-test --trials 7": "self-test: --trials has no effect",
    "sims --self-test --seed 7": "self-test: --seed has no effect",
    f"sims {CLAIM} --self-test": "self-test: claims has no effect",
    "sims --self-test --merge a.nc": "self-test: --merge has no effect",
    "sims --self-test --host 1/2 --coordinator host:1": "host = 1/2",
    "sims train-grid": "--law",
    "sims train-grid --law gauss": "law = 'gauss'",
    "sims train-grid --law gaussian --mixup 2": "mixup = 2",
    "sims train-grid --law gaussian --threats l2": "threat = 'l2'",
    "sims train-grid --law gaussian --epochs 0": "epochs = 0",
    "sims rare": "name at least one claim",
    f"sims rare {CLAIM} --level 0": "level = 0",
    "sims validate --tolerance 2": "tolerance = 2",
    "sims validate --tolerance 0": "tolerance = 0",
    "sims validate --alpha 3": "alpha = 3",
    "sims waterbirds --angle 91": "angle = 91",
    "sims waterbirds --core 1e300": "core = 1e\\+300.*float32",
    "sims waterbirds --noise 1e-300": "noise = 1e-300.*float32",
    "sims waterbirds --radius 1e38": "radius = 1e\\+38.*float32",
    "sims waterbirds --images 0": "images = 0",
    "nets draw": "command = 'draw'",
    "nets compare run run --level 2": "level = 2",
    "nets report study.nc --level 0": "level = 0",
    "nets train epochs=1e30": "epochs = 10*",
    "nets train crop=1e30": "crop = 10*",
    "nets train options.classes=3": "option of small-cnn = 'classes': unknown",
    "nets train samples=1e30": "samples = 10*",
    "nets train objective=pgdd": "pgd",
    f"figures {CLAIM} --level 2": "level = 2",
    f"figures {CLAIM} --trials 0": "trials = 0",
    "figures --data": "--data: at least one value must follow",
    "figures no-figure": "no-figure",
}


def refused(capsys, monkeypatch, words):
    """Returns what a command says when it refuses, and looks at all that refusing promises."""
    monkeypatch.setattr(sys, "argv", words)
    begun = time.process_time()
    with pytest.raises(SystemExit) as stop:
        MAINS[words[0]]()
    out, said = capsys.readouterr()
    assert (stop.value.code, out, said.count("\n")) == (2, "", 1), said
    assert said.startswith("error: ")
    assert said[:-1].isprintable()
    assert len(said) < 1300
    # Of the processor: what it refuses it has not begun to compute.
    assert time.process_time() - begun < 20
    return said


@pytest.mark.parametrize(
    ("before", "option", "texts", "allowed"),
    [
        (before, option, texts, allowed)
        for before, options, texts, allowed in OF_A_KIND
        for option in options.split()
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_text_of_another_kind_is_refused(
    before, option, texts, allowed, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for text in texts:
        said = refused(capsys, monkeypatch, [*before.split(), f"--{option}={text}"])
        assert option in said
        assert f"must be {allowed}" in said or "beyond the numbers" in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("line", "message"), OF_A_VALUE.items(), ids=[*OF_A_VALUE])
def test_a_value_that_cannot_be_is_refused(line, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, monkeypatch, line.split())
    assert re.search(message, said), said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
