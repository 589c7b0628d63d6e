"""Every cell of docs/interruptions.md is a test; those that no other file has are here."""

import ast
import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from nets import __main__ as nets_command
from sims import __main__ as sims_command
from sims.cli.frame import run

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "interruptions.md"

HERE = "tests/house/test_interruptions.py::"
FRAME = "tests/theory/command_line/test_frame.py::"
SWEEP = "tests/sims/sweep/test_interruptions.py::"
RESUME = "tests/nets/training/test_resume.py::"
SEEDS = "tests/nets/experiment/test_seeds.py::"
EVALUATION = "tests/nets/evaluation/test_unfinished.py::"
WRITERS = "tests/sims/files/test_two_writers.py::"

SIGNAL = f"{HERE}test_a_signal_is_one_line_and_a_status_and_leaves_no_half"
PIPE = f"{FRAME}test_an_output_that_nobody_reads_ends_no_work"
KILLED_WRITER = (
    f"{WRITERS}test_what_a_killed_writer_left_goes_with_the_next_and_a_living_ones_stays"
)
FULL_FILE = "tests/sims/files/test_netcdf.py::test_a_full_disk_leaves_the_old_file"
FULL_OUTPUT = f"{FRAME}test_a_full_disk_under_the_output_ends_no_work"
TWO_WRITERS = f"{WRITERS}test_each_of_two_writers_leaves_its_whole_file"
PRINTS_ONLY = f"{HERE}test_what_only_prints_takes_no_folder"
ONE_PROCESS = f"{RESUME}test_a_folder_is_trained_into_by_one_process"

# Of Ctrl-C, SIGTERM and a closed pipe the frame of commands speaks alike.
COLUMNS = ("Ctrl-C", "SIGTERM", "closed pipe", "kill -9", "full disk", "second process")
TESTS: dict[str, tuple[str, str, str]] = {
    "sweep": (
        f"{SWEEP}test_four_kills_lose_at_most_a_chunk_each_and_no_bit",
        f"{SWEEP}test_a_full_disk_is_one_line_and_the_same_command_goes_on",
        f"{HERE}test_two_sweeps_at_once_end_in_the_same_bytes",
    ),
    "train-grid": (
        f"{SWEEP}test_an_interrupted_training_leaves_complete_files_alone",
        FULL_FILE,
        TWO_WRITERS,
    ),
    "rare": (PRINTS_ONLY, FULL_OUTPUT, PRINTS_ONLY),
    "validate": (PRINTS_ONLY, FULL_OUTPUT, PRINTS_ONLY),
    "explore": (KILLED_WRITER, FULL_FILE, TWO_WRITERS),
    "figures": (
        f"{SWEEP}test_four_kills_lose_at_most_a_chunk_each_and_no_bit",
        "tests/figures/test_page.py::test_a_full_disk_takes_nothing_and_the_same_command_goes_on",
        TWO_WRITERS,
    ),
    "train": (
        f"{RESUME}test_the_command_goes_on_after_a_kill",
        f"{RESUME}test_a_full_disk_leaves_the_last_checkpoint",
        ONE_PROCESS,
    ),
    "seeds": (
        f"{SEEDS}test_a_training_that_was_stopped_leaves_the_runs_of_each_seed_alone",
        f"{RESUME}test_a_full_disk_leaves_the_last_checkpoint",
        ONE_PROCESS,
    ),
    "study": (
        "tests/nets/study/test_study.py::test_a_study_goes_on_and_leaves_plain_runs",
        f"{RESUME}test_a_full_disk_leaves_the_last_checkpoint",
        f"{HERE}test_a_study_stops_where_another_process_trains",
    ),
    "evaluate": (
        f"{EVALUATION}test_an_evaluation_goes_on_to_the_same_bytes",
        f"{EVALUATION}test_a_full_disk_at_the_end_loses_nothing",
        f"{EVALUATION}test_one_process_evaluates_into_a_file",
    ),
}


