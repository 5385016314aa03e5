"""Small ONNX models that tests build on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def weights(**arrays: Any) -> list[onnx.TensorProto]:
    """Make float32 initializers; a double underscore in a name stands for a dot."""
    return [
        numpy_helper.from_array(np.asarray(a, np.float32), n.replace("__", "."))
        for n, a in arrays.items()
    ]


def tiny_model(
    *,
    shape: tuple[Any, ...] = ("N", 3, 8, 8),
    elem_type: int = TensorProto.FLOAT,
    extra: tuple[onnx.NodeProto, ...] = (),
    weight: str = "stem.weight",
    opset: int = 13,
    weights_as_inputs: bool = False,
    conv_name: str = "conv_node",
    seed: int = 0,
) -> onnx.ModelProto:
    """Build conv 3x3 -> relu -> (extra: r -> e) -> global average pool -> gemm, 5 classes."""
    rng = np.random.default_rng(seed)
    last = "e" if extra else "r"
    nodes = [
        helper.make_node("Conv", ["data", weight], ["c"], name=conv_name, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        *extra,
        helper.make_node("GlobalAveragePool", [last], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "head.weight", "head.bias"], ["logits"], name="g", transB=1),
    ]
    tensors = [
        numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), weight),
        *weights(head__weight=rng.normal(size=(5, 4)), head__bias=rng.normal(size=5)),
    ]
    inputs = [helper.make_tensor_value_info("data", elem_type, list(shape))]
    if weights_as_inputs:
        inputs += [
            helper.make_tensor_value_info(t.name, TensorProto.FLOAT, list(t.dims)) for t in tensors
        ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "tiny", inputs, [output], tensors)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("my.domain", 1)],
        ir_version=3 if weights_as_inputs else 8,
    )


def norm_model(*, channels: int = 3, size: int = 8, folded: bool = False) -> onnx.ModelProto:
    """Build conv 3x3 -> BatchNorm -> relu -> global average pool -> gemm, 5 classes.

    `folded`: the statistics say nothing, mean 0 and variance 1.
    """
    rng = np.random.default_rng(0)
    node = helper.make_node
    mean, variance = (np.zeros(4), np.ones(4)) if folded else (rng.normal(size=4), np.full(4, 2.0))
    tensors = weights(
        stem__weight=rng.normal(size=(4, channels, 3, 3)),
        norm__scale=rng.uniform(0.5, 2, 4),
        norm__bias=rng.normal(size=4),
        norm__mean=mean,
        norm__var=variance,
        head__weight=rng.normal(size=(5, 4)),
        head__bias=rng.normal(size=5),
    )
    nodes = [
        node("Conv", ["data", "stem.weight"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", *(t.name for t in tensors[1:5])], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    shape = ["N", channels, size, size]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "normed", [data], [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write `model` without any check."""
    path.write_bytes(model.SerializeToString())
    return path
