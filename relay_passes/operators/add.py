"""Addition of int8 tensors of which none is a layer's sum, and other steps on an int8 tensor."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr
from relay_passes.operators import rules
from relay_passes.operators.chain import Chain, MakerOf, widens
from relay_passes.operators.operator import Operator, Reading, Window


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of an int8 tensor made int32: an empty sum, to which it is added."""
    if not widens(binding.value):
        return None
    chain = Chain.start("add", binding, None)
    chain.post_ops.append(("add_tensor", 0, binding.value.args[0]))
    return chain


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Return that there is neither window nor weight."""
    return Reading("add")


def out_shape(
    in_shape: tuple[int, ...], window: Window, weight_shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the input's shape."""
    return in_shape


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return zeros: every operand is a residual."""
    return np.zeros(shape, np.int64)


OPERATOR: Final = Operator(
    kind="add",
    title="addition",
    float_op="add",
    integer_op="astype",
    rules=rules.POST_OPS_FIT,
    start=start,
    read=read,
    out_shape=out_shape,
    meaning=meaning,
    how="GEMM with a diagonal weight, one step per operand",
    by_channel=True,
    starts_empty=True,
    int8_range=True,
)
