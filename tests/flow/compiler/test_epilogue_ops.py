"""What runs on a tile after its sums, pass by pass."""

from __future__ import annotations

import numpy as np

from flow.compiler.epilogue_ops import ImmediateOp, epilogue_ops
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv
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
