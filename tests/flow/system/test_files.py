"""files.py: whole or not at all, two writers at a time, nothing left of the killed ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flow.system import files
from flow.system.files import (
    check_writable,
    discard_temporaries,
    locked,
    remove_leftovers,
    write_atomic,
)
from vta_config.errors import ArtifactError

ROOT = Path(__file__).parents[3]
#: Begins to write DIR/x and waits, its temporary file half written.
WRITER = """
import sys, os, time, pathlib
from flow.system import files
def wait(descriptor):
    print("here", flush=True)
    time.sleep(60)
os.fsync = wait
files.write_atomic(pathlib.Path(sys.argv[1]) / "x", b"half")
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_of_it_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / ("n" * 250 + ".json")  # as long as a name can be
    for data in (b"first", b""):
        assert write_atomic(path, data) == path and path.read_bytes() == data
    assert names(path.parent) == [path.name]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    sentence = r"a.json: must be writable, got File exists; choose another --output"
    with pytest.raises(ArtifactError, match=sentence):
        write_atomic(tmp_path / "file" / "a.json", b"x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ArtifactError, match=r"taken: must be writable, got Is a .*; choose a --c"):
        write_atomic(tmp_path / "taken", b"x", hint="choose a --cache")
    with pytest.raises(ArtifactError, match=r"full: must be writable, got No space left on devic"):
        write_atomic(Path("/dev/full"), b"x")
    assert names(tmp_path) == ["file", "taken"]


def test_what_is_no_file_stays_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_atomic(tmp_path / "pipe", b"through")
    reader.join()
    assert read == [b"through"] and (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_two_writers_never_tear_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    wrong: list[str] = []

    def write(letter: bytes) -> None:
        for _ in range(50):
            try:
                write_atomic(path, letter * 100_000)
            except ArtifactError as error:
                wrong.append(str(error))
            if len(set(path.read_bytes())) != 1:
                wrong.append("torn")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and names(tmp_path) == ["x"] and path.stat().st_size == 100_000


def test_leftovers_of_the_killed_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == b"here\n"
    assert len(names(tmp_path)) == 2
    writers[0].send_signal(signal.SIGKILL)
    writers[0].wait()
    write_atomic(tmp_path / "y", b"whole")
    assert len(names(tmp_path)) == 2 and (tmp_path / "y").is_file()
    writers[1].send_signal(signal.SIGKILL)
    writers[1].wait()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["y"]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()


def test_a_name_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between making and locking the file, another process may take it for a leftover.
    lock, calls = files.fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            raise BlockingIOError
        if len(calls) == 2:
            next(tmp_path.glob(".vta-flow.*")).unlink()
        lock(descriptor, how)

    monkeypatch.setattr(files.fcntl, "flock", late)
    write_atomic(tmp_path / "x", b"data")
    assert len(calls) == 3 and names(tmp_path) == ["x"]


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(descriptor: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", without)
    other = tmp_path / f"{files.PREFIX}0{files.SUFFIX}"
    other.write_bytes(b"being written elsewhere")
    write_atomic(tmp_path / "x", b"data")
    with locked(tmp_path / "cache"):
        pass
    assert names(tmp_path) == [other.name, "cache.lock", "x"]


def test_one_that_ends_at_once_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def sync(descriptor: int) -> None:
        seen.append(names(tmp_path))
        discard_temporaries()
        seen.append(names(tmp_path))

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(ArtifactError):  # its temporary file is gone
        write_atomic(tmp_path / "x", b"data")
    assert len(seen[0]) == 1 and seen[1] == []


def test_one_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []

    most: list[int] = []

    def work(_: int) -> None:
        with locked(tmp_path / "new" / "cache"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5 and names(tmp_path / "new") == ["cache.lock"]


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "a" / "b")
    assert names(tmp_path) == []
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    sentence = r"a: must be a folder that can be written to, got .*, without permission to write; "
    with pytest.raises(ArtifactError, match=f"{sentence}choose another --cache"):
        check_writable(tmp_path / "a", hint="choose another --cache")
