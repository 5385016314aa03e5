"""Shapes of an ONNX graph, what it costs, and its constants computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flow.frontend.onnx_checks import QDQ, node_label
from flow.frontend.onnx_file import Limits
from flow.frontend.onnx_nodes import set_nodes
from flow.frontend.onnx_session import OnnxSession
from vta_config.errors import UnsupportedModelError

#: Tensor name -> shape; tensors of which a dimension is not known are missing.
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
#: Constants up to here may be shapes, and shape inference sees their values.
_SMALL_ELEMS: Final = 1024
_ROUNDS: Final = 32
_RANDOM: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"}
    | {"Multinomial", "Dropout"}
)


def infer_shapes(proto: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor for which it is known, constants and input included.

    Parameters
    ----------
    proto : onnx.ModelProto
        Of one static input; not changed.

    Raises
    ------
    UnsupportedModelError
        When a tensor is empty, or the operators do not fit each other.
    """
    graph = proto.graph
    light = onnx.ModelProto()
    light.ir_version = proto.ir_version
    light.opset_import.extend(proto.opset_import)
    light.graph.name = "shapes"
    light.graph.input.extend(graph.input)
    light.graph.output.extend(onnx.ValueInfoProto(name=v.name) for v in graph.output)
    light.graph.node.extend(graph.node)
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _SMALL_ELEMS:
            light.graph.initializer.append(tensor)
        else:  # weights need not be copied for their shape
            light.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    try:
        inferred = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        # Strict mode refuses some valid models; what it says of the others is worth no crash.
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    return shapes


def check_costs(
    proto: Any, shapes: Shapes, limits: Limits, where: str, *, folded: bool = True
) -> None:
    """Check what one image takes, before anything runs.

    With `folded`, no tensor may be empty: constants that are still to be folded may, as the part of
    a shape before its first dimension.

    Raises
    ------
    UnsupportedModelError
        When a tensor is empty or too large, or there are too many multiplications.
    """
    total = 0
    for index, node in enumerate(proto.graph.node):
        place = f"{where} node {node_label(node, index)}"
        for output in node.output:
            if (shape := shapes.get(output)) is None:
                continue
            if folded and (min(shape, default=1) < 0 or (shape and math.prod(shape) == 0)):
                raise UnsupportedModelError(
                    place,
                    "must compute a tensor with at least one element",
                    got=f"shape {list(shape)}",
                    hint="use a larger image, or correct the export",
                )
            limits.check(place, "bytes", 4 * math.prod(shape), limits.tensor_bytes)
        total += multiplications(node, shapes)
    limits.check(where, "multiplications", total, limits.multiplications)


