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

    def integers(self, *values: int) -> str:
        name = f"constant{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def layer(self, x: str, read: int, made: int, kernel: int = 1, stride: int = 1) -> str:
        """Convolve, and a ReLU."""
        return self.node("Relu", [self.conv(x, read, made, kernel, stride)])

    def concat(self, *parts: str) -> str:
        return self.node("Concat", [*parts], axis=1)

    def cut(self, x: str, start: int, end: int, axis: int = 1) -> str:
        return self.node("Slice", [x, *map(self.integers, (start, end, axis))])

    def enlarged(self, x: str) -> str:
        """Repeat each row and column."""
        form = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x, "", self.constant([1, 1, 2, 2])], mode="nearest", **form)

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


def squeezenet() -> onnx.ModelProto:
    """Return two Fire modules as SqueezeNet's (Iandola et al., arXiv 1602.07360)."""
    net = Network((3, 24, 24))
    x, channels = net.layer("data", 3, 32, 3), 32
    for _ in range(2):
        small = net.layer(x, channels, 16)
        x = net.concat(net.layer(small, 16, 32), net.layer(small, 16, 32, 3))
        channels = 64
    return net.classifier(net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2]), 64, 5)


def densenet() -> onnx.ModelProto:
    """Return a dense block (Huang et al., arXiv 1608.06993); not all parts are whole blocks."""
    net = Network((3, 16, 16))
    x, channels = net.layer("data", 3, 16, 3), 16
    for growth in (16, 12, 8):
        x = net.concat(x, net.layer(net.layer(x, channels, 16), 16, growth, 3))
        channels += growth
    return net.classifier(net.layer(x, channels, 24), 24, 5)


def unet() -> onnx.ModelProto:
    """Return a U-Net of two levels that enlarges by nearest neighbours."""
    net = Network((3, 16, 16))
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    high = net.layer("data", 3, 16, 3)
    low = net.layer(net.node("MaxPool", [high], **pool), 16, 32, 3)
    x = net.layer(net.node("MaxPool", [low], **pool), 32, 32, 3)
    x = net.conv(net.concat(net.enlarged(x), low), 64, 16, 3)
    x = net.layer(net.concat(net.enlarged(x), high), 32, 16, 3)
    return net.classifier(x, 16, 5)


def shufflenet() -> onnx.ModelProto:
    """Return two units of ShuffleNet V2 (Ma et al., arXiv 1807.11164)."""
    net = Network((3, 12, 12))
    x = net.layer("data", 3, 32, 3)
    for _ in range(2):
        half = net.layer(net.cut(x, 16, 32), 16, 16)
        half = net.layer(net.conv(half, 16, 16, 3, groups=16), 16, 16)
        view = net.node(
            "Reshape", [net.concat(net.cut(x, 0, 16), half), net.integers(1, 2, 16, 12, 12)]
        )
        turned = net.node("Transpose", [view], perm=[0, 2, 1, 3, 4])
        x = net.node("Reshape", [turned, net.integers(1, 32, 12, 12)])
    return net.classifier(net.layer(x, 32, 24), 24, 5)


def yolo() -> onnx.ModelProto:
    """Return a part of a detector: a sum beside what it was made of, depth and space, padding."""
    net = Network((3, 16, 16))
    x = net.node("SpaceToDepth", ["data"], blocksize=2)
    x = net.layer(x, 12, 32, 3)
    left, right = net.cut(x, 0, 16), net.cut(x, 16, 32)
    total = net.node("Add", [right, net.layer(net.layer(right, 16, 16, 3), 16, 16, 3)])
    x = net.layer(net.concat(left, right, total), 48, 32)
    pool = {"kernel_shape": [5, 5], "strides": [1, 1], "pads": [2] * 4}
    x = net.conv(net.concat(x, net.node("MaxPool", [x], **pool)), 64, 16)
    x = net.node("DepthToSpace", [x], blocksize=2, mode="CRD")
    x = net.node("Pad", [x, net.integers(0, 0, 1, 0, 0, 0, 2, 1)])
    x = net.node("MaxPool", [net.cut(x, 1, 19, axis=2)], kernel_shape=[2, 2], strides=[2, 2])
    return net.classifier(net.conv(x, 4, 24), 24, 5)
