"""The command lines: what they print, what they leave, and how they refuse."""

import os
import subprocess
import sys

import pytest

import figures.__main__ as figures_command
import nets.__main__ as nets_command
import sims.__main__ as sims_command
import theory.__main__ as theory_command
from sims.cli.frame import run
from sims.sweep import file as sweep_file
from theory.claims.registry import registered

SMALL = ["--grid", "radius=0,1", "scale_ratio=1.5", "--trials", "2000"]
NAME = "gaussian-robust-risk-l2"


def _call(monkeypatch, capsys, module, *arguments):
    """Runs a command line in this process; returns its status, output and error output."""
    commands = {
        "sims": lambda: run(sims_command.check, "python -m sims"),
        "figures": lambda: run(figures_command.make, "python -m figures"),
        "theory": lambda: run(theory_command.describe, "python -m theory"),
    }
    monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        commands[module]()
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_sims_prints_a_verdict_and_leaves_a_file(monkeypatch, capsys, tmp_path):
    status, out, _ = _call(monkeypatch, capsys, "sims", NAME, *SMALL, "--out", tmp_path)
    assert status == 0
    assert out.startswith(f"{NAME}: not contradicted: an error of ±")
    assert sweep_file.load(tmp_path / f"{NAME}.nc").trials_per_class == 2000


