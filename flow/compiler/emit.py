"""Instruction builders: LOAD, STORE, GEMM and ALU with the regions that tokens need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeVar

from flow.compiler.geometry import Dim, Range, nest, span, split
from flow.compiler.tokens import Emitted, Region, Space
from flow.program.layouts import blocks
from vta_config.errors import CapacityError
from vta_config.isa import MAX_TRANSFER, AluOp, Insn, Memory, Opcode
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flow.program.layouts import DramTensor
    from vta_config.hardware import VTAConfig
    from vta_config.origin import Origin

T = TypeVar("T")

_ALU_OPS: Final = {
    "min": AluOp.MIN,
    "max": AluOp.MAX,
    "add": AluOp.ADD,
    "shr": AluOp.SHR,
    "mul": AluOp.MUL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A piece of a layer's output and where its sums lie.

    Parameters
    ----------
    n : int
        Block of the batch.
    oc, oy, ox : Range
        Blocks of output channels, rows, columns.
    acc : int
        First acc element; the tile lies as [oc][oy][ox].
    origin : Origin
        Its layer and place; instructions add their purpose.
    group : Range
        Blocks of output channels of the tile that it is a piece of.
    """

    n: int
    oc: Range
    oy: Range
    ox: Range
    acc: int
    origin: Origin
    group: Range

    @property
    def area(self) -> int:
        """Vectors of one block of output channels."""
        return self.oy.count * self.ox.count

    @property
    def vectors(self) -> int:
        """Vectors of the tile."""
        return self.oc.count * self.area

    def runs(self, values: Sequence[T]) -> Iterator[tuple[T, Range]]:
        """Yield each value, given one a block of the layer, and the acc elements of its run."""
        first = self.acc
        for value, run in groupby(values[self.oc.start : self.oc.start + self.oc.count]):
            count = len([*run]) * self.area
            yield value, Range(first, count)
            first += count

    def pieces(self, vectors: int) -> list[Tile]:
        """Cut the tile into whole blocks of channels, of at least so many vectors each."""
        each = blocks(vectors, self.area)
        return [
            replace(
                self,
                oc=Range(self.oc.start + part.start, part.count),
                acc=self.acc + part.start * self.area,
            )
            for part in split(self.oc.count, each)
        ]


