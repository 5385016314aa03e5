"""The extents of a convolution and of the memories that it must fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from flow.compiler.geometry import window
from vta_config.hardware import STOCK_BURST_BEATS
from vta_config.portable import uop_room

if TYPE_CHECKING:
    from flow.compiler.geometry import Range, Window
    from vta_config.hardware import VTAConfig
    from vta_config.timing import TimingProfile

#: What a form of an input, and a tiling with a pool inside, is chosen by: cycles and bytes, or
#: cycles alone.
Objective = Literal["balanced", "latency"]
#: Bytes of a burst of 16 beats on the stock bus.
STORE_BURST_BYTES: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
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
        Weight elements a block of output channels that hold bias digits.
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

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return self.kernel[0] * self.kernel[1]

    @property
    def reductions(self) -> tuple[ConvShape, ...]:
        """All reductions by falling exponent; first the convolution's own, then its summands'."""
        if not self.summands:
            return (self,)
        return tuple(sorted((self, *self.summands), key=lambda part: -part.exponent))

    @property
    def vectors(self) -> int:
        """Output vectors."""
        return self.oc * self.out_height * self.out_width

    @property
    def cycles(self) -> int:
        """Cycles that COMPUTE takes beside what instructions cost."""
        taps = sum(part.ic * part.taps for part in self.reductions)
        return self.vectors * (taps * self.step_cycles + self.vector_cycles)

    def extent_in(self, out_extent: int, axis: int) -> int:
        """Input rows (axis 0) or columns (1) that so many outputs need, padding included."""
        return (
            (out_extent - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
        )

    def window(self, out: Range, axis: int, where: object) -> Window:
        """Return the input rows (axis 0) or columns (1) that outputs read, and zeros around them.

        Raises
        ------
        CapacityError
            When an edge needs more zeros than a LOAD can make.
        """
        return window(
            out,
            stride=self.stride[axis],
            padding=self.padding[axis],
            extent=self.extent_in(out.count, axis),
            size=(self.height, self.width)[axis],
            where=where,
        )


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
