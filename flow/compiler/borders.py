"""Borders: what a padding layer reads of a tensor in DRAM where zeros would be the wrong number.

LOAD pads with zeros. A tensor with a zero point, such as -128, is padded with that number instead,
so it lies in DRAM with a border of it. The border is there before the program first runs: layers
store only what is inside, and no other tensor ever lies there but those with the same border. A
layer that pads then reads a larger picture without padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flow.program.layouts import NO_BORDER, Border, Fill
from vta_config.errors import CapacityError
from vta_config.lanes import pack_lanes, split_planes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from flow.program.layouts import DramTensor
    from relay_passes.partition.layers import Layer, Subgraph
    from vta_config.hardware import VTAConfig


def border_of(layer: Layer) -> Border:
    """Return the border that a layer reads around its input; none where it pads with zeros.

    Rows and columns that a stride skips at the end do not count.
    """
    if not (layer.pad_value and any(layer.padding)):
        return NO_BORDER
    top, left = layer.padding[:2]
    bottom, right = (
        (layer.out_shape[2 + axis] - 1) * layer.stride[axis]
        + (layer.kernel[axis] - 1) * layer.dilation[axis]
        + 1
        - before
        - layer.in_shape[2 + axis]
        for axis, before in enumerate((top, left))
    )
    return Border(top, left, max(0, bottom), max(0, right), layer.pad_value)


def tensor_borders(
    subgraph: Subgraph, arranged: Collection[str], without: Collection[str] = ()
) -> dict[str, Border]:
    """Return the borders of tensors by name, each as wide as its widest reader needs.

    Parameters
    ----------
    subgraph : Subgraph
    arranged : collection of str
        Inputs that lie in a form of their own, padding included.
    without : collection of str
        Layers that read none (edges.py).

    Raises
    ------
    CapacityError
        When two layers pad a tensor with different numbers, neither of them 0.
    """
    borders: dict[str, Border] = {}
    for name, layer in _readers(subgraph):
        border = border_of(layer)
        if name in arranged or layer.name in without or border.empty:
            continue
        known = borders.get(name, border)
        if known.value != border.value:
            raise CapacityError(
                f"{layer.name}: {name}",
                f"must be padded with {known.value}, as by another layer that reads it",
                got=border.value,
                hint="give the tensor one zero point",
            )
        borders[name] = known.joined(border)
    return borders


def border_fills(
    subgraph: Subgraph, tensors: Mapping[str, DramTensor], config: VTAConfig
) -> tuple[Fill, ...]:
    """Return what fills the places of tensors with borders, each place once.

    The host writes the borders of inputs.
    """
    given = {spec.name for spec in subgraph.inputs}
    fills: dict[int, Fill] = {}
    for tensor in tensors.values():
        if tensor.border.empty or tensor.name in given:
            continue
        number = np.full((1, 2), tensor.border.value, np.int8)
        digits = split_planes(number, tensor.planes, config.inp_bits, tensor.name)
        for plane, digit in enumerate(digits):
            address = tensor.address + plane * tensor.plane_bytes
            (byte, *_) = pack_lanes(digit, config.inp_bits).ravel()
            fills[address] = Fill(address=address, size_bytes=tensor.plane_bytes, byte=int(byte))
    return tuple(fills[address] for address in sorted(fills))


def _readers(subgraph: Subgraph) -> Iterator[tuple[str, Layer]]:
    """Yield what each layer and each of its summands convolves, and that layer."""
    for layer in subgraph.layers:
        for part in (layer, *layer.summands):
            yield part.inputs[0], part
