"""A folder of results: one file each, named by what it depends on, of bounded size.

A file is a ``.npz`` of plain arrays (no pickle), written whole or not at all. What cannot be read
is as if it were not there, and is written anew. Several processes may use one folder at a time:
files are only added, replaced by equal ones, and removed. Reading a file marks it as used; where
all of them take more than a limit, those that were not used for the longest time go.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.system.files import remove_leftovers, replacing
from vta_config.files import read_bounded

#: What all results may take on disk.
LIMIT_BYTES: Final = 2 << 30
#: Below the cache folder: one folder of files for each kind of result.
RESULTS: Final = "results"
#: Stages of learned weights, which `flow.learned_blocks` writes; they count, too.
LEARNED: Final = "learned"
SUFFIX: Final = ".npz"
#: Name of the array that holds JSON text.
TEXT: Final = "json"
#: What reading a file that is damaged, foreign or gone may raise.
UNREADABLE: Final = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file of the cache.

    Parameters
    ----------
    path : Path
    kind : str
        What it holds.
    file_bytes : int
    used_ns : int
        When it was written or read last, in nanoseconds.
    top : Path
        Folders between it and the file go when they are empty.
    """

    path: Path
    top: Path
    kind: str
    file_bytes: int
    used_ns: int


class Cache:
    """Arrays by kind and key.

    Parameters
    ----------
    folder : Path, optional
        The cache folder; None: nothing is kept.
    limit_bytes : int
        What all files together may take.
    """

    def __init__(self, folder: Path | None, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """Start without reading."""
        self._folder = folder
        self._limit_bytes = limit_bytes

    @property
    def enabled(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def get(self, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays that were kept, None where there are none that can be read."""
        path = self.path(kind, key)
        if path is None:
            return None
        try:
            arrays = read_arrays(path)
        except UNREADABLE:
            return None
        mark_used(path)
        return arrays

    def put(self, kind: str, key: str, arrays: Arrays) -> None:
        """Keep arrays; where that is not possible nothing is kept: it only saves time."""
        path = self.path(kind, key)
        if path is None:
            return
        with contextlib.suppress(OSError):
            with replacing(path) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # of names as keywords
            self.trim(path)

    def parts(self, kind: str, key: str) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the arrays of each ``key/part``, in the order of their names.

        A damaged part is removed: the parts that replace it may have other names.
        """
        if self._folder is None:
            return
        for path in sorted((self._folder / RESULTS / kind / key).glob(f"*{SUFFIX}")):
            try:
                arrays = read_arrays(path)
            except UNREADABLE as error:
                if not isinstance(error, OSError):
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)
                continue
            mark_used(path)
            yield arrays

    def get_text(self, kind: str, key: str) -> Any:
        """Return the JSON value that was kept, None where there is none."""
        return text_of(self.get(kind, key) or {})

    def put_text(self, kind: str, key: str, value: Any) -> None:
        """Keep a JSON value; as `put`."""
        self.put(kind, key, {TEXT: text_array(value)})

    def path(self, kind: str, key: str) -> Path | None:
        """Return the file of a result, None where nothing is kept."""
        return None if self._folder is None else self._folder / RESULTS / kind / f"{key}{SUFFIX}"

    def trim(self, newest: Path | None = None) -> None:
        """Remove the files that were not used for the longest time, down to the limit.

        `newest`, which was just written, goes last.
        """
        if self._folder is None:
            return
        found = sorted(files_in(self._folder), key=lambda file: (file.path == newest, file.used_ns))
        total = sum(file.file_bytes for file in found)
        for file in found:
            if total <= self._limit_bytes:
                return
            total -= file.file_bytes
            remove(file)


def files_in(folder: Path) -> list[KeptFile]:
    """Return the results in a cache folder, by path; files of others are not among them."""
    found = []
    patterns = {RESULTS: (f"*/*{SUFFIX}", f"*/*/*{SUFFIX}"), LEARNED: (f"*/stage-*{SUFFIX}",)}
    for top, globs in patterns.items():
        paths = (path for pattern in globs for path in (folder / top).glob(pattern))
        for path in paths:
            with contextlib.suppress(OSError):  # removed by another process
                status = path.lstat()
                if path.is_file() and not path.is_symlink():
                    kind = LEARNED if top == LEARNED else path.relative_to(folder / top).parts[0]
                    found.append(
                        KeptFile(
                            path=path,
                            kind=kind,
                            file_bytes=status.st_size,
                            used_ns=status.st_mtime_ns,
                            top=folder / top,
                        )
                    )
    return sorted(found, key=lambda file: file.path)


def remove(file: KeptFile) -> None:
    """Remove a file, and the folders that become empty with it."""
    path = file.path
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    remove_leftovers(path.parent)
    with contextlib.suppress(OSError):  # not empty
        for folder in path.parents:
            if file.top not in folder.parents:
                return
            folder.rmdir()


def read_arrays(path: Path, max_bytes: int = LIMIT_BYTES) -> dict[str, NDArray[Any]]:
    """Read a file; its checksums are compared.

    Raises
    ------
    Exception
        One of `UNREADABLE`.
    """
    data = read_bounded(path, max_bytes)
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: np.asarray(file[name]) for name in file.files}


def mark_used(path: Path) -> None:
    """Note that a file was used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def text_array(value: Any) -> NDArray[np.uint8]:
    """Return a JSON value as uint8[bytes]."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def text_of(arrays: Arrays) -> Any:
    """Return the JSON value among arrays, None where there is none that can be read."""
    try:
        return json.loads(arrays[TEXT].tobytes().decode())
    except UNREADABLE:
        return None
