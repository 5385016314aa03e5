"""Kernels without the taps that no output reads inside the picture.

A 3 × 3 kernel with padding 1 on a picture of 1 × 1 multiplies it by its middle tap only: the others
always lie on the padding. They take no GEMM step in any case; here their weights go, too, which
would be loaded in vain. What they add where padding is not zero is a constant for each channel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from flow.compiler.geometry import Axis, Range
from relay_passes.partition.layers import PostOp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from relay_passes.partition.layers import Layer, Subgraph


def read_taps(layer: Layer, axis: int) -> Range:
    """Return the taps of a kernel's axis (0: rows) without those at its ends that none reads.

    Where a tap goes, the padding shrinks by a dilation: so as many stay as keep it from 0 on.
    """
    kernel, dilation = layer.kernel[axis], layer.dilation[axis]
    before, after = layer.padding[axis], layer.padding[2 + axis]
    outputs = Axis(
        out=Range(0, layer.out_shape[2 + axis]),
        stride=layer.stride[axis],
        offset=-before,
        kernel=kernel,
        dilation=dilation,
        size=layer.in_shape[2 + axis],
    ).outputs()
    read = [tap for tap, count in enumerate(outputs) if count]
    if not read:
        return Range(0, kernel)
    first = min(read[0], before // dilation)
    end = max(read[-1] + 1, kernel - after // dilation)
    return Range(first, end - first)


def without_unread_taps(layer: Layer) -> Layer:
    """Return a layer that adds up the same, its kernel and its summands' cut to what is read."""
    parts = (layer, *layer.summands)
    (own, constant), *further = map(_cut, parts)
    if all(cut is part for cut, part in zip((own, *(f for f, _ in further)), parts, strict=True)):
        return layer
    total = sum((added for _, added in further), constant)
    post_ops = layer.post_ops
    if total.any():
        post_ops = (PostOp(op="add", value=total.astype(np.int32)), *post_ops)
    return replace(own, summands=tuple(cut for cut, _ in further), post_ops=post_ops)


def with_read_taps(subgraph: Subgraph) -> Subgraph:
    """Return a subgraph whose layers have no taps that nothing reads."""
    return replace(subgraph, layers=tuple(map(without_unread_taps, subgraph.layers)))


def _cut(layer: Layer) -> tuple[Layer, NDArray[np.int64]]:
    """Return a layer without unread taps, and what they add to each channel, int64[C]."""
    none = np.zeros(layer.out_shape[1], np.int64)
    if layer.weight is None or not any(layer.padding):
        return layer, none
    rows, columns = (read_taps(layer, axis) for axis in (0, 1))
    kernel = (rows.count, columns.count)
    if kernel == layer.kernel:
        return layer, none
    weight = layer.weight[:, :, rows.start : sum(rows), columns.start : sum(columns)]
    gone = layer.weight.sum((1, 2, 3), np.int64) - weight.sum((1, 2, 3), np.int64)
    padding = [
        pad - taps * dilation
        for pad, taps, dilation in zip(
            layer.padding,
            (
                rows.start,
                columns.start,
                layer.kernel[0] - sum(rows),
                layer.kernel[1] - sum(columns),
            ),
            layer.dilation * 2,
            strict=True,
        )
    ]
    top, left, bottom, right = padding
    cut = replace(
        layer,
        weight=np.ascontiguousarray(weight),
        kernel=kernel,
        padding=(top, left, bottom, right),
    )
    return cut, layer.pad_value * gone
