"""The file formats of image data sets, read byte by byte: IDX, CIFAR and STL-10 binaries, CSV.

Nothing here can run code that is in a file: no pickle is ever opened. Every problem is an
`InvalidInput` that names the file, what is wrong with it and, where its first bytes tell, what it
is instead.
"""

import gzip
import io
import math
import pathlib
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sims.files import contents as contents_of
from theory.domain import InvalidInput

# More than any file of the known data sets holds (the largest, of STL-10, 221,184,000 bytes), far
# less than a machine's memory.
LIMIT = 2**28
CIFAR_SIDE, STL_SIDE, CHANNELS = 32, 96, 3
COARSE_CLASSES = 20

# What people have instead of the authors' files, as a message calls it.
PICKLE = (
    "a Python pickle, which can run any code when it is read, so it is never opened here; "
    "get the data set in its authors' binary format"
)
# By the first bytes of other formats.
FOREIGN = (
    (b"\x93NUMPY", "a NumPy array file"),
    (b"PK\x03\x04", "a zip archive (torch.save writes such files, with pickles inside)"),
    (b"\x1f\x8b", "compressed by gzip; give it the ending .gz"),
    (b"\x89HDF", "an HDF5 file"),
    (b"<", "a web page, perhaps the error message of a server"),
)


class Images(NamedTuple):
    """Images and their labels.

    Args:
        images: uint8, (n, height, width, channels).
        labels: int32, (n,).
    """

    images: np.ndarray
    labels: np.ndarray


class Contents(NamedTuple):
    """The uncompressed bytes of a file, and where they come from."""

    path: pathlib.Path
    raw: bytes


def read(path: pathlib.Path, limit: int = LIMIT) -> Contents:
    """Returns what is in a file, uncompressed where its name ends in .gz.

    Raises:
        InvalidInput: if it cannot be read, is a folder, a pipe or a device, its compressed data
            are damaged or truncated, or it holds more than `limit` bytes.
    """
    # A pipe or a device is refused: to read it could take for ever.
    raw = contents_of(path, "data", limit)
    try:
        if path.suffix == ".gz":
            # One byte more than allowed tells a file that is too large without unpacking all of
            # it; so a small .gz that unpacks to gigabytes does no harm.
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unpacked:
                raw = unpacked.read(limit + 1)
    except gzip.BadGzipFile as error:
        raise InvalidInput(
            f"data = {path}: not compressed by gzip, or damaged ({error}); drop the ending .gz if "
            "the file is uncompressed already"
        ) from error
    except (EOFError, zlib.error) as error:
        raise InvalidInput(f"data = {path}: truncated or damaged gzip file ({error})") from error
    if len(raw) > limit:
        raise InvalidInput(f"data = {path}: holds more than {limit} bytes, so it is another file")
    return Contents(path, raw)


def kind_of(raw: bytes) -> str:
    """Returns what bytes that are no image data seem to be; nothing where that is not known."""
    # From protocol 2 on a pickle begins with the opcode PROTO, 0x80, and its number; protocol 0 is
    # text, begins with a mark, a list, a dict or a global and ends in STOP, a dot.
    binary = len(raw) > 1 and raw[0] == 0x80 and 2 <= raw[1] <= 5
    textual = raw[:1] in (b"(", b"]", b"}", b"c") and raw.rstrip()[-1:] == b"."
    if binary or textual:
        return PICKLE
    return next((kind for start, kind in FOREIGN if raw.startswith(start)), "")


def _wrong(contents: Contents, problem: str) -> InvalidInput:
    kind = kind_of(contents.raw)
    return InvalidInput(f"data = {contents.path}: {problem}" + (f"; it is {kind}" if kind else ""))


