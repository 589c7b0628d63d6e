"""Result files carry a digest; what has none is tried by a process of its own first."""

import os
import pathlib
import time

import h5netcdf
import numpy as np
import pytest
import xarray as xr

from nets.evaluation import file as evaluation_file
from nets.study import file as study_file
from sims import files
from sims.files import digest, netcdf
from sims.sweep import file as sweep_file
from sims.training import file as grid_file
from support.faults import kinds
from theory.domain import InvalidInput

DAMAGED = pathlib.Path(__file__).parent / "damaged"
HEAD = b"\x89HDF\r\n\x1a\n"


@pytest.fixture
def dataset():
    values = np.arange(6.0).reshape(2, 3)
    return xr.Dataset({"a": (("x", "y"), values)}, {"x": ["one", "two"]}, {"title": "six numbers"})


@pytest.fixture
def saved(dataset, tmp_path):
    files.save(dataset, tmp_path / "a.nc")
    return tmp_path / "a.nc"


def refused(path):
    """Returns the one line with which a file is refused, in less than 10 s."""
    began = time.perf_counter()
    with pytest.raises(InvalidInput) as error:
        files.read(path)
    assert time.perf_counter() - began < 10
    line = str(error.value)
    assert line.startswith(f"results = {path}: ".replace("\0", r"\x00"))
    assert "\n" not in line
    return line


def test_what_is_saved_is_read_again_verified_and_saved_to_the_same_bytes(dataset, saved, tmp_path):
    again = files.read(saved)
    xr.testing.assert_identical(again, dataset)
    assert again.encoding["verified"] is True
    files.save(again, tmp_path / "b.nc")
    assert (tmp_path / "b.nc").read_bytes() == saved.read_bytes()


def test_other_programs_read_what_we_save(dataset, saved):
    with xr.open_dataset(saved, engine="h5netcdf") as opened:
        xr.testing.assert_identical(opened.drop_attrs(), dataset.drop_attrs())
        assert opened.attrs == dataset.attrs | {digest.NAME: digest.PROMISE}
    with h5netcdf.File(saved) as opened:
        assert opened.attrs["title"] == "six numbers"
        np.testing.assert_array_equal(opened["a"], dataset["a"])


def test_what_other_programs_save_is_read_and_said_to_be_unverified(dataset, tmp_path, capsys):
    path = tmp_path / "other.nc"
    dataset.to_netcdf(path, engine="h5netcdf")
    read = files.read(path)
    xr.testing.assert_identical(read, dataset)
    assert read.encoding["verified"] is False
    for _ in range(2):
        files.unverified_note(path, read)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert str(path) in lines[0]
    assert "unverified" in lines[0]
    files.unverified_note(path, dataset)
    files.unverified_note(tmp_path, True)
    assert capsys.readouterr().err == ""


def test_a_file_behind_a_block_of_its_user_is_read(dataset, tmp_path):
    """HDF5 may begin at 512 bytes, 1024, and so on."""
    path = tmp_path / "user.nc"
    path.write_bytes(bytes(1024) + dataset.to_netcdf(engine="h5netcdf"))
    xr.testing.assert_identical(files.read(path), dataset)


def damages():
    yield "a bit", lambda data: data[:900] + bytes([data[900] ^ 4]) + data[901:]
    yield "its digest", lambda data: data[:-10] + b"0" * 9 + b"\n"
    yield "its last line", lambda data: data[: data.rindex(b"\nrobust-risk")]
    yield "its end", lambda data: data[:-2000]
    yield "zeros at its end", lambda data: data[:-2000] + bytes(2000)
    yield "more at its end", lambda data: data + b"\n"
    yield "its promise", lambda data: data.replace(digest.PROMISE.encode(), b"?" * 36)
    yield "twice", lambda data: data + data


