"""What a sweep has measured, line by line in a file: one that is stopped goes on behind it.

Each line is ``{"key": ..., "value": ...}``. A line is added as soon as something is measured, so a
run that is killed loses what was being measured, and at most damages the last line.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from flow.system.files import write_atomic
from vta_config.errors import ArtifactError
from vta_config.files import read_bounded

T = TypeVar("T")
#: Of 100,000 machines it is far below.
_MOST_BYTES: Final = 1 << 28


class Journal:
    """Values by key.

    Parameters
    ----------
    path : Path
        The file; it need not be there.
    fresh : bool
        Whether to forget what is in it.

    Raises
    ------
    ArtifactError
        When the file cannot be written.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Read what is there; what is damaged is left out, and the file written anew."""
        self._path = path
        text = b""
        if not fresh:
            with contextlib.suppress(OSError):
                text = read_bounded(path, _MOST_BYTES)
        self._values: dict[str, Any] = {}
        whole = not text or text.endswith(b"\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._values[str(entry["key"])] = entry["value"]
            except (ValueError, TypeError, KeyError, RecursionError):
                whole = False
        if fresh or not whole or not text:
            lines = (self._line(k, v) for k, v in self._values.items())
            write_atomic(path, b"".join(lines))

    def __len__(self) -> int:
        """Count the values."""
        return len(self._values)

    def get(self, key: str, read: Callable[[Mapping[str, Any]], T]) -> T | None:
        """Return a value that `read` can read, None where there is none."""
        if not key or key not in self._values:
            return None
        try:
            return read(self._values[key])
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def add(self, key: str, value: Mapping[str, Any]) -> None:
        """Add a value, at once.

        Raises
        ------
        ArtifactError
            When the file cannot be written.
        """
        if not key:
            return
        self._values[key] = value
        try:
            with self._path.open("ab") as file:
                file.write(self._line(key, value))
        except OSError as error:
            raise ArtifactError(
                self._path,
                "must be writable",
                got=error.strerror or str(error),
                hint="choose another --output",
            ) from None

    @staticmethod
    def _line(key: str, value: Mapping[str, Any]) -> bytes:
        return json.dumps({"key": key, "value": value}, allow_nan=False).encode() + b"\n"
