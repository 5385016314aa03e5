"""Reading what may be no file."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vta_config.files import read_bounded


def test_reads_files_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size in (0, 1, 1000):
        path.write_bytes(bytes(range(256))[:1] * size)
        assert read_bounded(path, 1000) == path.read_bytes()
    path.write_bytes(bytes(1001))
    with pytest.raises(OSError, match=r"1,001 bytes"):
        read_bounded(path, 1000)
    assert read_bounded(path, 10**30) == bytes(1001)


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a pipe or a device"):
        read_bounded(Path("/dev/zero"), 10)
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match=re.escape(f"{1 << 40:,} bytes")):
        read_bounded(sparse, 1 << 30)
    # /proc/self/maps has 0 bytes, and more when it is read.
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_bounded(Path("/proc/self/maps"), 10)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a folder"):
        read_bounded(tmp_path, 10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="a pipe or a device"):  # and does not wait for a writer
        read_bounded(pipe, 10)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "none", 10)
