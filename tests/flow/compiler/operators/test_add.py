"""Additions: a GEMM step with a diagonal weight for each vector of each operand."""

from __future__ import annotations

import pytest

from flow.compiler.operators.add import LOWERER
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.operators.counts import counted

SHAPE = (1, 24, 6, 5)
X, Y, Z = (TensorSpec(name=name, shape=SHAPE, dtype="int8") for name in "xyz")


def added(*operands: tuple[TensorSpec, int]) -> Layer:
    """Return clip((sum of tensors, each shifted left) >> 3)."""
    return Layer(
        name="added",
        kind="add",
        inputs=tuple(spec.name for spec, _ in operands),
        output="added",
        in_shape=SHAPE,
        out_shape=SHAPE,
        weight=None,
        post_ops=(
            *(PostOp(op="add_tensor", value=shift, tensor=spec.name) for spec, shift in operands),
            PostOp(op="shr", value=3),
            PostOp(op="max", value=-127),
            PostOp(op="min", value=127),
        ),
    )


@pytest.mark.parametrize("specs", [(X,), (X, Y), (X, Y, Z)])
def test_a_step_for_each_operand(specs: tuple[TensorSpec, ...]) -> None:
    layer = added(*((spec, shift) for shift, spec in enumerate(specs)))
    counts = counted(layer, inputs=specs)
    assert counts["gemm_residual_ops"] == len(specs) * 2 * 30
    assert counts["gemm_conv_ops"] == counts["gemm_bias_ops"] == 0
    assert counts["inp_bytes"] == len(specs) * 2 * 30 * 16
    assert counts["alu_ops"] == 3 * 2 * 30


def test_pictures_larger_than_the_scratchpads() -> None:
    large = TensorSpec(name="x", shape=(1, 16, 70, 70), dtype="int8")
    layer = Layer(
        name="added",
        kind="add",
        inputs=("x",),
        output="added",
        in_shape=large.shape,
        out_shape=large.shape,
        weight=None,
        post_ops=(
            PostOp(op="add_tensor", value=1, tensor="x"),
            PostOp(op="shr", value=2),
        ),
    )
    assert counted(layer, inputs=(large,))["gemm_residual_ops"] == 4900


def test_there_is_nothing_to_search() -> None:
    assert not LOWERER.searched
