"""What a chain is made of, and the two questions that operators ask of a binding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import read_graph
from relay_passes.operators.chain import Chain, multiplies_int8, widens
from tests.relay_passes.operators.anchors import ones
from tests.relay_passes.partition.integers import Int8

op = relax.op


def last(t: Int8, expr: Any) -> Any:
    """Return the binding of an expression."""
    return read_graph(t.module(t.emit(expr))).bindings[-1]


def variable(name: str) -> Any:
    return relax.Var(name, relax.TensorType((1, 2), "int8"))


def test_a_chain_starts_as_its_anchor() -> None:
    t = Int8()
    flat = last(t, op.reshape(t.data, (1, 144)))
    anchor = last(t, op.matmul(flat.var, ones(144, 3), out_dtype="int32"))
    chain = Chain.start("dense", anchor, t.data, flat)
    assert chain.bindings == [flat, anchor] and chain.output.same_as(anchor.var)
    assert chain.inputs == (t.data,) and chain.post_ops == [] and chain.summands == []


def test_inputs_are_data_then_summands_then_residuals() -> None:
    t = Int8()
    anchor = last(t, op.nn.conv2d(t.data, ones(4, 4, 1, 1), out_dtype="int32"))
    first, second, residual = (variable(name) for name in ("first", "second", "residual"))
    chain = Chain.start("conv2d", anchor, first)
    chain.summands.append(Chain.start("conv2d", anchor, second))
    chain.post_ops += [("add", 3, None), ("add_tensor", 0, residual), ("shr", 1, None)]
    assert chain.inputs == (first, second, residual)
    empty = Chain.start("add", anchor, None)
    empty.post_ops.append(("add_tensor", 0, residual))
    assert empty.inputs == (residual,)


@pytest.mark.parametrize(
    ("weight", "out", "expected"),
    [
        (np.ones((4, 4, 1, 1), np.int8), "int32", True),
        (np.ones((4, 4, 1, 1), np.int8), "int8", False),  # the accumulator itself must be int32
        (np.ones((4, 4, 1, 1), np.int32), "int32", False),
    ],
)
def test_products_of_int8(weight: Any, out: str, expected: bool) -> None:
    t = Int8()
    binding = last(t, op.nn.conv2d(t.data, relax.const(weight), out_dtype=out))
    assert multiplies_int8(binding) is expected


def test_a_computed_weight_is_no_product_of_int8() -> None:
    t = Int8((4, 4))
    assert not multiplies_int8(last(t, op.matmul(t.data, t.data, out_dtype="int32")))


def test_casts_from_int8_to_int32() -> None:
    t = Int8()
    wide = last(t, op.astype(t.data, "int32"))
    assert widens(wide.value)
    assert not widens(last(t, op.astype(wide.var, "int8")).value)
    assert not widens(last(t, op.astype(t.data, "float32")).value)
    assert not widens(last(t, op.negative(wide.var)).value)
