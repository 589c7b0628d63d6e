"""A training that was killed, stopped or out of disk goes on to the very same numbers."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from nets import __main__ as command
from nets.experiment.prepare import prepare
from nets.experiment.run import run_experiment
from nets.runs import folder as run_folder
from nets.runs import lock
from nets.training import checkpoint, loop
from support import small_training
from theory.domain import InvalidInput

pytestmark = pytest.mark.slow

CONFIG = small_training.CONFIG
SETTINGS = {"a": 1}


@pytest.fixture(scope="module")
def digits():
    return small_training.digits()


@pytest.fixture(scope="module")
def prepared(digits):
    return prepare(CONFIG, digits)


@pytest.fixture(scope="module")
def undisturbed(prepared):
    return loop.run(prepared.training, prepared.fresh)


class Stopped(Exception):
    """Stands for what ends a process."""


def stop_after(epoch, folder):
    def save(progress):
        checkpoint.save(folder, SETTINGS, progress)
        if len(progress.records) == epoch:
            raise Stopped

    return save


@pytest.fixture(scope="module")
def stopped(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stopped):
        loop.run(prepared.training, prepared.fresh, stop_after(2, folder))
    return folder


@pytest.fixture
def halfway(stopped, tmp_path):
    """A folder with the checkpoint of epoch 2."""
    return shutil.copytree(stopped, tmp_path / "run")


def require_same(one, two):
    assert one.records == two.records
    arrays = [jax.tree_util.tree_flatten_with_path((p.state, p.chosen))[0] for p in (one, two)]
    assert [path for path, _ in arrays[0]] == [path for path, _ in arrays[1]]
    for (path, first), (_, second) in zip(*arrays, strict=True):
        assert first.dtype == second.dtype, path
        np.testing.assert_array_equal(first, second, err_msg=str(path))


def test_two_epochs_and_two_more_are_four(prepared, undisturbed, halfway):
    again = checkpoint.restore(halfway, SETTINGS, prepared.fresh)
    assert len(again.records) == 2
    assert not (np.asarray(again.state.fairness.weights) == 1).all()
    assert "batch_stats" in again.state.variables
    require_same(loop.run(prepared.training, again), undisturbed)


def test_without_a_checkpoint_training_begins(prepared, tmp_path):
    assert checkpoint.restore(tmp_path, SETTINGS, prepared.fresh) is prepared.fresh


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_checkpoint_of_another_training_is_refused_and_left(prepared, digits, halfway):
    before = contents(halfway)
    with pytest.raises(InvalidInput, match=r"settings \(a = 1, this training has 2\)"):
        checkpoint.restore(halfway, {"a": 2}, prepared.fresh)
    with pytest.raises(InvalidInput, match=r"settings \(b = None, this training has 3\)"):
        checkpoint.restore(halfway, SETTINGS | {"b": 3}, prepared.fresh)
    # A key that came later is at its default; another value is another training.
    whole = checkpoint.restore(halfway, SETTINGS | {"imbalance": 1.0}, prepared.fresh)
    assert len(whole.records) == 2
    with pytest.raises(InvalidInput, match=r"imbalance = 1\.0, this training has 2\.0"):
        checkpoint.restore(halfway, SETTINGS | {"imbalance": 2.0}, prepared.fresh)
    wide = CONFIG.replace(options={"stem": 5, "widths": [4], "blocks": 1})
    other = prepare(wide, digits).fresh
    with pytest.raises(InvalidInput, match=r"arrays \(chosen/.*has 'float32\[.*5"):
        checkpoint.restore(halfway, SETTINGS, other)
    assert contents(halfway) == before


def test_a_damaged_checkpoint_is_refused_and_left(prepared, halfway, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(InvalidInput, match="format 1, must be 2"):
        checkpoint.restore(halfway, SETTINGS, prepared.fresh)
    monkeypatch.undo()
    for name in ("arrays/_METADATA", "text/metadata"):
        path = halfway / checkpoint.FOLDER / "2" / name
        path.write_bytes(path.read_bytes()[:20])
        before = contents(halfway)
        with pytest.raises(InvalidInput, match="not readable as a checkpoint"):
            checkpoint.restore(halfway, SETTINGS, prepared.fresh)
        assert contents(halfway) == before


def test_a_full_disk_leaves_the_last_checkpoint(prepared, undisturbed, halfway, capfd):
    before = contents(halfway)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        with pytest.raises(InvalidInput, match=r"File too large.*no room for a checkpoint"):
            checkpoint.save(
                halfway, SETTINGS, undisturbed._replace(records=undisturbed.records[:3])
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(halfway) == before
    again = checkpoint.restore(halfway, SETTINGS, prepared.fresh)
    require_same(loop.run(prepared.training, again), undisturbed)
    assert "Traceback" not in capfd.readouterr().err


def test_what_a_kill_left_half_written_is_not_read(prepared, halfway, undisturbed):
    (halfway / checkpoint.FOLDER / "3.orbax-checkpoint-tmp").mkdir()
    assert len(checkpoint.restore(halfway, SETTINGS, prepared.fresh).records) == 2
    checkpoint.save(halfway, SETTINGS, undisturbed)
    assert [path.name for path in (halfway / checkpoint.FOLDER).iterdir()] == ["4"]


WORDS = (
    *("model=logistic", "options={}", "epochs=3", "batch=500", "attack_steps=1", "held_out=5"),
    *("rate=0.1", "radius_warm_up=0"),
)
# Holds the folder until it is killed.
HOLDING = """
import pathlib, sys, time
from nets.runs import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
# Dies by SIGKILL between the checkpoint of the second epoch and its line in the log.
DYING = """
import os, pathlib, signal, sys
from nets import __main__ as command
from nets.runs import folder as runs
write = runs.write_log
def dying(folder, records):
    if len(records) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(folder, records)
runs.write_log = dying
command.train(tuple(sys.argv[2:]), out=pathlib.Path(sys.argv[1]), report=False)
"""


