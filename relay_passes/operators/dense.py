"""Dense layer: a product with a matrix, with a vector or with a whole feature map."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import Expr, constant, op_name, static_shape
from relay_passes.operators import conv2d, rules
from relay_passes.operators.chain import Chain, MakerOf, Sides, multiplies_int8
from relay_passes.operators.operator import IntegerForm, Operator, Reading, Window


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a dense layer of int8, with the reshape that makes its vector."""
    if not multiplies_int8(binding):
        return None
    data = binding.value.args[0]
    flat = maker_of(data)
    if flat is not None and op_name(flat.value) == "reshape":
        source = flat.value.args[0]
        if isinstance(source, relax.Var) and len(static_shape(source)) in (2, 4):
            return Chain.start("dense", binding, source, flat)
    return Chain.start("dense", binding, data)


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Read the weight; on a feature map the layer is a convolution that covers it."""
    matrix = constant(call.args[1])
    assert matrix is not None
    kernel = (in_shape[2], in_shape[3])
    weight = np.ascontiguousarray(matrix.T).reshape(matrix.shape[1], *in_shape[1:])
    kind = "dense" if kernel == (1, 1) else conv2d.OPERATOR.kind
    return Reading(kind, Window(kernel), weight)


def fits(call: Expr) -> bool:
    """Whether both operands are matrices."""
    return all(len(static_shape(operand)) == 2 for operand in call.args)


def make(call: Expr, data: Expr, weight: NDArray[np.int8], sides: Sides) -> Expr:
    """Return the product of integers."""
    return relax.op.matmul(data, relax.const(weight), out_dtype="int32")


OPERATOR: Final = Operator(
    kind="dense",
    title="dense layer",
    float_op="matmul",
    integer_op="matmul",
    rules=rules.POST_OPS_FIT,
    start=start,
    read=read,
    out_shape=conv2d.out_shape,
    meaning=conv2d.meaning,
    how="GEMM, as a 1 × 1 convolution, or as one whose kernel covers the input",
    weight_axis=1,
    integer=IntegerForm(fits=fits, make=make),
    adds_up=True,
)
