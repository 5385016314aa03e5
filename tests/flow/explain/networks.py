"""Small networks of which it is known what bounds them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flow.estimate import estimated
from flow.explain.explain import Compiled
from flow.options import Options
from flow.stages import Stages
from tests.flow.onnx_models import save


def conv_net(
    channels: tuple[int, ...], *, size: int, kernel: int, between: str = "Relu", **attributes: float
) -> onnx.ModelProto:
    """Build convolutions ``c1``, ``c2``, ... with an operator ``a1``, ... between two of them."""
    rng = np.random.default_rng(0)
    nodes, tensors, last = [], [], "x"
    for k, (before, behind) in enumerate(pairwise(channels), start=1):
        weight = rng.normal(size=(behind, before, kernel, kernel)).astype(np.float32)
        tensors.append(numpy_helper.from_array(weight, f"c{k}.weight"))
        nodes.append(
            helper.make_node(
                "Conv", [last, f"c{k}.weight"], [f"c{k}_out"], name=f"conv{k}",
                pads=[kernel // 2] * 4,
            )
        )  # fmt: skip
        last = f"c{k}_out"
        if k + 1 < len(channels):
            nodes.append(
                helper.make_node(between, [last], [f"a{k}_out"], name=f"act{k}", **attributes)
            )
            last = f"a{k}_out"
    shape = [1, channels[0], size, size]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, channels[-1], size, size])],
        tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)


def bus_bound() -> onnx.ModelProto:
    """Build 1×1 convolutions of four pixels: reading a weight takes longer than using it."""
    return conv_net((256, 256, 256, 256), size=2, kernel=1)


def gemm_bound() -> onnx.ModelProto:
    """Build 3×3 convolutions of many pixels and few weights."""
    return conv_net((16, 32, 32, 32), size=24, kernel=3)


def compiled(
    model: onnx.ModelProto, folder: Path, config: str = "default", variant: str | None = None
) -> Compiled:
    """Quantize a network on random tensors and compile it."""
    path = save(model, folder / "net.onnx")
    return estimated(Options(model=str(path), config=config), Stages(), variant)[1]
