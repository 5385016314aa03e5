"""Read an ONNX file and hand it to TVM: checked, one static shape, layers with names.

TVM's importer loses the tensor names; they are restored on the result of every convolution and
dense layer: the weight's name without its suffix (``layer2.0.conv1.weight`` -> ``layer2.0.conv1``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import onnx

from flow.frontend.batch import check_batch, set_batch_to_one
from flow.frontend.channel_moves import join_channel_moves
from flow.frontend.clips import hide_clips, restore_clips, with_float_bounds
from flow.frontend.inputs import (
    FLOAT,
    MOST_DIMS,
    TO_NCHW,
    Layout,
    ModelInput,
    layout_of,
    set_input_shapes,
    take_channels_first,
    use_float32,
)
from flow.frontend.one_dimensional import as_images
from flow.frontend.onnx_checks import check_finite, node_label, operator_of, unsupported
from flow.frontend.onnx_file import Limits, default_opset, parse, read_bytes
from flow.frontend.onnx_shapes import check_costs, fold_constants, infer_shapes, multiplications
from flow.frontend.origins import NodeError, OnnxNode, origins_of, run_importer
from flow.frontend.pads import with_pads
from flow.frontend.qdq import QdqModel, is_qdq, kept_model, take_apart, with_float_outputs
from flow.frontend.simplify import simplify
from flow.frontend.takes import with_constant_indices
from flow.frontend.transposes import fold_transposes
from flow.outputs import Output, classes_of, values_of
from relay_passes.host.rows import array_shape
from relay_passes.names import Names, with_given_names
from relay_passes.scales.kept import KeptModel, Qdq
from vta_config.errors import FlowError, UnsupportedModelError

#: ONNX operators whose second input is a layer's weight, and what kind of layer they are.
LAYER_KINDS: Final = MappingProxyType({"Conv": "conv", "Gemm": "dense", "MatMul": "dense"})
#: What they become in Relax.
RELAX_KINDS: Final = MappingProxyType(
    {"nn.conv1d": "conv", "nn.conv2d": "conv", "nn.conv3d": "conv", "matmul": "dense"}
)
_WEIGHT_SUFFIX: Final = re.compile(r"[._/]?(weight|kernel|w)s?(:0)?$", re.IGNORECASE)
_ANONYMOUS: Final = re.compile(r"^(onnx::\w+|_?v?_?\d+|const\w*|constant\w*)$", re.IGNORECASE)


class MissingShapeError(UnsupportedModelError):
    """A model leaves open how large its input is, and the user has not said it either.

    Attributes
    ----------
    shape : str
        The shape as the file has it.
    """

    shape = ""


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
        ``main(input: float32[1, C, H, W])`` in Relax, or with several inputs; it returns one
        tensor, or a tuple of them.
    inputs : tuple of ModelInput
        What it is given, in the order of the parameters of ``main``.
    outputs : tuple of Output
        What it computes for one image.
    conv_names, dense_names : tuple of str
        Names of the layers with constant weights, in graph order, unique; their results in `mod`
        are called so.
    origins : mapping
        Name of a variable of `mod` -> the ONNX node that it comes from. Names outlive the float
        passes, but for those of operators that are folded. Empty should TVM's importer change.
    kept : KeptModel, optional
        The integers of a model that is quantized already, by variables of `mod`; None of others.
        Its `mod` has their real values.
    """

    name: str
    path: Path
    sha256: str
    proto: Any
    mod: Any
    inputs: tuple[ModelInput, ...]
    outputs: tuple[Output, ...]
    conv_names: tuple[str, ...]
    dense_names: tuple[str, ...]
    origins: Mapping[str, OnnxNode]
    kept: KeptModel | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the array that is an image: [1, C, H, W], or a row of several inputs."""
        return array_shape([value.shape for value in self.inputs])

    @property
    def file_shape(self) -> tuple[int, ...]:
        """The same as the file has it."""
        return array_shape([value.file_shape for value in self.inputs])

    @property
    def classes(self) -> int | None:
        """Number of classes, None where it is no classifier."""
        return classes_of(self.outputs)

    @property
    def values(self) -> int:
        """Count the numbers of all outputs of an image."""
        return values_of(self.outputs)


def import_model(
    path: str | Path,
    *,
    name: str = "",
    check: bool = True,
    limits: Limits | None = None,
    qdq: Qdq = "keep",
    shapes: Mapping[str, Sequence[int]] = MappingProxyType({}),
    layout: Layout | None = None,
) -> ImportedModel:
    """Import the ONNX file at `path` (``.onnx`` or ``.onnx.xz``) as Relax.

    Parameters
    ----------
    path : path
        The file.
    name : str, optional
        What reports call the model; the file's name without suffixes by default.
    check : bool
        Compare the float graph with ONNX Runtime on a random image (`check_import`).
    limits : Limits, optional
        What the model may cost.
    qdq : {"keep", "requantize"}
        What becomes of a model that is quantized already: its integers are kept, or it is a float
        model like any other.
    shapes : mapping of str to sequence of int, optional
        Shapes of inputs, for a model that leaves dimensions open; the name of a single input may be
        "".
    layout : {"NCHW", "NHWC"}, optional
        Of images in the file; by default what the model's own Transposes say.

    Raises
    ------
    UnsupportedModelError
        When the file is missing or damaged, costs too much, a shape other than the batch is
        dynamic, an operator is not supported or differs from ONNX Runtime's, or the model has not
        one float32 image as input.
    """
    path, limits = Path(path), limits or Limits()
    name = name or _stem(path)
    data = read_bytes(path, limits)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        proto = parse(data, path, limits)
        del data  # as large as the model, which holds a copy
        return _import(proto, path, name, sha256, check, limits, qdq, shapes, layout)
    except FlowError:
        raise
    except Exception as error:  # whatever a file makes others raise
        raise UnsupportedModelError(
            name,
            "must be a model that can be imported",
            got=f"{type(error).__name__} ({_last_line(error)})",
            hint="correct or simplify the export",
        ) from error


def _import(
    proto: Any,
    path: Path,
    name: str,
    sha256: str,
    check: bool,
    limits: Limits,
    qdq: Qdq,
    wanted: Mapping[str, Sequence[int]],
    layout: Layout | None,
) -> ImportedModel:
    """Import a parsed model; see `import_model`."""
    with_float_outputs(proto)
    _check_ends(proto, name)
    use_float32(proto)
    set_input_shapes(proto, wanted, name)
    inputs = _inputs(proto, name, layout)
    for value, own in zip(proto.graph.input, inputs, strict=True):
        batch = max(value.type.tensor_type.shape.dim[0].dim_value, 1)
        value_bytes = 4 * batch * math.prod(own.shape)
        limits.check(f"{name} input", "bytes", value_bytes, limits.tensor_bytes)
    before = set_batch_to_one(proto)
    given, parts = proto, None
    if is_qdq(proto):
        parts = take_apart(fold_constants(proto, limits, name), name)
        proto = parts.proto
    simple = simplify(_on_images(fold_constants(proto, limits, name)))
    check_finite(simple.graph, name)
    if before is not None and check:
        check_costs(before, infer_shapes(before), limits, name)
        check_batch(before, given, name)
    shapes = {v.name: list(i.shape) for v, i in zip(proto.graph.input, inputs, strict=True)}
    mod, tensors = _to_relax(simple, name, shapes)
    outputs = _outputs(mod, simple.graph, name)
    layers = _layer_names(simple.graph)
    mod, renamed = _restore_names(mod, layers, tensors)
    tensors = {renamed[var]: tensor for var, tensor in tensors.items() if var in renamed}
    if check:
        from flow.frontend.import_check import check_import

        known = infer_shapes(simple)
        check_import(
            proto,
            mod,
            tensors,
            {
                o: f"{node_label(n, i)} ({operator_of(n)})"
                for i, n in enumerate(proto.graph.node)
                for o in n.output
            },
            name=name,
            multiplications=sum(multiplications(node, known) for node in simple.graph.node),
        )
    return ImportedModel(
        name=name,
        path=path,
        sha256=sha256,
        proto=given if qdq == "keep" else proto,
        mod=mod,
        inputs=inputs,
        outputs=outputs,
        conv_names=tuple(name for kind, name in layers.values() if kind == "conv"),
        dense_names=tuple(name for kind, name in layers.values() if kind == "dense"),
        origins=origins_of(mod, tensors, (simple, proto)),
        kept=_kept(mod, tensors, layers, parts, simple) if qdq == "keep" else None,
    )


def _kept(
    mod: Any,
    tensors: Mapping[str, str],
    layers: Mapping[str, tuple[str, str]],
    parts: QdqModel | None,
    simple: Any,
) -> KeptModel | None:
    """Return the integers of a model that is quantized already, None of another."""
    from relay_passes.graph import read_graph

    if parts is None:
        return None
    inputs = (value.name for value in simple.graph.input)
    params = {str(p.name): t for p, t in zip(read_graph(mod).params, inputs, strict=False)}
    return kept_model(
        {**params, **tensors}, {t: name for t, (_, name) in layers.items()}, parts, simple
    )


# ---- checks -------------------------------------------------------------------------------------
def _check_ends(proto: Any, name: str) -> None:
    """Check that there are inputs and outputs; number the names that several nodes have."""
    graph = proto.graph
    names, seen = Names((node.name for node in graph.node), mark="#"), set[str]()
    for node in graph.node:  # ONNX Runtime takes no name twice
        if node.name in seen:
            node.name = names.fresh(node.name)
        elif node.name:
            seen.add(node.name)
    if not graph.input or not graph.output:
        raise UnsupportedModelError(
            name,
            "must have inputs and outputs",
            got=f"{len(graph.input)} and {len(graph.output)}",
            hint="export the part of the model that has both",
        )


def _inputs(proto: Any, name: str, layout: Layout | None) -> tuple[ModelInput, ...]:
    """Return the inputs of a model that is made to take channels first, in place."""
    found = []
    for value in proto.graph.input:
        file_shape = _shape_of(value, name)
        file_name, own = value.name, layout_of(proto.graph, value) if layout is None else layout
        if own == "NHWC" and len(file_shape) == len(TO_NCHW):
            take_channels_first(proto.graph, value)
        shape = _shape_of(value, name)
        found.append(ModelInput(name=file_name, shape=shape, file_shape=file_shape, layout=own))
    return tuple(found)


def _shape_of(value: Any, name: str) -> tuple[int, ...]:
    """Return an input's shape, of batch 1."""
    tensor = value.type.tensor_type
    if tensor.elem_type != FLOAT:
        got = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else "no tensor"
        raise UnsupportedModelError(
            f"{name} input {value.name}",
            "must be floats",
            got=got,
            hint="export the float model, not a quantized one",
        )
    dims = tensor.shape.dim
    shown = [dim.dim_value or dim.dim_param or "?" for dim in dims]
    if not 1 <= len(dims) <= MOST_DIMS or any(dim.dim_value < 1 for dim in dims[1:]):
        error = MissingShapeError(
            f"{name} input {value.name}",
            f"must have a static shape of 1 to {MOST_DIMS} dimensions (only the batch may be "
            "dynamic)",
            got=shown if dims else "no shape",
            hint="give --input-shape, as 1,3,224,224, or export with a fixed size",
        )
        error.shape = str(shown)
        raise error
    return (1, *(dim.dim_value for dim in dims[1:]))


