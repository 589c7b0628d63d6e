"""Downloads from a server of this machine and archives made here: what arrives, what is refused."""

import gzip
import hashlib
import http.server
import io
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time

import pytest

from nets.data import download, sources
from nets.data import load as data
from nets.data.download import extract, fetch
from theory.domain import InvalidInput

BODY = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers what `pages` says: bytes, an address to go to, or a function of the handler."""

    daemon_threads = True

    def __init__(self):
        self.pages, self.asked = {}, []
        super().__init__(("127.0.0.1", 0), Handler)

    def address(self, path=""):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self):
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path[1:])
        if page is None:
            self.send_error(404, "nowhere")
        elif callable(page):
            page(self)
        elif isinstance(page, str):
            self.send_response(302)
            self.send_header("Location", page)
            self.end_headers()
        else:
            self.begin(len(page))
            self.wfile.write(page)

    def begin(self, length=None):
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _left(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("digest", [SHA256, hashlib.md5(BODY).hexdigest()])
def test_a_download_appears_when_its_digest_is_right(server, tmp_path, digest):
    server.pages = {"a": BODY, "moved": "/a"}
    shares = []
    path = tmp_path / "new" / "a"
    download.download(server.address("moved"), path, digest, progress=shares.append)
    assert path.read_bytes() == BODY
    assert _left(tmp_path) == ["a", "new"]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    # It is there: nothing is asked for again.
    count = len(server.asked)
    download.download(server.address("moved"), path, digest)
    assert len(server.asked) == count


def test_another_file_in_its_place_is_left_as_it_is(server, tmp_path):
    server.pages = {"a": BODY}
    path = tmp_path / "a"
    path.write_bytes(b"mine")
    with pytest.raises(InvalidInput, match="is there already with other contents"):
        download.download(server.address("a"), path, SHA256)
    assert path.read_bytes() == b"mine"
    assert server.asked == []


def _short(handler):
    handler.begin(len(BODY))
    handler.wfile.write(BODY[:5000])


def _endless(handler):
    handler.begin()
    try:
        while True:
            handler.wfile.write(bytes(2**16))
    except OSError:
        pass


def _silent(handler):
    handler.begin(len(BODY))
    handler.wfile.flush()
    time.sleep(1.5)


def _reset(handler):
    handler.begin(len(BODY))
    handler.wfile.write(BODY[:5000])
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (BODY[:-1] + b"\0", f"checksum mismatch, .* instead of {SHA256}"),
        (b"", "checksum mismatch"),
        (_short, "(truncated, 5000 of 1024000 bytes came|broke off)"),
        (_reset, "(broke off|cannot be downloaded)"),
        (_endless, "sends more than 2000000 bytes"),
        (bytes(2000001), "sends more than 2000000 bytes"),
        (_silent, "broke off.*timed out"),
        (None, "cannot be downloaded .404 nowhere"),
        ("ftp://127.0.0.1/a", "ftp://127.0.0.1/a: must be an https address"),
        ("file:///etc/hostname", "cannot be downloaded .302 .*not allowed"),
        ("http://example.org/a", "http://example.org/a: must be an https address"),
        ("https://127.0.0.1:9/a", "a redirect must not change the scheme"),
        ("/a", "cannot be downloaded .*infinite loop"),
    ],
)
def test_a_bad_download_leaves_nothing(server, tmp_path, page, message):
    server.pages = {"a": page}
    with pytest.raises(InvalidInput, match=message):
        download.download(server.address("a"), tmp_path / "a", SHA256, limit=2_000_000, timeout=0.5)
    assert _left(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a",
        "http://127.0.0.1.example.org/a",
        "file:///etc/hostname",
        "ftp://example.org/a",
        "https:///a",
        "data.bin",
        "",
    ],
)
def test_only_https_is_asked_outside_this_machine(tmp_path, url):
    with pytest.raises(InvalidInput, match="must be an https address"):
        download.download(url, tmp_path / "a", SHA256)


def test_https_stays_https():
    request = download.urllib.request.Request("https://example.org/a")
    redirects = download._Redirects()
    arguments = (request, None, 302, "Found", {})
    followed = redirects.redirect_request(*arguments, "https://example.org/b")
    assert followed.full_url == "https://example.org/b"
    with pytest.raises(InvalidInput, match="must not change the scheme"):
        redirects.redirect_request(*arguments, "http://127.0.0.1/b")


def test_a_machine_that_does_not_answer_is_named(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a"
        with pytest.raises(InvalidInput, match=r"cannot be downloaded .*refused"):
            download.download(url, tmp_path / "a", SHA256, timeout=2)


def test_a_killed_download_leaves_nothing_that_looks_complete(server, tmp_path):
    begun = threading.Event()

    def stall(handler):
        handler.begin(len(BODY))
        handler.wfile.write(BODY[:-1])
        handler.wfile.flush()
        begun.set()
        time.sleep(20)

    server.pages = {"a": stall}
    code = (
        "import pathlib, sys; from nets.data.download import download\n"
        "download(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3])"
    )
    command = [sys.executable, "-c", code, server.address("a"), str(tmp_path / "a"), SHA256]
    with subprocess.Popen(command) as process:
        assert begun.wait(60)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    assert [name.startswith(".a.") for name in _left(tmp_path)] == [True]
    server.pages = {"a": BODY}
    download.download(server.address("a"), tmp_path / "a", SHA256)
    assert (tmp_path / "a").read_bytes() == BODY


def _tar(path, members, mode="w:gz"):
    """Writes members (name, type or contents); types are those of tarfile."""
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            elif content in (tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
                info.type, info.linkname = content, "good/a.bin"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


GOOD = [("good", tarfile.DIRTYPE), ("./good/a.bin", b"aaa"), ("good/b.bin", b"bbbb")]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_is_unpacked_whole_or_in_part(tmp_path, mode):
    archive = _tar(tmp_path / "good.tar", GOOD, mode)
    names = extract(archive, tmp_path / "all")
    assert [name.read_bytes() for name in names] == [b"aaa", b"bbbb"]
    assert _left(tmp_path / "all") == ["a.bin", "b.bin", "good"]
    extract(archive, tmp_path / "part", {"b.bin"})
    assert _left(tmp_path / "part") == ["b.bin", "good"]
    # The same files again change nothing; another one in the place is kept, and so is the rest.
    extract(archive, tmp_path / "part", {"b.bin"})
    (tmp_path / "part" / "good" / "b.bin").write_bytes(b"mine")
    with pytest.raises(InvalidInput, match="is there already with other contents"):
        extract(archive, tmp_path / "part")
    assert (tmp_path / "part" / "good" / "b.bin").read_bytes() == b"mine"
    assert _left(tmp_path / "part") == ["b.bin", "good"]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("../evil", b"x"), "'../evil' would be written outside"),
        (("good/../../evil", b"x"), "would be written outside"),
        (("/tmp/evil", b"x"), "would be written outside"),
        (("C:\\evil", b"x"), "would be written outside"),
        (("..\\evil", b"x"), "would be written outside"),
        (("../evil", tarfile.DIRTYPE), "would be written outside"),
        (("good/link", "../../evil"), "is neither a file nor a folder"),
        (("good/link", "a.bin"), "is neither a file nor a folder"),
        (("good/hard", tarfile.LNKTYPE), "is neither a file nor a folder"),
        (("good/device", tarfile.CHRTYPE), "is neither a file nor a folder"),
        (("good/pipe", tarfile.FIFOTYPE), "is neither a file nor a folder"),
        (("good/a.bin", b"again"), "cannot be unpacked.*exists"),
        (("good/a.bin/c.bin", b"x"), "cannot be unpacked"),
        (("large.bin", bytes(5000)), "holds more than 4000 bytes"),
    ],
)
@pytest.mark.parametrize("wanted", [None, {"a.bin"}])
def test_an_evil_archive_leaves_nothing(tmp_path, member, message, wanted):
    archive = _tar(tmp_path / "evil.tar.gz", [*GOOD, member])
    folder = tmp_path / "inside"
    harmless = wanted and pathlib.PurePosixPath(member[0]).name not in wanted
    if harmless and ("more than" in message or "cannot be" in message):
        extract(archive, folder, wanted, limit=4000)
        assert _left(folder) == ["a.bin", "good"]
        return
    with pytest.raises(InvalidInput, match=message):
        extract(archive, folder, wanted, limit=4000)
    assert _left(folder) == []
    assert _left(tmp_path) == ["evil.tar.gz", "inside"]


def test_a_damaged_archive_or_one_without_the_files_leaves_nothing(tmp_path):
    whole = _tar(tmp_path / "good.tar.gz", [*GOOD, ("good/c.bin", os.urandom(9000))])
    raw = whole.read_bytes()
    for damaged in (raw[:4000], raw[:30], b"", b"no archive", gzip.compress(b"no tar file")):
        whole.write_bytes(damaged)
        with pytest.raises(InvalidInput, match=r"good\.tar\.gz: cannot be unpacked"):
            extract(whole, tmp_path / "inside")
        assert _left(tmp_path / "inside") == []
    whole.write_bytes(raw)
    with pytest.raises(InvalidInput, match=r"has no train\.bin"):
        extract(whole, tmp_path / "inside", {"a.bin", "train.bin"})
    assert _left(tmp_path / "inside") == []


def _digest(raw):
    return hashlib.sha256(raw).hexdigest()


def _cifar10(labels, first):
    return b"".join(bytes([label]) + bytes([first + label]) * 3072 for label in labels)


@pytest.fixture
def cifar(server, monkeypatch, tmp_path):
    """Serves a small CIFAR-10 with one training batch."""
    files = {"data_batch_1.bin": _cifar10(range(10), 0), "test_batch.bin": _cifar10([4], 9)}
    folder = "cifar-10-batches-bin"
    members = [(f"{folder}/{name}", raw) for name, raw in files.items()]
    archive = _tar(tmp_path / "x", [*members, (f"{folder}/readme.html", b"hello")]).read_bytes()
    (tmp_path / "x").unlink()
    train, test = ((sources.File(name, _digest(raw)),) for name, raw in files.items())
    ours = sources.CIFAR_10._replace(
        train=train,
        test=test,
        address=server.address(),
        archive=sources.Archive("cifar-10-binary.tar.gz", _digest(archive)),
    )
    monkeypatch.setitem(sources.SOURCES, "cifar-10", ours)
    server.pages = {"cifar-10-binary.tar.gz": archive}
    return ours


def test_fetch_gets_an_archive_that_load_then_reads(server, cifar, tmp_path):
    place = fetch("cifar-10", tmp_path)
    assert _left(place) == ["data_batch_1.bin", "test_batch.bin"]
    assert _left(tmp_path / "cifar-10") == ["cifar-10-batches-bin", *_left(place)]
    loaded = data.load("cifar-10", tmp_path)
    assert loaded.train.labels.tolist() == list(range(10))
    assert loaded.test.images[0, 0, 0].tolist() == [13, 13, 13]
    server.pages = {}
    assert fetch("cifar-10", tmp_path) == place
    (place / "test_batch.bin").write_bytes(_cifar10([5], 9))
    with pytest.raises(InvalidInput, match=r"test_batch\.bin: not the original"):
        fetch("cifar-10", tmp_path)
    assert (place / "test_batch.bin").read_bytes() == _cifar10([5], 9)
    with pytest.raises(InvalidInput, match="name = 'mnist-5k': unknown"):
        fetch("mnist-5k", tmp_path)


def test_fetch_gets_files_one_by_one_and_goes_on(server, monkeypatch, tmp_path):
    idx = {
        "train-images-idx3-ubyte": struct.pack(">IIII", 0x803, 10, 28, 28) + bytes(7840),
        "train-labels-idx1-ubyte": struct.pack(">II", 0x801, 10) + bytes(range(10)),
        "t10k-images-idx3-ubyte": struct.pack(">IIII", 0x803, 1, 28, 28) + bytes(784),
        "t10k-labels-idx1-ubyte": struct.pack(">II", 0x801, 1) + b"\7",
    }
    packed = {f"{name}.gz": gzip.compress(raw) for name, raw in idx.items()}
    files = [
        sources.File(name, _digest(raw), _digest(packed[f"{name}.gz"])) for name, raw in idx.items()
    ]
    ours = sources.MNIST._replace(
        train=tuple(files[:2]), test=tuple(files[2:]), address=server.address()
    )
    monkeypatch.setitem(sources.SOURCES, "mnist", ours)
    last = "t10k-labels-idx1-ubyte.gz"
    server.pages = {name: raw for name, raw in packed.items() if name != last}
    with pytest.raises(InvalidInput, match="404"):
        fetch("mnist", tmp_path)
    assert len(_left(tmp_path / "mnist")) == 3
    server.pages, server.asked = packed, []
    fetch("mnist", tmp_path)
    assert server.asked == [f"/{last}"]
    assert data.load("mnist", tmp_path).test.labels.tolist() == [7]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidInput, match="cannot be written"):
        fetch("mnist", tmp_path / "file")
