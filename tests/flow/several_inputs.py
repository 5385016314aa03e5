"""A network with three inputs: images of two kinds, and a row of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Shapes of the inputs, less the batch.
LEFT, RIGHT, ROW = (3, 8, 8), (5, 8, 8), (7,)


def three_inputs(
    batch: int | str = 1, side: int | str = 8, *, channels_last: bool = False
) -> onnx.ModelProto:
    """Return a model: conv(left) and conv(right) side by side, row added to the pooled sum."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / 4, name)

    weights = [
        weight("left.weight", 16, 3, 3, 3), weight("right.weight", 16, 5, 3, 3),
        weight("both.weight", 16, 32, 3, 3), weight("row.weight", 7, 16),
        weight("last.weight", 16, 10),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["left", "left.weight"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["a.relu"]),
        helper.make_node("Conv", ["right", "right.weight"], ["b"], pads=[1] * 4),
        helper.make_node("Concat", ["a.relu", "b"], ["c"], axis=1),
        helper.make_node("Conv", ["c", "both.weight"], ["d"], pads=[1] * 4),
        helper.make_node("Relu", ["d"], ["d.relu"]),
        helper.make_node("GlobalAveragePool", ["d.relu"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["row", "row.weight"], ["g"]),
        helper.make_node("Add", ["f", "g"], ["h"]),
        helper.make_node("Relu", ["h"], ["h.relu"]),
        helper.make_node("MatMul", ["h.relu", "last.weight"], ["logits"]),
    ]
    left: tuple[int | str, ...] = (batch, 3, side, side)
    if channels_last:
        left = (batch, side, side, 3)
        nodes[0].input[0] = "left.first"
        nodes.insert(0, helper.make_node("Transpose", ["left"], ["left.first"], perm=[0, 3, 1, 2]))
    inputs = [
        helper.make_tensor_value_info("left", TensorProto.FLOAT, left),
        helper.make_tensor_value_info("right", TensorProto.FLOAT, (batch, *RIGHT)),
        helper.make_tensor_value_info("row", TensorProto.FLOAT, (batch, *ROW)),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (batch, 10))]
    graph = helper.make_graph(nodes, "three", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_images(folder: Path, count: int, *, files: int = 2, channels_last: bool = False) -> None:
    """Write images for it, `count` in each of several ``.npz`` files."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    left = (*LEFT[1:], LEFT[0]) if channels_last else LEFT
    for number in range(files):
        arrays = {
            name: rng.normal(size=(count, *shape)).astype(np.float32) * factor
            for name, shape, factor in (("left", left, 1), ("right", RIGHT, 9), ("row", ROW, 0.1))
        }
        np.savez(folder / f"{number}.npz", **arrays)  # type: ignore[arg-type]  # arrays by name
