"""Downloads of data sets that cannot be half done, be another file, or write outside their folder.

A file appears under its name only when its digest is right; an archive is unpacked beside its
place and moved there when all of it is sound. Nothing that exists is overwritten.
"""

import contextlib
import hashlib
import http.client
import ipaddress
import lzma
import os
import pathlib
import shutil
import tarfile
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any
from urllib.parse import urlsplit

from nets.data import load as data
from nets.data.sources import SOURCES, Archive, DataSource, File
from theory.domain import InvalidInput, require_known

TIMEOUT = 30.0
# The largest archive, STL-10 with its unlabelled images, has 2.6e9 bytes.
LIMIT = 2**32
BLOCK = 2**20

Progress = Callable[[float], None]


def fetch(
    name: str, directory: pathlib.Path | str, progress: Progress | None = None
) -> pathlib.Path:
    """Returns the folder with the files of a data set, after a download where they are missing.

    Args:
        name: a data set that has files, such as "cifar-10".
        directory: where to make a folder of that name; `nets.data.load.load` finds it there.
        progress: called with the share of the current file, in [0, 1].

    Raises:
        InvalidInput: for an unknown name, a folder that cannot be written to, a download that
            fails or has another digest, or files of these names with other contents, which are
            left as they are.
    """
    require_known("name", name, SOURCES)
    # Each file has a digest of its own, so a download that broke off is gone on with file by file.
    source, folder = SOURCES[name], pathlib.Path(directory).expanduser() / name
    if source.archive is None:
        for file in (*source.train, *source.test):
            address = f"{source.address}{file.name}.gz"
            download(address, folder / f"{file.name}.gz", file.compressed, progress=progress)
    elif not _complete(name, folder):
        _fetch_archive(source, source.archive, folder, progress)
    return _checked(name, folder)


def _complete(name: str, folder: pathlib.Path) -> bool:
    files = _files(SOURCES[name])
    return all((folder / SOURCES[name].folder / file.name).is_file() for file in files)


def _files(source: DataSource) -> tuple[File, ...]:
    return (*source.train, *source.test)


def _fetch_archive(
    source: DataSource, archive: Archive, folder: pathlib.Path, progress: Progress | None
) -> None:
    path = folder / archive.name
    download(source.address + archive.name, path, archive.digest, progress=progress)
    extract(path, folder, {file.name for file in _files(source)})
    # Its contents lie beside it; only now, so that a failure before costs no second download.
    path.unlink()


