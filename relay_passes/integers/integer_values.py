"""What the tensors of a graph are while `Requantize` turns it into integer operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relay_passes import numerics
from relay_passes.graph import Expr
from relay_passes.params import QuantParams
from vta_config.errors import CapacityError


class DoesNotFit(Exception):
    """Integers of some operators leave int32; these are left to the host then."""

    def __init__(self, sources: tuple[str, ...], error: CapacityError) -> None:
        """Keep the operators, and what the error says of them."""
        super().__init__(str(error).partition("; ")[0])  # no advice: it was taken
        self.sources = sources


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lazy:
    """A tensor that integers make at once where it becomes int8, and floats only where needed.

    Parameters
    ----------
    binding : relax.VarBinding
        Its operator in the graph.
    operands : tuple[Int8Tensor, ...]
        What integers make it of.
    """

    binding: Expr
    operands: tuple[Int8Tensor, ...]


def int8_tensor(var: Expr, params: QuantParams, name: str) -> Int8Tensor:
    """Return a variable with the parameters of an int8 tensor."""
    return Int8Tensor(
        var=var, scale=params.scale[0], bound=params.bound, zero=params.zero_point, name=name
    )


def constant_of(acc: Accumulator, unit: NDArray[Any], zero_point: int) -> NDArray[np.int64]:
    """Quantize what an accumulator has not yet added, `unit` of whose units are one of int8's."""
    bound = numerics.sum_bound(acc.bound, acc.offset)
    bias = numerics.output_bias(acc.name, acc.bias, acc.scale, bound, unit, zero_point)
    return acc.offset + bias


def column(weight: IntegerWeight) -> NDArray[np.float64]:
    """Return a weight's scales so that they broadcast along its output channels."""
    axis = 1 if weight.value.ndim == 2 else 0
    return numerics.along(weight.scale, weight.value.ndim, axis)


def per_channel(values: NDArray[Any], ndim: int, dtype: Any) -> Any:
    """Return one number when all are equal, else the vector shaped for axis 1."""
    if np.all(values == values[0]):
        return dtype(values[0])
    return numerics.along(values.astype(dtype), ndim, 1)
