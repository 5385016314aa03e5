"""Edges: what taps outside of the picture would have added, where that is not zero.

A tensor with a zero point z, such as -128, is padded with z. Taps outside of the picture take no
step, so each output lacks z times the sum of the weights of its taps there. That is a constant a
channel for all outputs that lack the same taps. Rows and columns lack taps independently, so with
w(R, C) = z · Σ of the weights of rows R and columns C of the kernel an output that lacks rows R and
columns C gets

    w(R, all) + w(all, C) - w(R, C):

a constant for the whole row, one for the whole column, and one for the corner where they meet.
GEMM adds them with the digits of bias.py, which lie beside those of the bias. Where the ALU adds
the bias, it adds one for each rectangle of the picture whose outputs lack the same taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flow.compiler.bias import register_room
from flow.compiler.borders import border_of
from flow.compiler.geometry import Axis, Range
from flow.program.layouts import constant_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flow.compiler.shapes import ConvShape
    from relay_passes.partition.layers import Layer
    from vta_config.hardware import VTAConfig


#: The part of wgt that the constants of a block's edges may fill: chunks need the rest.
EDGES_SHARE: Final = 64
#: Blocks of channels whose rectangles acc must hold at a time: loads into acc wait for all others.
HELD_BLOCKS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edge:
    """Outputs that get the same constant a channel.

    Parameters
    ----------
    rows, columns : Range
    values : int64[oc · block]
    """

    rows: Range
    columns: Range
    values: NDArray[np.int64]

    @property
    def vectors(self) -> int:
        """Its outputs of a block of channels."""
        return self.rows.count * self.columns.count

    def digits(self, config: VTAConfig, where: str) -> NDArray[np.int8]:
        """Return what GEMM adds, int8[oc, steps, block_out, block_in]."""
        return constant_digits(self.values, config, where)


class _Lack(NamedTuple):
    """Outputs along an axis, and the taps that they lack."""

    out: Range
    taps: list[int]


def edges_of(layer: Layer, shape: ConvShape, config: VTAConfig) -> tuple[Edge, ...] | None:
    """Return the constants that GEMM adds beside the bias: of rows, of columns, of corners.

    None where a border in DRAM costs less, or where numbers lie in planes: the cycles that are
    saved must be more than those that loading the constants takes, which must leave room in wgt.

    Parameters
    ----------
    layer : Layer
    shape : ConvShape
        As if it padded with zeros.
    config : VTAConfig
    """
    if not _lacks_numbers(layer, config):
        return None
    sums, edges = _Sums(layer, shape, config), []
    for rows, columns in product(*sums.lacks):
        if not rows.taps and not columns.taps:
            continue
        values = sums.both(rows.taps, columns.taps) if rows.taps and columns.taps else None
        values = sums.either(rows.taps, columns.taps) if values is None else -values
        if values.any():
            edges.append(Edge(rows=rows.out, columns=columns.out, values=values))
    steps = [edge.digits(config, layer.name).shape[1] for edge in edges]
    taken = sum(count * edge.vectors for count, edge in zip(steps, edges, strict=True))
    worth = _saved(layer, shape, config) > taken + sum(steps) * _beats(
        config.wgt_elem_bytes, config
    )
    fits = sum(steps) <= config.wgt_depth // EDGES_SHARE
    return tuple(edges) if worth and fits else None


def rectangles_of(layer: Layer, shape: ConvShape, config: VTAConfig) -> tuple[Edge, ...] | None:
    """Return what the ALU adds to the bias: rectangles that fill the picture.

    None where a border in DRAM costs less; COMPUTE waits while the constants are loaded.
    """
    if not _lacks_numbers(layer, config):
        return None
    sums = _Sums(layer, shape, config)
    rows, columns = (_filled(lacks, count) for lacks, count in zip(*sums.axes, strict=True))
    edges = tuple(
        Edge(rows=y.out, columns=x.out, values=sums.either(y.taps, x.taps))
        for y, x in product(rows, columns)
    )
    taken = 2 * len(edges) * _beats(config.acc_elem_bytes, config)
    fits = HELD_BLOCKS * len(edges) <= register_room(config)
    return edges if fits and _saved(layer, shape, config) > taken else None


def _lacks_numbers(layer: Layer, config: VTAConfig) -> bool:
    return not (border_of(layer).empty or layer.weight is None or config.narrow)


def _beats(size_bytes: int, config: VTAConfig) -> float:
    return size_bytes / config.bus_bytes


def _saved(layer: Layer, shape: ConvShape, config: VTAConfig) -> float:
    """Return the cycles that a block of output channels saves without the border."""
    area = shape.out_height * shape.out_width
    steps = (shape.ic * area * shape.taps - shape.steps) * shape.step_cycles
    _, _, height, width = border_of(layer).around(layer.in_shape)
    spared = (height * width - shape.height * shape.width) * config.inp_elem_bytes
    return steps + shape.ic * _beats(spared, config) / shape.oc


class _Sums:
    """What the taps of a layer would have added outside of the picture."""

    def __init__(self, layer: Layer, shape: ConvShape, config: VTAConfig) -> None:
        """Add up the weights of each tap, and find the outputs that lack some."""
        assert layer.weight is not None
        self._taps = layer.pad_value * layer.weight.astype(np.int64).sum(1)
        self._lanes = shape.oc * config.block
        counts = (shape.out_height, shape.out_width)
        lacks = [_lacking(shape.axis(Range(0, n), axis)) for axis, n in enumerate(counts)]
        self.axes = (lacks, counts)
        #: By axis, beside all outputs those that lack taps.
        self.lacks = [[_Lack(Range(0, n), []), *of] for of, n in zip(lacks, counts, strict=True)]

    def both(self, rows: list[int], columns: list[int]) -> NDArray[np.int64]:
        """Return the sums of the taps that lie in these rows and in these columns."""
        return self._padded(self._taps[:, rows][:, :, columns])

    def either(self, rows: list[int], columns: list[int]) -> NDArray[np.int64]:
        """Return the sums of the taps that lie in these rows or in these columns."""
        inside = np.delete(np.delete(self._taps, rows, 1), columns, 2)
        return self._padded(self._taps) - self._padded(inside)

    def _padded(self, taps: NDArray[np.int64]) -> NDArray[np.int64]:
        lanes = np.zeros(self._lanes, np.int64)
        lanes[: len(taps)] = taps.sum((1, 2))
        return lanes


def _filled(lacks: list[_Lack], count: int) -> Iterator[_Lack]:
    """Yield the runs of all outputs, those that lack nothing as well."""
    at = 0
    for lack in [*lacks, _Lack(Range(count, 0), [])]:
        if lack.out.start > at:
            yield _Lack(Range(at, lack.out.start - at), [])
        if lack.out.count:
            yield lack
        at = sum(lack.out)


def _lacking(axis: Axis) -> list[_Lack]:
    """Return the runs of outputs that lack the same taps."""
    result: list[_Lack] = []
    for out in range(axis.out.count):
        first = out * axis.stride + axis.offset
        taps = [t for t in range(axis.kernel) if not 0 <= first + t * axis.dilation < axis.size]
        if taps and result and sum(result[-1].out) == out and result[-1].taps == taps:
            before = result.pop().out
            result.append(_Lack(Range(before.start, before.count + 1), taps))
        elif taps:
            result.append(_Lack(Range(out, 1), taps))
    return result
