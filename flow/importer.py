"""Read an ONNX file and hand it to TVM: checked, one static shape, layers with names.

TVM's importer loses the tensor names; they are restored on the result of every convolution and
dense layer: the weight's name without its suffix (``layer2.0.conv1.weight`` -> ``layer2.0.conv1``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError as ProtobufError  # type: ignore[import-untyped]

from flow.clips import hide_clips, restore_clips
from flow.names import check_names, file_stem
from flow.simplify import simplify
from relay_passes.names import Names, with_given_names
from vta_config.errors import UnsupportedModelError

FLOAT: Final = onnx.TensorProto.FLOAT
#: ONNX operators whose second input is a layer's weight, and what kind of layer they are.
LAYER_KINDS: Final = MappingProxyType({"Conv": "conv", "Gemm": "dense", "MatMul": "dense"})
#: What they become in Relax.
RELAX_KINDS: Final = MappingProxyType(
    {"nn.conv1d": "conv", "nn.conv2d": "conv", "nn.conv3d": "conv", "matmul": "dense"}
)
_WEIGHT_SUFFIX: Final = re.compile(r"[._/]?(weight|kernel|w)s?(:0)?$", re.IGNORECASE)
_ANONYMOUS: Final = re.compile(r"^(onnx::\w+|_?v?_?\d+|const\w*|constant\w*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModel:
    """A model as the passes take it.

    Parameters
    ----------
    name : str
        The model's name in reports.
    path : Path
        The file that it was read from.
    sha256 : str
        Of the ``.onnx`` bytes (after unpacking ``.xz``).
    proto : onnx.ModelProto
        The model with batch 1 and weights that are constants; what ONNX Runtime runs.
    mod : tvm.IRModule
        ``main(input: float32[1, C, H, W]) -> float32[1, classes]`` in Relax.
    input_name : str
        Name of the ONNX input.
    input_shape : tuple of int
        [1, C, H, W].
    classes : int
        Number of logits.
    conv_names, dense_names : tuple of str
        Names of the layers with constant weights, in graph order, unique; their results in `mod`
        are called so.
    """

    name: str
    path: Path
    sha256: str
    proto: Any
    mod: Any
    input_name: str
    input_shape: tuple[int, int, int, int]
    classes: int
    conv_names: tuple[str, ...]
    dense_names: tuple[str, ...]


def read_bytes(path: Path) -> bytes:
    """Read ``FILE.onnx`` or ``FILE.onnx.xz``; return the ``.onnx`` bytes.

    Raises
    ------
    UnsupportedModelError
        When the file is missing, unreadable or not whole.
    """
    if not path.is_file():
        raise UnsupportedModelError(
            str(path),
            "must be an ONNX file",
            got="a folder" if path.is_dir() else "no such file",
            hint="check the path, or see --model in --help",
        )
    try:
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data
    except (OSError, lzma.LZMAError) as error:
        raise UnsupportedModelError(
            str(path),
            "must be readable",
            got=str(error) or type(error).__name__,
            hint="fetch the file again",
        ) from None


def parse(data: bytes, path: Path) -> Any:
    """Parse and check ``.onnx`` bytes; return the onnx.ModelProto.

    Raises
    ------
    UnsupportedModelError
        When the bytes are not a whole, valid ONNX model.
    """
    try:
        proto = onnx.load_model_from_string(data)
        check_names(proto, str(path))
        onnx.external_data_helper.load_external_data_for_model(proto, str(path.parent))
    except (ProtobufError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise _damaged(path, error) from None
    if not proto.graph.node:
        raise UnsupportedModelError(
            str(path),
            "must hold a graph",
            got=f"{len(data)} bytes without a node",
            hint="fetch or export the file again",
        )
    _check_known_operators(proto, path)
    try:
        if not all(v.type.tensor_type.HasField("shape") for v in proto.graph.output):
            proto = onnx.shape_inference.infer_shapes(proto)  # as of a model that was cut by hand
        onnx.checker.check_model(proto)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
    ) as error:
        raise _damaged(path, error) from None
    return proto


def import_model(path: str | Path, *, name: str = "") -> ImportedModel:
    """Import the ONNX file at `path` (``.onnx`` or ``.onnx.xz``) as Relax.

    Parameters
    ----------
    path : path
        The file.
    name : str, optional
        What reports call the model; the file's name without suffixes by default.

    Raises
    ------
    UnsupportedModelError
        When the file is missing or damaged, a shape other than the batch is dynamic, an operator
        is not supported, or the model is not one float32 image in, one row of logits out.
    """
    path = Path(path)
    data = read_bytes(path)
    proto = parse(data, path)
    name = name or file_stem(path.name)
    input_name, shape = _fix_input(proto, name)
    conv_names, dense_names = _layer_names(proto.graph)
    mod = _to_relax(proto, name, input_name, shape)
    classes = _classes(mod, name)
    mod = _restore_names(mod, conv_names, dense_names)
    return ImportedModel(
        name=name,
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        proto=proto,
        mod=mod,
        input_name=input_name,
        input_shape=shape,
        classes=classes,
        conv_names=conv_names,
        dense_names=dense_names,
    )


# ---- checks -------------------------------------------------------------------------------------
def _damaged(path: Path, error: Exception) -> UnsupportedModelError:
    """Say that `path` is not a whole model, with the first line of why."""
    why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UnsupportedModelError(
        str(path),
        "must be a whole ONNX file",
        got=f"a truncated or damaged one ({why.strip().rstrip('.')})",
        hint="fetch or export it again",
    )


def _node_label(node: Any, index: int) -> str:
    """Name a node for an error: its name, else its first output, else its place."""
    return node.name or (node.output[0] if node.output else "") or f"node {index}"


def _check_known_operators(proto: Any, path: Path) -> None:
    """Refuse operators that the model's version of ONNX does not have, naming the node."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    for index, node in enumerate(proto.graph.node):
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = versions.get(domain, versions.get("ai.onnx", 1) if domain == "" else 1)
        try:
            onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            raise _unsupported(path.name, node, index) from None


