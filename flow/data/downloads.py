"""Fetch one known file: bounded by its size, checked by its checksum, whole or not there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

from flow.system.files import replacing

#: Longest silence of a server.
TIMEOUT_S: Final = 30
#: A slower server is given up.
SLOWEST_BYTES_PER_S: Final = 20_000
_CHUNK_BYTES: Final = 1 << 16
_MAX_REDIRECTIONS: Final = 10
#: Called with bytes done and bytes in all while a download runs.
DownloadProgress = Callable[[int, int], None]


class DownloadFailure(Exception):
    """A few words on why an address did not give the file."""


def is_intact(path: Path, *, sha256: str, file_bytes: int) -> bool:
    """Tell whether `path` is the file of that size and checksum.

    Raises
    ------
    OSError
        When it is there and cannot be read.
    """
    if not path.is_file() or path.stat().st_size != file_bytes:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == sha256


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str,
    file_bytes: int,
    progress: DownloadProgress | None = None,
) -> None:
    """Download `url` to `path`, which is replaced at once, and only by the right file.

    Runs may do so at the same time: each writes to a file of its own, and the last one wins.
    What a failed run leaves is removed; what a killed one left, by the next.

    Parameters
    ----------
    url : str
        Where the file is.
    path : Path
        Where it goes.
    sha256 : str
        Its checksum, 64 hexadecimal digits.
    file_bytes : int
        Its size. No more is read than one chunk beyond.
    progress : callable, optional
        Told how it goes on.

    Raises
    ------
    DownloadFailure
        When the server does not give the file.
    OSError
        When it cannot be written.
    """
    digest = hashlib.sha256()
    done = 0
    with replacing(path) as file:
        for chunk in _chunks(url, file_bytes):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, file_bytes)
        if digest.hexdigest() != sha256:
            raise DownloadFailure("a file with another checksum")


def _chunks(url: str, file_bytes: int) -> Iterator[bytes]:
    """Yield the `file_bytes` bytes of `url`, as they come."""
    import requests  # slow to import, and seldom needed
    import urllib3

    try:
        with requests.Session() as session, _answer(session, url) as answer:
            if answer.status_code != requests.codes.ok:
                raise DownloadFailure(f"HTTP {answer.status_code}")
            yield from _body(answer.raw, answer.headers.get("Content-Length"), file_bytes)
    except requests.Timeout:
        raise DownloadFailure(f"no answer within {TIMEOUT_S} s") from None
    # A certificate, a proxy, a name that does not resolve, a refused connection.
    except (requests.RequestException, urllib3.exceptions.HTTPError):
        raise DownloadFailure("no answer") from None


def _answer(session: Any, url: str) -> Any:
    """Follow redirections by hand: requests would read all that comes with one into memory."""
    session.get_redirect_target = lambda _: None
    for _ in range(_MAX_REDIRECTIONS):
        answer = session.get(
            url, stream=True, timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"}
        )
        if not answer.is_redirect:
            return answer
        answer.close()
        url = urljoin(url, answer.headers["Location"])
    raise DownloadFailure("one redirection after another")


def _body(raw: Any, announced: str | None, file_bytes: int) -> Iterator[bytes]:
    """Yield the body of an answer; stop at the first byte too many."""
    import urllib3

    if announced is not None and announced != str(file_bytes):
        raise DownloadFailure(f"a file of {announced[:20]} instead of {file_bytes:,} bytes")
    done = 0
    latest = time.monotonic() + TIMEOUT_S + file_bytes / SLOWEST_BYTES_PER_S
    while True:
        try:
            # One read of the socket: a server that sends a byte now and then cannot hold it up.
            chunk = raw.read1(_CHUNK_BYTES, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError):
            raise DownloadFailure(
                f"a connection lost after {done:,} of {file_bytes:,} bytes"
            ) from None
        if not chunk:
            break
        done += len(chunk)
        if done > file_bytes:
            raise DownloadFailure(f"a file of more than {file_bytes:,} bytes")
        if time.monotonic() > latest:
            raise DownloadFailure(f"no more than {done:,} of {file_bytes:,} bytes in time")
        yield chunk
    if done < file_bytes:
        raise DownloadFailure(f"a file of {done:,} instead of {file_bytes:,} bytes")
