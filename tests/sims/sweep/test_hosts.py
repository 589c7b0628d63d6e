"""One checksum on any number of devices, chunks and processes; nothing is lost with a host."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from sims.cli.frame import run
from sims.simulate.two_classes import BLOCK
from sims.sweep import devices, hosts
from sims.sweep import file as sweep_file
from sims.sweep.plan import Shard
from theory.domain import InvalidInput

pytestmark = pytest.mark.slow

SUPPORT = pathlib.Path(__file__).parents[2] / "support"
NAME = "cauchy-robust-risk-l2"
GRID = ("--grid", "radius=0:2:5", "scale_ratio=1,2")


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _start(arguments, number=1, **more):
    """Starts a process of `number` devices."""
    flags = f"--xla_force_host_platform_device_count={number}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | more
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=environment, **pipes)


def _commands(tmp_path, *arguments, patience=60, own=((), ())):
    """Starts the same command on hosts of one and three devices, with further arguments of each."""
    at = ("--coordinator", f"127.0.0.1:{_free_port()}", "--patience", patience)
    common = ("-m", "sims", NAME, *GRID, "--out", tmp_path / "out", *arguments, *at)
    return [
        _start((*common, "--host", f"{i}/2", *own[i - 1]), number, TMPDIR=str(tmp_path))
        for i, number in ((1, 1), (2, 3))
    ]


MATRIX = [(1,), (2,), (3,), (8,), (1, 1), (4, 4)]


@pytest.mark.exhaustive
def test_devices_chunks_and_processes_give_one_checksum(tmp_path):
    """Six chunk lengths each; counts and block sums of floats are all in the checksum."""
    said = set()
    for layout in MATRIX:
        at, count = f"127.0.0.1:{_free_port()}", len(layout)
        processes = [
            _start((SUPPORT / "checksum.py", f"{i}/{count}", at), number, TMPDIR=str(tmp_path))
            for i, number in enumerate(layout, 1)
        ]
        for process in processes:
            out, error = process.communicate(timeout=300)
            assert (process.returncode, error) == (0, ""), (layout, error)
            number, *checksums = out.split()
            assert int(number) == sum(layout)
            said.update(checksums)
    assert len(said) == 1
    assert len(said.pop()) == 64
    assert not list(tmp_path.iterdir())


def test_a_chunk_is_cut_into_whole_blocks_for_idle_devices():
    assert devices.cut(3, 2 * BLOCK, 5 * BLOCK + 17, 2**30) == [(3, 5 * BLOCK + 17, 2)]
    pieces = devices.cut(3, 2 * BLOCK, 5 * BLOCK + 17, 2**30, share=4)
    assert [(p.trials, p.first_block) for p in pieces] == [
        *((2 * BLOCK, first) for first in (2, 4)),
        (BLOCK + 17, 6),
    ]
    assert [p.trials for p in devices.cut(0, 0, 3 * BLOCK, BLOCK)] == [BLOCK] * 3
    assert devices.cut(0, 0, 5, 2**30, share=8) == [(0, 5, 0)]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("victim", "how"), [(1, signal.SIGKILL), (2, signal.SIGSTOP)])
def test_a_lost_host_ends_the_other_and_one_process_goes_on(victim, how, tmp_path):
    processes = _commands(tmp_path, "--trials", 1_000_000, patience=15)
    path = tmp_path / "out" / f"{NAME}.nc"
    while not path.exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    lost, survivor = processes[victim - 1], processes[2 - victim]
    lost.send_signal(how)
    out, error = survivor.communicate(timeout=120)
    lost.kill()
    lost.communicate()
    assert (survivor.returncode, out) == (3, "")
    assert error.startswith(f"error: host {3 - victim}/2: another host was lost or stopped; the ")
    assert error.count("\n") == 1
    done = sweep_file.load(path)["trials"].values
    assert 0 < done.max() < 1_000_000
    again = _start(("-m", "sims", NAME, *GRID, "--out", path.parent, "--trials", 1_000_000))
    out, error = again.communicate(timeout=120)
    assert (again.returncode, error) == (0, "")
    undisturbed = tmp_path / "undisturbed"
    alone = _start(("-m", "sims", NAME, *GRID, "--out", undisturbed, "--trials", 1_000_000))
    assert alone.communicate(timeout=120) == (out, "")
    assert path.read_bytes() == (undisturbed / path.name).read_bytes()


def test_a_host_that_is_terminated_says_so_and_ends_the_other(tmp_path):
    """JAX would take the signal for itself, and go on to the end."""
    processes = _commands(tmp_path, "--trials", "1e11", patience=15)
    while not (tmp_path / "out" / f"{NAME}.nc").exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    processes[0].terminate()
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [143, 3]
    assert said[0].startswith("host 1/2: terminated; the same command, with any number of hosts,")
    assert [text.count("\n") for text in said] == [1, 1]


def test_a_host_that_never_comes_is_given_up(tmp_path):
    at = f"127.0.0.1:{_free_port()}"
    arguments = ("-m", "sims", NAME, "--out", tmp_path / "out", "--coordinator", at)
    process = _start((*arguments, "--host", "1/2", "--patience", 2), TMPDIR=str(tmp_path))
    out, error = process.communicate(timeout=120)
    assert (process.returncode, out) == (3, "")
    assert error.startswith(f"error: host 1/2: not all 2 hosts came to {at} within 2 s (")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_hosts_that_differ_refuse_on_both(tmp_path):
    processes = _commands(tmp_path, "--trials", 5000, own=((), ("--seed", 9)))
    for process in processes:
        out, error = process.communicate(timeout=120)
        assert (process.returncode, out) == (2, "")
        assert error == "error: host 2: seed = 9, host 1 has 0\n"
    assert not list((tmp_path / "out").glob("*.nc"))


def test_what_host_1_refuses_ends_both(tmp_path):
    (tmp_path / "out").write_text("mine")
    first, second = _commands(tmp_path, "--trials", 5000)
    for process, said in (
        (first, "error: output = "),
        (second, "error: host 1 stopped: output = "),
    ):
        out, error = process.communicate(timeout=120)
        assert (process.returncode, out) == (2, "")
        assert error.startswith(said)
        assert error.count("\n") == 1
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("coordinator", "patience", "message"),
    [
        ("", 5, r"coordinator = '': must be name:port"),
        ("host:99999", 5, r"coordinator = 'host:99999': must be name:port"),
        ("127.0.0.1:0", 0, r"patience = 0: seconds, must be at least 1"),
    ],
)
def test_bad_addresses_are_refused(coordinator, patience, message):
    with pytest.raises(InvalidInput, match=message):
        hosts.together(Shard(1, 2), coordinator, patience, lambda: pytest.fail("ran"))


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InvalidInput, match=r"host 1 cannot listen there \(Address already in"):
            hosts.together(Shard(1, 2), at, 5, lambda: pytest.fail("ran"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "3/2"), "host = '3/2': must be i/n with 1 <= i <= n"),
        (("--host", "1/2"), "coordinator = '': must be name:port of host 1"),
        (("--host", "1/2", "--self-test"), "host = 1/2: the self-test and merging take one"),
    ],
)
def test_bad_hosts_are_one_line_and_status_2(arguments, message, capsys):
    from sims.__main__ import check

    with pytest.raises(SystemExit) as stopped:
        run(check, "python -m sims", [NAME, *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
