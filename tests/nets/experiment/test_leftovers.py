"""A kill between a run and the removal of its checkpoints: the next command clears, and no more."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from nets import __main__ as command
from nets.experiment import leftovers
from nets.experiment.prepare import identity, prepare
from nets.experiment.run import write_run
from nets.runs import folder as run_folder
from nets.runs import lock
from nets.training import checkpoint
from support import small_training

CONFIG = small_training.CONFIG.replace(
    model="logistic", options={}, fairness="none", fairness_options={}, epochs=2, ema=0.0
)
RECORD = {"loss": 1.0, "score": 5, "collapsed": False, "probe": {"clean": 9, "robust": 5, "of": 9}}
FILES = {run_folder.LOG, run_folder.PARAMETERS, run_folder.SETTINGS}


@pytest.fixture(scope="module")
def experiment():
    return prepare(CONFIG, small_training.digits())


@pytest.fixture(scope="module")
def killed(experiment, tmp_path_factory):
    """A run that is whole, with its last checkpoint and a lock that nobody holds beside it."""
    folder = tmp_path_factory.mktemp("killed")
    progress = experiment.fresh._replace(records=(RECORD | {"epoch": 1}, RECORD | {"epoch": 2}))
    checkpoint.save(folder, identity(experiment), progress)
    write_run(experiment, folder, progress)
    (folder / lock.NAME).touch()
    return folder


@pytest.fixture
def run(killed, tmp_path):
    return shutil.copytree(killed, tmp_path / "run")


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_checkpoints_and_lock_of_a_finished_run_go_and_nothing_else(run):
    before = {name: (run / name).read_bytes() for name in FILES}
    leftovers.clear(run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_checkpoint_that_nothing_can_go_on_from_goes_too(run):
    # As a kill in the middle of the removal leaves it.
    (run / checkpoint.FOLDER / "2" / "manifest.json").unlink()
    leftovers.clear(run)
    assert {path.name for path in run.iterdir()} == FILES


def _of_another_training(run, one):
    shutil.rmtree(run / checkpoint.FOLDER)
    settings = identity(one) | {"epochs": 9}
    checkpoint.save(run, settings, one.fresh._replace(records=(RECORD | {"epoch": 1},)))


@pytest.mark.parametrize(
    "change",
    [
        lambda run, _: (run / run_folder.SETTINGS).unlink(),
        lambda run, _: (run / run_folder.SETTINGS).write_text("{}", "utf-8"),
        _of_another_training,
    ],
    ids=["without a run", "of a record that is damaged", "of another training"],
)
def test_what_an_unfinished_training_goes_on_from_is_left(run, experiment, change):
    change(run, experiment)
    before = contents(run)
    leftovers.clear(run)
    before.pop(run / lock.NAME)
    after = contents(run)
    after.pop(run / lock.NAME, None)
    assert after == before


def test_a_folder_that_another_process_holds_is_left(run):
    code = (
        "import pathlib, sys\nfrom nets.runs import lock\n"
        "with lock.held(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, run], **pipes) as process:
        assert process.stdout.readline() == "held\n"
        before = contents(run)
        leftovers.clear(run)
        assert contents(run) == before
        process.communicate("")
    leftovers.clear(run)
    assert {path.name for path in run.iterdir()} == FILES


def test_of_several_seeds_all_runs_must_be_there(experiment, killed, tmp_path):
    runs = [tmp_path / "seed-0", tmp_path / "seed-1"]
    progress = experiment.fresh._replace(records=(RECORD | {"epoch": 1},))
    checkpoint.save(tmp_path, identity(experiment) | {"seeds": 2}, progress)
    shutil.copytree(killed, runs[0])
    runs[1].mkdir()
    leftovers.clear(tmp_path, runs)
    assert (tmp_path / checkpoint.FOLDER / "1").exists()
    shutil.copytree(killed, runs[1], dirs_exist_ok=True)
    leftovers.clear(tmp_path, runs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0", "seed-1"]
    for folder in runs:
        assert {path.name for path in folder.iterdir()} == FILES


# Dies by SIGKILL when the run is whole, before the checkpoints are removed.
DYING = """
import os, pathlib, signal, sys
from nets import __main__ as command
from nets.training import checkpoint
checkpoint.remove = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
command.train(tuple(sys.argv[2:]), out=pathlib.Path(sys.argv[1]), report=False)
"""
WORDS = ("model=logistic", "options={}", "epochs=1", "batch=500", "attack_steps=1")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
def test_the_command_that_finds_the_run_clears_it(seeds, tmp_path, monkeypatch):
    words = (*WORDS, "held_out=5", "radius_warm_up=0", f"seeds={seeds}")
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    died = subprocess.run([sys.executable, "-c", DYING, tmp_path, *words], env=environment)
    assert died.returncode == -signal.SIGKILL
    assert (tmp_path / checkpoint.FOLDER).exists()
    assert (tmp_path / lock.NAME).exists()
    evaluated: list[pathlib.Path] = []
    monkeypatch.setattr(command, "evaluate", lambda folder, **_: evaluated.append(folder))
    if seeds == 2:
        # Dead before the second run: the same command trains on and leaves nothing either.
        assert not (tmp_path / "seed-1" / checkpoint.FOLDER).exists()
    assert command.train(words, out=tmp_path) == 0
    assert len(evaluated) == seeds
    for name in (checkpoint.FOLDER, lock.NAME):
        assert not list(tmp_path.rglob(name))