def rows():
    """Yields the cells of each row of the table."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    for line in lines:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_cell_has_words_and_a_test():
    head, *table = rows()
    assert tuple(head[1:]) == COLUMNS
    assert [row[0] for row in table] == list(TESTS)
    notes = set(re.findall(r"^- \*\*\((\w)\)\*\*", PAGE.read_text("utf-8"), re.MULTILINE))
    used = set()
    for row in table:
        assert len(row) == len(head)
        for cell in row[1:]:
            words = re.fullmatch(r"\w+( \w+)? \((\w)\)", cell)
            assert words, cell
            used.add(words[2])
    assert used == notes


@pytest.mark.parametrize("command", TESTS)
def test_the_tests_of_a_row_are_there(command):
    for name in (SIGNAL, PIPE, *TESTS[command]):
        path, _, function = name.partition("::")
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


STUDY = """format = 1
config = "recipe.toml"
seeds = [3]
reference = "plain"
[methods.plain]
[methods.mixed]
mix = 0.7
[evaluation]
protocol = "quick"
samples = 200
"""
RECIPE = """format = 1
model = "logistic"
data = "mnist-5k"
objective = "natural"
radius = 0.05
epochs = 1
batch = 500
"""
NATURAL = ("mnist-5k-natural", "model=logistic", "options={}")
CLAIM = "gaussian-robust-risk-l2"
TRAINING = "nets.training.loop.run_seeds"
# The words of each command, and what is interrupted in it.
WORK: dict[str, tuple[str, tuple[str, ...]]] = {
    "sweep": ("sims.sweep.run.run", ("sims", CLAIM)),
    "train-grid": ("sims.training.run.train", ("sims", "train-grid", "--law", "gaussian")),
    "rare": ("sims.rare.claims.check", ("sims", "rare", CLAIM)),
    "validate": ("sims.noise.validate.validate", ("sims", "validate")),
    "explore": ("sims.projection.explore.explore", ("sims", "explore", CLAIM)),
    "figures": ("sims.sweep.run.run", ("figures", CLAIM)),
    "train": (TRAINING, ("nets", "train", *NATURAL)),
    "seeds": (TRAINING, ("nets", "train", *NATURAL, "seeds=2")),
    "study": (TRAINING, ("nets", "study", "study.toml")),
    "evaluate": ("nets.evaluation.run.evaluate_run", ("nets", "evaluate", "run")),
}
PRINTING = ("rare", "validate")


def call(monkeypatch, capsys, words):
    """Returns status, standard output and error of a command line."""
    import figures.__main__ as figures_command

    mains: dict[str, Any] = {
        "sims": sims_command.main,
        "nets": nets_command.main,
        "figures": lambda: run(figures_command.make, "python -m figures"),
    }
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(SystemExit) as stop:
        mains[words[0]]()
    out, error = capsys.readouterr()
    return stop.value.code, out, error


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with what the study reads."""
    (tmp_path / "study.toml").write_text(STUDY, "utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("command", WORK)
def test_a_signal_is_one_line_and_a_status_and_leaves_no_half(command, folder, monkeypatch, capsys):
    assert list(WORK) == list(TESTS)
    target, words = WORK[command]
    words = (*words, "--out", "out") if command not in (*PRINTING, "evaluate") else words
    for number, said in ((signal.SIGINT, "stopped"), (signal.SIGTERM, "terminated")):
        reached = []

        def work(*_, number=number, reached=reached, **__):
            reached.append(number)
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 5)

        with monkeypatch.context() as patch:
            patch.setattr(target, work)
            status, out, error = call(patch, capsys, words)
        assert reached
        assert (status, out) == (128 + number, "")
        assert error.startswith(f"{said}; the same command ")
        assert error.count("\n") == 1
        assert files(folder) == ["recipe.toml", "study.toml"]


@pytest.mark.parametrize("command", PRINTING)
def test_what_only_prints_takes_no_folder(command, monkeypatch, capsys):
    status, out, _ = call(monkeypatch, capsys, ("sims", command, "--help"))
    assert status == 0
    assert "--out" not in out


def test_a_study_stops_where_another_process_trains(folder, monkeypatch, capsys):
    import fcntl

    trained = folder / "out" / "plain-seed3"
    trained.mkdir(parents=True)
    # As another process holds it: of another open file.
    with (trained / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        status, _, error = call(
            monkeypatch, capsys, ("nets", "study", "study.toml", "--out", "out")
        )
    assert status == 2
    assert error.startswith(f"error: out = {pathlib.Path('out') / 'plain-seed3'}: another process")
    assert error.count("\n") == 1
    assert files(folder) == [".lock", "recipe.toml", "study.toml"]


@pytest.mark.slow
def test_two_sweeps_at_once_end_in_the_same_bytes(tmp_path):
    words = [sys.executable, "-m", "sims", CLAIM, "--grid", "radius=0,1", "--trials", "400000"]

    def started(name):
        return subprocess.Popen([*words, "--out", tmp_path / name], stdout=subprocess.DEVNULL)

    processes = [started("both"), started("both"), started("alone")]
    assert [process.wait(timeout=500) for process in processes] == [0, 0, 0]
    (alone,) = (tmp_path / "alone").iterdir()
    (both,) = (tmp_path / "both").iterdir()
    assert both.read_bytes() == alone.read_bytes()