def _on_images(proto: Any) -> Any:
    """Return the model with as few moves as can be, and signals as images of one row."""
    shapes = infer_shapes(proto)
    as_images(proto, shapes)
    opset = default_opset(proto)
    fold_transposes(proto, infer_shapes(proto), opset)
    join_channel_moves(proto, infer_shapes(proto), opset)
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TVM's importer from writing to the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _to_relax(proto: Any, name: str, shapes: Mapping[str, list[int]]) -> tuple[Any, dict[str, str]]:
    """Return the IRModule of a model and what ONNX tensors its variables hold.

    Clip becomes R.clip where that can be done, and Pad R.nn.pad.
    """
    hidden, bounds = hide_clips(proto)
    if bounds:
        mod, tensors = _run_importer(hidden, name, shapes)
        restored = restore_clips(mod, tensors, bounds)
        if restored is not None:
            return with_constant_indices(with_pads(restored, tensors, proto)), tensors
    mod, tensors = _run_importer(proto, name, shapes)
    return with_constant_indices(with_pads(mod, tensors, proto)), tensors


def _run_importer(
    proto: Any, name: str, shapes: Mapping[str, list[int]]
) -> tuple[Any, dict[str, str]]:
    """Run TVM's importer."""
    import tvm  # takes seconds: what is wrong with the file has been said before

    try:
        with _quiet():
            mod, tensors = run_importer(proto, shapes)
    except NodeError as failure:
        error: Any = failure.__cause__
        node = proto.graph.node[failure.index]
        if isinstance(error, tvm.error.OpNotImplemented):
            raise unsupported(name, node, failure.index) from None
        raise UnsupportedModelError(
            f"{name} node {node_label(node, failure.index)}",
            "must be an operator that TVM's ONNX importer supports",
            got=f"{operator_of(node)} ({_last_line(error)})",
            hint="simplify the export",
        ) from None
    _outputs(mod, proto.graph, name)  # the passes that follow need fixed shapes
    return mod, tensors


