"""kill -9, a full disk, a reader that leaves: nothing is lost but the chunk in hand."""

import pathlib
import random
import subprocess
import sys
import time

import pytest

import sims.__main__ as sims_command
from sims.sweep import file as sweep_file
from sims.training import run as training_run

pytestmark = pytest.mark.slow

WRAPPER = pathlib.Path(__file__).parents[2] / "support" / "faults" / "interrupted.py"
NAME = "cauchy-robust-risk-l2"
CHUNKS = 16
TRIALS = CHUNKS * 32 * 4096
GRID = ("--trials", str(TRIALS), "--grid", "radius=0:2:5", "scale_ratio=1,2")


def _start(log, out, saves=0):
    arguments = (WRAPPER, log, saves, NAME, *GRID, "--out", out)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, arguments)], **pipes)


def _finish(process):
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert _finish(_start(folder / "log", folder))[0] == 0
    assert (folder / "log").read_text().split() == ["begun", "saved"] * CHUNKS
    return (folder / f"{NAME}.nc").read_bytes()


def test_four_kills_lose_at_most_a_chunk_each_and_no_bit(undisturbed, tmp_path):
    log, path, rng = tmp_path / "log", tmp_path / f"{NAME}.nc", random.Random(7)
    log.touch()
    for kill in range(4):
        process = _start(log, tmp_path)
        seen = log.read_text().count("saved")
        while log.read_text().count("saved") < seen + rng.randint(1, 3):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        assert _finish(process)[0] == -9
        chunks = sweep_file.load(path)["trials"].values.max() // (TRIALS // CHUNKS)
        words = log.read_text().split()
        # A save may be in place before it is noted; what was begun beyond it is lost.
        assert chunks < CHUNKS
        assert words.count("begun") - chunks <= kill + 1
    assert _finish(_start(log, tmp_path))[0] == 0
    assert CHUNKS <= log.read_text().split().count("begun") <= CHUNKS + 4
    assert path.read_bytes() == undisturbed


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(undisturbed, tmp_path):
    path = tmp_path / f"{NAME}.nc"
    status, out, error = _finish(_start(tmp_path / "log", tmp_path, saves=2))
    assert (status, out) == (74, "")
    assert error == f"error: results = {path}: cannot be written (File too large)\n"
    assert sweep_file.load(path)["trials"].values.max() == 2 * TRIALS // CHUNKS
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, "log"]
    assert _finish(_start(tmp_path / "log", tmp_path))[0] == 0
    assert path.read_bytes() == undisturbed


SMALL = (
    "--ratios",
    "1",
    "--seeds",
    "3",
    "--rates",
    "0.01",
    "--epochs",
    "3",
    "--threats",
    "natural",
)


def _train(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sims", "train-grid", *map(str, arguments), *SMALL])
    with pytest.raises(SystemExit) as stopped:
        sims_command.main()
    return stopped.value.code


def test_an_interrupted_training_leaves_complete_files_alone(monkeypatch, tmp_path, capsys):
    assert _train(monkeypatch, "--law", "gaussian", "--out", tmp_path) == 0
    path = tmp_path / "train-grid-gaussian.nc"
    before = path.read_bytes()
    train = training_run.train

    def interrupted(*arguments, **keywords):
        train(*arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run, "train", interrupted)
    assert _train(monkeypatch, "--law", "cauchy", "--out", tmp_path) == 130
    assert capsys.readouterr().err == "stopped; the same command starts anew\n"
    # Other settings are refused before training, so that they cannot replace it either.
    assert _train(monkeypatch, "--law", "gaussian", "--seed", 1, "--out", tmp_path) == 2
    assert _train(monkeypatch, "--law", "gaussian", "--out", tmp_path) == 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", ["theory --ledger", "sims --help", "figures --help"])
def test_a_reader_that_leaves_a_listing_early_ends_it_quietly(command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-m", *command.split()], **pipes) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, "")
