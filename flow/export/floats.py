"""Operators on floats, which the host runs: what ONNX calls them.

They are of operator set 13. Results are those of the module but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from tvm import relax

from flow.export.graph import GraphWriter
from relay_passes.graph import Expr, clip_limits, ints, op_name, static_shape

#: Writes one call: its operands' tensors and the name of its result in, the result's tensor out.
Writer: TypeAlias = Callable[[GraphWriter, Expr, list[str], str], str]

#: Operators that are the same node, with no attribute.
_SAME: Final[Mapping[str, str]] = MappingProxyType(
    {
        "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "power": "Pow",
        "maximum": "Max", "minimum": "Min", "nn.relu": "Relu", "sigmoid": "Sigmoid",
        "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "erf": "Erf", "abs": "Abs",
        "negative": "Neg", "floor": "Floor", "ceil": "Ceil", "sign": "Sign", "round": "Round",
        "matmul": "MatMul",
    }
)  # fmt: skip
#: Reductions that take axes as an input, or as an attribute.
_REDUCTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}
)


def _same(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    return graph.node(_SAME[op_name(call)], inputs, name)


def _reduce(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    kind, keep = _REDUCTIONS[op_name(call)], int(bool(call.attrs.keepdims))
    shape = static_shape(call.args[0])
    axes = range(len(shape)) if call.attrs.axis is None else ints(call.attrs.axis)
    if kind != "ReduceSum":
        return graph.node(kind, inputs, name, axes=list(axes), keepdims=keep)
    own = graph.number(list(axes), np.int64, f"{name}.axes")
    return graph.node(kind, [*inputs, own], name, keepdims=keep)


def _clip(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    bounds = [graph.number(limit, np.float32) for limit in clip_limits(call)]
    return graph.node("Clip", [inputs[0], *bounds], name)


def _softmax(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    kind = "LogSoftmax" if op_name(call) == "nn.log_softmax" else "Softmax"
    return graph.node(kind, inputs, name, axis=int(call.attrs.axis))


def _leaky(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    return graph.node("LeakyRelu", inputs, name, alpha=float(call.attrs.alpha))


def _silu(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    return graph.node("Mul", [inputs[0], graph.node("Sigmoid", inputs, f"{name}.sigmoid")], name)


def _rsqrt(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    return graph.node("Reciprocal", [graph.node("Sqrt", inputs, f"{name}.sqrt")], name)


def _trunc(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    """Write sign(x) * floor(|x|)."""
    size = graph.node("Floor", [graph.node("Abs", inputs, f"{name}.abs")], f"{name}.floor")
    return graph.node("Mul", [graph.node("Sign", inputs, f"{name}.sign"), size], name)


def _reshape(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    shape = graph.number(list(static_shape(call)), np.int64, f"{name}.shape")
    return graph.node("Reshape", [inputs[0], shape], name)


def _transpose(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    axes = call.attrs.axes
    order = range(len(static_shape(call)))[::-1] if axes is None else ints(axes)
    return graph.node("Transpose", inputs, name, perm=list(order))


def _concat(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    return graph.node("Concat", inputs, name, axis=int(call.attrs.axis))


def _windows(call: Expr) -> dict[str, Any]:
    """Return the attributes of a pool or convolution."""
    attrs = call.attrs
    size = {} if not hasattr(attrs, "pool_size") else {"kernel_shape": list(ints(attrs.pool_size))}
    return size | {
        "strides": list(ints(attrs.strides)),
        "pads": list(ints(attrs.padding)),
        **({} if not hasattr(attrs, "dilation") else {"dilations": list(ints(attrs.dilation))}),
    }


def _max_pool(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    return graph.node("MaxPool", inputs, name, **_windows(call) | _ceil(call))


def _average_pool(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    windows = {k: v for k, v in _windows(call).items() if k != "dilations"} | _ceil(call)
    counted = int(bool(call.attrs.count_include_pad))
    return graph.node("AveragePool", inputs, name, count_include_pad=counted, **windows)


def _ceil(call: Expr) -> dict[str, int]:
    return {"ceil_mode": 1} if bool(call.attrs.ceil_mode) else {}


def _conv(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    more = {"group": int(call.attrs.groups), **_windows(call)}
    if str(call.attrs.data_layout) == "NCHW":
        return graph.node("Conv", inputs, name, **more)
    data = graph.node("Transpose", inputs[:1], f"{name}.nchw", perm=[0, 3, 1, 2])
    weight = graph.node("Transpose", inputs[1:], f"{name}.oihw", perm=[3, 2, 0, 1])
    result = graph.node("Conv", [data, weight], f"{name}.conv", **more)
    return graph.node("Transpose", [result], name, perm=[0, 2, 3, 1])


def _transposed(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    extra = list(ints(call.attrs.output_padding))
    return graph.node(
        "ConvTranspose", inputs, name,
        group=int(call.attrs.groups), output_padding=extra, **_windows(call),
    )  # fmt: skip


#: How ONNX calls the ways to pad.
PAD_MODES: Final = {
    "constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap",
}  # fmt: skip


def _pad(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    widths = ints(call.attrs.pad_width)
    pads = graph.number([*widths[::2], *widths[1::2]], np.int64, f"{name}.pads")
    value = call.args[1] if len(call.args) > 1 else call.attrs.pad_value
    number = float(getattr(value, "value", value))
    fill = graph.number(number, np.float32)
    mode = PAD_MODES[str(call.attrs.pad_mode)]
    return graph.node("Pad", [inputs[0], pads, fill], name, mode=mode)


def _slice(graph: GraphWriter, call: Expr, inputs: list[str], name: str) -> str:
    lists = [[int(n.value) for n in part] for part in call.args[1:5] if part is not None]
    axes, begin, end, *rest = lists
    parts = [begin, end, axes, *(rest or [[1] * len(axes)])]
    roles = ("starts", "ends", "axes", "steps")
    numbers = [
        graph.number(p, np.int64, f"{name}.{role}") for p, role in zip(parts, roles, strict=True)
    ]
    return graph.node("Slice", [inputs[0], *numbers], name)


def _is_plain(call: Expr) -> bool:
    """Whether a call has the usual layouts, which ONNX has."""
    attrs = call.attrs
    layouts = {"data_layout": "NCHW", "layout": "NCHW"}
    if op_name(call) == "nn.conv2d":
        last = (str(attrs.data_layout), str(attrs.kernel_layout)) == ("NHWC", "HWIO")
        layouts |= {"data_layout": "NHWC"} if last else {"kernel_layout": "OIHW"}
    if op_name(call) == "nn.conv2d_transpose":
        layouts["kernel_layout"] = "IOHW"
    return all(str(getattr(attrs, key, want)) == want for key, want in layouts.items())


_WRITERS: Final[Mapping[str, Writer]] = MappingProxyType(
    {
        **dict.fromkeys(_SAME, _same),
        **dict.fromkeys(_REDUCTIONS, _reduce),
        **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
        **dict.fromkeys(("nn.softmax", "nn.log_softmax"), _softmax),
        "clip": _clip,
        "nn.leakyrelu": _leaky,
        "nn.silu": _silu,
        "rsqrt": _rsqrt,
        "trunc": _trunc,
        "permute_dims": _transpose,
        "concat": _concat,
        "nn.max_pool2d": _max_pool,
        "nn.avg_pool2d": _average_pool,
        "nn.conv2d": _conv,
        "nn.conv2d_transpose": _transposed,
        "nn.pad": _pad,
        "strided_slice": _slice,
    }
)


def writer_of(call: Expr) -> Writer | None:
    """Return what writes a call on floats; None where this export does not know it."""
    if not isinstance(call, relax.Call) or not _is_plain(call):
        return None
    return _WRITERS.get(op_name(call))
