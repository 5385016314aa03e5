"""Rows of numbers by image, kept while a run goes on: one that is stopped continues behind them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.cache.store import TEXT, Cache, text_array, text_of

#: A run that is stopped loses what it computed in so many seconds, at most.
EVERY_S: Final = 3.0
_ROWS: Final = "rows"


class KeptRows:
    """The results of one network, by image.

    Parameters
    ----------
    cache : Cache
        Where they are kept.
    kind, key : str
        Of the network: everything that its results depend on beside the image.
    images : sequence of str
        What tells each image from all others, in the order of the data set.
    every_s : float
        Rows are written when so many seconds have passed since the last ones.
    """

    def __init__(
        self,
        cache: Cache,
        kind: str,
        key: str,
        images: Sequence[str],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        """Start without reading."""
        self._cache, self._kind, self._key = cache, kind, key
        self._images, self._every_s = images, every_s
        self._waiting: dict[str, NDArray[np.float32]] = {}
        self._written_s = time.monotonic()

    def found(self, values: int) -> dict[int, NDArray[np.float32]]:
        """Return the rows of `values` numbers that were kept, by the index of their image."""
        wanted: dict[str, list[int]] = {}
        for index, image in enumerate(self._images):
            wanted.setdefault(image, []).append(index)
        found: dict[int, NDArray[np.float32]] = {}
        for arrays in self._cache.parts(self._kind, self._key):
            for image, row in _rows_of(arrays, values).items():
                found |= dict.fromkeys(wanted.get(image, ()), row)
        return found

    def keep(self, index: int, row: NDArray[np.float32]) -> None:
        """Keep the row of an image; it is written now, or soon."""
        self._waiting[self._images[index]] = np.array(row, np.float32).reshape(-1)
        if time.monotonic() - self._written_s >= self._every_s:
            self.write()

    def write(self) -> None:
        """Write the rows that are not written yet."""
        if self._waiting:
            names = list(self._waiting)
            part = sha256(" ".join(names).encode()).hexdigest()
            rows = np.stack(list(self._waiting.values()))
            arrays: dict[str, NDArray[Any]] = {TEXT: text_array(names), _ROWS: rows}
            self._cache.put(self._kind, f"{self._key}/{part[:32]}", arrays)
            self._waiting.clear()
        self._written_s = time.monotonic()


def _rows_of(arrays: Mapping[str, NDArray[Any]], values: int) -> dict[str, NDArray[np.float32]]:
    """Return the rows of a part by image; none of what is damaged or of another size."""
    names, rows = text_of(arrays), arrays.get(_ROWS)
    if not isinstance(names, list) or rows is None or rows.dtype != np.float32:
        return {}
    if rows.shape != (len(names), values) or not all(isinstance(name, str) for name in names):
        return {}
    return dict(zip(names, rows, strict=True))
