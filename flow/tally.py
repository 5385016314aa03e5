"""Counting comparisons: how many tensors, how many differ, and how the first one does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vta_config.text import printable


@dataclass(slots=True)
class Tally:
    """Counts comparisons and remembers the first that failed."""

    tensors: int = 0
    mismatches: int = 0
    first: str = ""

    def compare(self, where: str, got: NDArray[Any], want: NDArray[Any]) -> None:
        """Compare two tensors of equal size, whatever their shapes."""
        self.tensors += 1
        got, want = np.ravel(got), np.ravel(want)
        if got.shape == want.shape and got.dtype == want.dtype and np.array_equal(got, want):
            return
        self.mismatches += 1
        if not self.first:
            self.first = f"{printable(where)}: {difference(got, want)}"


def difference(got: NDArray[Any], want: NDArray[Any]) -> str:
    """Describe in a few words how two flat tensors differ."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}[{got.size}] instead of {want.dtype}[{want.size}]"
    places = np.flatnonzero(got != want)
    at = int(places[0])
    return (
        f"{places.size} of {got.size} values differ, the first at {at}: {got[at]} "
        f"instead of {want[at]}"
    )
