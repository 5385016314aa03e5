"""Take a model that is quantized already apart: the float model, and its integers.

Such a model (QDQ: of ONNX Runtime, NNCF, TensorRT, Brevitas, PyTorch) is a float graph with pairs
of QuantizeLinear and DequantizeLinear: around each tensor that is meant to be integers, between
them perhaps a Clip of integers (QCDQ) or an operator that moves them; and DequantizeLinear alone
after integer weights and biases. Without them the graph is a float model like any other:

- Weights and biases become what they are dequantized to, (q - zero_point) * scale in float32.
- The pair around a tensor goes. Where its smallest integer stands for 0.0 and the tensor may be
  negative, the pair was its ReLU or ReLU6, and becomes a Clip.

What the pairs said is returned beside it, by ONNX tensor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.frontend.onnx_checks import DEQUANTIZE, QDQ, QUANTIZE, node_label, operator_of
from flow.frontend.onnx_file import default_opset
from relay_passes.scales.kept import KeptModel, KeptTensor, KeptWeight
from vta_config.errors import UnsupportedModelError

#: Of QuantizeLinear and DequantizeLinear; ONNX Runtime has its own ones.
_DOMAINS: Final = ("", "ai.onnx", "com.microsoft")
#: Operators that move numbers, or choose among them, whatever these are.
_MOVES: Final = frozenset(
    {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "MaxPool", "Slice"}
    | {"Concat", "Split", "Gather", "Expand", "DepthToSpace", "SpaceToDepth", "Dropout", "Tile"}
)
#: Operators whose result is not negative, and those where that follows from their inputs.
_NOT_NEGATIVE: Final = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp"})
_KEEPS_SIGN: Final = _MOVES | {
    "Add", "Sum", "Mul", "Max", "Min", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
    "ReduceMean", "ReduceMax", "ReduceSum", "Upsample", "Resize",
}  # fmt: skip
#: How far a weight may be from a whole number of steps, to be that integer.
_NEAR: Final = 1e-2
#: What exporters add to the name of a weight for what DequantizeLinear makes of it.
_SUFFIX: Final = re.compile(r"(_DequantizeLinear_Output|/DequantizeLinear_output_0|_dequantized)$")
_INTEGERS: Final = {
    onnx.TensorProto.INT8: (-128, 127),
    onnx.TensorProto.UINT8: (0, 255),
    onnx.TensorProto.INT16: (-32768, 32767),
    onnx.TensorProto.UINT16: (0, 65535),
    onnx.TensorProto.INT4: (-8, 7),
    onnx.TensorProto.UINT4: (0, 15),
    onnx.TensorProto.INT32: (-(1 << 31), (1 << 31) - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QdqModel:
    """A model that is quantized already, taken apart.

    Parameters
    ----------
    proto : onnx.ModelProto
        The float model.
    tensors : dict[str, KeptTensor]
        By ONNX tensor of it.
    scales : dict[str, floating[channels]]
        Of weights, by initializer: one a tensor, or one a channel.
    """

    proto: Any
    tensors: Mapping[str, KeptTensor]
    scales: Mapping[str, NDArray[np.float64]]


def is_qdq(proto: Any) -> bool:
    """Whether a model has quantized tensors."""
    return any(_is_qdq_node(node) for node in proto.graph.node)


def _is_qdq_node(node: Any) -> bool:
    return node.op_type in QDQ and node.domain in _DOMAINS


def with_float_outputs(proto: Any) -> None:
    """Dequantize results that a model gives as integers, in place."""
    graph = proto.graph
    makers = {out: node for node in graph.node for out in node.output}
    for value in graph.output:
        node = makers.get(value.name)
        if node is None or node.op_type != QUANTIZE or not _is_qdq_node(node):
            continue
        name = f"{value.name}.real"
        attributes = [a for a in node.attribute if a.name in ("axis", "block_size")]
        added = helper.make_node(
            DEQUANTIZE, [value.name, *node.input[1:]], [name], name, domain=node.domain
        )
        added.attribute.extend(attributes)
        graph.node.append(added)
        value.name = name
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def take_apart(proto: Any, where: str) -> QdqModel:
    """Return the float model and the integers of a QDQ model.

    Parameters
    ----------
    proto : onnx.ModelProto
        All its scales and zero points are initializers; not changed.
    where : str
        The model's name in errors.

    Raises
    ------
    UnsupportedModelError
        When a scale is computed, integers are computed with, or a number cannot be right.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    parts = _Parts(result, where)
    for index, node in enumerate(proto.graph.node):
        parts.visit(node, index)
    parts.finish()
    return QdqModel(proto=result, tensors=parts.tensors, scales=parts.scales)