def test_shards_on_the_command_line_merge(monkeypatch, capsys, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert _call(monkeypatch, capsys, "sims", NAME, *SMALL, "--out", whole)[0] == 0
    for i in (1, 2):
        shard = ("--shard", f"{i}/2")
        assert _call(monkeypatch, capsys, "sims", NAME, *SMALL, *shard, "--out", parts)[0] == 0
    files = sorted(parts.iterdir())
    status, out, _ = _call(monkeypatch, capsys, "sims", "--merge", *files, "--out", parts)
    assert status == 0
    assert "not contradicted" in out
    assert (parts / f"{NAME}.nc").read_bytes() == (whole / f"{NAME}.nc").read_bytes()


def test_a_contradiction_is_status_1(monkeypatch, capsys, tmp_path):
    from theory.claims.controls import controls

    wrong = controls()[NAME][0].claim
    monkeypatch.setattr("theory.claims.registry.find", lambda _: wrong)
    arguments = ("--grid", "radius=1", "scale_ratio=1", "--trials", 400_000, "--out", tmp_path)
    status, out, _ = _call(monkeypatch, capsys, "sims", NAME, *arguments)
    assert status == 1
    assert "contradicted at 2 of 2 points" in out


BAD = [
    (("no-such-claim",), "claim = 'no-such-claim': unknown; "),
    (
        ("gausian-robust-risk-l2",),
        "claim = 'gausian-robust-risk-l2': unknown; did you mean gaussian",
    ),
    (
        (NAME, "--grid", "raduis=0:1:3"),
        "axis of gaussian-robust-risk-l2 = 'raduis': unknown; did you",
    ),
    (
        (NAME, "--grid", "radius=-1,1"),
        "radius = -1: perturbation radius, in units of the inputs must",
    ),
    (
        ("stable-robust-risk", "--grid", "alpha=1,2.5"),
        "alpha = 2.5: stability index must lie in [0.1, 2]",
    ),
    ((NAME, "--grid", "scale_ratio=0"), "scale_ratio = 0: scale of the positive over"),
    ((NAME, "--grid", "radius"), "grid = 'radius': must look like"),
    ((NAME, "--trials", "0"), "trials = 0: points of each class, must be at least 1"),
    ((NAME, "--until", "2"), "until = 2.0: the width of an interval, must lie in (0, 1)"),
    ((NAME, "--shard", "3/2"), "shard = '3/2': must be i/n"),
    ((NAME, "--shard", "30/30"), "shard = 30/30: the grid has only 18 points"),
    ((NAME, "--level", "0"), "level = 0.0: the error probability must lie in (0, 1)"),
    ((NAME, "--seed", "-3"), "seed = -3: must lie in [0, 2^32)"),
    (("--merge", "nothing.nc"), "results = nothing.nc: no such file"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_status_2(arguments, message, monkeypatch, capsys, tmp_path):
    out = tmp_path / "out"
    status, printed, error = _call(monkeypatch, capsys, "sims", *arguments, "--out", out)
    assert status == 2
    assert printed == ""
    assert error.count("\n") == 1
    assert error.startswith(f"error: {message}")
    assert not list(tmp_path.rglob("*.nc"))


@pytest.mark.parametrize("module", ["sims", "figures"])
def test_an_output_that_is_a_file_is_refused(module, monkeypatch, capsys, tmp_path):
    (tmp_path / "taken").write_text("mine")
    arguments = (NAME, "--trials", 10, "--out", tmp_path / "taken")
    status, _, error = _call(monkeypatch, capsys, module, *arguments)
    assert status == 2
    assert error.startswith(f"error: output = {tmp_path / 'taken'}: must be a folder")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_result_file_of_other_settings_stops_the_run_before_any_claim(
    monkeypatch, capsys, tmp_path
):
    other = "gaussian-robust-risk-l1"
    assert _call(monkeypatch, capsys, "sims", NAME, *SMALL, "--out", tmp_path)[0] == 0
    arguments = (other, NAME, *SMALL, "--seed", 9, "--out", tmp_path)
    status, out, error = _call(monkeypatch, capsys, "sims", *arguments)
    assert (status, out) == (2, "")
    assert "belongs to another sweep (seed = 0, this one has 9)" in error
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.nc"]


def test_theory_lists_describes_and_cites(monkeypatch, capsys):
    _, out, _ = _call(monkeypatch, capsys, "theory")
    assert "cauchy-robust-risk-linf\n    hu2023accuracydisparity, T15" in out
    assert "published form fails: the majority class gains" in out
    _, out, _ = _call(monkeypatch, capsys, "theory", "--ledger")
    claims = registered().values()
    assert out.count("FAILS  ") == out.count("where: ") == sum(bool(c.fails) for c in claims)
    assert all(f"{'FAILS' if c.fails else 'holds'}  {c.name}" in out for c in claims)
    _, out, _ = _call(monkeypatch, capsys, "theory", NAME)
    assert "axis radius: perturbation radius" in out
    _, out, _ = _call(monkeypatch, capsys, "theory", NAME, "--bibtex")
    assert out.startswith("@inproceedings{hu2023accuracydisparity,")
    status, _, error = _call(monkeypatch, capsys, "theory", "gaussian")
    assert status == 2
    assert "did you mean gaussian-robust-risk-l1" in error


def test_figures_leave_pictures_data_and_a_gallery(monkeypatch, capsys, tmp_path):
    arguments = ("robust-risk-bound-l2", "--trials", 3000, "--out", tmp_path)
    status, out, _ = _call(monkeypatch, capsys, "figures", *arguments)
    assert status == 0
    assert out.splitlines()[-1] == str(tmp_path / "index.html")
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == [
        "index.html",
        *(f"robust-risk-bound-l2.{kind}" for kind in ("nc", "pdf", "png")),
    ]
    page = (tmp_path / "index.html").read_text()
    assert "would have been seen" in page
    assert "@book{boucheron2013concentration" in page
    # Other settings are refused until the earlier results are set aside.
    again = (*arguments, "--seed", 4)
    assert _call(monkeypatch, capsys, "figures", *again)[0] == 2
    assert _call(monkeypatch, capsys, "figures", *again, "--fresh")[0] == 0
    assert (tmp_path / "robust-risk-bound-l2.nc.old").exists()


HELPED = ["theory", "theory waterbirds", "figures", "nets"]
HELPED += [f"sims {word}".strip() for word in ("", *sims_command.COMMANDS)]
HELPED += [f"nets {word}" for word in nets_command.COMMANDS]


def test_help_comes_without_importing_numpy_or_jax():
    """Help is quick because words are read before arrays are needed; time is not measured."""
    code = (
        "import contextlib, io, runpy, sys\n"
        f"for words in {HELPED!r}:\n"
        "    sys.argv = ['x', *words.split()[1:], '--help']\n"
        "    out = io.StringIO()\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(out):\n"
        "            runpy.run_module(words.split()[0], run_name='__main__')\n"
        "    except SystemExit as stop: assert not stop.code\n"
        "    assert 'usage: python -m' in out.getvalue(), words\n"
        "    heavy = {'jax', 'numpy', 'scipy', 'xarray', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_self_test_sees_every_planted_error(monkeypatch, capsys):
    status, out, _ = _call(monkeypatch, capsys, "sims", "--self-test")
    assert status == 0, out
    assert "FAIL" not in out
    assert out.splitlines()[-1] == "67 of 67 formulas were judged rightly"


def test_an_interrupt_is_status_130_and_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sims.sweep.run.run", interrupted)
    status, _, error = _call(monkeypatch, capsys, "sims", NAME, "--out", tmp_path)
    assert status == 130
    assert "the same command goes on" in error


def test_a_reader_that_leaves_ends_no_work(tmp_path):
    """Two claims, the reader gone after the first line: both files are there."""
    arguments = [NAME, "gaussian-robust-risk-l1", *SMALL, "--out", str(tmp_path)]
    line = f"{sys.executable} -m sims {' '.join(arguments)} | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, NAME[0])
    assert done.stderr in ("", "the reader of the output has left; the work goes on\n")
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["gaussian-robust-risk-l1.nc", f"{NAME}.nc"]


@pytest.mark.parametrize(
    ("number", "status", "word"), [(15, 143, "terminated"), (1, 129, "hung up")]
)
def test_a_signal_that_ends_says_how_to_go_on(number, status, word, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sims.sweep.run.run", lambda *_, **__: os.kill(os.getpid(), number))
    ended, _, error = _call(monkeypatch, capsys, "sims", NAME, "--out", tmp_path)
    assert (ended, error) == (status, f"{word}; the same command goes on from the last chunk\n")


def test_a_bug_is_one_line_and_status_70(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sims.sweep.verdict.summarise", lambda dataset: dataset.no_such_name)
    status, _, error = _call(monkeypatch, capsys, "sims", NAME, *SMALL, "--out", tmp_path)
    assert status == 70
    assert error.count("\n") == 1
    assert error.startswith("internal error: AttributeError: ")
    assert "this is a bug: please report it" in error