def _last_line(error: BaseException) -> str:
    """Return what an error of TVM says, less the trace before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


def _outputs(mod: Any, graph: Any, name: str) -> tuple[Output, ...]:
    """Return what `mod` computes, by the names of the ONNX outputs."""
    kinds = mod["main"].ret_ty
    kinds = list(getattr(kinds, "fields", [kinds]))
    outputs = []
    for value, kind in zip(graph.output, kinds, strict=True):
        shape = getattr(kind, "shape", None)
        try:
            dims = None if shape is None else tuple(int(dim) for dim in shape.values)
        except TypeError:
            dims = None
        if dims is None:
            raise UnsupportedModelError(
                f"{name} output {value.name}",
                "must be a tensor of static shape",
                got="another type" if shape is None else f"shape {shape}",
                hint="cut the model before the operator whose result has no fixed size",
            )
        outputs.append(Output(name=value.name, shape=dims))
    return tuple(outputs)


# ---- names ------------------------------------------------------------------------------------
def _stem(path: Path) -> str:
    """Return a file's name without suffixes; what the system could not decode is escaped."""
    stem = path.name.removesuffix(".xz").removesuffix(".onnx")
    return stem.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _layer_names(graph: Any) -> dict[str, tuple[str, str]]:
    """Name the convolutions and dense layers with constant weights, in graph order.

    Returns
    -------
    dict
        Tensor that a layer computes -> its kind and its name.
    """
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {out for node in graph.node if node.op_type == "Constant" for out in node.output}
    names: dict[str, tuple[str, str]] = {}
    count = dict.fromkeys(LAYER_KINDS.values(), 0)
    taken = Names(mark="#")
    for node in graph.node:
        kind = LAYER_KINDS.get(node.op_type)
        if kind is None or node.input[1] not in constants:
            continue
        default = f"{kind}{count[kind]}"
        base = _name_from_weight(node.input[1]) or _name_from_scope(node.name) or default
        count[kind] += 1
        # Another layer may have the same weight, or be called "conv#2".
        name = taken.fresh(base)
        names[node.output[0]] = (kind, name)
    return names


