"""flow.data.downloads: servers of every kind, all on this machine, and what each leaves behind."""

from __future__ import annotations

import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flow.data import downloads
from flow.data.downloads import DownloadFailure, fetch, is_intact

DATA = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def serve(answer: Answer) -> Iterator[str]:
    """Serve one answer to every request; yield the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            try:
                answer(self)
            except OSError:  # the client has gone
                pass

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}/file"
        finally:
            httpd.shutdown()
            thread.join()


def head(handler: http.server.BaseHTTPRequestHandler, **headers: object) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def whole(handler: http.server.BaseHTTPRequestHandler, data: bytes = DATA) -> None:
    head(handler, Content_Length=len(data))
    handler.wfile.write(data)


def get(url: str, path: Path, **options: object) -> None:
    fetch(url, path, sha256=SHA256, file_bytes=len(DATA), **options)  # type: ignore[arg-type]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.onnx"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


# ---- what works ----------------------------------------------------------------------------------
def test_file_with_and_without_a_size(target: Path) -> None:
    seen: list[tuple[int, int]] = []
    with serve(whole) as url:
        get(url, target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == DATA and left(target) == ["file.onnx"]
    assert seen == sorted(seen) and seen[-1] == (len(DATA), len(DATA))
    assert target.stat().st_mode & 0o777 == 0o644

    def without(handler: http.server.BaseHTTPRequestHandler) -> None:
        head(handler, Connection="close")
        handler.wfile.write(DATA)

    target.unlink()
    with serve(without) as url:
        get(url, target)
    assert target.read_bytes() == DATA


def test_file_behind_a_redirection(target: Path) -> None:
    def moved(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.path == "/there?a=b":
            whole(handler)
        else:
            handler.send_response(307)
            handler.send_header("Location", "there?a=b")
            handler.send_header("Content-Length", "0")
            handler.send_header("Connection", "close")
            handler.end_headers()

    with serve(moved) as url:
        get(url, target)
    assert target.read_bytes() == DATA


def test_file_in_chunks(target: Path) -> None:
    def chunked(handler: http.server.BaseHTTPRequestHandler) -> None:
        head(handler, Transfer_Encoding="chunked")
        for start in range(0, len(DATA), 100_000):
            piece = DATA[start : start + 100_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    with serve(chunked) as url:
        get(url, target)
    assert target.read_bytes() == DATA


def test_intact_files_are_known(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert not is_intact(file, sha256=SHA256, file_bytes=len(DATA))
    os.mkfifo(tmp_path / "pipe")
    assert not is_intact(tmp_path / "pipe", sha256=SHA256, file_bytes=len(DATA))
    for data, intact in ((DATA, True), (DATA[:-1], False), (DATA[:-1] + b"x", False)):
        file.write_bytes(data)
        assert is_intact(file, sha256=SHA256, file_bytes=len(DATA)) is intact


def test_many_runs_into_one_folder(target: Path) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            get(url, target)
        except BaseException as error:
            failures.append(error)

    with serve(whole) as url:
        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures and target.read_bytes() == DATA and left(target) == ["file.onnx"]


# ---- what does not -------------------------------------------------------------------------------
def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    head(handler, Connection="close")
    while True:
        handler.wfile.write(DATA)


def endless_chunks(handler: http.server.BaseHTTPRequestHandler) -> None:
    head(handler, Transfer_Encoding="chunked")
    while True:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(DATA), DATA))


def cut(handler: http.server.BaseHTTPRequestHandler) -> None:
    head(handler, Content_Length=len(DATA))
    handler.wfile.write(DATA[:1000])


def cut_without_a_size(handler: http.server.BaseHTTPRequestHandler) -> None:
    head(handler, Connection="close")
    handler.wfile.write(DATA[:1000])


def cut_chunks(handler: http.server.BaseHTTPRequestHandler) -> None:
    head(handler, Transfer_Encoding="chunked")
    handler.wfile.write(b"fff\r\n" + DATA[:1000])


def redirect(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/file")
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:  # a body that nobody should read
        handler.wfile.write(DATA)


def redirect_elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/hostname")
    handler.end_headers()


def missing(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def bomb(handler: http.server.BaseHTTPRequestHandler) -> None:
    import gzip

    data = gzip.compress(bytes(1 << 24))
    head(handler, Content_Encoding="gzip", Content_Length=len(data))
    handler.wfile.write(data)


def nonsense(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"no HTTP at all\r\n\r\n")


def without_a_number(handler: http.server.BaseHTTPRequestHandler) -> None:
    head(handler, Content_Length="many")
    handler.wfile.write(DATA)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda h: whole(h, DATA + b"x"), "a file of 256001 instead of 256,000 bytes"),
        (lambda h: whole(h, b""), "a file of 0 instead of 256,000 bytes"),
        (lambda h: whole(h, DATA[:-1] + b"x"), "a file with another checksum"),
        (lambda h: head(h, Content_Length=1 << 50), "a file of 1125899906842624 instead of"),
        (without_a_number, "a file of many instead of 256,000 bytes"),
        (endless, "a file of more than 256,000 bytes"),
        (endless_chunks, "a file of more than 256,000 bytes"),
        (cut, "a connection lost after 1,000 of 256,000 bytes"),
        (cut_chunks, "a connection lost after 1,000 of 256,000 bytes"),
        (cut_without_a_size, "a file of 1,000 instead of 256,000 bytes"),
        (redirect, "one redirection after another"),
        (redirect_elsewhere, "no answer"),
        (missing, "HTTP 404"),
        (bomb, "a file of .* instead of 256,000 bytes"),
        (nonsense, "no answer"),
    ],
)
def test_wrong_answers_leave_what_was_there(answer: Answer, why: str, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"before")
    with serve(answer) as url, pytest.raises(DownloadFailure, match=f"^{why}"):
        get(url, target)
    assert target.read_bytes() == b"before" and left(target) == ["file.onnx"]


def test_silence(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.2)
    over = threading.Event()

    def silent(handler: http.server.BaseHTTPRequestHandler) -> None:
        over.wait(10)

    def silent_later(handler: http.server.BaseHTTPRequestHandler) -> None:
        head(handler, Content_Length=len(DATA))
        handler.wfile.write(DATA[:1000])
        over.wait(10)

    with serve(silent) as url, pytest.raises(DownloadFailure, match=r"^no answer within 0\.2 s$"):
        get(url, target)
    with serve(silent_later) as url, pytest.raises(DownloadFailure, match=r"lost after 1,000 of "):
        get(url, target)
    over.set()
    assert left(target) == []


def test_a_byte_now_and_then(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(downloads, "SLOWEST_BYTES_PER_S", len(DATA))

    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        head(handler, Content_Length=len(DATA))
        for _ in range(200):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    start = time.monotonic()
    with (
        serve(drip) as url,
        pytest.raises(DownloadFailure, match=r"no more than \d+ of .* in t"),
    ):
        get(url, target)
    assert time.monotonic() - start < 5
    assert left(target) == []


def test_no_server(target: Path) -> None:
    with serve(whole) as url:
        pass
    with pytest.raises(DownloadFailure, match=r"^no answer$"):
        get(url, target)


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with serve(whole) as url:
        with pytest.raises(OSError, match="directory"):
            get(url, tmp_path / "folder")
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=r"Not a directory|File exists"):
            get(url, tmp_path / "file" / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


# ---- leftovers -----------------------------------------------------------------------------------
def test_interrupted_run_leaves_nothing(target: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with serve(whole) as url, pytest.raises(KeyboardInterrupt):
        get(url, target, progress=stop)
    assert left(target) == []


def test_leftover_of_a_killed_run_is_removed_by_the_next(target: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from flow.data.downloads import fetch
kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL)
fetch({{url!r}}, Path({str(target)!r}), sha256={SHA256!r}, file_bytes={len(DATA)}, progress=kill)
"""
    with serve(whole) as url:
        done = subprocess.run([sys.executable, "-c", program.format(url=url)])
        assert done.returncode == -signal.SIGKILL
        assert len(left(target)) == 1
        get(url, target)
    assert left(target) == ["file.onnx"]
