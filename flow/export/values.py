"""What the tensors of an integer module are in the ONNX graph that says the same.

ONNX's graph computes with real numbers; each stands for an integer of ours, exactly: all scales are
powers of two, and float32 holds integers below 2^24 times those.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Int8:
    """An int8 tensor, as QuantizeLinear makes it: the integers are ours.

    Parameters
    ----------
    tensor : str
        The int8 tensor.
    scale : float
        A power of two.
    zero : int
        The zero point.
    shape : tuple of int
    name : str
        Ours.
    padding : tuple of int, optional
        [top, left, bottom, right] of zeros (real ones) around it, still to be added.
    """

    tensor: str
    scale: float
    zero: int
    shape: tuple[int, ...]
    name: str
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sum:
    """An int32 tensor: integer = ratio * real - offset, along axis 1.

    Parameters
    ----------
    tensor : str
        The real tensor in ONNX.
    ratio, offset : float64[C]
        Exact: integers times powers of two.
    bound : float
        Bound of |ratio * real|.
    shape : tuple of int
    name : str
        Ours.
    sources : tuple[str, ...]
        Products that it is the sum of.
    factor : float64[C]
        How often it has the first product.
    """

    tensor: str
    ratio: Vector
    offset: Vector
    bound: float
    shape: tuple[int, ...]
    name: str
    sources: tuple[str, ...] = ()
    factor: Vector

    def times(self, number: Vector) -> Sum:
        """Return the product with integers other than 0, without a node."""
        return replace(
            self,
            ratio=self.ratio * number,
            offset=self.offset * number,
            bound=self.bound * float(np.abs(number).max()),
            factor=self.factor * number,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Narrowed:
    """What an int32 tensor is on its way to int8: clip(sum >> shift, low, high).

    Parameters
    ----------
    sum : Sum
    shift : float64[C]
    low, high : float
        Infinite where nothing is clipped.
    """

    sum: Sum
    shift: Vector
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Whole:
    """Integers that the module has as float32: a sum on its way to a real number."""

    sum: Sum


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Real:
    """A float tensor, the same in both.

    Parameters
    ----------
    tensor : str
    shape : tuple of int
    before : (str, Real, tuple of float), optional
        The operator ``add`` or ``clip`` that made it of another one and numbers.
    """

    tensor: str
    shape: tuple[int, ...]
    before: tuple[str, Real, tuple[float, ...]] | None = None


Value: TypeAlias = Int8 | Sum | Narrowed | Whole | Real


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hint:
    """What is known of a product's further way from a first walk over the module.

    Parameters
    ----------
    unit : float64[C]
        Real number that one integer of it should stand for, so that no factor is left.
    bias : float64[C]
        Integers to add to it, so that no bias is left.
    """

    unit: Vector
    bias: Vector
