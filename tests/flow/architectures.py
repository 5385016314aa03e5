"""Architectures that people deploy, as ONNX models with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """A chain of ONNX nodes; each method appends to tensor `x` and returns what it makes."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.shape = shape
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], f"{output}_node", **attributes))
        return output

    def constant(self, value: Any) -> str:
        name = f"constant{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def conv(
        self, x: str, read: int, made: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> str:
        """Convolve with a bias, padded so that a stride of 1 keeps the size."""
        fan = read // groups * kernel * kernel
        weight = self.rng.normal(0, (2 / fan) ** 0.5, (made, read // groups, kernel, kernel))
        inputs = [x, self.constant(weight), self.constant(self.rng.normal(0, 0.1, made))]
        pads = [kernel // 2] * 4
        return self.node("Conv", inputs, pads=pads, strides=[stride] * 2, group=groups)

    def relu6(self, x: str) -> str:
        return self.node("Clip", [x, self.constant(0.0), self.constant(6.0)])

    def classifier(self, x: str, channels: int, classes: int) -> onnx.ModelProto:
        """End with a global average pool and a dense layer; return the model."""
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        weight = self.constant(self.rng.normal(0, channels**-0.5, (classes, channels)))
        bias = self.constant(np.zeros(classes))
        x = self.node("Gemm", [x, weight, bias], transB=1)
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, *self.shape])],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, classes])],
            self.tensors,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def mobilenet_v2(size: int = 224, classes: int = 1000) -> onnx.ModelProto:
    """Return MobileNetV2 1.0 (Sandler et al., arXiv 1801.04381), BatchNorm folded."""
    net = Network((3, size, size))
    x, channels = net.relu6(net.conv("data", 3, 32, 3, 2)), 32
    for expansion, made, repeats, first in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for stride in [first] + [1] * (repeats - 1):
            wide, y = channels * expansion, x
            if expansion > 1:
                y = net.relu6(net.conv(y, channels, wide))
            y = net.relu6(net.conv(y, wide, wide, 3, stride, groups=wide))
            y = net.conv(y, wide, made)
            x = net.node("Add", [x, y]) if stride == 1 and channels == made else y
            channels = made
    x = net.relu6(net.conv(x, channels, 1280))
    return net.classifier(x, 1280, classes)
