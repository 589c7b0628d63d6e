"""What disks, copies and editors do to a file: bytes flipped, lost, doubled and moved, by seed."""

import random
from collections.abc import Iterator


def corruptions(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields (what was done, the bytes then), each kind in turn, of the bytes of one file.

    Args:
        data: at least two bytes.
        count: how many.
        seed: they depend on it and the data alone.
    """
    drawn = random.Random(seed)
    yield from list(_once(data))[:count]
    for place in range(count - 3):
        name, damage = KINDS[place % len(KINDS)]
        at, length = drawn.randrange(len(data)), _length(drawn)
        yield f"{name}, {length} bytes at {at}", damage(data, at, length, drawn)


def _once(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "nothing is left", b""
    yield "the file twice", data + data
    yield "all bytes are zero", bytes(len(data))


def _length(drawn: random.Random) -> int:
    """Returns 1 to 4096, small ones as often as large ones."""
    return min(4096, int(2 ** drawn.uniform(0, 12.01)))


def _flip(data: bytes, at: int, _: int, drawn: random.Random) -> bytes:
    return _with(data, at, bytes([data[at] ^ 1 << drawn.randrange(8)]))


def _zero(data: bytes, at: int, length: int, _: random.Random) -> bytes:
    return _with(data, at, bytes(length))


def _ones(data: bytes, at: int, length: int, _: random.Random) -> bytes:
    return _with(data, at, b"\xff" * length)


def _noise(data: bytes, at: int, length: int, drawn: random.Random) -> bytes:
    return _with(data, at, drawn.randbytes(length))


def _cut(data: bytes, at: int, _: int, __: random.Random) -> bytes:
    return data[:at]


def _cut_end(data: bytes, _: int, length: int, __: random.Random) -> bytes:
    return data[:-length]


def _insert(data: bytes, at: int, length: int, drawn: random.Random) -> bytes:
    return data[:at] + drawn.randbytes(length) + data[at:]


def _delete(data: bytes, at: int, length: int, _: random.Random) -> bytes:
    return data[:at] + data[at + length :]


def _swap(data: bytes, at: int, length: int, drawn: random.Random) -> bytes:
    length = min(length, len(data) // 2)
    first = at % (len(data) - 2 * length + 1)
    second = drawn.randrange(first + length, len(data) - length + 1)
    one, two = data[first : first + length], data[second : second + length]
    return _with(_with(data, first, two), second, one)


def _with(data: bytes, at: int, block: bytes) -> bytes:
    """Returns the bytes with a block in place of those there; no longer than they were."""
    return (data[:at] + block + data[at + len(block) :])[: len(data)]


KINDS = (
    ("a bit flips", _flip),
    ("zeros", _zero),
    ("ones", _ones),
    ("noise", _noise),
    ("cut off", _cut),
    ("the end is lost", _cut_end),
    ("bytes come in between", _insert),
    ("bytes are lost", _delete),
    ("two blocks change places", _swap),
)