def idx(contents: Contents, dimensions: int) -> np.ndarray:
    """Returns the array in an IDX file of unsigned bytes.

    Args:
        contents: two zero bytes, the type 8, the number of dimensions, then each size as a
            big-endian 32-bit number, then the bytes in C order (LeCun, Cortes and Burges).
        dimensions: how many there must be.

    Returns:
        uint8, of the sizes that the header says, (n,) or (n, height, width) here.

    Raises:
        InvalidInput: for another first word, or another length than the sizes say.
    """
    raw, magic = contents.raw, bytes((0, 0, 8, dimensions))
    head = 4 + 4 * dimensions
    if raw[:4] != magic:
        raise _wrong(
            contents,
            f"an IDX file of bytes with {dimensions} dimension(s) begins with {magic.hex()}, this "
            f"one with {raw[:4].hex() or 'nothing'}",
        )
    # A header that is cut off promises infinitely many bytes, and so is found too short below.
    sizes = struct.unpack(f">{dimensions}I", raw[4:head]) if len(raw) >= head else (math.inf,)
    expected = head + math.prod(sizes)
    if len(raw) != expected:
        what = "truncated" if len(raw) < expected else "too long"
        raise _wrong(
            contents,
            f"{what}: {len(raw)} bytes, but its header says {expected} bytes for sizes {sizes}",
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(sizes)


def idx_pair(files: Sequence[Contents], classes: int) -> Images:
    """Returns the grey images of an IDX file of images and one of labels, (n, h, w, 1).

    Raises:
        InvalidInput: as `idx`, or if the numbers differ, or for a label out of range.
    """
    images, labels = files
    return _labelled(idx(images, 3)[..., np.newaxis], idx(labels, 1), files[-1], classes)


def _records(contents: Contents, size: int, what: str) -> np.ndarray:
    """Returns the bytes of a file of records of one size, (n, size)."""
    count, left = divmod(len(contents.raw), size)
    if left or not count:
        raise _wrong(
            contents,
            f"must be a whole number of {what} of {size} bytes, is {len(contents.raw)} bytes "
            "(truncated, or another file)",
        )
    return np.frombuffer(contents.raw, np.uint8).reshape(count, size)


def cifar10(files: Sequence[Contents], classes: int) -> Images:
    """Returns the images of CIFAR-10 binary batches, in the order of the batches, (n, 32, 32, 3).

    Args:
        files: records of one label byte and the red, green and blue planes in row order
            (Krizhevsky 2009).
        classes: labels are below it.

    Raises:
        InvalidInput: for a length that is no whole number of records, or a label out of range.
    """
    return _cifar(files, 1, classes)


def cifar100(files: Sequence[Contents], classes: int) -> Images:
    """Returns the images of CIFAR-100 binary files with their fine labels, (n, 32, 32, 3).

    As `cifar10`; a record begins with the label of the superclass, which is checked and left out.
    """
    for contents in files:
        coarse = _records(contents, 2 + CHANNELS * CIFAR_SIDE**2, "records")[:, 0]
        _require_labels(contents, coarse, COARSE_CLASSES)
    return _cifar(files, 2, classes)


def _cifar(files: Sequence[Contents], label_bytes: int, classes: int) -> Images:
    size = label_bytes + CHANNELS * CIFAR_SIDE**2
    batches = [_records(contents, size, "records") for contents in files]
    for contents, batch in zip(files, batches, strict=True):
        _require_labels(contents, batch[:, label_bytes - 1], classes)
    # Transposed as a view: `_labelled` makes the only copy.
    rows = np.concatenate(batches)
    planes = rows[:, label_bytes:].reshape(-1, CHANNELS, CIFAR_SIDE, CIFAR_SIDE)
    return _labelled(planes.transpose(0, 2, 3, 1), rows[:, label_bytes - 1], files[-1], classes)


def stl10(files: Sequence[Contents], classes: int) -> Images:
    """Returns the images of an STL-10 pair X, y of binary files, (n, 96, 96, 3), labels from 0.

    Args:
        files: the red, green and blue planes in column order, and one byte a label, from 1
            (Coates, Ng and Lee 2011).
        classes: labels are at most this.

    Raises:
        InvalidInput: for another length, different numbers, or a label out of range.
    """
    images, labels = files
    rows = _records(images, CHANNELS * STL_SIDE**2, "images")
    planes = rows.reshape(-1, CHANNELS, STL_SIDE, STL_SIDE)
    from_one = np.frombuffer(labels.raw, np.uint8)
    # Before one is taken off: of unsigned bytes 0 would become 255.
    if from_one.size and not from_one.min():
        at = int(np.argmin(from_one))
        raise _wrong(labels, f"label {at} is 0, must lie in 1..{classes}")
    # Planes are in column order here: the last axis runs down the image.
    return _labelled(planes.transpose(0, 3, 2, 1), from_one - np.uint8(1), labels, classes, 1)


def csv(contents: Contents, side: int, classes: int) -> Images:
    """Returns the grey images of lines of side * side pixels and a label, (n, side, side, 1).

    Raises:
        InvalidInput: for a value that is no integer in 0..255, a line of another length, or a
            label out of range.
    """
    try:
        text = io.StringIO(contents.raw.decode("ascii"))
        with warnings.catch_warnings():
            # NumPy warns of a file without lines, which is refused below.
            warnings.simplefilter("ignore", UserWarning)
            table = np.loadtxt(text, np.uint8, delimiter=",", ndmin=2)
    except (ValueError, OverflowError) as error:
        raise _wrong(contents, f"not a table of integers in 0..255 ({error})") from error
    if table.shape[1] != side**2 + 1:
        raise _wrong(contents, f"lines must have {side**2 + 1} values, have {table.shape[1]}")
    return _labelled(table[:, :-1].reshape(-1, side, side, 1), table[:, -1], contents, classes)


def _require_labels(contents: Contents, labels: np.ndarray, classes: int, first: int = 0) -> None:
    outside = np.flatnonzero(labels >= classes)
    if outside.size:
        at = int(outside[0])
        last = classes + first - 1
        raise _wrong(
            contents, f"label {at} is {int(labels[at]) + first}, must lie in {first}..{last}"
        )


def _labelled(
    images: np.ndarray, labels: np.ndarray, contents: Contents, classes: int, first: int = 0
) -> Images:
    """Returns contiguous read-only arrays, after a check that there is a label for each image."""
    if len(images) != len(labels) or not images.size:
        raise _wrong(contents, f"{len(labels)} label(s) for {len(images)} image(s)")
    _require_labels(contents, labels, classes, first)
    pair = Images(np.ascontiguousarray(images), labels.astype(np.int32))
    # A fingerprint speaks of these bytes for good.
    for array in pair:
        array.setflags(write=False)
    return pair
