"""Bring a model's input to one form: float32, of one static shape, channels first.

What the file says stays what users give: pictures and tensors in the file's own layout. A model
that takes [N, H, W, C] gets a Transpose in front, which `flow.frontend.transposes` folds away; one
of float16 or float64 numbers becomes one of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vta_config.errors import UnsupportedModelError

Layout: TypeAlias = Literal["NCHW", "NHWC"]
LAYOUTS: Final[tuple[Layout, ...]] = ("NCHW", "NHWC")
#: From a tensor of channels last to one of channels first, and back.
TO_NCHW: Final = (0, 3, 1, 2)
TO_NHWC: Final = (0, 2, 3, 1)
FLOAT: Final = onnx.TensorProto.FLOAT
#: Types of floats that become float32.
_OTHER_FLOATS: Final = frozenset(
    {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
)
#: Operators that an image may go through before it is transposed.
_ELEMENTWISE: Final = frozenset({"Add", "Sub", "Mul", "Div", "Cast", "Identity", "Pad", "Clip"})
#: Most dimensions of an input.
MOST_DIMS: Final = 5


def use_float32(proto: Any) -> None:
    """Make float32 of all floats of a model, in place.

    An input of integers that is only cast to floats becomes an input of floats, too.
    """
    graph = proto.graph
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        if kind.elem_type in _OTHER_FLOATS:
            kind.elem_type = FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in _OTHER_FLOATS:
                attribute.i = FLOAT
            if attribute.HasField("t"):
                _widen(attribute.t)
    for value in graph.input:
        _take_floats(graph, value)
    _drop_casts(proto)


def _drop_casts(proto: Any) -> None:
    """Make Identity of Casts from float32 to float32, which were between two kinds of floats."""
    casts = [n for n in proto.graph.node if n.op_type == "Cast" and _cast_to(n) == FLOAT]
    if not casts:
        return
    typed = onnx.shape_inference.infer_shapes(proto).graph
    floats = {
        value.name
        for value in (*typed.input, *typed.value_info, *typed.output)
        if value.type.tensor_type.elem_type == FLOAT
    }
    for node in casts:
        if node.input[0] in floats:
            node.op_type = "Identity"
            del node.attribute[:]


def _widen(tensor: Any) -> None:
    """Make float32 of a tensor of other floats."""
    if tensor.data_type in _OTHER_FLOATS:
        with np.errstate(over="ignore"):
            values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _take_floats(graph: Any, value: Any) -> None:
    """Make an input of integers one of floats, where nothing but a Cast to floats reads it."""
    kind = value.type.tensor_type
    readers = [node for node in graph.node if value.name in node.input]
    if kind.elem_type == FLOAT or not readers:
        return
    if all(node.op_type == "Cast" and _cast_to(node) == FLOAT for node in readers):
        kind.elem_type = FLOAT
        for node in readers:
            node.op_type = "Identity"
            del node.attribute[:]


def _cast_to(node: Any) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "to"), 0)


def set_input_shape(proto: Any, shape: Sequence[int], where: str) -> None:
    """Give the input the shape that the user wants, in place.

    Raises
    ------
    UnsupportedModelError
        When the file has another one.
    """
    value = proto.graph.input[0]
    dims = value.type.tensor_type.shape.dim
    shown = [dim.dim_value or dim.dim_param or "?" for dim in dims]
    known = value.type.tensor_type.HasField("shape")
    fits = not known or (
        len(dims) == len(shape)
        and all(d.dim_value in (n, 0) or d.dim_value < 0 for d, n in zip(dims, shape, strict=True))
    )
    if not fits or not 1 <= len(shape) <= MOST_DIMS or min(shape) < 1:
        raise UnsupportedModelError(
            f"{where} input {value.name}",
            f"must have the shape that --input-shape gives, {list(shape)}",
            got=shown if known else "no shape",
            hint=f"give 1 to {MOST_DIMS} numbers from 1 on, those that the file has among them",
        )
    made = helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, list(shape))
    value.CopyFrom(made)
    del proto.graph.value_info[:]
    for output in proto.graph.output:  # theirs may depend on it
        for dim in output.type.tensor_type.shape.dim:
            if not dim.dim_value > 0:
                dim.Clear()


def layout_of(proto: Any) -> Layout:
    """Return the layout of a model's image: NHWC where it is transposed to NCHW and not used else.

    Arithmetic with constants may come before.
    """
    graph = proto.graph
    if len(graph.input[0].type.tensor_type.shape.dim) != len(TO_NCHW):
        return "NCHW"
    names, found = {graph.input[0].name}, False
    for node in graph.node:
        if names.isdisjoint(node.input):
            continue
        if node.op_type == "Transpose" and tuple(_permutation(node)) == TO_NCHW:
            found = True
        elif node.op_type in _ELEMENTWISE:
            names.update(node.output)
        elif node.op_type != "Shape":
            return "NCHW"
    return "NHWC" if found else "NCHW"


def _permutation(node: Any) -> Iterator[int]:
    return (int(i) for a in node.attribute if a.name == "perm" for i in a.ints)


def take_channels_first(proto: Any, layout: Layout) -> None:
    """Put a Transpose in front of a model that takes channels last, in place."""
    if layout == "NCHW":
        return
    graph = proto.graph
    value = graph.input[0]
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    name = f"{value.name}.nchw"
    while name in taken:
        name = f"{name}_"
    node = helper.make_node("Transpose", [name], [value.name], f"{name}.back", perm=TO_NHWC)
    graph.node.insert(0, node)
    shape = [dims[axis] for axis in TO_NCHW]
    value.CopyFrom(helper.make_tensor_value_info(name, FLOAT, shape))
