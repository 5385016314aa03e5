"""What must hold of an ONNX graph before TVM, ONNX Runtime or our own code look at it.

ONNX's own checker lets much pass that ends in crashes later: strides of 0, texts that are no text,
tensors that are shorter than they say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vta_config.errors import UnsupportedModelError

#: Operators that compute with integers, which would pass for the flow's own quantization.
QUANTIZED: Final = frozenset(
    {
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    }
)
#: Operators that say how a tensor is quantized, which `flow.frontend.qdq` reads.
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
QDQ: Final = frozenset({QUANTIZE, DEQUANTIZE})
#: ONNX Runtime has its own ones, for 16 and 4 bits.
_FOREIGN_QDQ: Final = frozenset(("com.microsoft", kind) for kind in QDQ)
#: Operators with windows.
_WINDOWS: Final = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "MaxUnpool"}
)
#: Attributes of windows: the least value.
_LEAST: Final[Mapping[str, int]] = {
    "strides": 1,
    "dilations": 1,
    "kernel_shape": 1,
    "pads": 0,
    "output_padding": 0,
    "output_shape": 1,
    "group": 1,
}
#: No window is wider or moves further: numbers beyond are nonsense and overflow somewhere.
_MOST: Final = 1 << 20
_AUTO_PADS: Final = frozenset({"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"})
#: Operators whose parameters may be infinite.
_INFINITE: Final = frozenset({"Clip", "Max", "Min", "Pad", "Where", "Constant", "Cast", "Add"})


def node_label(node: Any, index: int) -> str:
    """Name a node for an error: its name, else its first output, else its place."""
    return node.name or (node.output[0] if node.output else "") or f"node {index}"


def operator_of(node: Any) -> str:
    """Return a node's operator with its domain, if that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def unsupported(where: str, node: Any, index: int) -> UnsupportedModelError:
    """Build the error for an operator that we cannot import."""
    return UnsupportedModelError(
        f"{where} node {node_label(node, index)}",
        "must be an operator that TVM's ONNX importer supports",
        got=operator_of(node),
        hint="rewrite or remove it before the export",
    )


def check_structure(proto: Any, path: Path) -> None:
    """Check versions, operators, tensors and attributes.

    Raises
    ------
    UnsupportedModelError
        When one cannot be right, or is of a kind that is not imported.
    """
    for name in _names(proto):
        if isinstance(name, bytes):  # what protobuf makes of it
            raise damaged(path, f"a name that is not UTF-8, {name[:40]!r}")
    newest = onnx.defs.onnx_opset_version()
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and not 0 < entry.version <= newest:
            raise UnsupportedModelError(
                f"{path} operator set",
                f"must be a version from 1 to {newest}",
                got=entry.version,
                hint="export for a version that the installed onnx package knows",
            )
    for tensor in tensors_of(proto.graph):
        _check_tensor(tensor, path)
    local = {(f.domain, f.name) for f in proto.functions}
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    for graph in (proto.graph, *proto.functions):
        for index, node in enumerate(graph.node):
            _check_kind(node, index, path)
            if (node.domain, node.op_type) not in local:
                _check_known(node, index, versions, path)
            _check_attributes(node, index, path)


def check_finite(graph: Any, where: str) -> None:
    """Check that the numbers of a model are numbers.

    Raises
    ------
    UnsupportedModelError
        When a tensor holds NaN, or infinity where that is no bound.
    """
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    for tensor in graph.initializer:
        if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            continue
        values = numpy_helper.to_array(tensor)
        finite = np.isfinite(values)
        if finite.all() or (
            not np.isnan(values).any() and readers.get(tensor.name, set()) <= _INFINITE
        ):
            continue
        raise UnsupportedModelError(
            f"{where} tensor {tensor.name}",
            "must hold finite numbers",
            got=f"{int(values.size - finite.sum())} of {values.size} that are NaN or infinite",
            hint="check the training or the export",
        )


def _names(proto: Any) -> Iterator[Any]:
    """Yield every text by which the parts of a graph find each other."""
    for graph in (proto.graph, *proto.functions):
        for node in graph.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            yield from (attribute.name for attribute in node.attribute)
    for value in (*proto.graph.input, *proto.graph.output):
        yield value.name
        if value.type.HasField("tensor_type"):
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in tensors_of(proto.graph))
    yield from (entry.domain for entry in proto.opset_import)