def kept_weights(
    layers: Mapping[str, str], proto: Any, scales: Mapping[str, NDArray[np.float64]]
) -> dict[str, KeptWeight]:
    """Return the integers of the layers' weights, by layer.

    Parameters
    ----------
    layers : dict[str, str]
        ONNX tensor that a layer computes -> its name.
    proto : onnx.ModelProto
        The float model, its constants folded.
    scales : dict[str, floating[channels]]
        As `take_apart` found them, by any constant with the same numbers, in any order of axes.
    """
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    found = {}
    for node in proto.graph.node:
        name = layers.get(node.output[0]) if node.output else None
        if name is None or node.input[1] not in tensors or node.input[1] not in scales:
            continue
        weight = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
        rows = np.moveaxis(weight, _output_axis(node, weight.ndim), 0)
        rows, scale = rows.reshape(len(rows), -1), scales[node.input[1]]
        if len(scale) not in (1, len(rows)):
            continue
        steps = rows / scale[:, np.newaxis]
        integers = np.rint(steps)
        if np.abs(steps - integers).max(initial=0.0) <= _NEAR:
            peaks = np.abs(integers).max(axis=1, initial=0).astype(int).tolist()
            found[name] = KeptWeight(peaks=tuple(peaks))
    return found


def _output_axis(node: Any, ndim: int) -> int:
    """Return the axis of output channels of a weight."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return ndim - 1 if node.op_type == "MatMul" else 0


def kept_model(
    tensors: Mapping[str, str], layers: Mapping[str, str], qdq: QdqModel, simple: Any
) -> KeptModel:
    """Return the integers by the names of an imported module.

    Parameters
    ----------
    tensors : dict[str, str]
        Variable of the module -> ONNX tensor.
    layers : dict[str, str]
        ONNX tensor that a layer computes -> its name.
    qdq : QdqModel
    simple : onnx.ModelProto
        Its float model, constants folded and simplified.
    """
    return KeptModel(
        tensors={v: qdq.tensors[t] for v, t in tensors.items() if t in qdq.tensors},
        weights=kept_weights(layers, simple, qdq.scales),
    )


@dataclass(slots=True)
class _Parts:
    """The nodes visited so far, and what they became."""

    proto: Any
    where: str
    tensors: dict[str, KeptTensor] = field(default_factory=dict)
    scales: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _constants: dict[str, Any] = field(default_factory=dict)
    _values: dict[str, tuple[NDArray[Any], int]] = field(default_factory=dict)
    _nodes: list[Any] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _grids: dict[str, KeptTensor] = field(default_factory=dict)
    _positive: set[str] = field(default_factory=set)
    _clipped: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Look up constants and names."""
        graph = self.proto.graph
        self._constants = {t.name: t for t in graph.initializer}
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}

    def visit(self, node: Any, index: int) -> None:
        """Take one node over, less what it does to integers."""
        label = f"{self.where} node {node_label(node, index)}"
        if _is_qdq_node(node):
            (self._quantize if node.op_type == QUANTIZE else self._dequantize)(node, label)
            return
        if any(name in self._values for name in node.input):
            self._constant(node, label)
            return
        grids = [self._grids[name] for name in node.input if name in self._grids]
        if grids and node.op_type == "Clip" and node.input[0] in self._grids:
            self._narrow(node, label)
            return
        if grids and (node.op_type not in _MOVES or len(set(grids)) > 1):
            raise UnsupportedModelError(
                label,
                "must not compute with integers between QuantizeLinear and DequantizeLinear",
                got=operator_of(node),
                hint="export the model in QDQ format",
            )
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._names.get(name, name) for name in node.input]
        self._nodes.append(copy)
        if grids:
            self._grids |= {name: grids[0] for name in node.output}
            for name in (*copy.input, *copy.output):
                if name not in self._constants:
                    self.tensors.setdefault(name, grids[0])
        if node.op_type in _MOVES and (scale := self.scales.get(copy.input[0])) is not None:
            self.scales |= {name: scale for name in node.output}
        if self._never_negative(copy):
            self._positive.update(node.output)

    def finish(self) -> None:
        """Put the nodes in place, and say of tensors of the same numbers the same."""
        graph = self.proto.graph
        for value in graph.output:
            if value.name in self._names:
                source = self._names[value.name]
                self._nodes.append(helper.make_node("Identity", [source], [value.name]))
        for node in reversed(self._nodes):
            if node.op_type in ("Identity", "Dropout") and node.output[0] in self.tensors:
                self.tensors.setdefault(node.input[0], self.tensors[node.output[0]])
        del graph.node[:]
        graph.node.extend(self._nodes)
        del graph.value_info[:]  # of tensors that are no more
        read = {name for node in self._nodes for name in node.input}
        kept = [t for t in graph.initializer if t.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    # ---- nodes -----------------------------------------------------------------------------------
    def _quantize(self, node: Any, label: str) -> None:
        scale, zero, kind = self._numbers(node, label)
        low, high = _INTEGERS[kind]
        source, output = node.input[0], node.output[0]
        if source in self._constants and source not in self._values:
            real = numpy_helper.to_array(self._constants[source]).astype(np.float32)
            shaped, zeros = (_along(x, real.shape, node) for x in (scale, zero))
            steps = np.rint(real / shaped.astype(np.float32)).astype(np.float64) + zeros
            self._values[output] = np.clip(steps, low, high), kind
            return
        largest, point = _widest(scale, zero)
        grid = KeptTensor(scale=largest, zero_point=point, qmin=low, qmax=high)
        self._names[output] = self._names.get(source, source)
        self._grids[output] = grid

    def _narrow(self, node: Any, label: str) -> None:
        """Take in a Clip of integers: of each side that has a bound."""
        source, output = node.input[0], node.output[0]
        grid = self._grids[source]
        bounds = self._bounds(node, label)
        low, high = int(max(grid.qmin, bounds[0])), int(min(grid.qmax, bounds[1]))
        zero = grid.zero_point  # also where 0.0 does not occur
        narrow = replace(grid, qmin=min(low, zero), qmax=max(high, zero, low + 1))
        self._names[output] = self._names.get(source, source)
        self._grids[output] = narrow

    def _constant(self, node: Any, label: str) -> None:
        """Compute a node on integer weights: a Clip, or one that moves them."""
        source = node.input[0]
        if source not in self._values or node.op_type not in ("Clip", "Identity"):
            raise UnsupportedModelError(
                label,
                "must not compute with integer weights before DequantizeLinear",
                got=operator_of(node),
                hint="export the model in QDQ format",
            )
        values, kind = self._values[source]
        if node.op_type == "Clip":
            values = np.clip(values, *self._bounds(node, label))
        self._values[node.output[0]] = values, kind

    def _dequantize(self, node: Any, label: str) -> None:
        source, output = node.input[0], node.output[0]
        if source in self._values or source in self._constants:
            self._weight(node, label)
            return
        grid = self._grids.get(source)
        if grid is None:
            raise UnsupportedModelError(
                label,
                "must dequantize weights, or what a QuantizeLinear made",
                got=f"tensor {source}",
                hint="give the model a float32 input, and export it in QDQ format",
            )
        scale, zero, _ = self._numbers(node, label)
        same = np.allclose(scale, grid.scale, rtol=1e-6) and (zero == grid.zero_point).all()
        if len(scale) == 1 and not same:
            raise UnsupportedModelError(
                label,
                "must dequantize with the scale and zero point of its QuantizeLinear, "
                f"{grid.scale:g} and {grid.zero_point}",
                got=f"{scale[0]:g} and {zero[0]:g}",
                hint="export the model again",
            )
        real = self._names.get(source, source)
        inputs = {value.name for value in self.proto.graph.input}
        if grid.never_negative and real not in self._positive and real not in inputs:
            real = self._clip(real, output, grid)
        if real != output:
            self._names[output] = real
        # A tensor that is quantized in two ways has the first.
        self.tensors.setdefault(real, grid)
        if grid.never_negative:
            self._positive.add(output)

    def _clip(self, real: str, output: str, grid: KeptTensor) -> str:
        """Add the ReLU or ReLU6 that a pair was; return the tensor that it makes."""
        key = f"{real} {grid}"
        if key in self._clipped:
            return self._clipped[key]
        if default_opset(self.proto) < 11:
            node = helper.make_node("Clip", [real], [output], output, min=0.0, max=grid.highest)
        else:
            bounds = [f"{output}.min", f"{output}.max"]
            for name, bound in zip(bounds, (0.0, grid.highest), strict=True):
                tensor = numpy_helper.from_array(np.asarray(bound, np.float32), name)
                self.proto.graph.initializer.append(tensor)
            node = helper.make_node("Clip", [real, *bounds], [output], output)
        self._nodes.append(node)
        self._positive.add(output)
        self._clipped[key] = output
        return output

    def _weight(self, node: Any, label: str) -> None:
        """Make a float initializer of integer weights or of a bias."""
        source, output = node.input[0], node.output[0]
        scale, zero, _ = self._numbers(node, label)
        if source in self._values:
            values = self._values[source][0]
        else:
            values = numpy_helper.to_array(self._constants[source]).astype(np.float64)
        shaped, zeros = (_along(x, values.shape, node) for x in (scale, zero))
        real = (values - zeros).astype(np.float32) * shaped.astype(np.float32)
        name = _SUFFIX.sub("", output)
        if not name or name in self._taken:
            name = output
        else:
            self._names[output] = name
        tensor = numpy_helper.from_array(np.asarray(real, np.float32), name)
        self.proto.graph.initializer.append(tensor)
        self._taken.add(name)
        self._constants[name] = self._constants[output] = tensor
        if scale.ndim == 1:
            self.scales[name] = scale

    # ---- numbers ---------------------------------------------------------------------------------
    def _constant_of(self, name: str, label: str) -> NDArray[Any]:
        tensor = self._constants.get(name)
        if tensor is None:
            raise UnsupportedModelError(
                label,
                "must have a scale, zero point and limits that are constants",
                got=f"tensor {name}, which is computed",
                hint="export the model with static quantization",
            )
        return np.asarray(numpy_helper.to_array(tensor))

    def _bounds(self, node: Any, label: str) -> tuple[float, float]:
        """Return the bounds of a Clip of integers, infinite where there is none."""
        bounds = [-math.inf, math.inf]
        for place, name in enumerate(node.input[1:3]):
            if name:
                bounds[place] = float(self._constant_of(name, label).reshape(-1)[0])
        return bounds[0], bounds[1]

    def _numbers(
        self, node: Any, label: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Return scales and zero points, as the file shapes them but for scalars, and the type."""
        scale = np.atleast_1d(self._constant_of(node.input[1], label).astype(np.float64))
        named = len(node.input) > 2 and node.input[2]
        zero = np.zeros_like(scale)
        kind: int = next((a.i for a in node.attribute if a.name == "output_dtype" and a.i), 0)
        if named:
            kind = self._constants[named].data_type if named in self._constants else kind
            values = np.atleast_1d(self._constant_of(named, label))
        kind = kind or onnx.TensorProto.UINT8
        if node.op_type == DEQUANTIZE and not named:
            kind = onnx.TensorProto.INT32  # said by its input
        if kind not in _INTEGERS:
            raise UnsupportedModelError(
                label,
                "must quantize to integers of at most 32 bits",
                got=onnx.TensorProto.DataType.Name(kind),
                hint="quantize the model to int8 or uint8",
            )
        if named:
            zero = np.broadcast_to(values.astype(np.float64), scale.shape)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise UnsupportedModelError(
                label,
                "must have positive finite scales",
                got=f"{float(scale.min()):g}",
                hint="quantize the model again",
            )
        return scale, np.asarray(zero), kind

    def _never_negative(self, node: Any) -> bool:
        """Whether a node's results are never negative, whatever the image."""
        if node.op_type in _NOT_NEGATIVE:
            return True
        if node.op_type == "Clip":
            low = next((a.f for a in node.attribute if a.name == "min"), -math.inf)
            if len(node.input) > 1 and (tensor := self._constants.get(node.input[1])) is not None:
                low = float(numpy_helper.to_array(tensor).reshape(-1)[0])
            return low >= 0.0 or node.input[0] in self._positive
        if node.op_type not in _KEEPS_SIGN:
            return False
        read = [name for name in node.input if name]
        if node.op_type not in ("Add", "Sum", "Mul", "Max", "Min", "Concat"):
            read = read[:1]
        return all(self._holds(name) for name in read)

    def _holds(self, name: str) -> bool:
        tensor = self._constants.get(name)
        if tensor is None:
            return name in self._positive
        return bool((numpy_helper.to_array(tensor) >= 0).all())


def _widest(scale: NDArray[np.float64], zero: NDArray[np.float64]) -> tuple[float, int]:
    """Return the scale and zero point of a tensor; of several, the ones that span all."""
    index = int(np.argmax(scale))
    return float(scale.reshape(-1)[index]), int(zero.reshape(-1)[index])


def _along(values: NDArray[np.float64], shape: tuple[int, ...], node: Any) -> NDArray[np.float64]:
    """Shape scales or zero points to go with a tensor: one, one a channel, or one a block."""
    if values.size == 1 or not shape:
        return values.reshape(())
    attributes = {a.name: a.i for a in node.attribute}
    axis = attributes.get("axis", 1) % len(shape)
    if values.ndim == 1:
        return values.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    block = attributes.get("block_size") or -(-shape[axis] // values.shape[axis])
    wide = np.repeat(values, block, axis=axis)
    return np.asarray(wide.take(range(shape[axis]), axis=axis))
