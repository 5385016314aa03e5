"""The table of post-ops: what a layer may do with its accumulator after the sum, one by one.

`PostOp`, the conditions for VTA, the search for layers, the compiler and the reference of the tests
read it. CONTRIBUTING, "Adding a post-op", lists what else a new row needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np

from relay_passes.params import INT32_MAX, INT32_MIN
from vta_config.hardware import VTAConfig
from vta_config.portable import MAX_ACC_SHIFT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostOpRow:
    """One elementwise operation on an accumulator.

    Parameters
    ----------
    name : str
        What `PostOp.op` calls it.
    equation : str
        What it makes of accumulator a, operand v and tensor t, for people.
    meaning : callable
        The same in numpy: of int64[N, C, H, W], the operand (an integer, or int64[1, C, 1, 1]) and
        the tensor (int64[N, C, H, W]; None where it reads none).
    operand : {"constant", "shift", "limit", "multiplier"}
        What its operand is. Shifts must be in [0, 31], limits must fit the immediate of an ALU
        instruction.
    low, high : int
        Least and largest operand.
    relax_op : str
        The operator of Relax, on an accumulator and a constant, that is found as this post-op; ""
        where more than one operator is (a residual).
    per_channel : bool
        Whether the operand may be a vector, one number per output channel.
    same_for : {"", "block", "layer"}
        The output channels for which VTA needs one operand: those of a block or all.
    different_with : str
        The capability of machines that need no equal operands; "" for none.
    residual : bool
        Whether it adds an int8 tensor.
    addition : bool
        Whether it commutes with the accumulator's own sum.
    monotone : bool
        Whether a larger accumulator never becomes a smaller one: a maximum may be taken before it.
    """

    name: str
    equation: str
    meaning: Callable[[Any, Any, Any], Any]
    operand: Literal["constant", "shift", "limit", "multiplier"]
    low: int = INT32_MIN
    high: int = INT32_MAX
    relax_op: str = ""
    per_channel: bool = False
    same_for: Literal["", "block", "layer"] = ""
    different_with: str = ""
    residual: bool = False
    addition: bool = False
    monotone: bool = False

    def one_per_block(self, config: VTAConfig) -> bool:
        """Whether all channels of a block must have one operand on this machine."""
        return bool(self.same_for) and self.different_with not in config.capabilities


_ROWS: Final = (
    PostOpRow(
        name="add",
        equation="a + v",
        meaning=lambda a, v, t: a + v,
        operand="constant",
        relax_op="add",
        per_channel=True,
        addition=True,
        monotone=True,
    ),
    PostOpRow(
        name="add_tensor",
        equation="a + (t << v)",
        meaning=lambda a, v, t: a + (t << v),
        operand="shift",
        low=0,
        high=MAX_ACC_SHIFT,
        residual=True,
        addition=True,
    ),
    PostOpRow(
        name="add_scaled",
        equation="a + t · v",
        meaning=lambda a, v, t: a + t * v,
        operand="multiplier",
        per_channel=True,
        residual=True,
        addition=True,
    ),
    PostOpRow(
        name="shr",
        equation="a >> v (arithmetic)",
        meaning=lambda a, v, t: a >> v,
        operand="shift",
        low=0,
        high=MAX_ACC_SHIFT,
        relax_op="right_shift",
        per_channel=True,
        same_for="block",
        different_with="shr_register",
        monotone=True,
    ),
    PostOpRow(
        name="shl",
        equation="a << v",
        meaning=lambda a, v, t: a << v,
        operand="shift",
        low=0,
        high=MAX_ACC_SHIFT,
        relax_op="left_shift",
        per_channel=True,
        same_for="layer",
        monotone=True,
    ),
    PostOpRow(
        name="min",
        equation="min(a, v)",
        meaning=lambda a, v, t: np.minimum(a, v),
        operand="limit",
        relax_op="minimum",
        monotone=True,
    ),
    PostOpRow(
        name="max",
        equation="max(a, v)",
        meaning=lambda a, v, t: np.maximum(a, v),
        operand="limit",
        relax_op="maximum",
        monotone=True,
    ),
    PostOpRow(
        name="mul",
        equation="a · v",
        meaning=lambda a, v, t: a * v,
        operand="multiplier",
        relax_op="multiply",
        per_channel=True,
        same_for="block",
    ),
)
#: By name.
POST_OPS: Final = MappingProxyType({row.name: row for row in _ROWS})
#: By the operator of Relax on an accumulator and a constant.
BY_RELAX_OP: Final = MappingProxyType({row.relax_op: row for row in _ROWS if row.relax_op})
