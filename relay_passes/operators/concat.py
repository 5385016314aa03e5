"""Concatenation along channels, rows or columns."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import Expr, dtype_of, static_shape
from relay_passes.operators import add, rules
from relay_passes.operators.chain import Chain, MakerOf
from relay_passes.operators.movement import joined, nchw
from relay_passes.operators.operator import Operator, Reading, Window


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a concatenation of int8 along channels, rows or columns."""
    sources = binding.value.args[0]
    if dtype_of(binding.var) != "int8" or not isinstance(sources, relax.Tuple):
        return None
    rank, axis = len(static_shape(binding.var)), binding.value.attrs.axis
    fields = list(sources.fields)
    if rank not in (2, 4) or axis is None or int(axis) % rank == 0:
        return None
    if not all(isinstance(field, relax.Var) for field in fields):
        return None
    chain = Chain.start("concat", binding, fields[0])
    chain.more_sources = tuple(fields[1:])
    chain.movement = joined([nchw(static_shape(field)) for field in fields], int(axis) % rank)
    return chain


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Return that there is neither window nor weight."""
    return Reading("concat")


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the input: `Movement.move` copies."""
    return x


OPERATOR: Final = Operator(
    kind="concat",
    title="concatenation",
    float_op="concat",
    integer_op="concat",
    rules=rules.POST_OPS_FIT,
    start=start,
    read=read,
    out_shape=add.out_shape,  # not asked: the movement says the result's shape
    meaning=meaning,
    how="nothing where the layers before it store side by side; else GEMM with weights 0 and 1",
    int8_range=True,
    moves=True,
)