def _checked(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Returns where the files are, after a check of their digests."""
    # As the loader will look for them, and of what it will read: the contents, not the archive.
    there = data.find(name, folder)
    for file in _files(SOURCES[name]):
        data.require_original(name, data.read(there, file), file)
    return there


def download(
    url: str,
    path: pathlib.Path,
    digest: str,
    *,
    limit: int = LIMIT,
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> None:
    """Downloads a file, which appears at `path` only if it is complete and has the digest.

    Args:
        url: https; http only from this machine itself (loopback). Redirects likewise, and none
            leaves https.
        path: where to; if the right file is there already, nothing is done.
        digest: SHA-256 (64 digits) or MD5 (32, no protection against intent).
        limit: the largest number of bytes.
        timeout: seconds to wait for the next bytes.
        progress: called with the share done, in [0, 1], where the server says how much there is.

    Raises:
        InvalidInput: for another address, a failed or truncated download, too many bytes, another
            digest, or another file at `path`. What was at `path` is untouched.
    """
    _require_safe(url)
    if path.exists():
        if _digest_of(path, digest) != digest:
            raise InvalidInput(
                f"output = {path}: is there already with other contents (digest must be {digest}); "
                "move it away"
            )
        return
    with _staged(path) as temporary:
        received = _receive(url, temporary, digest, limit, timeout, progress)
        if received != digest:
            raise InvalidInput(f"url = {url}: checksum mismatch, {received} instead of {digest}")
        # In one step, on one file system, as both names lie in one folder.
        os.replace(temporary, path)


@contextlib.contextmanager
def _staged(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a name beside `path` that no other thread or process uses; what is left there goes."""
    # Beside, because only within a file system is a rename one step.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        reason = error.strerror or error
        raise InvalidInput(f"output = {path}: cannot be written ({reason})") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _hasher(like: str) -> Any:
    # Systems in FIPS mode refuse MD5 unless told that it guards against damage alone.
    return hashlib.new("sha256" if len(like) == 64 else "md5", usedforsecurity=False)


def _digest_of(path: pathlib.Path, like: str) -> str:
    hasher = _hasher(like)
    if not path.is_file():
        # To read a pipe or a device could take for ever.
        raise InvalidInput(f"output = {path}: is there already and is no regular file")
    try:
        with path.open("rb") as handle:
            while block := handle.read(BLOCK):
                hasher.update(block)
    except OSError as error:
        raise InvalidInput(f"output = {path}: cannot be read ({error.strerror})") from error
    return str(hasher.hexdigest())


def _receive(
    url: str,
    path: pathlib.Path,
    like: str,
    limit: int,
    timeout: float,
    progress: Progress | None,
) -> str:
    """Writes what the server sends to `path` and returns its digest."""
    hasher, received = _hasher(like), 0
    with path.open("wb") as handle, _opened(url, timeout) as response:
        length = response.headers.get("Content-Length")
        expected = int(length) if length and length.isdigit() else None
        _require_size(url, expected or 0, limit)
        # Counted as well: a server may send more than it says, or say nothing.
        for block in _blocks(url, response):
            received += len(block)
            _require_size(url, received, limit)
            hasher.update(block)
            handle.write(block)
            if progress and expected:
                progress(min(1.0, received / expected))
        if expected is not None and received != expected:
            raise InvalidInput(f"url = {url}: truncated, {received} of {expected} bytes came")
        # On the disk before the rename, or a power cut could leave an empty file of the right name.
        handle.flush()
        os.fsync(handle.fileno())
    return str(hasher.hexdigest())


def _require_size(url: str, size: int, limit: int) -> None:
    if size > limit:
        raise InvalidInput(f"url = {url}: sends more than {limit} bytes")


def _blocks(url: str, response: IO[bytes]) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise InvalidInput(f"url = {url}: the download broke off ({error!r})") from error


def _opened(url: str, timeout: float) -> Any:
    handlers: list[Any] = [_Redirects()]
    if urlsplit(url).scheme == "http":
        handlers.append(urllib.request.ProxyHandler({}))  # No proxy stands before loopback.
    request = urllib.request.Request(url, headers={"User-Agent": "robust-risk"})
    try:
        return urllib.request.build_opener(*handlers).open(request, timeout=timeout)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise InvalidInput(f"url = {url}: cannot be downloaded ({code}{reason})") from error


# The default handler follows a redirect from https to http, and to any host.
class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where the first address could have been given, never out of https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _require_safe(newurl)
        if urlsplit(req.full_url).scheme != urlsplit(newurl).scheme:
            raise InvalidInput(f"url = {newurl}: a redirect must not change the scheme")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_safe(url: str) -> None:
    parts = urlsplit(url)
    if parts.hostname and (
        parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    ):
        return
    raise InvalidInput(f"url = {url}: must be an https address")


def _is_loopback(host: str) -> bool:
    # No name but this is looked up: what a name means is the name server's to say.
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def extract(
    archive: pathlib.Path,
    folder: pathlib.Path,
    wanted: Collection[str] | None = None,
    limit: int = LIMIT,
) -> list[pathlib.Path]:
    """Returns the files of a tar archive, unpacked into `folder`: all of them, or none.

    Args:
        archive: plain or compressed.
        folder: what they are put into, made where it is missing.
        wanted: the file names to unpack, all of which must be there; every one if None.
        limit: the largest number of bytes of all files.

    Raises:
        InvalidInput: for a damaged archive; a member with an absolute path or `..`, or one that is
            no regular file or folder (links, devices), wanted or not; too many bytes; a wanted file
            that is missing; a file that is there already with other contents, which is left as it
            is. Then nothing is unpacked.
    """
    if not archive.is_file():
        raise InvalidInput(f"archive = {archive}: must be a regular file")
    # Unpacked aside and moved when all of it is sound: a bad last member leaves nothing behind.
    with _staged(folder / archive.name) as stage:
        stage.mkdir()
        try:
            with tarfile.open(archive) as tar:
                names = _unpack(tar, archive, stage, wanted, limit)
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            # Of no archive at all tarfile says in several lines what else it is not.
            reason = str(error).partition("\n")[0].rstrip(":")
            raise InvalidInput(
                f"archive = {archive}: cannot be unpacked, damaged or truncated? ({reason})"
            ) from error
        missing = set(wanted or ()) - {name.name for name in names}
        if missing:
            raise InvalidInput(f"archive = {archive}: has no {min(missing)}")
        _require_free(stage, folder, names)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / name, folder / name)
    return [folder / name for name in names]


def _unpack(
    tar: tarfile.TarFile,
    archive: pathlib.Path,
    stage: pathlib.Path,
    wanted: Collection[str] | None,
    limit: int,
) -> list[pathlib.PurePosixPath]:
    """Writes the wanted files under `stage` and returns their names in the archive."""
    names, total = [], 0
    for member in tar:
        # Those that are not wanted too: an archive with one of these is not what it should be.
        _require_harmless(archive, member, stage)
        name = pathlib.PurePosixPath(member.name)
        if member.isdir() or (wanted is not None and name.name not in wanted):
            continue
        # By the header, before a byte is written: a small archive can hold gigabytes of zeros.
        total += member.size
        if total > limit:
            raise InvalidInput(f"archive = {archive}: holds more than {limit} bytes")
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None
        # "x": a second member of the same name must not replace the first.
        with content, (stage / name).open("xb") as handle:
            shutil.copyfileobj(content, handle, BLOCK)
        names.append(name)
    return names


def _require_harmless(archive: pathlib.Path, member: tarfile.TarInfo, stage: pathlib.Path) -> None:
    """Raises InvalidInput unless a member is a regular file or folder below the stage."""
    name = pathlib.PurePosixPath(member.name)
    problem = ""
    # Backslashes and colons are separators and drives on Windows, where data may be moved to.
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
        problem = "would be written outside the folder"
    elif not (member.isfile() or member.isdir()):
        problem = "is neither a file nor a folder (a link or a device)"
    elif hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer.
        try:
            tarfile.data_filter(member, str(stage))
        except tarfile.FilterError as error:
            problem = f"is refused ({error})"
    if problem:
        raise InvalidInput(
            f"archive = {archive}: member {member.name!r} {problem}; nothing was unpacked"
        )


def _require_free(
    stage: pathlib.Path, folder: pathlib.Path, names: list[pathlib.PurePosixPath]
) -> None:
    like = "0" * 64
    for name in names:
        target = folder / name
        if target.exists() and _digest_of(target, like) != _digest_of(stage / name, like):
            raise InvalidInput(
                f"output = {target}: is there already with other contents; move it away"
            )
