"""Pools over whole feature maps as pools over windows, and averages whose padding is in numbers.

- GlobalMaxPool, and ReduceMax over rows and columns, become MaxPools, one after the other where the
  map is large: a maximum of maxima.
- ReduceMean and ReduceMax over rows or columns alone become pools of one row or column.
- ``ceil_mode`` of an AveragePool becomes padding that is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from onnx import TensorProto, helper

#: Rows and columns of a MaxPool's window that stands for a larger one.
_MOST: Final = 8
#: The first version of the operators in which a Pad's widths are an input.
_PADS_ARE_INPUTS: Final = 11


def global_max(node: Any, shape: Sequence[int], output: str) -> list[Any]:
    """Return MaxPools that take the maximum of each channel of [N, C, H, W] into [N, C, 1, 1]."""
    rows, columns = shape[2:]
    nodes: list[Any] = []
    source = node.input[0]
    while rows * columns > 1 or not nodes:
        kernel = min(rows, _MOST), min(columns, _MOST)
        pads = [0, 0, -rows % kernel[0], -columns % kernel[1]]
        rows, columns = -(-rows // kernel[0]), -(-columns // kernel[1])
        made = output if rows * columns == 1 else f"{output}.max{len(nodes)}"
        name = f"{node.name}.max{len(nodes)}" if nodes else node.name
        nodes.append(
            helper.make_node(
                "MaxPool", [source], [made], name, kernel_shape=kernel, strides=kernel, pads=pads
            )
        )
        source = made
    return nodes


def along_axis(node: Any, axis: int, shape: Sequence[int]) -> list[Any]:
    """Return the pool of one column (axis 2) or one row (3) that a ReduceMean or ReduceMax is."""
    kernel = (shape[2], 1) if axis == 2 else (1, shape[3])
    kind = "AveragePool" if node.op_type == "ReduceMean" else "MaxPool"
    return [helper.make_node(kind, node.input[:1], node.output, node.name, kernel_shape=kernel)]


def without_ceil_mode(
    node: Any,
    attributes: Mapping[str, Any],
    pads: Sequence[int],
    ceil_pads: Sequence[int],
    version: int,
) -> list[Any]:
    """Return an AveragePool without ``ceil_mode``.

    Parameters
    ----------
    node : onnx.NodeProto
    attributes : mapping
        Its own, without those that say how it is padded.
    pads : sequence of int
        [top, left, bottom, right] that the node has.
    ceil_pads : sequence of int
        The same with what windows take that go beyond the end: that is never counted.
    version : int
        The version of the operators.
    """
    kept = {k: v for k, v in attributes.items() if k != "count_include_pad"}

    def pool(source: str, sides: Sequence[int], **options: Any) -> Any:
        options |= {**kept, "pads": list(sides)}
        return helper.make_node("AveragePool", [source], node.output, node.name, **options)

    if not (attributes.get("count_include_pad", 0) and any(pads)):
        return [pool(node.input[0], ceil_pads)]
    if list(pads) == list(ceil_pads):
        return [pool(node.input[0], pads, count_include_pad=1)]
    padded, widths = f"{node.output[0]}.padded", f"{node.output[0]}.pads"
    beyond = [after - before for before, after in zip(pads, ceil_pads, strict=True)]
    sides = [0, 0, *pads[:2], 0, 0, *pads[2:]]
    if version < _PADS_ARE_INPUTS:
        pad = [helper.make_node("Pad", node.input[:1], [padded], f"{node.name}.pad", pads=sides)]
    else:
        value = helper.make_tensor(widths, TensorProto.INT64, [8], sides)
        pad = [
            helper.make_node("Constant", [], [widths], value=value),
            helper.make_node("Pad", [node.input[0], widths], [padded], f"{node.name}.pad"),
        ]
    return [*pad, pool(padded, beyond)]
