"""The extents of a convolution and of the memories that it must fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from flow.compiler.elementwise import least
from flow.compiler.geometry import Axis, Range, split
from vta_config.hardware import STOCK_BURST_BEATS
from vta_config.portable import uop_room

if TYPE_CHECKING:
    from vta_config.hardware import VTAConfig
    from vta_config.timing import TimingProfile

#: What a form of an input, and a tiling with a pool inside, is chosen by: cycles and bytes, or
#: cycles alone.
Objective = Literal["balanced", "latency"]
#: Bytes of a burst of 16 beats on the stock bus.
STORE_BURST_BYTES: Final = 128


@dataclass(frozen=True, kw_only=True)  # no slots: what follows from the extents is kept
class ConvShape:
    """The extents of a convolution, channels in blocks.

    Parameters
    ----------
    oc, ic : int
        Blocks of output and input channels.
    height, width, out_height, out_width : int
        Rows and columns of input and output.
    kernel, stride, dilation : tuple[int, int]
        (vertical, horizontal).
    padding : tuple[int, int]
        (top, left).
    constants : int
        Weight elements a block of output channels that hold digits of bias and edges.
    last_ic : int
        Blocks of input channels that the last row of taps multiplies; 0: all. In patches of pixels
        the others lie below the kernel.
    edge_steps : int
        GEMM steps a block of output channels for constants of some outputs only (edges.py).
    vector_cycles : int
        Cycles an output vector spends outside the convolution: reset, bias, residual and ALU steps.
    tile_cycles : int
        Cycles that the instructions of these steps cost a tile besides.
    step_cycles : int
        Cycles of a GEMM step.
    residuals : int
        Tensors that are added.
    summands : tuple[ConvShape, ...]
        Further reductions into the same sums; of these only the window, `ic` and what follows from
        `base` on count.
    row_step : int
        Rows in DRAM from one row of the input to the next: those between are never read.
    corner : tuple[int, int]
        Rows and columns of the input that are border: they lie before the tensor's own in DRAM.
    stored_rows : bool
        Whether each row of the output is stored alone, since a border lies between them.
    planes : int
        GEMM instructions of a chunk: one a plane where sums lie in planes (conv_pool.py).
    out_planes : int
        Planes of its int8 output in DRAM.
    base : int
        The layer that it is a reduction of: 0 the layer itself, from 1 on its summands.
    exponent : int
        The power of two that its sums stand for.
    weight_plane, input_plane : int
        The plane of its weights, and of its input, that it multiplies.
    """

    oc: int
    ic: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    constants: int
    vector_cycles: int
    tile_cycles: int
    step_cycles: int = 1
    last_ic: int = 0
    edge_steps: int = 0
    residuals: int = 0
    summands: tuple[ConvShape, ...] = ()
    row_step: int = 1
    corner: tuple[int, int] = (0, 0)
    stored_rows: bool = False
    planes: int = 1
    out_planes: int = 1
    base: int = 0
    exponent: int = 0
    weight_plane: int = 0
    input_plane: int = 0

    @cached_property
    def taps(self) -> int:
        """Kernel positions."""
        return self.kernel[0] * self.kernel[1]

    @cached_property
    def reductions(self) -> tuple[ConvShape, ...]:
        """All reductions by falling exponent; first the convolution's own, then its summands'."""
        if not self.summands:
            return (self,)
        return tuple(sorted((self, *self.summands), key=lambda part: -part.exponent))

    @cached_property
    def vectors(self) -> int:
        """Output vectors."""
        return self.oc * self.out_height * self.out_width

    @cached_property
    def steps(self) -> int:
        """GEMM steps of all blocks of input and one of output channels: taps that lie inside."""
        rows, columns = (
            self.axis(Range(0, extent), axis).outputs()
            for axis, extent in enumerate((self.out_height, self.out_width))
        )
        below = rows[-1] * (self.ic - self.last_ic) if self.last_ic else 0
        return (sum(rows) * self.ic - below) * sum(columns)

    @cached_property
    def cycles(self) -> int:
        """Cycles that COMPUTE takes beside what instructions cost."""
        steps = sum(part.steps for part in self.reductions) + self.edge_steps
        return self.oc * steps * self.step_cycles + self.vectors * self.vector_cycles

    def extent_in(self, out_extent: int, axis: int) -> int:
        """Input rows (axis 0) or columns (1) that so many outputs need, padding included."""
        return (
            (out_extent - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
        )

    def window_in(self, out_extent: int, axis: int) -> int:
        """Return the most of these rows or columns that lie in the picture."""
        return least(self.extent_in(out_extent, axis), (self.height, self.width)[axis])

    def axis(self, out: Range, axis: int, *, step: int = 1, phase: int = 0) -> Axis:
        """Return how outputs read rows (axis 0) or columns (1).

        Of every `step`-th output, from `phase` on, `out` counts those alone.
        """
        stride = self.stride[axis]
        return Axis(
            out=out,
            stride=step * stride,
            offset=phase * stride - self.padding[axis],
            kernel=self.kernel[axis],
            dilation=self.dilation[axis],
            size=(self.height, self.width)[axis],
        )

    def runs(self, extent: int, axis: int) -> tuple[int, int]:
        """Return the runs of taps that pieces of `extent` outputs have, and the kinds of pieces.

        Pieces are of one kind where the same taps have as many outputs.
        """
        known = self._pieces.get((extent, axis))
        if known is None:
            total = (self.out_height, self.out_width)[axis]
            whole = self.axis(Range(0, total), axis)
            pieces = [whole.runs(out) for out in split(total, extent)]
            kinds = {tuple((run.taps, run.out.count) for run in runs) for runs in pieces}
            known = self._pieces[extent, axis] = sum(map(len, pieces)), len(kinds)
        return known

    @cached_property
    def _pieces(self) -> dict[tuple[int, int], tuple[int, int]]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The elements that a layer may use of each memory beside resident ones; bus, cycles, aim."""

    inp: int
    wgt: int
    acc: int
    uop: int
    bus_bytes: int
    burst_beats: int
    store_burst_bytes: int
    inp_elem_bytes: int
    wgt_elem_bytes: int
    timing: TimingProfile
    objective: Objective

    def load_cycles(self, rows: int, row_beats: int) -> int:
        """Return how long a LOAD of so many rows of so many beats each takes."""
        return self.timing.load_cycles(rows, row_beats, self.burst_beats)

    @classmethod
    def of(
        cls,
        config: VTAConfig,
        *,
        resident_inp: int,
        resident_wgt: int,
        resident_acc: int = 0,
        objective: Objective = "balanced",
    ) -> Capacity:
        """Take what `config` has beside the elements that stay resident."""
        return cls(
            inp=config.inp_depth - resident_inp,
            wgt=config.wgt_depth - resident_wgt,
            acc=config.acc_depth - resident_acc,
            uop=uop_room(config.uop_depth),
            bus_bytes=config.bus_bytes,
            burst_beats=config.burst_beats,
            store_burst_bytes=STORE_BURST_BYTES * config.burst_beats // STOCK_BURST_BEATS,
            inp_elem_bytes=config.inp_elem_bytes,
            wgt_elem_bytes=config.wgt_elem_bytes,
            timing=config.profile,
            objective=objective,
        )