def _check_kind(node: Any, index: int, path: Path) -> None:
    """Refuse control flow and quantized operators."""
    if any(
        a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute
    ):
        raise UnsupportedModelError(
            f"{path.name} node {node_label(node, index)}",
            "must be straight-line code",
            got=operator_of(node),
            hint="remove control flow from the model",
        )
    foreign = node.domain not in ("", "ai.onnx") and any(
        word in node.op_type for word in ("QLinear", "Quantize", "Integer", "NBits")
    )
    foreign &= (node.domain, node.op_type) not in _FOREIGN_QDQ
    if node.op_type in QUANTIZED or foreign:
        raise UnsupportedModelError(
            f"{path.name} node {node_label(node, index)}",
            "must be an operator on floats, or a QuantizeLinear or DequantizeLinear",
            got=operator_of(node),
            hint="export the float model, or the quantized one in QDQ format",
        )


def _check_known(node: Any, index: int, versions: Mapping[str, int], path: Path) -> None:
    """Refuse operators that the model's version of ONNX does not have."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = versions.get(domain, versions.get("ai.onnx", 1) if domain == "" else 1)
    if (domain, node.op_type) in _FOREIGN_QDQ:
        return
    try:
        onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        raise unsupported(path.name, node, index) from None


def _check_tensor(tensor: Any, path: Path) -> None:
    """Refuse a tensor whose data are not as many as its dimensions say."""
    name = tensor.name or "without a name"
    if any(dim < 0 for dim in tensor.dims):
        raise damaged(path, f"tensor {name} has dimensions {list(tensor.dims)}")
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    try:
        item = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        field = helper.tensor_dtype_to_field(tensor.data_type)
    except (KeyError, ValueError):
        raise damaged(path, f"tensor {name} is of unknown type {tensor.data_type}") from None
    elements = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        # Types of 4 bits are two in a byte.
        narrow = np.dtype(item).itemsize == 1 and helper.tensor_dtype_to_string(
            tensor.data_type
        ).endswith(("INT4", "INT2", "E2M1"))
        given = len(tensor.raw_data) if narrow else len(tensor.raw_data) // np.dtype(item).itemsize
        right = given <= elements if narrow else given == elements
    else:
        given = len(getattr(tensor, field))
        right = given == elements or tensor.data_type not in (
            onnx.TensorProto.FLOAT,
            onnx.TensorProto.INT64,
            onnx.TensorProto.INT32,
            onnx.TensorProto.DOUBLE,
        )
        right &= given <= 2 * elements
    if not right:
        raise damaged(path, f"tensor {name} has {given} numbers, not {elements}")


def _check_attributes(node: Any, index: int, path: Path) -> None:
    """Refuse texts that are no text, and windows that cannot be."""
    where = f"{path.name} node {node_label(node, index)}"
    spatial: dict[str, int] = {}
    for attribute in node.attribute:
        try:
            text = attribute.s.decode() if attribute.HasField("s") else ""
            for item in attribute.strings:
                item.decode()
        except UnicodeDecodeError:
            raise _attribute_error(where, attribute.name, "be text", "other bytes") from None
        if attribute.name == "auto_pad" and text not in _AUTO_PADS:
            allowed = ", ".join(sorted(_AUTO_PADS))
            raise _attribute_error(where, "auto_pad", f"be one of {allowed}", text)
        if node.op_type not in _WINDOWS or attribute.name not in _LEAST:
            continue
        least = _LEAST[attribute.name]
        numbers = [*attribute.ints, *([attribute.i] if attribute.HasField("i") else [])]
        if any(not least <= n <= _MOST for n in numbers):
            must = f"be numbers from {least} to {_MOST}"
            raise _attribute_error(where, attribute.name, must, numbers)
        if attribute.name != "group":
            spatial[attribute.name] = len(numbers) // (2 if attribute.name == "pads" else 1)
            if attribute.name == "pads" and len(numbers) % 2:
                raise _attribute_error(
                    where, "pads", "have a beginning and an end for each axis", numbers
                )
    if len(set(spatial.values())) > 1:
        counts = ", ".join(f"{name} of {n}" for name, n in spatial.items())
        raise _attribute_error(where, "attributes", "have the same number of axes", counts)


def _attribute_error(where: str, name: str, must: str, got: object) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{where} {name}", f"must {must}", got=got, hint="correct the export"
    )


def damaged(path: Path, error: Exception | str) -> UnsupportedModelError:
    """Say that `path` is not a whole model, with the first line of why."""
    why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UnsupportedModelError(
        str(path),
        "must be a complete ONNX file",
        got=f"a truncated or damaged file ({why.strip().rstrip('.')})",
        hint="download or export it again",
    )


def tensors_of(graph: Any) -> Iterator[Any]:
    """Yield every tensor that a graph holds: initializers and attributes of nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            yield from attribute.tensors
