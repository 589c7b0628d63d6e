"""Files of image data that are damaged, endless or none: one line each, no hang, little memory."""

import gzip
import io
import os
import pathlib
import random
import resource
import struct
import tarfile

import numpy as np
import pytest

from nets.data import download, formats
from nets.data.load import Images, load, require_images
from nets.data.sources import SOURCES, Archive
from theory.domain import InvalidInput

# More than a test of small files needs, far less than a header can ask for.
MEMORY = 2**31


def idx_images(*sizes):
    return struct.pack(f">I{len(sizes)}I", 0x800 + len(sizes), *sizes)


SMALL = {
    "idx": (idx_images(2, 3, 3) + bytes(18), idx_images(2) + bytes(2)),
    "cifar10": (bytes(3073 * 2),),
    "cifar100": (bytes(3074 * 2),),
    "stl10": (bytes(27648), b"\1"),
    "csv": (b"0,1,2,3,4\n5,6,7,8,9\n",),
}


def decode(kind, files):
    contents = [formats.Contents(f"{kind}-{i}", raw) for i, raw in enumerate(files)]
    if kind == "csv":
        return formats.csv(contents[0], 2, 10)
    read = formats.idx_pair if kind == "idx" else getattr(formats, kind)
    return read(contents, 10)


@pytest.mark.parametrize("kind", SMALL)
def test_a_corruption_is_refused_in_one_line_or_is_a_data_set(kind, tmp_path):
    """Pixels may be any, so a changed one is the digest's to find: here nothing else is raised."""
    rng = random.Random(16)
    assert len(decode(kind, SMALL[kind]).labels)
    refused = 0
    for _ in range(300):
        files = [bytearray(raw) for raw in SMALL[kind]]
        damaged = rng.choice(files)
        match rng.randrange(4):
            case 0:
                del damaged[rng.randrange(len(damaged)) :]
            case 1:
                damaged += rng.randbytes(rng.randint(1, 50))
            case 2:
                for _ in range(rng.randint(1, 8)):
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            case 3:
                start = rng.randrange(min(20, len(damaged)))
                damaged[start : start + 8] = b"\xff" * 8
        message = ""
        try:
            require_images("found", decode(kind, [bytes(raw) for raw in files]), 10)
        except InvalidInput as error:
            message = str(error)
        refused += bool(message)
        assert message.startswith(f"data = {kind}-" if message else "")
        assert "\n" not in message
    assert refused > 50


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2**32 - 1, 2**32 - 1, 2**32 - 1), "truncated: 16 bytes"),
        ((2**31, 28, 28), "truncated: 16 bytes"),
        ((2**16, 2**16, 0), "label"),
        ((0, 28, 28), "label"),
        ((5, 0, 28), "label"),
    ],
)
def test_a_header_that_asks_for_more_than_there_is_costs_no_memory(sizes, message):
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        with pytest.raises(InvalidInput, match=message):
            decode("idx", (idx_images(*sizes), idx_images(5) + bytes(5)))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe.gz"
    os.mkfifo(path)
    return path


def test_what_is_no_file_is_refused_and_not_waited_for(pipe, tmp_path):
    for path in (pipe, tmp_path, tmp_path / "absent", pathlib.Path("/dev/zero")):
        with pytest.raises(InvalidInput, match=r"^data = .*(regular file|no such file)"):
            formats.read(path)
    with pytest.raises(InvalidInput, match=r"^archive = .*must be a regular file"):
        download.extract(pipe, tmp_path / "to")
    with pytest.raises(InvalidInput, match=r"^output = .*is no regular file"):
        download.download("https://localhost/x", pipe, "0" * 64)
    # Among the files of a data set a pipe is none.
    (tmp_path / "mnist").mkdir()
    for file in (*SOURCES["mnist"].train, *SOURCES["mnist"].test):
        os.mkfifo(tmp_path / "mnist" / file.name)
    with pytest.raises(InvalidInput, match="neither there nor in mnist"):
        load("mnist", tmp_path)


def test_a_directory_that_is_a_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"^data = .*file: must be a folder"):
        load("mnist", tmp_path / "file")
    monkeypatch.setenv("ROBUST_RISK_DATA", str(tmp_path / "file"))
    with pytest.raises(InvalidInput, match=r"^data = .*file: must be a folder"):
        load("cifar-10")
    monkeypatch.setattr(download, "_opened", lambda *_: pytest.fail("went to the net"))
    with pytest.raises(InvalidInput, match=r"^output = .*Not a directory|File exists"):
        download.fetch("mnist", tmp_path / "file")


def test_a_damaged_archive_is_refused_whatever_is_damaged(tmp_path):
    path, rng = tmp_path / "archive.tar", random.Random(16)
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("file")
        member.size = 600
        tar.addfile(member, io.BytesIO(bytes(600)))
    whole = path.read_bytes()[:2048]
    for packed in (False, True):
        for case in range(150):
            raw = bytearray(gzip.compress(whole) if packed else whole)
            for _ in range(rng.randint(1, 6)):
                raw[rng.randrange(len(raw) if packed else 512)] = rng.randrange(256)
            path.write_bytes(raw)
            folder, message = tmp_path / f"{packed}-{case}", ""
            try:
                download.extract(path, folder)
            except InvalidInput as error:
                message = str(error)
            assert "\n" not in message
            assert not (message and list(folder.rglob("*")))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([5, 255], np.uint8), None),
        (np.array([5, 299], np.int16), None),
        (np.array([5, 299], np.uint64), None),
        (np.array([5, 300], np.int64), "label 300: must be below the 300 classes"),
        (np.array([5, 2**40], np.int64), "must be below the 300 classes"),
        (np.array([5, -1], np.int8), "must not be negative"),
        (np.array([5.0, 1.0]), "with labels float64"),
    ],
)
def test_labels_of_every_type_of_integers_become_int32(labels, message):
    images = Images(np.zeros((2, 4, 4, 1), np.uint8), labels)
    if message is None:
        found = require_images("images", images, 300)
        assert found.labels.dtype == np.int32
        np.testing.assert_array_equal(found.labels, labels)
    else:
        with pytest.raises(InvalidInput, match=message):
            require_images("images", images, 300)


def test_every_file_of_the_known_data_sets_is_below_the_limit():
    assert formats.LIMIT > 8000 * 96 * 96 * 3  # test_X.bin of STL-10, the largest
    archive = SOURCES["stl-10"].archive
    assert isinstance(archive, Archive)
    assert download.LIMIT > 2_640_397_119