class Emitter:
    """Build instructions for one machine and one DRAM map."""

    def __init__(self, config: VTAConfig, tensors: dict[str, DramTensor]) -> None:
        """Keep the machine and where tensors lie."""
        self._config = config
        self._tensors = tensors

    def _element(
        self, tensor: DramTensor, n: int, block: int, y: int, x: int, plane: int = 0
    ) -> int:
        """Return the DRAM element of a pixel of a block of channels."""
        border = tensor.border
        _, c, h, w = border.around(tensor.shape)
        base = (tensor.address + plane * tensor.plane_bytes) // self._config.inp_elem_bytes
        first = (n * blocks(c, self._config.block) + block) * h * w
        return base + first + (border.top + y) * w + border.left + x

    def load_constant(
        self,
        memory: Memory,
        sram: int,
        dram: int,
        origin: Origin,
        *,
        rows: int = 1,
        columns: int = 1,
        stride: int = 0,
    ) -> Emitted:
        """Load `rows` × `columns` elements of constants (nobody writes them in DRAM)."""
        emitted = self._load(memory, sram, dram, origin, rows=rows, columns=columns, stride=stride)
        return replace(emitted, reads=())

    def load_weights(self, name: str, sram: int, n: int, oc: Range, origin: Origin) -> Emitted:
        """Load blocks of a tensor whose every block of channels is one wgt element."""
        tensor, config = self._tensors[name], self._config
        each = config.wgt_elem_bytes // config.inp_elem_bytes
        at = self._element(tensor, n, oc.start, 0, 0)
        load = self._load(
            Memory.WGT, sram, at // each, origin, rows=1, columns=oc.count, stride=oc.count
        )
        return replace(load, reads=(Region("dram", at, oc.count * each),))

    def load_flat(
        self, name: str, sram: int, n: int, elements: Range, origin: Origin, *, plane: int = 0
    ) -> list[Emitted]:
        """Load a run of a tensor's elements, counted through its blocks and pixels."""
        tensor = self._tensors[name]
        _, _, height, width = tensor.shape
        if tensor.border.empty:
            at = self._element(tensor, n, 0, 0, elements.start, plane)
            count = elements.count
            return [self._load(Memory.INP, sram, at, origin, rows=1, columns=count, stride=count)]
        result, stride = [], tensor.border.around(tensor.shape)[3]
        for block, y, x, rows, columns in _rectangles(elements, height, width):
            at = self._element(tensor, n, block, y, x, plane)
            load = self._load(
                Memory.INP, sram, at, origin, rows=rows, columns=columns, stride=stride
            )
            result.append(load)
            sram += rows * columns
        return result

    def load_window(
        self,
        name: str,
        sram: int,
        n: int,
        channels: Range,
        y: Range,
        x: Range,
        origin: Origin,
        *,
        row_step: int = 1,
        corner: tuple[int, int] = (0, 0),
        plane: int = 0,
    ) -> list[Emitted]:
        """Load a window of channel blocks as [channels][rows][columns].

        Row r of the window's picture is row r · `row_step` of the tensor. With a `corner`, the
        picture has so many rows and columns of the border before the tensor's own.
        """
        tensor, (top, left) = self._tensors[name], corner
        border = tensor.border
        _, _, height, width = border.around(tensor.shape)
        area = y.count * x.count
        if not area:
            return []
        first = x.start - left
        whole = first == -border.left and x.count == width and row_step == 1
        if whole and (channels.count == 1 or height * width <= MAX_TRANSFER):
            # Whole rows: one run a block, all blocks in one LOAD.
            at = self._element(tensor, n, channels.start, y.start - top, first, plane)
            return [
                self._load(
                    Memory.INP,
                    sram,
                    at,
                    origin,
                    rows=channels.count,
                    columns=area,
                    stride=height * width,
                )
            ]
        result = []
        for i in range(channels.count):
            row = y.start * row_step - top
            at = self._element(tensor, n, channels.start + i, row, first, plane)
            load = self._load(
                Memory.INP,
                sram + i * area,
                at,
                origin,
                rows=y.count,
                columns=x.count,
                stride=width * row_step,
                merge=whole,
            )
            result.append(load)
        return result

    def _load(
        self,
        memory: Memory,
        sram: int,
        dram: int,
        origin: Origin,
        *,
        rows: int,
        columns: int,
        stride: int,
        merge: bool = True,
    ) -> Emitted:
        if rows == 1 or (stride == columns and merge):
            rows, columns, stride = (1, rows * columns, rows * columns)
        values = {
            "memory_type": int(memory),
            "sram_base": sram,
            **_transfer(dram, rows, columns, stride, origin),
        }
        spaces: dict[Memory, Space] = {Memory.WGT: "wgt", Memory.ACC: "acc"}
        space = spaces.get(memory, "inp")
        reads = (Region("dram", dram, columns, rows, stride),)
        return Emitted(
            Insn(Opcode.LOAD, values, origin), reads, (Region(space, sram, rows * columns),)
        )

    def store(self, name: str, tile: Tile, plane: int = 0) -> list[Emitted]:
        """Store the low bits of a tile to a tensor's plane, in as few instructions as go."""
        tensor, origin = self._tensors[name], tile.origin.to(Purpose.STORE)
        _, _, h, w = tensor.border.around(tensor.shape)
        pixel = (tile.oy.start, tile.ox.start)
        if tile.ox.count == w and (tile.oc.count == 1 or h * w <= MAX_TRANSFER):
            # Whole rows: one run a block, all blocks in one STORE.
            runs = [
                (
                    tile.acc,
                    self._element(tensor, tile.n, tile.oc.start, *pixel, plane),
                    tile.oc.count,
                    tile.area,
                    h * w,
                )
            ]
        else:
            runs = [
                (
                    tile.acc + i * tile.area,
                    self._element(tensor, tile.n, tile.oc.start + i, *pixel, plane),
                    tile.oy.count,
                    tile.ox.count,
                    w,
                )
                for i in range(tile.oc.count)
            ]
        result = []
        for acc, dram, rows, columns, stride in runs:
            if rows == 1 or stride == columns:
                rows, columns, stride = 1, rows * columns, rows * columns
            values = {
                "memory_type": int(Memory.OUT),
                "sram_base": acc,
                **_transfer(dram, rows, columns, stride, origin),
            }
            reads = (Region("acc", acc, rows * columns),)
            writes = (Region("dram", dram, columns, rows, stride),)
            result.append(Emitted(Insn(Opcode.STORE, values, origin), reads, writes))
        return result

    def reset(self, acc: int, vectors: int, origin: Origin) -> Emitted:
        """Set `vectors` acc elements to zero."""
        emitted = self.gemm((Dim(vectors, 1, 0),), (acc, 0, 0), origin.to(Purpose.RESET))
        return replace(emitted, insn=emitted.insn.having(reset=1), reads=())

    def gemm(self, dims: Sequence[Dim], start: tuple[int, int, int], origin: Origin) -> Emitted:
        """Accumulate over a nest from elements `start` = (acc, inp, wgt)."""
        loops, uops = nest(dims, start)
        values = {
            **_loop_fields(loops),
            "wgt_factor_out": loops[0].wgt,
            "wgt_factor_in": loops[1].wgt,
        }
        acc, inp, wgt = (span(dims, operand) for operand in range(3))
        reads = (Region("inp", start[1], inp), Region("wgt", start[2], wgt))
        return Emitted(
            Insn(Opcode.GEMM, values, origin), reads, (Region("acc", start[0], acc),), uops
        )

    def alu(
        self,
        op: str,
        dims: Sequence[Dim],
        start: tuple[int, int],
        origin: Origin,
        *,
        imm: int | None = None,
    ) -> Emitted:
        """Run an ALU operation over a nest from `start` = (dst, src); `imm` replaces acc[src]."""
        loops, uops = nest(dims, (*start, 0))
        values = {
            **_loop_fields(loops),
            "alu_opcode": int(_ALU_OPS[op]),
            "use_imm": int(imm is not None),
            "imm": imm or 0,
        }
        return Emitted(
            Insn(Opcode.ALU, values, origin), (), (Region("acc", start[0], span(dims, 0)),), uops
        )


