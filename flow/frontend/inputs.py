"""Bring a model's inputs to one form: float32, of one static shape, channels first.

What the file says stays what users give: pictures and tensors in the file's own layout. A model
that takes [N, H, W, C] gets a Transpose in front, which `flow.frontend.transposes` folds away; one
of float16 or float64 numbers becomes one of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """One input of a model.

    Parameters
    ----------
    name : str
        Of the ONNX input.
    shape : tuple of int
        As the passes take it, beginning with 1: [1, C, H, W] for images.
    file_shape : tuple of int
        As the file has it.
    layout : {"NCHW", "NHWC"}
        Of images in the file.
    """

    name: str
    shape: tuple[int, ...]
    file_shape: tuple[int, ...]
    layout: Layout


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
    """Make Identity of Casts from a type to the same type.

    Those of float32 were between two kinds of floats; PyTorch writes some of uint8 behind its
    QuantizeLinears.
    """
    casts = [n for n in proto.graph.node if n.op_type == "Cast"]
    if not casts:
        return
    typed = onnx.shape_inference.infer_shapes(proto).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*typed.input, *typed.value_info, *typed.output)
    }
    for node in casts:
        if types.get(node.input[0]) == _cast_to(node):
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


def set_input_shapes(proto: Any, shapes: Mapping[str, Sequence[int]], where: str) -> None:
    """Give inputs the shapes that the user wants, in place; the name of a single one may be "".

    Raises
    ------
    UnsupportedModelError
        When the file has another one, or no such input.
    """
    if not shapes:
        return
    inputs = {value.name: value for value in proto.graph.input}
    for name, shape in shapes.items():
        value = inputs.get(name)
        if not name and len(inputs) == 1:
            value = next(iter(inputs.values()))
        if value is None:
            raise UnsupportedModelError(
                where,
                "must have the inputs that --input-shape names",
                got=f"no {name}" if name else f"a shape without a name for {len(inputs)} inputs",
                hint=f"give NAME=SHAPE for inputs among {', '.join(inputs)}",
            )
        _set_shape(value, shape, where)
    del proto.graph.value_info[:]
    for output in proto.graph.output:  # theirs may depend on it
        for dim in output.type.tensor_type.shape.dim:
            if not dim.dim_value > 0:
                dim.Clear()


def _set_shape(value: Any, shape: Sequence[int], where: str) -> None:
    """Give an input a shape, in place."""
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


def layout_of(graph: Any, value: Any) -> Layout:
    """Return the layout of a graph's input: NHWC where it is transposed to NCHW and not used else.

    Arithmetic with constants may come before.
    """
    if len(value.type.tensor_type.shape.dim) != len(TO_NCHW):
        return "NCHW"
    names, found = {value.name}, False
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


def take_channels_first(graph: Any, value: Any) -> None:
    """Put a Transpose behind an input that has channels last, in place."""
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    name = f"{value.name}.nchw"
    while name in taken:
        name = f"{name}_"
    node = helper.make_node("Transpose", [name], [value.name], f"{name}.back", perm=TO_NHWC)
    graph.node.insert(0, node)
    shape = [dims[axis] for axis in TO_NCHW]
    value.CopyFrom(helper.make_tensor_value_info(name, FLOAT, shape))
