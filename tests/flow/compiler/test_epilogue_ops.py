"""What runs on a tile after its sums, pass by pass."""

from __future__ import annotations

import numpy as np
import pytest

from flow.compiler.epilogue_ops import ImmediateOp, epilogue_ops
from relay_passes.operators import post_ops
from relay_passes.operators.post_ops import POST_OPS, PostOpRow
from relay_passes.partition import layers
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv
from vta_config.errors import UnsupportedModelError
from vta_config.hardware import VTAConfig

X = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")
SHR, MAX, MIN = (PostOp(op="shr", value=18), PostOp(op="max", value=-7), PostOp(op="min", value=7))


def passes(preset: str, *steps: PostOp, out_dtype: str = "int8") -> list[tuple[str, int]]:
    layer = conv(
        np.random.default_rng(0), "conv", X, 16, (1, 1), post_ops=steps, out_dtype=out_dtype
    )
    found = [*epilogue_ops(steps, layer, VTAConfig.load(preset), {})]
    return [(op.op, op.imm[0]) for op in found if isinstance(op, ImmediateOp)]


def test_a_long_shift_is_two() -> None:
    expected = [("shr", 15), ("shr", 3), ("max", -7), ("min", 7)]
    assert passes("default", SHR, MAX, MIN) == passes("w4a4", SHR, MAX, MIN) == expected


def test_planes_of_what_is_not_clipped_get_the_sign_of_its_low_byte() -> None:
    sign = [("shr", -12), ("shr", -12), ("shr", 12), ("shr", 12)]
    assert passes("w4a4", MAX) == [("max", -7), *sign]
    assert passes("w4", MAX) == passes("default", MAX) == [("max", -7)]
    assert passes("w4a4", MAX, out_dtype="int32") == [("max", -7)]


def test_a_post_op_without_instructions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = PostOpRow(name="xor", equation="a ^ v", meaning=lambda a, v, t: a ^ v, operand="constant")
    for module in (post_ops, layers):
        monkeypatch.setattr(module, "POST_OPS", {**POST_OPS, "xor": row})
    with pytest.raises(
        UnsupportedModelError,
        match=r"conv\.xor: must be a post-op that the compiler has instructions for, got a \^ v;",
    ):
        passes("default", PostOp(op="xor", value=3))


def test_which_instructions_a_maximum_may_go_before() -> None:
    ops = ("shr", "min", "max", "add", "double")
    assert all(ImmediateOp(op=op, imm=(3, 0)).monotone for op in ops)
    assert not ImmediateOp(op="mul", imm=(3,)).monotone
    assert not ImmediateOp(op="shr", imm=(3, -1)).monotone
