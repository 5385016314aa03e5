"""Images that are read again whenever they are needed, in place of kept ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset
from flow.results.evaluate import prefetch


class Pictures(Sequence[NDArray[np.float32]]):
    """Some images of a data set, decoded anew whenever they are read."""

    def __init__(self, data: Dataset, indices: range) -> None:
        """Take the images at `indices`."""
        self._data, self._indices = data, indices

    def as_data(self) -> Dataset:
        """Return them as a data set."""
        return self._data.at(self._indices)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, index: slice) -> Pictures: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.float32] | Pictures:
        """Decode one image, float32[1, C, H, W]; of a slice none yet."""
        if isinstance(index, slice):
            return Pictures(self._data, self._indices[index])
        return self._data[self._indices[index]]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the images in order, some decoded ahead in another thread."""
        return prefetch(self)
