"""Import ONNX's Clip (ReLU6) as the one operator R.clip.

TVM's importer makes functions of its own of a Clip, which no pass recognizes, so that it and the
layer before it would stay on the host. So it reads a Relu in each Clip's place, which then becomes
R.clip: Relus keep their number and order.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final, TypeAlias

import numpy as np
import onnx

from flow.frontend.simplify import clip_bounds, constants_of

#: Of float32.
_LARGEST: Final = float(np.finfo(np.float32).max)
#: ONNX tensor that a Clip computes -> its lower and upper bound.
Bounds: TypeAlias = Mapping[str, tuple[float, float]]


def hide_clips(proto: Any) -> tuple[Any, Bounds]:
    """Return the model with a Relu in place of each Clip of constant bounds, and the bounds.

    Parameters
    ----------
    proto : onnx.ModelProto
        Not changed; returned itself where it has no Clip.
    """
    if all(node.op_type != "Clip" for node in proto.graph.node):
        return proto, {}
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    constants = constants_of(result.graph)
    bounds: dict[str, tuple[float, float]] = {}
    for node in result.graph.node:
        if node.op_type == "Clip" and (limits := _limits(node, constants)) is not None:
            bounds[node.output[0]] = limits
            node.op_type = "Relu"
            del node.input[1:], node.attribute[:]
    return result, bounds


def _limits(node: Any, constants: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return a Clip's bounds: attributes before version 11, then inputs; None when not known.

    The largest number of float32 stands for no bound on one side.
    """
    low, high = clip_bounds(node, constants) or (-inf, inf)
    if not low <= high or (low, high) == (-inf, inf):  # no NaN either
        return None
    return max(low, -_LARGEST), min(high, _LARGEST)


def restore_clips(mod: Any, tensors: Mapping[str, str], bounds: Bounds) -> Any | None:
    """Return the imported module with R.clip where `hide_clips` put a Relu.

    None when that cannot be told: it is not known what the variables are, or one is an integer.

    Parameters
    ----------
    mod : IRModule
        As imported.
    tensors : mapping
        Name of a variable -> ONNX tensor.
    bounds : mapping
        As `hide_clips` returns them.
    """
    from tvm import relax  # takes seconds

    from relay_passes.graph import dtype_of, op_name, read_graph, rewrite

    relus = {
        b.var.name: b.var
        for b in read_graph(mod).bindings
        if op_name(b.value) == "nn.relu" and tensors.get(b.var.name) in bounds
    }
    if len(relus) != len(bounds) or any(dtype_of(var) != "float32" for var in relus.values()):
        return None

    def visit(builder: Any, var: Any, value: Any) -> Any:
        return (
            relax.op.clip(value.args[0], *bounds[tensors[var.name]]) if var.name in relus else value
        )

    return rewrite(mod, visit)


def with_float_bounds(value: Any) -> Any:
    """Return a clip of floats with bounds that are floats; the importer writes some as integers."""
    from tvm import relax

    from relay_passes.graph import dtype_of, op_name

    if op_name(value) != "clip" or not dtype_of(value.args[0]).startswith("float"):
        return value
    low, high = (getattr(bound.value, "value", bound.value) for bound in value.args[1:])
    return relax.op.clip(value.args[0], float(low), float(high))