def _restore_names(
    mod: Any, layers: Mapping[str, tuple[str, str]], tensors: Mapping[str, str]
) -> tuple[Any, dict[str, str]]:
    """Call the result of every named layer in ``main`` after its layer; the passes keep names.

    The importer's own names give way to them, and the module says which ones the model brought
    along: any text can be a layer's name, the importer's ``lv1`` too.

    Returns
    -------
    tuple
        The module, and its new names by the old ones.
    """
    from relay_passes.graph import op_name, read_graph, rewrite

    graph = read_graph(mod)
    bindings = graph.bindings
    new = {} if tensors else _names_by_position(mod, layers)
    within: list[str] = []
    for binding in bindings if tensors else ():
        if op_name(binding.value) in RELAX_KINDS:
            within.append(binding.var.name)
        if (tensor := tensors.get(binding.var.name)) is not None:
            if tensor in layers and len(within) == 1:
                new[within[0]] = layers[tensor][1]
            within = []
    given = set(new.values())
    own = Names((*given, *(str(param.name) for param in graph.params)))
    for binding in bindings:
        old = str(binding.var.name)
        if old not in new:
            new[old] = own.fresh(old)

    def visit(builder: Any, var: Any, value: Any) -> Any:
        return builder.emit(with_float_bounds(value), new[var.name])

    return with_given_names(rewrite(mod, visit), given), new


def _names_by_position(mod: Any, layers: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Map variables to names of layers where both are as many: without origins, that must do."""
    from relay_passes.graph import constant, op_name, read_graph

    graph = read_graph(mod)
    definitions = graph.definitions()

    def is_constant(expr: Any) -> bool:
        expr = definitions.get(expr, expr)
        if op_name(expr) == "permute_dims":
            expr = expr.args[0]
        return constant(expr) is not None

    found: dict[str, list[str]] = {"conv": [], "dense": []}
    for binding in graph.bindings:
        kind = RELAX_KINDS.get(op_name(binding.value))
        if kind is not None and is_constant(binding.value.args[1]):
            found[kind].append(binding.var.name)
    new: dict[str, str] = {}
    for kind, variables in found.items():
        names = [name for other, name in layers.values() if other == kind]
        if len(variables) == len(names):  # else some were rewritten: their places tell nothing
            new.update(zip(variables, names, strict=True))
    return new


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
