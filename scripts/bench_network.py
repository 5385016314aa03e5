"""What `bench` measures: the ImageNet ResNet-18 with random weights, and images of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from flow.data.datasets import Dataset, Preprocessing

CHANNELS = (64, 128, 256, 512)
CLASSES = 1000
INPUT_PIXELS = 224


class ResNet18:
    """Collects the nodes and random weights of a ResNet-18 (arXiv 1512.03385)."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, *shape: int) -> str:
        """Add a weight with the variance that keeps activations in range (He, 2 / fan_in).

        Laplace: trained weights have heavier tails than a normal distribution.
        """
        fan_in = int(np.prod(shape[1:]))
        values = self.rng.laplace(0, (1 / fan_in) ** 0.5, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return its output."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def conv(self, name: str, x: str, ic: int, oc: int, kernel: int, stride: int) -> str:
        """Add a convolution with a bias: BatchNorm folded."""
        weight = self.weight(f"{name}.weight", oc, ic, kernel, kernel)
        bias = self.rng.normal(0, 0.1, oc).astype(np.float32)
        self.weights.append(numpy_helper.from_array(bias, f"{name}.bias"))
        edge, strides = [kernel // 2] * 4, [stride] * 2
        return self.node("Conv", name, x, weight, f"{name}.bias", pads=edge, strides=strides)

    def block(self, name: str, x: str, ic: int, oc: int) -> str:
        """Add a basic block."""
        stride = 1 if ic == oc else 2
        y = self.conv(f"{name}.conv1", x, ic, oc, 3, stride)
        y = self.conv(f"{name}.conv2", self.node("Relu", f"{name}.relu1", y), oc, oc, 3, 1)
        skip = x if ic == oc else self.conv(f"{name}.downsample.0", x, ic, oc, 1, stride)
        return self.node("Relu", f"{name}.relu", self.node("Add", f"{name}.add", y, skip))

    def model(self) -> Any:
        """Return the onnx.ModelProto."""
        shape = [1, 3, INPUT_PIXELS, INPUT_PIXELS]
        x = self.node("Relu", "relu", self.conv("conv1", "input", 3, CHANNELS[0], 7, 2))
        pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
        x = self.node("MaxPool", "maxpool", x, **pool)
        channels = CHANNELS[0]
        for stage, width in enumerate(CHANNELS, start=1):
            for index in range(2):
                x = self.block(f"layer{stage}.{index}", x, channels, width)
                channels = width
        x = self.node("Flatten", "flatten", self.node("GlobalAveragePool", "avgpool", x))
        weight = self.weight("fc.weight", CLASSES, CHANNELS[-1])
        x = self.node("Gemm", "logits", x, weight, transB=1)
        graph = helper.make_graph(
            self.nodes,
            "resnet18",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, CLASSES])],
            self.weights,
        )
        opset = helper.make_opsetid("", 13)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


@dataclass(frozen=True, slots=True)
class _Noise:
    """Images of noise, all different, drawn when they are used."""

    count: int
    height: int
    width: int

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> Image.Image:
        shape = (self.height, self.width, 3)
        pixels = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        return Image.fromarray(pixels)

    def where(self, index: int) -> str:
        return f"noise {index}"


def noise(count: int, shape: tuple[int, ...]) -> Dataset:
    """Return `count` images of noise for an input [1, C, H, W]."""
    preprocessing = Preprocessing.for_input(shape, ratio=1.0)
    source = _Noise(count, preprocessing.height, preprocessing.width)
    return Dataset(name="noise", source=source, preprocessing=preprocessing)
