"""What ends a tile, instruction by instruction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flow.compiler.cost import Tiling
from flow.compiler.epilogue import finish_tile
from flow.compiler.lower import lower
from flow.compiler.schedule import Schedule
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv, subgraph
from tests.flow.compiler.test_lower import check
from vta_config.hardware import VTAConfig
from vta_config.isa import AluOp, Insn, Opcode
from vta_config.origin import Purpose

X = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")
CLIP = (PostOp(op="max", value=-127), PostOp(op="min", value=127))


def name_of(insn: Insn) -> str:
    """Return what an instruction of COMPUTE or STORE does: "SHR 4", "GEMM residual"."""
    if insn.opcode == Opcode.ALU:
        operand = str(insn["imm"]) if insn["use_imm"] else "acc"
        return f"{AluOp(insn['alu_opcode']).name} {operand}"
    return f"{insn.opcode.name} {insn.origin.purpose}" if insn.opcode == Opcode.GEMM else "STORE"


def epilogue(*steps: PostOp, channels: int = 16, **options: Any) -> list[str]:
    """Check a convolution with these steps on one tile; return what follows its sums."""
    layer = conv(np.random.default_rng(0), "conv1", X, channels, (1, 1), post_ops=steps, **options)
    # One tile, whatever the cost model would choose.
    blocks = channels // 16
    tiling = Tiling(oc=blocks, oh=4, ow=4, ic=1, oc_w=blocks, oc_outer=True)
    schedule = Schedule(tilings={"conv1": tiling}, forms={})
    program = check(subgraph((layer,), X), schedule=schedule)
    own = [insn for insn in program.insns if insn.origin.tile is not None]
    assert {insn.origin.tile for insn in own} == {(0, 0, 0)}
    made = [insn for insn in own if insn.opcode in (Opcode.GEMM, Opcode.ALU, Opcode.STORE)]
    last = max(i for i, insn in enumerate(made) if insn.origin.purpose == Purpose.GEMM)
    return [name_of(insn) for insn in made[last + 1 :]]


def test_steps_are_alu_passes_in_order() -> None:
    steps = (PostOp(op="add", value=8), PostOp(op="shr", value=4), *CLIP)
    # The constant is among the sums, where the layer's bias starts.
    assert epilogue(*steps) == ["SHR 4", "MAX -127", "MIN 127", "STORE"]


def test_shifts_beyond_fifteen_are_several() -> None:
    assert epilogue(PostOp(op="shr", value=20), *CLIP)[:2] in (
        ["SHR 15", "SHR 5"], ["SHR 10", "SHR 10"],
    )  # fmt: skip


def test_a_left_shift_doubles() -> None:
    steps = (PostOp(op="shr", value=9), PostOp(op="shl", value=2), *CLIP)
    assert epilogue(*steps)[:3] == ["SHR 9", "ADD acc", "ADD acc"]


def test_one_instruction_for_each_run_of_blocks() -> None:
    amounts = np.repeat(np.asarray([9, 9, 10], np.int32), 16)
    steps = (PostOp(op="shr", value=amounts), *CLIP)
    assert epilogue(*steps, channels=48) == ["SHR 9", "SHR 10", "MAX -127", "MIN 127", "STORE"]


def test_int32_is_stored_byte_by_byte() -> None:
    assert epilogue(out_dtype="int32") == [
        "STORE", "SHR 8", "STORE", "SHR 8", "STORE", "SHR 8", "STORE",
    ]  # fmt: skip


@pytest.mark.parametrize("after", [False, True])
def test_a_residual_is_added_where_it_comes(after: bool) -> None:
    """By GEMM with a diagonal weight: among the sums, or behind the shift that precedes it."""
    skip = PostOp(op="add_tensor", value=0, tensor="x")
    shift = PostOp(op="shr", value=9)
    steps = (shift, skip, *CLIP) if after else (skip, shift, *CLIP)
    first = ["SHR 9", "GEMM residual"] if after else ["GEMM residual", "SHR 9"]
    assert epilogue(*steps) == [*first, "MAX -127", "MIN 127", "STORE"]


def test_a_constant_after_a_shift_comes_late() -> None:
    late = PostOp(op="add", value=np.arange(16, dtype=np.int32))
    steps = (PostOp(op="shr", value=9), late, *CLIP)
    assert epilogue(*steps) == ["SHR 9", "GEMM bias", "MAX -127", "MIN 127", "STORE"]


def test_nothing_to_do_is_a_store(default_config: VTAConfig) -> None:
    layer = conv(np.random.default_rng(0), "conv1", X, 16, (1, 1), post_ops=())
    (normal,) = lower(subgraph((layer,), X), default_config).layers
    assert normal.epilogue == () and finish_tile.__module__ == "flow.compiler.epilogue"
    assert epilogue() == ["STORE"]
