r"""Digests that files carry: of all bytes before their last line, which says what it is.

HDF5 as we write it and JSON have no checksum. A file of ours ends in a line that is the SHA-256 of
all bytes before it, and says near its head that it does, so that one whose last line is lost is
known to be damaged. Both are found by a plain search: no parser sees a byte before it is verified.

>>> verified(b"data" + last_line(b"data"))
b'data'
>>> verified(b"dada" + last_line(b"data"))
Traceback (most recent call last):
sims.files.digest.Damaged: its digest does not fit its content
>>> verified(b"data of another program") is None
True
"""

import hashlib
import re

# The attribute of netCDF files and the key of JSON files that promises a digest, and its value.
NAME, PROMISE = "integrity", "robust-risk: sha256 in the last line"
_LINE = re.compile(rb"\nrobust-risk sha256 ([0-9a-f]{64})\n\Z")
_JSON_LINE = re.compile(rb'\n "sha256": "([0-9a-f]{64})"\n\}\n\Z')
_SIGNS = (PROMISE.encode(), b"\nrobust-risk sha256 ", b'\n "sha256": "')


class Damaged(Exception):
    """Bytes that are not those that were written."""


def sha256(data: bytes | memoryview) -> str:
    """Returns the SHA-256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def last_line(data: bytes | memoryview) -> bytes:
    """Returns the line that is appended to the bytes of a netCDF file."""
    return f"\nrobust-risk sha256 {sha256(data)}\n".encode()


def sealed_json(text: str) -> str:
    """Returns an object of JSON, indented by one, with its digest as the last key.

    Args:
        text: as of `json.dumps(..., indent=1)`, of an object that is not empty.
    """
    body = text.removesuffix("\n}") + ",\n"
    return f'{body} "sha256": "{sha256(body.encode())}"\n}}\n'


def verified(data: bytes) -> bytes | None:
    """Returns what the last line of a netCDF file vouches for, or None where it promises nothing.

    Raises:
        Damaged: if these are not the bytes that were written.
    """
    return _verified(data, _LINE, keep=0)


def verified_json(data: bytes) -> bytes | None:
    """Returns the bytes of a JSON file, once its last key vouches for them; None as `verified`.

    Raises:
        Damaged: if these are not the bytes that were written.
    """
    # The line break before the key is part of what it vouches for.
    return None if _verified(data, _JSON_LINE, keep=1) is None else data


def _verified(data: bytes, line: re.Pattern[bytes], keep: int) -> bytes | None:
    # A search from the end of a large file would try each of its line breaks.
    match = line.search(data, max(0, len(data) - 128))
    if match is None:
        if any(sign in data for sign in _SIGNS):
            raise Damaged("its last line, which holds its digest, is missing or damaged")
        return None
    body = memoryview(data)[: match.start() + keep]
    if sha256(body) != match[1].decode():
        raise Damaged("its digest does not fit its content")
    return bytes(body)
