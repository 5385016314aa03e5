"""What the tensors of a graph are while it is planned: what matters of scales and bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relay_passes import numerics
from relay_passes.integers.elementwise import Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedInt8:
    """An int8 tensor; |q| <= bound. `tensor` is the float graph's name for it.

    Its zero point is `zero`, and no number is further from it than `reach`.
    """

    name: str
    tensor: str
    scale: float
    bound: int
    zero: int
    reach: int

    @property
    def operand(self) -> Operand:
        """What steps know of it."""
        return Operand(self.name, self.scale, self.zero, self.reach)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedSum:
    """An accumulator as `integer_values.Accumulator` has it: scale, bound, offset, bias [C].

    All are float64.
    `owes_relu` tells of a ReLU that is not done yet; `inputs` are the int8 tensors of which it is
    made, `operators` those that it takes in, `summands` the layers among them. `pair` says of a sum
    of two int8 tensors how steps make it, should their scales not fit the output's.
    """

    name: str
    scale: NDArray[np.float64]
    bound: NDArray[np.float64]
    offset: NDArray[np.float64]
    bias: NDArray[np.float64]
    owes_relu: bool = False
    inputs: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    summands: tuple[str, ...] = ()
    pair: PlannedPair | None = None

    def after(self, name: str, **changes: Any) -> PlannedSum:
        """Return what operator `name` makes of it."""
        return replace(self, name=name, operators=(*self.operators, name), **changes)

    def with_bias(self, bias: NDArray[np.float64], name: str) -> PlannedSum:
        """Return what an add of a bias makes of it: a ReLU that it owes is done before."""
        settled = self.settle()
        return settled.after(name, bias=settled.bias + bias, pair=None)

    def settle(self) -> PlannedSum:
        """Return it with its ReLU done and its bias added before."""
        if not self.owes_relu:
            return self
        added = np.abs(numerics.round_half_up(self.bias / self.scale) + self.offset)
        nothing = np.zeros_like(self.bias)
        return replace(
            self, bound=self.bound + added, offset=nothing, bias=nothing, owes_relu=False
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPair:
    """What an operator makes of two int8 tensors, as a ReLU may follow it."""

    kind: str
    operators: tuple[str, ...]
    operands: tuple[PlannedInt8, PlannedInt8]
    relu: bool = False
    ceiling: float = float("inf")

    def limited(self, ceiling: float, name: str) -> PlannedPair:
        """Return what a ReLU `name` with an upper limit makes of it."""
        ceiling, operators = min(self.ceiling, ceiling), (*self.operators, name)
        return replace(self, relu=True, ceiling=ceiling, operators=operators)
