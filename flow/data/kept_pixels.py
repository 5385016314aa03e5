"""Decoded pictures that are kept: several passes over a data set decode each file once."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Bytes kept of a data set by default: 222 pictures of 224×224.
MOST_BYTES: Final = 32 << 20


class KeptPixels:
    """Pixels of pictures by index, the first that are asked for, up to `most_bytes` of them.

    Threads may share it. It travels to another process without what it keeps.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Keep nothing yet."""
        self._left = self._most_bytes = most_bytes
        self._known: dict[int, NDArray[np.uint8]] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[KeptPixels], tuple[int]]:
        """Copy and pickle as an empty one."""
        return KeptPixels, (self._most_bytes,)

    def get(self, index: int, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the pixels of a picture, which `decode` makes where they are not kept."""
        pixels = self._known.get(index)
        if pixels is None:
            pixels = decode()
            with self._lock:
                if index not in self._known and pixels.nbytes <= self._left:
                    self._left -= pixels.nbytes
                    self._known[index] = pixels
        return pixels
