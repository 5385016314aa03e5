"""Networks with squeeze-and-excitation: feature maps times one number per channel."""

from __future__ import annotations

import numpy as np
import onnx

from tests.flow.qdq_models import Builder, model


def excited(
    *, gate: str = "Sigmoid", act: str = "Relu", swapped: bool = False, flat: bool = False
) -> onnx.ModelProto:
    """Return conv -> squeeze-and-excitation -> conv, twice -> dense; [1, 3, 8, 8] to [1, 5].

    Parameters
    ----------
    gate, act : str
        Operators that make the factors, and the feature maps.
    swapped : bool
        Whether the factors are the first operand.
    flat : bool
        Whether the factors are made by dense layers, and reshaped.
    """
    rng = np.random.default_rng(5)
    b = Builder()

    def weight(name: str, *shape: int) -> str:
        return b.tensor(name, rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])))

    def layer(x: str, name: str, inputs: int, outputs: int) -> str:
        if flat:
            w, bias = weight(f"{name}.weight", outputs, inputs), weight(f"{name}.bias", outputs)
            return b.node("Gemm", [x, w, bias], name, transB=1)
        w = weight(f"{name}.weight", outputs, inputs, 1, 1)
        return b.node("Conv", [x, w, weight(f"{name}.bias", outputs)], name)

    x = "x"
    for block, (inputs, channels) in enumerate([(3, 24), (24, 20)]):
        w = weight(f"conv{block}.weight", channels, inputs, 3, 3)
        x = b.node("Conv", [x, w], f"conv{block}", pads=[1, 1, 1, 1])
        x = b.node(act, [x], f"act{block}")
        s = b.node("GlobalAveragePool", [x], f"squeeze{block}")
        if flat:
            s = b.node("Flatten", [s], f"squeeze{block}.flat")
        s = b.node("Relu", [layer(s, f"reduce{block}", channels, 8)], f"reduce{block}.relu")
        s = b.node(gate, [layer(s, f"expand{block}", 8, channels)], f"gate{block}")
        if flat:
            shape = b.tensor(f"shape{block}", [1, channels, 1, 1], np.int64)
            s = b.node("Reshape", [s, shape], f"gate{block}.map")
        x = b.node("Mul", [s, x] if swapped else [x, s], f"mul{block}")
    x = b.node("Conv", [x, weight("last.weight", 24, 20, 1, 1)], "last")
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x], "pool")], "pool.flat")
    b.node("Gemm", [x, weight("fc.weight", 5, 24)], "y", transB=1)
    proto = model(b.nodes, b.tensors)
    proto.opset_import[0].version = 14
    return proto