def _rectangles(
    elements: Range, height: int, width: int
) -> Iterator[tuple[int, int, int, int, int]]:
    """Cut a run of elements into (block, y, x, rows, columns), as few as go."""
    at, end = elements.start, elements.start + elements.count
    while at < end:
        block, (y, x) = at // (height * width), divmod(at % (height * width), width)
        rows = min((end - at) // width, height - y)
        rows, columns = (rows, width) if x == 0 and rows else (1, min(end - at, width - x))
        yield block, y, x, rows, columns
        at += rows * columns


def _loop_fields(loops: tuple[Dim, Dim]) -> dict[str, int]:
    outer, inner = loops
    return {
        "iter_out": outer.count,
        "iter_in": inner.count,
        "dst_factor_out": outer.dst,
        "dst_factor_in": inner.dst,
        "src_factor_out": outer.src,
        "src_factor_in": inner.src,
    }


def _transfer(dram: int, rows: int, columns: int, stride: int, origin: Origin) -> dict[str, int]:
    if max(rows, columns, stride) > MAX_TRANSFER:
        raise CapacityError(
            origin,
            f"must move at most {MAX_TRANSFER} rows and elements a row",
            got=max(rows, columns, stride),
            hint="use a smaller input",
        )
    return {"dram_base": dram, "y_size": rows, "x_size": columns, "x_stride": stride}