def _unsupported(where: str, node: Any, index: int) -> UnsupportedModelError:
    """Build the error for an operator that we cannot import."""
    operator = (
        f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    )
    return UnsupportedModelError(
        f"{where} node {_node_label(node, index)}",
        "must be an operator that TVM's ONNX importer supports",
        got=operator,
        hint="rewrite or remove it before the export",
    )


def _fix_input(proto: Any, name: str) -> tuple[str, tuple[int, int, int, int]]:
    """Set the batch to 1, drop weights from the inputs (old files list them); return the input."""
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedModelError(
            name,
            "must have one input and one output",
            got=f"{len(inputs)} and {len(graph.output)}",
            hint="export the classifier alone",
        )
    del graph.input[:]
    graph.input.extend(inputs)
    value = graph.input[0]
    tensor = value.type.tensor_type
    if tensor.elem_type != FLOAT:
        got = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else "no tensor"
        raise UnsupportedModelError(
            f"{name} input {value.name}",
            "must be float32",
            got=got,
            hint="export the float model, not a quantized one",
        )
    dims = tensor.shape.dim
    shown = [dim.dim_value or dim.dim_param or "?" for dim in dims]
    if len(dims) != 4 or any(not dim.dim_value for dim in dims[1:]):
        raise UnsupportedModelError(
            f"{name} input {value.name}",
            "must have static shape [N, C, H, W] (only the batch may be dynamic)",
            got=shown,
            hint="export with a fixed image size",
        )
    dims[0].dim_value = 1
    output = graph.output[0].type.tensor_type.shape
    if output.dim:
        output.dim[0].dim_value = 1
    del graph.value_info[:]  # intermediate shapes may still name the old batch
    return value.name, (1, dims[1].dim_value, dims[2].dim_value, dims[3].dim_value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TVM's importer from writing to the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _to_relax(proto: Any, name: str, input_name: str, shape: tuple[int, ...]) -> Any:
    """Return the IRModule of a checked model; Clip becomes R.clip where that can be done."""
    proto = simplify(proto)
    hidden, bounds = hide_clips(proto)
    if any(bounds):
        mod = restore_clips(_run_importer(hidden, name, input_name, shape), bounds)
        if mod is not None:
            return mod
    return _run_importer(proto, name, input_name, shape)


def _run_importer(proto: Any, name: str, input_name: str, shape: tuple[int, ...]) -> Any:
    """Run TVM's importer."""
    import tvm  # takes seconds: what is wrong with the file has been said before
    from tvm.relax.frontend.onnx import from_onnx

    try:
        with _quiet():
            return from_onnx(proto, shape_dict={input_name: list(shape)})
    except tvm.error.OpNotImplemented as error:
        words = set(re.findall(r"\w+", str(error).rsplit(":", maxsplit=1)[-1]))
        nodes = enumerate(proto.graph.node)
        index, node = next((i, n) for i, n in nodes if n.op_type in words)
        raise _unsupported(name, node, index) from None
    except Exception as error:  # the importer has no error type of its own
        why = next(
            (line for line in reversed(str(error).splitlines()) if line.strip()),
            type(error).__name__,
        )
        raise UnsupportedModelError(
            name,
            "must be a model that TVM's ONNX importer takes",
            got=why.strip(),
            hint="simplify the export",
        ) from None


def _classes(mod: Any, name: str) -> int:
    """Return the number of logits that `mod` ends with."""
    shape = getattr(mod["main"].ret_ty, "shape", None)
    try:
        dims = [int(dim) for dim in shape.values] if shape is not None else []
    except TypeError:
        dims = []
    if len(dims) != 2 or dims[0] != 1:
        raise UnsupportedModelError(
            f"{name} output",
            "must be logits [N, classes]",
            got=dims or "another type",
            hint="deploy takes image classifiers; cut the model at its logits",
        )
    return dims[1]


# ---- names ------------------------------------------------------------------------------------
def _layer_names(graph: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the convolutions, and the dense layers, that have constant weights, in graph order."""
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {out for node in graph.node if node.op_type == "Constant" for out in node.output}
    names: dict[str, list[str]] = {"conv": [], "dense": []}
    taken: set[str] = set()
    for node in graph.node:
        kind = LAYER_KINDS.get(node.op_type)
        if kind is None or node.input[1] not in constants:
            continue
        default = f"{kind}{len(names[kind])}"
        base = _name_from_weight(node.input[1]) or _name_from_scope(node.name) or default
        number, name = 1, base
        while name in taken:  # by a layer with the same weight, or by one that is called "conv#2"
            number += 1
            name = f"{base}#{number}"
        taken.add(name)
        names[kind].append(name)
    return tuple(names["conv"]), tuple(names["dense"])


def _restore_names(mod: Any, conv_names: tuple[str, ...], dense_names: tuple[str, ...]) -> Any:
    """Call the result of every named layer in ``main`` after its layer; the passes keep names.

    The importer's own names give way to them, and the module says which ones the model brought
    along: any text can be a layer's name, the importer's ``lv1`` too.
    """
    from relay_passes.graph import constant, op_name, read_graph, rewrite

    graph = read_graph(mod)
    definitions = graph.definitions()

    def is_constant(expr: Any) -> bool:
        expr = definitions.get(expr, expr)
        if op_name(expr) == "permute_dims":
            expr = expr.args[0]
        return constant(expr) is not None

    found: dict[str, list[Any]] = {"conv": [], "dense": []}
    for binding in graph.bindings:
        kind = RELAX_KINDS.get(op_name(binding.value))
        if kind is not None and is_constant(binding.value.args[1]):
            found[kind].append(binding.var)
    new: dict[Any, str] = {}
    for kind, names in (("conv", conv_names), ("dense", dense_names)):
        if len(found[kind]) == len(names):  # else some were rewritten: their places tell nothing
            new.update(zip(found[kind], names, strict=True))

    own = Names((*new.values(), *(param.name for param in graph.params)))

    def visit(builder: Any, var: Any, value: Any) -> Any:
        return builder.emit(value, new[var] if var in new else own.fresh(var.name))

    return with_given_names(rewrite(mod, visit), new.values())


def _name_from_weight(weight: str) -> str:
    """Strip the suffix off a weight's name; "" when the name says nothing (``onnx::Conv_193``)."""
    return "" if _ANONYMOUS.match(weight) else _WEIGHT_SUFFIX.sub("", weight)


def _name_from_scope(node: str) -> str:
    """Turn PyTorch's ``/layer1/layer1.0/conv1/Conv`` into ``layer1.0.conv1``."""
    parts = [part for part in node.split("/") if part]
    if not node.startswith("/") or len(parts) < 2:
        return node
    path: list[str] = []
    for part in parts[:-1]:  # the last is the operator
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)
