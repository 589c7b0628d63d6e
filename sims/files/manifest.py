"""The manifest of a folder: the SHA-256 of every file in it, and of the manifest itself."""

import hashlib
import json
import pathlib

from sims.files import digest, records
from sims.files.refusal import refusal
from sims.files.whole import contents, replace_whole

NAME = "manifest.json"


def write(folder: pathlib.Path) -> None:
    """Writes the manifest of the files that now lie in a folder and below, whole or not at all.

    Raises:
        InvalidInput: if it cannot be written.
        OSError: if a file cannot be read.
    """
    content = {digest.NAME: digest.PROMISE, "files": _digests(folder)}
    text = digest.sealed_json(json.dumps(content, indent=1))
    replace_whole(folder / NAME, lambda at: at.write_text(text, encoding="utf-8"), "manifest")


def difference(folder: pathlib.Path) -> str | None:
    """Returns in what the files of a folder are not those of its manifest; None if in nothing.

    Raises:
        InvalidInput: if a file cannot be read.
    """
    path = folder / NAME
    data = contents(path, "manifest", most=2**26)
    try:
        if digest.verified_json(data) is None:
            return f"{NAME} carries no digest"
    except digest.Damaged as error:
        return f"{NAME}: {error}"
    written = records.from_json(data, f"manifest = {path}")["files"]
    try:
        present = _digests(folder)
    except OSError as error:
        raise refusal(f"manifest = {path}: {error.filename}: {error.strerror}") from error
    for name in sorted(written.keys() | present.keys()):
        if name not in present:
            return f"{name} is missing"
        if name not in written:
            return f"{name} was not written with it"
        if written[name] != present[name]:
            return f"{name} is not as it was written"
    return None


def _digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of each file but the manifest, by its path inside the folder."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if name == NAME:
            continue
        # A pipe or a device would never end; none is in a checkpoint.
        if not path.is_file():
            digests[name] = "not a regular file"
            continue
        with path.open("rb") as handle:
            digests[name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return digests
