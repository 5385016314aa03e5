"""Reading files that may be anything: a pipe, a device, a folder, or larger than memory."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes` bytes.

    Nothing else is read, and nothing is waited for: not for the other end of a named pipe.

    Raises
    ------
    OSError
        When the file cannot be read, is no regular file, or has more bytes; `strerror` says which.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise OSError(errno.EINVAL, kind, str(path))
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"{status.st_size:,} bytes", str(path))
        parts = []
        left = max_bytes + 1  # it may have grown
        while left > 0 and (part := os.read(descriptor, min(left, 1 << 24))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    if left <= 0:
        raise OSError(errno.EFBIG, f"more than {max_bytes:,} bytes", str(path))
    return b"".join(parts)
