"""What the tensors of a graph are while `Requantize` turns it into integer operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Int8Tensor:
    """An int8 tensor: real = scale * (var - zero); |var| <= bound."""

    var: Expr
    scale: float
    bound: int
    name: str
    zero: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerWeight:
    """A quantized weight: real = scale * value, scale float64[O]."""

    value: NDArray[np.int8]
    scale: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accumulator:
    """An int32 tensor: real = relu(scale * (var + offset) + bias).

    Parameters
    ----------
    var : relax.Var
        The integers so far.
    scale : float64[C]
        One a channel (axis 1); equal ones are used as one number.
    bound : int64[C]
        Bound of |var|.
    offset : int64[C]
        Integer not yet added: what zero points have left in the sum.
    bias : float64[C]
        Real number not yet added.
    relu : bool
        Whether negative results become 0, not yet done.
    ceiling : float
        Largest result (ReLU6), not yet done; infinity for none.
    name : str
        Tensor name.
    sources : tuple[str, ...]
        Operators of which it is the sum: those that go to the host where it does not fit.
    """

    var: Expr
    scale: NDArray[np.float64]
    bound: NDArray[np.int64]
    offset: NDArray[np.int64]
    bias: NDArray[np.float64]
    relu: bool = False
    ceiling: float = float("inf")
    name: str
    sources: tuple[str, ...] = ()

    @property
    def owes_relu(self) -> bool:
        """Whether a ReLU or its ceiling is not done yet."""
        return self.relu or np.isfinite(self.ceiling)
