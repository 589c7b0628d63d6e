"""A checkpoint is whole when it has its name; it is read when no file of it has changed."""

import json
import pathlib
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from nets.training import checkpoint
from sims.files import manifest
from support.faults.kinds import SETTINGS, progress
from theory.domain import InvalidInput


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoint of epoch 2."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoint.save(folder, SETTINGS, progress(2))
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def epochs(folder):
    return len(checkpoint.restore(folder, SETTINGS, progress(0)).records)


def names(folder):
    return sorted(path.name for path in (folder / checkpoint.FOLDER).iterdir())


def refused(folder, monkeypatch):
    """Returns the line of a checkpoint that is refused before Orbax sees it, and left."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_read", None)
        with pytest.raises(InvalidInput, match="not readable as a checkpoint") as error:
            epochs(folder)
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before
    line = str(error.value)
    assert "move it away to start anew" in line
    assert "\n" not in line
    return line


def test_a_checkpoint_comes_back(folder):
    restored = checkpoint.restore(folder, SETTINGS, progress(0))
    np.testing.assert_array_equal(restored.state["w"], progress(2).state["w"])
    named = json.loads((folder / checkpoint.FOLDER / "2" / manifest.NAME).read_text("utf-8"))
    assert "text/metadata" in named["files"]
    assert len(named["files"]) > 5


def test_any_file_that_is_not_as_it_was_written_is_named(folder, monkeypatch):
    inside = folder / checkpoint.FOLDER / "2"
    for path in sorted(path for path in inside.rglob("*") if path.is_file()):
        data = path.read_bytes()
        path.write_bytes(data + b"\n")
        assert path.relative_to(inside).as_posix() in refused(folder, monkeypatch)
        path.unlink()
        assert path.name in refused(folder, monkeypatch)
        path.write_bytes(data)
    (inside / "text" / "more").touch()
    assert "text/more was not written with it" in refused(folder, monkeypatch)
    (inside / "text" / "more").unlink()
    assert epochs(folder) == 2


def test_a_kill_at_any_point_leaves_the_checkpoint_before_or_the_new_one(folder, monkeypatch):
    """Of the steps of a save, one after the other dies; the epoch before is gone on from."""

    class Killed(BaseException):
        """Stands for SIGKILL: nothing catches it."""

    def kill(*_, **__):
        raise Killed

    def orbax_dies_halfway(self, path, *_, **__):
        (pathlib.Path(path) / "arrays").mkdir(parents=True)
        raise Killed

    steps = [
        (checkpoint, "_require_room", kill, 2),
        (ocp.Checkpointer, "save", orbax_dies_halfway, 2),
        (manifest, "write", kill, 2),
        (pathlib.Path, "rename", kill, 2),
    ]
    for owner, name, dies, left in steps:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, dies)
            with pytest.raises(Killed):
                checkpoint.save(folder, SETTINGS, progress(3))
        assert epochs(folder) == left
    assert "3.partial" in names(folder)
    # Between the name of the new one and the removal of the old one.
    clear = checkpoint._clear
    with monkeypatch.context() as patched:
        patched.setattr(
            checkpoint, "_clear", lambda at, keep: kill() if keep == (3,) else clear(at, keep)
        )
        with pytest.raises(Killed):
            checkpoint.save(folder, SETTINGS, progress(3))
    assert names(folder) == ["2", "3"]
    assert epochs(folder) == 3
    checkpoint.save(folder, SETTINGS, progress(4))
    assert names(folder) == ["4"]
    assert epochs(folder) == 4


def test_a_full_disk_keeps_the_checkpoint_before(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    for owner, name in ((manifest, "write"), (pathlib.Path, "rename")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, full)
            with pytest.raises(
                InvalidInput, match=r"No space left on device.*the one before it is"
            ):
                checkpoint.save(folder, SETTINGS, progress(3))
        assert names(folder) == ["2"]
        assert epochs(folder) == 2


def test_one_from_before_there_were_manifests_is_refused(folder, monkeypatch):
    (folder / checkpoint.FOLDER / "2" / manifest.NAME).unlink()
    assert "no manifest.json: from before there was one" in refused(folder, monkeypatch)
