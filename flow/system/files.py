"""Files written whole or not at all, beside others that write the same ones.

Every write goes into a temporary file of its own in the same folder, reaches the disk, and is then
renamed: a reader sees the old file or the new one. The temporary file is locked (flock) for as long
as its writer lives, so that the next one to write there knows, and removes, what a killed run left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from vta_config.errors import ArtifactError

#: Names of temporary files, which do not grow with the names of what they become.
PREFIX: Final = ".vta-flow."
SUFFIX: Final = ".partial"
_OUTPUT: Final = "choose another --output"
#: What this process is writing now.
_mine: set[Path] = set()


def write_atomic(path: Path, data: bytes, *, hint: str = _OUTPUT) -> Path:
    """Write `data` to `path` (its folder is made if missing): all of it or nothing.

    Two that write one path at a time both succeed, and the last one stays. What is no file, as
    ``/dev/null`` or a named pipe, is written to as it is.

    Raises
    ------
    ArtifactError
        When that is not possible; `hint` says what to do.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return path
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise ArtifactError(
            str(path), "must be writable", got=error.strerror or str(error), hint=hint
        ) from None
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` when the block ends without an error.

    Raises
    ------
    OSError
        When that is not possible.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    descriptor, temporary = _create(path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:  # closing it gives the lock back
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        _discard(temporary)
    _sync(path.parent)


def _create(folder: Path) -> tuple[int, Path]:
    """Make and lock a temporary file; return its descriptor and path."""
    while True:
        path = folder / f"{PREFIX}{os.urandom(8).hex()}{SUFFIX}"
        _mine.add(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lost = os.fstat(descriptor).st_nlink == 0
        except BlockingIOError:  # one that cleans came between, and takes it for a leftover
            lost = True
        except OSError:  # a file system without locks: nobody can take it for a leftover
            lost = False
        if not lost:
            return descriptor, path
        os.close(descriptor)
        _discard(path)


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    _mine.discard(path)


def _sync(folder: Path) -> None:
    """Let a new name in `folder` reach the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def discard_temporaries() -> None:
    """Remove what this process has begun to write; for one that ends at once."""
    for path in tuple(_mine):
        _discard(path)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files in `folder` whose writers have ended."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
            if path not in _mine:
                _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    with contextlib.suppress(OSError):  # locked, so being written; or gone meanwhile
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time into the block: for reading a file, changing and writing it.

    The lock is the file ``path.lock``, which stays. Where the file system has no locks, nothing
    keeps others out, and the last one to write stays.

    Raises
    ------
    OSError
        When the lock cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def check_writable(directory: Path, *, hint: str = _OUTPUT) -> None:
    """Check, before any long work, that `directory` can be made and written to; makes nothing.

    Raises
    ------
    ArtifactError
        When it cannot.
    """
    nearest = next(p for p in (directory, *directory.absolute().parents) if os.path.lexists(p))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        problem = "a file" if nearest.exists() else "a broken link"
        if nearest.is_dir():
            problem = "without permission to write"
        raise ArtifactError(
            str(directory),
            "must be a folder that can be written to",
            got=f"{nearest}, {problem}",
            hint=hint,
        )
