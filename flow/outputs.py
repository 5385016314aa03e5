"""What a network computes: one or more tensors, side by side in a row of numbers for each image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output of a network.

    Parameters
    ----------
    name : str
        Its name in the ONNX file.
    shape : tuple of int
        Of any number of dimensions, for one image.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def elems(self) -> int:
        """Count its numbers."""
        return math.prod(self.shape)

    @property
    def is_logits(self) -> bool:
        """Whether it has one number for each of several classes: [1, classes], or with 1×1 pixels.

        Then the largest one is the network's answer.
        """
        rank_is_right = len(self.shape) in (2, 4) and self.shape[0] == 1
        return rank_is_right and self.elems == self.shape[1] > 1


def values_of(outputs: Sequence[Output]) -> int:
    """Count the numbers of all outputs of an image."""
    return sum(output.elems for output in outputs)


def classes_of(outputs: Sequence[Output]) -> int | None:
    """Return the number of classes of a classifier, None for any other network."""
    if len(outputs) == 1 and outputs[0].is_logits:
        return outputs[0].elems
    return None


def slices_of(outputs: Sequence[Output]) -> tuple[slice, ...]:
    """Return where each output is in the row."""
    ends = [values_of(outputs[:i]) for i in range(len(outputs) + 1)]
    return tuple(slice(begin, end) for begin, end in itertools.pairwise(ends))


def as_row(tensors: Iterable[NDArray[Any]]) -> NDArray[np.float32]:
    """Return the numbers of all outputs, one after the other: float32[values]."""
    return np.concatenate([np.asarray(t, np.float32).reshape(-1) for t in tensors])
