"""Functions of one number, as networks have them, for tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_erf: Final = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


FUNCTIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "leaky relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "leaky relu, 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "clip": lambda x: np.clip(x, -1.0, 1.0),
    "hard sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507 * np.where(x > 0, x, 1.67326 * np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "abs": np.abs,
    "square": np.square,
    "negative": np.negative,
    "times 0.3": lambda x: 0.3 * x,
}
#: Largest inputs: five scales.
REACHES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
