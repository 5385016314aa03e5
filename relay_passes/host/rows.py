"""All inputs of a network in one array.

The flow hands around one array for each image. Where a network has several inputs it is a row
[1, values]: their numbers, one input after the other, in the order of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray


def array_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of the array that holds one image, for inputs of these shapes."""
    return shapes[0] if len(shapes) == 1 else (1, sum(map(prod, shapes)))


def inputs_of(array: NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    """Return the inputs that an array holds; a single one is the array itself.

    Parameters
    ----------
    array : number[...]
        Of `array_shape`.
    shapes : sequence of tuple of int
        Of the inputs.
    """
    if len(shapes) == 1:
        return [array]
    ends = np.cumsum([prod(shape) for shape in shapes])
    parts = np.split(np.asarray(array).reshape(-1), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
