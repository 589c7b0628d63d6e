"""The frame of commands: whose fault an end is, its status, and work that outlives its reader."""

import contextlib
import errno
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from theory.command_line import frame
from theory.domain import InvalidInput

ROOT = pathlib.Path(__file__).parents[3]


def ended(capsys, action, **options):
    """Returns status, output and error of a command that does `action`."""

    def command() -> int:
        """Does what the test says."""
        return action()

    with pytest.raises(SystemExit) as stop:
        frame.run(command, "prog", [], **options)
    out, error = capsys.readouterr()
    return stop.value.code, out, error


def _raising(error):
    def action():
        raise error

    return action


BUGS = [TypeError("a\nb"), KeyError("classes"), RecursionError("deep"), AssertionError()]


@pytest.mark.parametrize("error", BUGS, ids=lambda error: type(error).__name__)
def test_an_error_that_is_not_bad_input_is_a_bug_that_says_how_to_report_it(
    error, capsys, monkeypatch
):
    monkeypatch.delenv(frame.TRACEBACK, raising=False)
    status, out, said = ended(capsys, _raising(error))
    assert (status, out, said.count("\n")) == (70, "", 1)
    assert said.startswith(f"internal error: {type(error).__name__}: ")
    assert said.endswith(
        "; this is a bug: please report it with the output of the same command under "
        "ROBUST_RISK_TRACEBACK=1\n"
    )
    monkeypatch.setenv(frame.TRACEBACK, "1")
    _, _, traced = ended(capsys, _raising(error))
    assert "Traceback (most recent call last)" in traced
    assert traced.endswith(said)


def test_a_bug_says_where_it_is(capsys):
    from theory.domain import require_known

    _, _, said = ended(capsys, lambda: require_known("kind", "name", None))
    assert "(theory/domain.py, line " in said


def _refused(number):
    """Returns an error that names a file of ours, behind which is that of the machine."""
    error = InvalidInput("results = f.nc: cannot be written")
    error.__cause__ = OSError(number, os.strerror(number))
    return error


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InvalidInput("radius = -1:\n must be"), 2, "error: radius = -1: must be\n"),
        (InvalidInput("name = a\x00b\x1b[2J"), 2, "error: name = a\\x00b\\x1b[2J\n"),
        (OSError(errno.ENOSPC, "No space left on device", "f.nc"), 74, "f.nc: No space left"),
        (OSError(errno.EACCES, "Permission denied", "f.nc"), 74, "f.nc: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), 74, "outside of this project): Input/output"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "f" * 9), 2, "File name too long"),
        (OSError(errno.EISDIR, "Is a directory", "f"), 2, "error: f: Is a directory"),
        (OSError(errno.ENOTDIR, "Not a directory", "f"), 2, "error: f: Not a directory"),
        (_refused(errno.ENOSPC), 74, "error: results = f.nc: cannot be written\n"),
        (_refused(errno.EFBIG), 74, "error: results = f.nc: cannot be written\n"),
        (_refused(errno.EACCES), 2, "error: results = f.nc: cannot be written\n"),
        (MemoryError(), 74, "error: out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"), 74, "error: out of memory"),
    ],
)
def test_an_error_is_one_line_and_the_status_of_whose_it_is(error, status, message, capsys):
    code, out, said = ended(capsys, _raising(error))
    assert (code, out, said.count("\n")) == (status, "", 1)
    assert message in said
    assert "Traceback" not in said


def test_a_line_stays_readable_however_long_a_value_is(capsys):
    _, _, said = ended(capsys, _raising(InvalidInput(f"name = {'x' * 10**6}: must be short")))
    assert len(said) < 1300
    assert said.startswith("error: name = xxx")
    assert said.endswith("must be short\n")


def test_no_memory_for_an_array_is_one_line(capsys):
    status, _, said = ended(capsys, lambda: np.ones((2**45,)).size)
    assert (status, said.count("\n")) == (74, 1)
    assert "out of memory" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("goes_on", ["the same command goes on", ""])
