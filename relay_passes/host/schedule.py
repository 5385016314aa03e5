"""Schedule what TVM's CPU backend runs slowly: channels-last convolutions that stay in float.

TVM sums one output after the other, which no compiler vectorizes, since a float sum keeps its
order. `ScheduleConvs` moves the output channels innermost instead: many sums side by side, each
still over (kernel y, kernel x, channel). The results are the same bits, in a tenth of the time.

`FuseRounding` makes one loop of the operators that round an image to int8, and lets compilers
vectorize it: without SSE4.1, which executables may not need, floor is a call of the C library for
each number. The multiplication before stays a loop of its own: some processors would fuse it with
the addition and round once in place of twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import tvm
from tvm import relax, te
from tvm.relax import dpl
from tvm.s_tir import Schedule

from relay_passes.graph import Expr, GraphPass, Module, dtype_of, op_name, read_graph

#: The block that legalization makes of an NHWC convolution; its loops are batch, row, column,
#: output channel, kernel row, kernel column and input channel.
_BLOCK: Final = "conv2d_nhwc"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConvs(GraphPass):
    """Legalize operators to loops, and put the output channels of NHWC convolutions innermost.

    Grouped convolutions, whose loops differ, stay as they are.
    """

    def transform(self, mod: Module) -> Module:
        """Return `mod` for `tvm.compile`: in loops when there is such a convolution."""
        if not any(_is_channels_last(binding.value) for binding in read_graph(mod).bindings):
            return mod
        schedule = Schedule(relax.transform.LegalizeOps()(mod))
        for gvar in schedule.mod.get_global_vars():
            if isinstance(schedule.mod[gvar], relax.Function):
                continue
            schedule.work_on(gvar.name_hint)
            for block in schedule.get_child_blocks(schedule.get_sblock("root")):
                if str(schedule.get(block).name_hint) == _BLOCK:
                    _, _, _, channel, *reduced = schedule.get_loops(block)
                    schedule.reorder(*reduced, channel)
                    schedule.decompose_reduction(block, reduced[0])
        return schedule.mod


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseRounding(GraphPass):
    """Make one loop of clip(floor(x + ½) [+ zero_point]) as int8, which quantizes a tensor."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` for `tvm.compile`: in loops when there is such a chain."""
        fused = relax.transform.FuseOpsByPattern(_roundings())(mod)
        if len(fused.functions) == len(mod.functions):
            return mod
        loops = relax.transform.LegalizeOps({"relax.floor": _legalize_floor})(fused)
        schedule = Schedule(relax.transform.FuseTIR()(loops))
        known = {gvar.name_hint for gvar in loops.get_global_vars()}
        for gvar in schedule.mod.get_global_vars():
            if gvar.name_hint not in known or isinstance(loops[gvar.name_hint], relax.Function):
                _inline(schedule, gvar.name_hint)
        return schedule.mod


def _inline(schedule: Schedule, name: str) -> None:
    """Compute all steps of a fused kernel in the loop of its last one."""
    if isinstance(schedule.mod[name], relax.Function):
        return
    schedule.work_on(name)
    for block in schedule.get_child_blocks(schedule.get_sblock("root"))[:-1]:
        schedule.compute_inline(block)


def _legalize_floor(builder: Any, call: Expr) -> Expr:
    """Return a floor in loops, to the same bits: of float32 in operations that are vectorized."""
    if dtype_of(call) != "float32":
        return tvm.ir.Op.get("relax.floor").get_attr("FLegalize")(builder, call)
    return builder.call_te(_floor, call.args[0], primfunc_name_hint="floor")


def _floor(x: te.Tensor) -> te.Tensor:
    """Return ⌊x⌋ of float32; from 2^23 on all are integers, and NaN stays."""

    def floor(*place: Any) -> Any:
        value = x[place]
        whole = value.astype("int32").astype("float32")  # towards zero
        lower = tvm.tirx.Select(whole > value, whole - tvm.tirx.const(1, "float32"), whole)
        kept = tvm.tirx.Select(whole == value, value, lower)  # -0.0, too
        small = tvm.tirx.abs(value) < tvm.tirx.const(1 << 23, "float32")
        return tvm.tirx.Select(small, kept, value)

    return te.compute(x.shape, floor, name="floor")


def _roundings() -> list[tuple[str, Any]]:
    """Return the patterns of `FuseRounding` with names, the longest first."""
    any_, number = dpl.wildcard, dpl.is_const
    rounded = dpl.is_op("relax.floor")(dpl.is_op("relax.add")(any_(), number()))
    moved = dpl.is_op("relax.add")(rounded, number())
    return [
        ("rounding", dpl.is_op("relax.astype")(dpl.is_op("relax.clip")(x, any_(), any_())))
        for x in (moved, rounded)
    ]


def _is_channels_last(value: Expr) -> bool:
    """Whether a call is a convolution over NHWC tensors."""
    return op_name(value) == "nn.conv2d" and str(value.attrs.data_layout) == "NHWC"