def multiplications(node: Any, shapes: Shapes) -> int:
    """Return the multiplications of a convolution or dense layer; 0 of others."""
    inputs = [shapes.get(name) for name in node.input[:2]]
    output = shapes.get(node.output[0]) if node.output else None
    if len(inputs) < 2 or inputs[0] is None or inputs[1] is None or output is None:
        return 0
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(inputs[1][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if node.op_type in ("Gemm", "MatMul") and inputs[0]:
        return math.prod(output) * inputs[0][-1]
    return 0


def fold_constants(proto: Any, limits: Limits, where: str) -> Any:
    """Return the model with all that does not depend on the image as initializers.

    What is folded: Constant in all its forms, Shape and Size of tensors of known shape, and every
    operator all of whose inputs are constant, computed by ONNX Runtime without optimizations.
    Nothing else is changed, so that nodes and tensors are those that users know.

    Parameters
    ----------
    proto : onnx.ModelProto
        Of one static input; not changed.
    limits : Limits
        Of what is computed.
    where : str
        The model's name in errors.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    for sparse in graph.sparse_initializer:
        graph.initializer.append(numpy_helper.from_array(_dense(sparse), sparse.values.name))
    del graph.sparse_initializer[:]
    _lift_constants(graph)
    for _ in range(_ROUNDS):
        shapes = infer_shapes(result)
        check_costs(result, shapes, limits, where, folded=False)
        if not _fold_once(result, shapes):
            break
    check_costs(result, shapes, limits, where)
    return result


def _lift_constants(graph: Any) -> None:
    """Make initializers of Constant nodes."""
    kept = []
    for index, node in enumerate(graph.node):
        if node.op_type != "Constant" or node.domain:
            kept.append(node)
            continue
        tensor = _constant(node, index)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    set_nodes(graph, kept)


def _constant(node: Any, index: int) -> Any:
    """Return the tensor of a Constant node, whichever attribute holds it."""
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        match attribute.name:
            case "value":
                tensor = onnx.TensorProto()
                tensor.CopyFrom(value)
                return tensor
            case "sparse_value":
                return numpy_helper.from_array(_dense(value))
            case "value_float" | "value_floats":
                return numpy_helper.from_array(np.asarray(value, np.float32))
            case "value_int" | "value_ints":
                return numpy_helper.from_array(np.asarray(value, np.int64))
            case "value_string" | "value_strings":
                return numpy_helper.from_array(np.asarray(value, object))
    raise UnsupportedModelError(
        f"node {node_label(node, index)}",
        "must have a value",
        got="a Constant without one",
        hint="correct the export",
    )


def _dense(sparse: Any) -> Any:
    """Return a sparse tensor as an array."""
    values = numpy_helper.to_array(sparse.values)
    indices = numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def _fold_once(proto: Any, shapes: Shapes) -> bool:
    """Fold what the shapes known now allow; tell whether that was anything."""
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    known: dict[str, Any] = {}
    chosen: list[Any] = []
    kept: list[Any] = []
    for node in graph.node:
        names = [name for name in node.output if name]
        source = shapes.get(node.input[0]) if len(node.input) else None
        if node.op_type in ("Shape", "Size") and not node.domain and source is not None:
            if outputs.isdisjoint(names):
                known[names[0]] = _shape_value(node, source)
                constants.update(names)
                continue
        foldable = (
            node.op_type not in _RANDOM
            and node.op_type not in QDQ
            and all(name in constants for name in node.input if name)
            and all(name in shapes for name in names)
            and outputs.isdisjoint(names)
        )
        (chosen if foldable else kept).append(node)
        if foldable:
            constants.update(names)
    for name, value in known.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    if chosen:
        computed = _compute(proto, chosen, kept)
        if computed is None:
            chosen = []
        else:
            graph.initializer.extend(computed)
    if chosen or known:
        gone = {id(node) for node in chosen}
        remaining = [
            n for n in graph.node if id(n) not in gone and not (n.output and n.output[0] in known)
        ]
        set_nodes(graph, remaining)
    return bool(chosen or known)


def _shape_value(node: Any, shape: tuple[int, ...]) -> Any:
    """Return what a Shape or Size node computes."""
    if node.op_type == "Size":
        return np.asarray(math.prod(shape), np.int64)
    attributes = {a.name: a.i for a in node.attribute}
    return np.asarray(shape[attributes.get("start", 0) : attributes.get("end", None)], np.int64)


def _compute(proto: Any, nodes: list[Any], others: Iterable[Any]) -> list[Any] | None:
    """Run nodes of constants; return the tensors that other nodes read, None where it fails."""
    read = {name for node in others for name in node.input}
    needed = {name for node in nodes for name in node.input}
    names = [name for node in nodes for name in node.output if name in read]
    model = onnx.ModelProto(ir_version=proto.ir_version)
    model.opset_import.extend(proto.opset_import)
    model.graph.name = "constants"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(t for t in proto.graph.initializer if t.name in needed)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        values = OnnxSession(model).run(names, {})
    except Exception:  # ONNX Runtime has no base class of its errors; the nodes stay
        return None
    if any(not isinstance(value, np.ndarray) for value in values):
        return None
    return [numpy_helper.from_array(v, n) for n, v in zip(names, values, strict=True)]