def test_a_signal_that_ends_is_met_cleanly(number, goes_on, capsys):
    cleaned = []

    def action():
        try:
            os.kill(os.getpid(), number)
            # The interpreter looks for signals between two of its steps.
            signal.sigtimedwait([], 0.1)
        finally:
            cleaned.append(number)
        return 0

    before = signal.getsignal(number)
    status, _, said = ended(capsys, action, goes_on=goes_on)
    assert (status, cleaned) == (128 + number, [number])
    words = {signal.SIGTERM: "terminated", signal.SIGHUP: "hung up", signal.SIGINT: "stopped"}
    assert said == f"{words[number]}{'; ' * bool(goes_on)}{goes_on}\n"
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so(capsys):
    """As nohup has it."""

    def ignoring():
        os.kill(os.getpid(), signal.SIGHUP)
        return 0

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        status, _, said = ended(capsys, ignoring)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (status, said) == (0, "")


def test_warnings_of_libraries_are_not_shown_and_ours_are_a_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", [])

    def action():
        np.float32(1e38) * np.float32(10)
        warnings.warn_explicit("no flock", UserWarning, "lock.py", 75, module="nets.runs.lock")
        return 0

    assert ended(capsys, action) == (0, "", "warning: no flock\n")


def test_a_command_in_a_thread_runs(capsys):
    """Python lets no other thread than the first set signals."""

    def run():
        with pytest.raises(SystemExit):
            frame.run(_one, "prog", [])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert capsys.readouterr().out == "one\n"


def _one() -> int:
    """Prints a line."""
    print("one")
    return 0


# What a process with real descriptors does; a command that prints much, then leaves a file.
WORK = """
import pathlib, sys
sys.path.insert(0, {root!r})
from theory.command_line.frame import run

def work(*, lines: int = 20_000) -> int:
    '''Prints, then writes.'''
    for number in range(lines):
        print('line', number)
    print('to stderr', file=sys.stderr)
    pathlib.Path({file!r}).write_text('done')
    return {status}

run(work, 'prog', goes_on={goes_on!r})
"""


def shell(tmp_path, ending, goes_on="goes on", status=0):
    """Returns the status of the command before a pipe, its standard error, and the file's text."""
    script = tmp_path / "work.py"
    file = tmp_path / "file"
    script.write_text(WORK.format(root=str(ROOT), file=str(file), goes_on=goes_on, status=status))
    line = f"{sys.executable} {script} {ending}; echo status ${{PIPESTATUS[0]}} >&3"
    done = subprocess.run(
        ["bash", "-c", f"exec 3>{tmp_path}/status; {line}"], capture_output=True, text=True
    )
    said = (tmp_path / "status").read_text().split()[-1]
    return int(said), done.stderr, file.read_text() if file.exists() else ""


LEFT = "the reader of the output has left; the work goes on\n"
FULL = "(No space left on device)"


@pytest.mark.parametrize(
    ("ending", "options", "status", "said"),
    [
        ("| head -1", {}, 0, f"{LEFT}to stderr\n"),
        ("| head -1", {"status": 1}, 1, f"{LEFT}to stderr\n"),
        ("| head -1", {"goes_on": ""}, 0, "to stderr\n"),
        (">&-", {}, 0, "to stderr\n"),
        (">&- 2>&-", {}, 0, ""),
        ("2>&- | head -1", {}, 0, ""),
        ("2>&1 | head -1", {}, 0, ""),
    ],
)
def test_an_output_that_nobody_reads_ends_no_work(ending, options, status, said, tmp_path):
    assert shell(tmp_path, ending, **options) == (status, said, "done")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ({}, 74, f"the output cannot be written {FULL}; the work goes on\nto stderr\n"),
        ({"status": 1}, 1, f"the output cannot be written {FULL}; the work goes on\nto stderr\n"),
        ({"goes_on": ""}, 74, f"error: the output cannot be written {FULL}\nto stderr\n"),
    ],
)
def test_a_full_disk_under_the_output_ends_no_work(options, status, said, tmp_path):
    assert shell(tmp_path, "> /dev/full", **options) == (status, said, "done")


def test_a_sign_that_the_terminal_lacks_ends_no_work(capsys, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    status, _, _ = ended(capsys, lambda: print("\u00b1 0.1") or 0)
    assert (status, raw.getvalue()) == (0, b"\\xb1 0.1\n")
    with contextlib.suppress(ValueError):
        sys.stdout.detach()
