"""Nearest-neighbour Resize and Upsample as two Gathers, where TVM's importer reads them otherwise.

TVM computes coordinates from the sizes of the tensors, ONNX from the scale that the file gives:
they differ where the scale gives no whole size. Before operator set 11, TVM has no Resize at all,
and an Upsample whose scales are an attribute, as in operator set 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flow.frontend.onnx_nodes import attributes_of
from flow.frontend.onnx_session import OnnxSession

#: The operator set that brought today's form of Resize.
_TODAYS: Final = 11


def resized(
    node: Any, shape: tuple[int, ...], constants: Mapping[str, Any], opset: int
) -> tuple[list[Any], list[Any]]:
    """Return what a Resize or Upsample becomes, and the constants that it brings.

    Parameters
    ----------
    node : onnx.NodeProto
        Of operator Resize or Upsample.
    shape : tuple of int
        Of its input.
    constants : mapping
        Name -> tensor of what is constant.
    opset : int
        Version of the default operator set.
    """
    node = _without_empty(node, constants)
    attributes = attributes_of(node)
    scales = attributes.get("scales")
    place = 1 if opset < _TODAYS else 2
    if len(node.input) > place and node.input[place] in constants:
        scales = numpy_helper.to_array(constants[node.input[place]]).reshape(-1)
    mode = attributes.get("mode", b"nearest")
    whole = (
        scales is not None
        and len(scales) == len(shape)
        and all(float(n * s).is_integer() for n, s in zip(shape, scales, strict=True))
    )
    if whole and attributes.get("coordinate_transformation_mode") == b"half_pixel_symmetric":
        attributes["coordinate_transformation_mode"] = b"half_pixel"  # the same then
        node = helper.make_node(node.op_type, node.input, node.output, node.name, **attributes)
    if scales is None or {len(shape), len(scales)} != {4} or tuple(scales[:2]) != (1, 1):
        return [node], []
    if mode != b"nearest":
        if opset < _TODAYS:  # TVM reads scales as an attribute, also where they are an input
            scale = [float(s) for s in scales]
            form = {"mode": mode, "scales": scale}
            node = helper.make_node("Upsample", node.input, node.output, node.name, **form)
        return [node], []
    if opset >= _TODAYS and all(
        float(n * s).is_integer() for n, s in zip(shape, scales, strict=True)
    ):
        return [node], []
    indices = _indices(node, shape, constants, opset)
    if indices is None:
        return [node], []
    output = node.output[0]
    names = [f"{output}.rows", f"{output}.columns"]
    between = f"{output}.resized"
    nodes = [
        helper.make_node("Gather", [node.input[0], names[0]], [between], node.name, axis=2),
        helper.make_node("Gather", [between, names[1]], [output], f"{node.name}.columns", axis=3),
    ]
    return nodes, [numpy_helper.from_array(i, n) for i, n in zip(indices, names, strict=True)]


def _without_empty(node: Any, constants: Mapping[str, Any]) -> Any:
    """Leave out inputs that are tensors of nothing: another input says the size."""
    inputs = [
        "" if name in constants and 0 in constants[name].dims else name for name in node.input
    ]
    attributes = attributes_of(node)
    return helper.make_node(node.op_type, inputs, node.output, node.name, **attributes)


def _indices(
    node: Any, shape: tuple[int, ...], constants: Mapping[str, Any], opset: int
) -> list[Any] | None:
    """Ask ONNX Runtime which row and column each row and column of the result comes from."""
    grid = np.mgrid[: shape[2], : shape[3]].astype(np.float32)[np.newaxis]
    results = []
    for axis in (0, 1):
        graph = helper.make_graph(
            [node],
            "indices",
            [helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)],
            [onnx.ValueInfoProto(name=node.output[0])],
            [constants[name] for name in node.input[1:] if name in constants],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        try:
            feed = {node.input[0]: grid[:, axis : axis + 1]}
            (result,) = OnnxSession(model).run([node.output[0]], feed)
        except Exception:  # ONNX Runtime has no base class of its errors; the node stays
            return None
        results.append(result[0, 0, :, 0] if axis == 0 else result[0, 0, 0, :])
    return [result.astype(np.int64) for result in results]
