"""The epilogue: what runs on a tile after its sums, made of a layer's post-ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import numpy as np

from flow.compiler.bias import LateConstants, RegisterOp, late_constants
from flow.compiler.multiply import ShiftAdds
from flow.compiler.planes import output_range, plane_exponents, within_int8
from flow.compiler.residual import CopiedResiduals, Residual, channel_lanes, late_residuals
from flow.program.layouts import blocks
from relay_passes.operators.post_ops import RESIDUAL_OPS
from vta_config.errors import CapacityError, UnsupportedModelError
from vta_config.isa import MAX_IMM, MIN_IMM
from vta_config.portable import MAX_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from relay_passes.partition.layers import Layer, PostOp
    from vta_config.hardware import VTAConfig
    from vta_config.timing import TimingProfile

#: Additions of immediates that one constant takes at most.
_MAX_ADDITIONS: Final = 64
#: Left shift of an accumulator whose low byte is to keep its sign, in two steps.
_SIGN_SHIFT: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ImmediateOp:
    """One ALU pass over a tile: an operation and its immediates, one a block of channels."""

    passes: ClassVar[int] = 1
    op: str
    imm: tuple[int, ...]

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        return timing.alu_reg_step if self.op == "double" else timing.alu_imm_step


EpilogueOp: TypeAlias = (
    ImmediateOp | Residual | CopiedResiduals | LateConstants | ShiftAdds | RegisterOp
)


def epilogue_ops(
    post_ops: Sequence[PostOp], layer: Layer, config: VTAConfig, planes: Mapping[str, int]
) -> Iterator[EpilogueOp]:
    """Yield what runs after the reduction."""
    yield from _post_ops(post_ops, layer, config, planes)
    if (
        config.inp_bits < 8
        and layer.out_dtype == "int8"
        and not within_int8(output_range(layer, {}))
    ):
        # A STORE of the low byte wraps; planes hold more than that, so the byte gets its sign.
        oc = blocks(layer.out_shape[1], config.block)
        for amount in (-_SIGN_SHIFT, -_SIGN_SHIFT, _SIGN_SHIFT, _SIGN_SHIFT):
            yield ImmediateOp(op="shr", imm=(amount,) * oc)


def _post_ops(
    post_ops: Sequence[PostOp], layer: Layer, config: VTAConfig, planes: Mapping[str, int]
) -> Iterator[EpilogueOp]:
    index = 0
    while index < len(post_ops):
        post_op = post_ops[index]
        index += 1
        if post_op.op != "mul" or "mul" in config.capabilities:
            yield from _epilogue(post_op, layer, config, planes)
            continue
        factors = _per_block(post_op, layer, config)
        if min(factors) < 1:
            raise UnsupportedModelError(
                f"{layer.name}.mul",
                "must be at least 1 on a machine without the capability mul",
                got=min(factors),
                hint="use shift requantization",
            )
        # The shift that follows is done between the additions, unless it needs a register.
        shifts = (0,) * len(factors)
        if index < len(post_ops) and post_ops[index].op == "shr":
            lanes = channel_lanes(post_ops[index], layer, config)
            if "shr_register" not in config.capabilities or (lanes == lanes[:, :1]).all():
                shifts = _per_block(post_ops[index], layer, config)
                index += 1
        yield ShiftAdds.of(factors, shifts)


def _epilogue(
    step: PostOp, layer: Layer, config: VTAConfig, planes: Mapping[str, int]
) -> Sequence[EpilogueOp]:
    """Turn one post-op into ALU instructions."""
    if step.op in RESIDUAL_OPS:
        count = len(plane_exponents(step.tensor, config, planes))
        return late_residuals(step, layer, config, planes=count)
    if step.op == "add" and np.ndim(step.value):
        oc = blocks(layer.out_shape[1], config.block)
        numbers = np.zeros(oc * config.block, np.int64)
        numbers[: layer.out_shape[1]] = step.value
        return [late_constants(numbers, config, layer.name)]
    if step.op == "shr" and "shr_register" in config.capabilities:
        amounts = channel_lanes(step, layer, config)
        if (amounts != amounts[:, :1]).any():
            return [RegisterOp.of("shr", amounts, config)]
    values = _per_block(step, layer, config)
    if step.op == "shl":
        if len(set(values)) > 1:
            raise UnsupportedModelError(
                f"{layer.name}.shl",
                "must be one number a layer",
                got=values,
                hint="use one scale a tensor",
            )
        return [ImmediateOp(op="double", imm=(0,) * len(values))] * values[0]
    if step.op == "shr":
        passes = []
        while any(values):
            passes.append(ImmediateOp(op="shr", imm=tuple(min(v, MAX_SHIFT) for v in values)))
            values = tuple(v - min(v, MAX_SHIFT) for v in values)
        return passes
    if step.op == "add":
        # Constants that imm does not hold take several passes.
        passes = []
        while any(values):
            part = tuple(max(MIN_IMM, min(MAX_IMM, v)) for v in values)
            passes.append(ImmediateOp(op="add", imm=part))
            values = tuple(v - p for v, p in zip(values, part, strict=True))
            if len(passes) > _MAX_ADDITIONS:
                raise CapacityError(
                    f"{layer.name}.add",
                    f"must fit {_MAX_ADDITIONS} immediates of 16 bits",
                    got=step.value,
                    hint="add it before the shift",
                )
        return passes
    if not all(MIN_IMM <= v <= MAX_IMM for v in values):
        raise CapacityError(
            f"{layer.name}.{step.op}",
            "must fit a 16-bit immediate",
            got=step.value,
            hint="clip to fewer bits",
        )
    return [ImmediateOp(op=step.op, imm=values)]


def _per_block(step: PostOp, layer: Layer, config: VTAConfig) -> tuple[int, ...]:
    """Return a step's operand for each block of output channels.

    Raises
    ------
    UnsupportedModelError
        When channels of one block differ: an immediate serves a whole block.
    """
    lanes = channel_lanes(step, layer, config)
    if (lanes != lanes[:, :1]).any():
        raise UnsupportedModelError(
            f"{layer.name}.{step.op}",
            "must be one number a block of output channels",
            got="one a channel",
            hint="fold per-channel scales into the weights",
        )
    return tuple(int(v) for v in lanes[:, 0])