@pytest.mark.parametrize("damage", [pytest.param(d, id=name) for name, d in damages()])
def test_what_is_not_as_it_was_written_is_refused_before_it_is_parsed(damage, saved, monkeypatch):
    parsed = []
    for name in ("_parsed", "_walk_through"):
        monkeypatch.setattr(netcdf, name, lambda *_: parsed.append(1))
    saved.write_bytes(damage(saved.read_bytes()))
    assert "digest" in refused(saved)
    assert parsed == []


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not netCDF")
    (tmp_path / "head").write_bytes(HEAD + b"and no more")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "zeros").open("wb") as handle:
        handle.truncate(2**40)
    began = time.perf_counter()
    for name, words in (
        ("pipe", "must be a regular file"),
        ("/dev/zero", "must be a regular file"),
        (".", "is a folder"),
        ("nowhere", "no such file"),
        ("link", "no such file"),
        ("x" * 300, "File name too long"),
        ("text/below", "Not a directory"),
        ("no\0name", "is no name of a file"),
        ("empty", "not a readable file (empty"),
        ("text", "not a readable file (no netCDF-4"),
        ("zeros", "at most 8589934592 are read"),
        ("head", "not a readable file (truncated"),
    ):
        assert words in refused(tmp_path / name)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("version", ["earliest", "v108", "v110"])
def test_a_truncated_file_without_a_digest_is_refused_by_its_head(version, tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    with h5netcdf.File(path, "w", libver=version) as file:
        file.dimensions = {"x": 100}
        file.create_variable("a", ("x",), "f8")[...] = np.arange(100.0)
    np.testing.assert_array_equal(files.read(path)["a"], np.arange(100))
    monkeypatch.setattr(netcdf, "_walk_through", None)
    path.write_bytes(path.read_bytes()[:-1])
    assert "not a readable file (truncated" in refused(path)


@pytest.mark.parametrize("path", sorted(DAMAGED.glob("*-HANG-*.nc")), ids=lambda p: p.stem)
def test_files_on_which_hdf5_never_returns_are_refused(path):
    assert "reading it does not end" in refused(path)


@pytest.mark.parametrize("path", sorted(DAMAGED.glob("*-[ce]*-*.nc")), ids=lambda p: p.stem)
def test_damage_that_no_digest_betrays_is_read_as_unverified(path):
    assert files.read(path).encoding["verified"] is False


@pytest.mark.parametrize(
    ("name", "load", "words"),
    [
        ("tg-changed-1", grid_file.load, "epochs has a value 11: must be at most its attribute"),
        ("eval-changed-1", evaluation_file.load, "low has a value -7.229475734293037e+221"),
        ("eval-changed-2", evaluation_file.load, "correct has a value -1: must be in [0, 1]"),
        ("study-exc-1", study_file.load, "settings has a value '{"),
    ],
)
def test_what_no_digest_betrays_does_not_pass_the_table_of_its_kind(name, load, words):
    with pytest.raises(InvalidInput) as error:
        load(DAMAGED / f"{name}.nc")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["sweep", "grid"])
def test_whoever_loads_a_file_without_a_digest_hears_of_it_once(kind, tmp_path, capsys):
    dataset, load = {
        "sweep": (kinds.sweep(), sweep_file.load),
        "grid": (kinds.grid(), grid_file.load),
    }[kind]
    dataset.to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    files.save(dataset, tmp_path / "new.nc")
    for name in ("old.nc", "new.nc", "old.nc"):
        assert load(tmp_path / name).equals(dataset)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {tmp_path / 'old.nc'} is unverified")


def test_a_process_that_crashes_or_asks_for_too_much_is_a_line(tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    with h5netcdf.File(path, "w") as file:
        # Never written: 16 TiB of nothing, in a file of a few kilobytes.
        file.dimensions = {"x": 2**20, "y": 2**21}
        file.create_variable("a", ("x", "y"), "f8", chunks=(2**10, 2**10))
    assert "variable a of 17592186044416 bytes" in refused(path)
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(netcdf, "_WALK", crash)
    assert "reading it crashes, SIGSEGV" in refused(path)
    crash.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(netcdf, "PATIENCE", 0.2)
    assert "reading it does not end" in refused(path)


def test_a_full_disk_leaves_the_old_file(dataset, saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidInput, match=r"cannot be written \(No space left on device\)"):
        files.save(dataset, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["a.nc"]