def test_the_command_goes_on_after_a_kill(tmp_path, capsys):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    died = subprocess.run([sys.executable, "-c", DYING, killed, *WORDS], env=environment)
    assert died.returncode == -signal.SIGKILL
    assert len((killed / run_folder.LOG).read_text("utf-8").splitlines()) == 1
    with pytest.raises(InvalidInput, match=r"rate = 0\.1, this training has 0\.2"):
        command.train((*WORDS, "rate=0.2"), out=killed, report=False)
    assert command.train(WORDS, out=killed, report=False) == 0
    assert "gone on from epoch 2" in capsys.readouterr().out
    assert command.train(WORDS, out=whole, report=False) == 0
    for name in (run_folder.LOG, run_folder.PARAMETERS, run_folder.SETTINGS):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(path.name for path in killed.iterdir()) == sorted(
        (run_folder.LOG, run_folder.PARAMETERS, run_folder.SETTINGS)
    )
    log = [json.loads(line) for line in (whole / run_folder.LOG).read_text("utf-8").splitlines()]
    assert [record["epoch"] for record in log] == [1, 2, 3]
    kept = run_folder.load(whole).settings["epoch"]
    assert log[kept - 1]["score"] == max(record["score"] for record in log)


def test_a_folder_is_trained_into_by_one_process(tmp_path):
    words = (*WORDS, "epochs=1")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, tmp_path], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(InvalidInput, match="another process is training into it"):
                command.train(words, out=tmp_path, report=False)
        finally:
            process.kill()
    assert [path.name for path in tmp_path.iterdir()] == [lock.NAME]
    with lock.held(tmp_path):
        pass  # what the kill left is nobody's
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_finished_meanwhile_is_left(prepared, tmp_path):
    (tmp_path / run_folder.SETTINGS).write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidInput, match="holds a run already"):
        run_experiment(prepared, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [run_folder.SETTINGS]
