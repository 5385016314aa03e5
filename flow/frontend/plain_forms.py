"""Operators that are others in another form, which TVM's importer and the passes know.

- A Gemm with ``alpha`` and ``beta`` has them in its constants.
- A Mean of several tensors is their sum times 1/n.
- A ReduceSum over rows and columns is their mean times their number.
- A ReduceMean or ReduceSum over channels is a 1×1 convolution.
- A ReduceMean along one axis that does not keep it is one that does, and a Reshape.
- A Tile is a Concat of copies, and of what is 1 an Expand.
- A MatMul with a stack of one matrix is one with the matrix.
- A Pad of some axes is one of all, and one that cuts off is a Slice first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from onnx import helper, numpy_helper

from flow.frontend.onnx_nodes import attributes_of, integers_of
from flow.frontend.onnx_shapes import Shapes

#: The most copies that a Tile puts side by side along an axis.
_MOST_COPIES: Final = 64
_RANK: Final = 4
_MATRIX: Final = 2
#: The first version of the operators in which a Slice reads its numbers.
_SLICE_BY_INPUTS: Final = 10


class Plain(NamedTuple):
    """The nodes that stand for one, and the constants that they bring."""

    nodes: list[Any]
    tensors: list[Any]


def plain_form(node: Any, shapes: Shapes, constants: Mapping[str, Any], opset: int) -> Plain | None:
    """Return what a node is in another form, None where it stays.

    Parameters
    ----------
    node : onnx.NodeProto
        Of one of `PLAIN`.
    shapes : mapping
        Of the tensors.
    constants : mapping
        Name -> tensor of what is constant.
    opset : int
        Version of the default operator set.
    """
    return None if node.domain else PLAIN[node.op_type](node, shapes, constants, opset)


def _gemm(node: Any, shapes: Shapes, constants: Mapping[str, Any], opset: int) -> Plain | None:
    attributes = attributes_of(node)
    factors = attributes.pop("alpha", 1.0), attributes.pop("beta", 1.0)
    scaled = {
        place: factor
        for place, factor in zip((1, 2), factors, strict=True)
        if factor != 1.0 and len(node.input) > place and node.input[place]
    }
    if not scaled or any(constants.get(node.input[place]) is None for place in scaled):
        return None
    inputs, tensors = [*node.input], []
    for place, factor in scaled.items():
        value = numpy_helper.to_array(constants[node.input[place]])
        name = f"{node.output[0]}.scaled{place}"
        # A layer is called after its weight, however it is scaled.
        if place == 1:
            name = f"{node.input[place].removesuffix('.weight')}.scaled.weight"
        tensors.append(numpy_helper.from_array((value * factor).astype(value.dtype), name))
        inputs[place] = name
    made = helper.make_node("Gemm", inputs, node.output, node.name, **attributes)
    return Plain([made], tensors)


def _mean(node: Any, shapes: Shapes, constants: Mapping[str, Any], opset: int) -> Plain | None:
    count, output = len(node.input), node.output[0]
    total = f"{output}.total"
    factor = numpy_helper.from_array(np.float32(1 / count), f"{output}.share")
    sums = helper.make_node("Sum", node.input, [total], f"{node.name}.total")
    return Plain(
        [sums, helper.make_node("Mul", [total, factor.name], node.output, node.name)], [factor]
    )


def _reduced(node: Any, shapes: Shapes, constants: Mapping[str, Any], opset: int) -> Plain | None:
    shape, attributes = shapes.get(node.input[0], ()), attributes_of(node)
    axes = sorted(int(axis) % _RANK for axis in integers_of(node, "axes", constants) or ())
    output, keeps = node.output[0], bool(attributes.get("keepdims", 1))
    if len(shape) != _RANK:
        return None
    if axes == [1] and keeps:
        channels = shape[1]
        share = 1 / channels if node.op_type == "ReduceMean" else 1.0
        weight = np.full((1, channels, 1, 1), share, np.float32)
        tensor = numpy_helper.from_array(weight, f"{output}.weight")
        made = helper.make_node("Conv", [node.input[0], tensor.name], [output], node.name)
        return Plain([made], [tensor])
    if len(axes) == 1 and not keeps and node.op_type == "ReduceMean":
        return _flattened(node, shape, axes[0])
    if axes != [2, 3] or node.op_type != "ReduceSum":
        return None
    count = numpy_helper.from_array(np.float32(shape[2] * shape[3]), f"{output}.pixels")
    mean, total = f"{output}.mean", output if keeps else f"{output}.total"
    nodes = [
        helper.make_node("GlobalAveragePool", node.input[:1], [mean], f"{node.name}.mean"),
        helper.make_node("Mul", [mean, count.name], [total], node.name),
    ]
    if not keeps:
        nodes.append(helper.make_node("Flatten", [total], [output], f"{node.name}.flat"))
    return Plain(nodes, [count])


def _flattened(node: Any, shape: Sequence[int], axis: int) -> Plain:
    """Return a mean along an axis that keeps it, and a Reshape."""
    output = node.output[0]
    attributes = {**attributes_of(node), "keepdims": 1}
    size = np.asarray([n for i, n in enumerate(shape) if i != axis], np.int64)
    tensor = numpy_helper.from_array(size, f"{output}.shape")
    mean = f"{output}.mean"
    nodes = [
        helper.make_node(node.op_type, node.input, [mean], node.name, **attributes),
        helper.make_node("Reshape", [mean, tensor.name], [output], f"{node.name}.shape"),
    ]
    return Plain(nodes, [tensor])


def _tile(node: Any, shapes: Shapes, constants: Mapping[str, Any], opset: int) -> Plain | None:
    shape, repeats = shapes.get(node.input[0], ()), integers_of(node, "repeats", constants)
    if repeats is None or len(repeats) != len(shape) or min(repeats, default=1) < 1:
        return None
    times = [int(n) for n in repeats]
    copied = [a for a, n in enumerate(times) if n > 1 and shape[a] > 1]
    if any(times[axis] > _MOST_COPIES for axis in copied):
        return None
    nodes, tensors, source = [], [], node.input[0]
    for axis in copied:
        made = f"{node.output[0]}.axis{axis}"
        nodes.append(helper.make_node("Concat", [source] * times[axis], [made], axis=axis))
        source = made
    if any(n > 1 for a, n in enumerate(times) if a not in copied):
        whole = [n * size for n, size in zip(times, shape, strict=True)]
        tensors.append(numpy_helper.from_array(np.asarray(whole), f"{node.output[0]}.shape"))
        nodes.append(helper.make_node("Expand", [source, tensors[0].name], node.output))
    elif nodes:
        nodes[-1].output[0] = node.output[0]
    else:
        nodes = [helper.make_node("Identity", [source], node.output)]
    nodes[-1].name = node.name
    return Plain(nodes, tensors)


def _pad(node: Any, shapes: Shapes, constants: Mapping[str, Any], opset: int) -> Plain | None:
    shape, widths = shapes.get(node.input[0], ()), integers_of(node, "pads", constants)
    axes = integers_of(node, "axes", constants, place=3)
    given = len(node.input) > 3 and node.input[3]
    if widths is None or not shape or opset < _SLICE_BY_INPUTS + 1 or (given and axes is None):
        return None
    numbers = [int(n) for n in widths]
    if axes is not None and given:
        full = [0] * (2 * len(shape))
        for place, axis in enumerate(int(a) % len(shape) for a in axes):
            full[axis], full[axis + len(shape)] = numbers[place], numbers[place + len(axes)]
        numbers = full
    elif min(numbers, default=0) >= 0:
        return None
    if len(numbers) != 2 * len(shape):
        return None
    return _cut_and_padded(node, shape, numbers)


def _cut_and_padded(node: Any, shape: Sequence[int], numbers: Sequence[int]) -> Plain:
    """Return a Slice of what is cut off, and a Pad of what is added."""
    output, rank, source = node.output[0], len(shape), node.input[0]
    nodes, tensors = [], []

    def tensor(values: Sequence[int], name: str) -> str:
        tensors.append(numpy_helper.from_array(np.asarray(values, np.int64), f"{output}.{name}"))
        return str(tensors[-1].name)

    if min(numbers) < 0:
        starts = [max(-n, 0) for n in numbers[:rank]]
        ends = [size - max(-n, 0) for size, n in zip(shape, numbers[rank:], strict=True)]
        cut = f"{output}.cut"
        inputs = [source, tensor(starts, "starts"), tensor(ends, "ends")]
        nodes.append(helper.make_node("Slice", inputs, [cut], f"{node.name}.cut"))
        source = cut
    widths = [max(n, 0) for n in numbers]
    if any(widths) or not nodes:
        inputs = [source, tensor(widths, "widths"), *node.input[2:3]]
        attributes = attributes_of(node)
        nodes.append(helper.make_node("Pad", inputs, [output], node.name, **attributes))
    else:
        nodes[-1].output[0] = output
        nodes[-1].name = node.name
    return Plain(nodes, tensors)


def _matmul(node: Any, shapes: Shapes, constants: Mapping[str, Any], opset: int) -> Plain | None:
    weight, output = constants.get(node.input[1]), node.output[0]
    before, after = shapes.get(node.input[0], ()), shapes.get(output, ())
    if weight is None or len(weight.dims) <= _MATRIX or max(weight.dims[:-2]) > 1 or not after:
        return None
    value = numpy_helper.to_array(weight).reshape(weight.dims[-2:])
    name = f"{node.input[1].removesuffix('.weight')}.matrix.weight"
    tensors = [numpy_helper.from_array(value, name)]
    whole = len(before) == len(after)
    product = output if whole else f"{output}.product"
    nodes = [helper.make_node("MatMul", [node.input[0], name], [product], node.name)]
    if not whole:
        tensors.append(numpy_helper.from_array(np.asarray(after, np.int64), f"{output}.shape"))
        inputs = [product, tensors[-1].name]
        nodes.append(helper.make_node("Reshape", inputs, [output], f"{node.name}.shape"))
    return Plain(nodes, tensors)


#: By operator: (node, shapes, constants, version of the operators) -> its form, None for its own.
PLAIN: Final[Mapping[str, Callable[[Any, Shapes, Mapping[str, Any], int], Plain | None]]] = {
    "Gemm": _gemm,
    "Mean": _mean,
    "ReduceMean": _reduced,
    "ReduceSum": _reduced,
    "Tile": _tile,
    "Pad": _pad,
    "MatMul": _matmul,
}


def needs_shapes(node: Any) -> bool:
    """Whether `plain_form` asks for the shape of what a node reads."""
    return node.op_type not in ("Gemm", "Mean")
