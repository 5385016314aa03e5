"""Models that are quantized already, in the forms that the usual tools write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.data.datasets import Dataset


def constant(name: str, value: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    """Make an initializer."""
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[onnx.TensorProto],
    *,
    shape: tuple[int, ...] = (1, 3, 8, 8),
    classes: int = 5,
    opset: int = 13,
) -> onnx.ModelProto:
    """Make a model float32[shape] ``x`` -> float32[1, classes] ``y``."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "quantized",
        [value("x", onnx.TensorProto.FLOAT, list(shape))],
        [value("y", onnx.TensorProto.FLOAT, [1, classes])],
        list(tensors),
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )


class Builder:
    """Collects nodes and constants of a QDQ model."""

    def __init__(self) -> None:
        """Start without any."""
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node, return its output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def tensor(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant, return its name."""
        self.tensors.append(constant(name, value, dtype))
        return name

    def pair(
        self,
        source: str,
        scale: Any,
        zero: Any,
        dtype: Any,
        *,
        clip: tuple[int, int] | None = None,
        axis: int | None = None,
        domain: str = "",
    ) -> str:
        """Add QuantizeLinear, perhaps Clip, and DequantizeLinear; return the real tensor."""
        numbers = [self.tensor(f"{source}.s", scale), self.tensor(f"{source}.z", zero, dtype)]
        more: dict[str, Any] = {} if axis is None else {"axis": axis}
        more |= {"domain": domain} if domain else {}
        q = self.node("QuantizeLinear", [source, *numbers], f"{source}.q", **more)
        if clip is not None:
            bounds = [self.tensor(f"{q}.{i}", b, dtype) for i, b in enumerate(clip)]
            q = self.node("Clip", [q, *bounds], f"{q}.clip")
        return self.node("DequantizeLinear", [q, *numbers], f"{source}.dq", **more)

    def weight(
        self, name: str, integers: NDArray[Any], scale: Any, zero: Any = 0, *, axis: int = 0
    ) -> str:
        """Add an integer weight and its DequantizeLinear; return the real tensor."""
        scales = np.asarray(scale, np.float32)
        zeros = np.broadcast_to(np.asarray(zero, integers.dtype), scales.shape)
        inputs = [
            self.tensor(f"{name}_quantized", integers, integers.dtype),
            self.tensor(f"{name}_scale", scales),
            self.tensor(f"{name}_zero_point", zeros, integers.dtype),
        ]
        more = {"axis": axis} if scales.ndim else {}
        return self.node("DequantizeLinear", inputs, f"{name}_DequantizeLinear_Output", **more)


def with_clips(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a QDQ model in Brevitas' form: a Clip of integers in every pair (QCDQ)."""
    result, nodes = onnx.ModelProto(), []
    result.CopyFrom(proto)
    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in proto.graph.node:
        nodes.append(node)
        if node.op_type != "QuantizeLinear":
            continue
        zero = constants[node.input[2]]
        bounds = (
            (0, 255) if zero.dtype == np.uint8 else (-128 if (zero == -128).all() else -127, 127)
        )
        names = [f"{node.output[0]}.{side}" for side in ("low", "high")]
        pairs = zip(names, bounds, strict=True)
        result.graph.initializer.extend(constant(name, b, zero.dtype) for name, b in pairs)
        clipped = node.output[0]
        node.output[0] = f"{clipped}.raw"
        nodes.append(helper.make_node("Clip", [f"{clipped}.raw", *names], [clipped]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(copies)
    return result


def with_float_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a QDQ model in NNCF's form: float weights that pairs quantize."""
    result, nodes = onnx.ModelProto(), []
    result.CopyFrom(proto)
    constants = {t.name: t for t in result.graph.initializer}
    for node in proto.graph.node:
        source = constants.get(node.input[0])
        if node.op_type != "DequantizeLinear" or source is None or "bias" in source.name:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(source).astype(np.float32)
        scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        shape = [-1] + [1] * (values.ndim - 1) if scale.ndim else []
        real = (values - zero.reshape(shape)) * scale.reshape(shape)
        source.CopyFrom(constant(source.name, real))
        attributes = {a.name: a.i for a in node.attribute}
        inputs = [source.name, *node.input[1:3]]
        nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{source.name}.q"], **attributes))
        inputs[0] = f"{source.name}.q"
        nodes.append(helper.make_node("DequantizeLinear", inputs, node.output, **attributes))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(copies)
    return result


def run(proto: onnx.ModelProto, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return ONNX Runtime's logits of images, float32[images, classes]."""
    network = session(proto)
    return np.stack([network(image).ravel() for image in images])


def session(
    proto: onnx.ModelProto, *, optimize: bool = True
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what computes the first output of a model, on ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = found.get_inputs()[0].name

    def compute(image: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = found.run(None, {name: image})[0]
        return result

    return compute


def quantized_by_onnxruntime(
    proto: onnx.ModelProto,
    images: Dataset,
    folder: Any,
    *,
    signed: bool,
    per_channel: bool,
    symmetric: bool = False,
) -> onnx.ModelProto:
    """Return a float model quantized by ONNX Runtime's static quantization, in QDQ format."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            self._left = iter(range(len(images)))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            index = next(self._left, None)
            return None if index is None else {proto.graph.input[0].name: images[index]}

    plain, folded, quantized = (str(folder / f"{name}.onnx") for name in ("plain", "pre", "qdq"))
    onnx.save(proto, plain)
    quant_pre_process(plain, folded, skip_symbolic_shape=True)
    quantize_static(
        folded,
        quantized,
        Reader(),
        per_channel=per_channel,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric},
    )
    return onnx.load(quantized)
