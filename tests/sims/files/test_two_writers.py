"""Two processes that save the same file at once, and what one that was killed left of it."""

import os
import subprocess
import sys

import pytest

from sims import files
from sims.files import whole
from theory.domain import InvalidInput

# Writes half of a file, says so, and waits until it is told to go on or is killed.
HALF = """
import pathlib, sys
from sims import files
def write(path):
    with path.open("w") as handle:
        handle.write(sys.argv[2] * 1000)
        handle.flush()
        print("half", flush=True)
        sys.stdin.readline()
        handle.write(sys.argv[2] * 1000)
files.replace_whole(pathlib.Path(sys.argv[1]), write)
"""


@pytest.fixture
def writer(tmp_path):
    """Starts a process that stops when it has written half of tmp_path/file."""
    processes = []

    def started(letter):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", HALF, tmp_path / "file", letter]
        process = subprocess.Popen(command, **pipes)
        processes.append(process)
        assert process.stdout.readline() == "half\n"
        return process

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def test_each_of_two_writers_leaves_its_whole_file(writer, tmp_path):
    first, second = writer("a"), writer("b")
    for process, letter in ((second, "b"), (first, "a")):
        process.communicate("\n")
        assert process.returncode == 0
        assert (tmp_path / "file").read_text() == letter * 2000
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_goes_with_the_next_and_a_living_ones_stays(writer, tmp_path):
    killed = writer("a")
    killed.kill()
    killed.wait()
    assert len(os.listdir(tmp_path)) == 1
    living = writer("b")
    for name in (".file.elsewhere-1-2.partial", ".file.partial", ".other.x.partial"):
        (tmp_path / name).write_text("of another host, of another program, of another file")
    files.replace_whole(tmp_path / "file", lambda path: path.write_text("new"))
    halves = [path for path in tmp_path.iterdir() if "partial" in path.name]
    assert len(halves) == 4
    assert not [path for path in halves if f"-{killed.pid}-" in path.name]
    living.communicate("\n")
    assert (tmp_path / "file").read_text() == "b" * 2000


def test_a_write_that_fails_leaves_no_half(tmp_path):
    def write(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InvalidInput, match="cannot be written"):
        files.replace_whole(tmp_path / "file", write)
    assert not os.listdir(tmp_path)
    assert whole._is_running(str(os.getpid()))
    assert not whole._is_running(str(2**40))
