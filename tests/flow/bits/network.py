"""A small residual network, and a pipeline that is calibrated for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from tests.flow.onnx_models import save, weights
from vta_config import VTAConfig

#: In order; `down` reads what `b.1` reads.
LAYERS = ("stem", "a.1", "a.2", "b.1", "b.2", "down", "head")


def residual_model() -> onnx.ModelProto:
    """Build a stem, a residual block, one with a downsample, and a dense layer of 5 classes."""
    rng = np.random.default_rng(3)

    def conv(name: str, x: str, y: str, stride: int = 1, kernel: int = 3) -> onnx.NodeProto:
        return helper.make_node(
            "Conv", [x, f"{name}.weight"], [y], name=name, pads=[kernel // 2] * 4,
            strides=[stride] * 2,
        )  # fmt: skip

    def relu(x: str, y: str) -> onnx.NodeProto:
        return helper.make_node("Relu", [x], [y], name=y)

    nodes = [
        conv("stem", "data", "stem"), relu("stem", "stem.r"),
        conv("a.1", "stem.r", "a.1"), relu("a.1", "a.1.r"), conv("a.2", "a.1.r", "a.2"),
        helper.make_node("Add", ["a.2", "stem.r"], ["a"], name="a"), relu("a", "a.r"),
        conv("b.1", "a.r", "b.1", 2), relu("b.1", "b.1.r"), conv("b.2", "b.1.r", "b.2"),
        conv("down", "a.r", "down", 2, 1),
        helper.make_node("Add", ["b.2", "down"], ["b"], name="b"), relu("b", "b.r"),
        helper.make_node("GlobalAveragePool", ["b.r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node(
            "Gemm", ["f", "head.weight", "head.bias"], ["head"], name="head", transB=1
        ),
    ]  # fmt: skip

    def values(*shape: int) -> Any:
        return rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)

    tensors = weights(
        stem__weight=values(16, 3, 3, 3),
        a__1__weight=values(16, 16, 3, 3), a__2__weight=values(16, 16, 3, 3),
        b__1__weight=values(32, 16, 3, 3), b__2__weight=values(32, 32, 3, 3),
        down__weight=values(32, 16, 1, 1),
        head__weight=values(5, 32), head__bias=values(5),
    )  # fmt: skip
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 16, 16])
    logits = helper.make_tensor_value_info("head", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "residual", [data], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def calibrated(config: VTAConfig, folder: Path, images: int = 4) -> Pipeline:
    """Return a pipeline of the network, calibrated on images of noise."""
    pipeline = Pipeline(import_model(save(residual_model(), folder / "residual.onnx")), config)
    rng = np.random.default_rng(5)
    pipeline.calibrate(rng.normal(size=(images, 1, 3, 16, 16)).astype(np.float32))
    return pipeline
