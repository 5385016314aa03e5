"""Say what ONNX says in several ways in the one way that TVM's importer and the passes know.

- Dropout, which does nothing at inference, becomes Identity: the importer makes a pair of tensors.
- ``auto_pad`` SAME_UPPER and SAME_LOWER become numbers: else padding is an operator.
- So do the rows and columns that a pool's ``ceil_mode`` adds.
- A Pad of zeros joins the convolutions that read it, and one of the least number max-pools.
- A Sum becomes Adds.
- A Slice by attributes, as before operator set 10, becomes one by inputs.
- A Clip from 0 without an upper bound becomes Relu.
- A ConvTranspose's ``output_shape``, and its ``auto_pad``, become numbers.
- Resize by nearest neighbours is gathered where TVM reads it otherwise (`flow.frontend.resize`).
- Pools of windows of one number, and Pads by nothing, become Identity: they do nothing.
- A BatchNormalization that trains becomes InstanceNormalization, which it is for one image.
- Optional results that nobody reads, nodes none of whose results are read, and constants that
  nobody reads are dropped.
- An AveragePool of the whole image, and a ReduceMean over it, become GlobalAveragePool.
- Other pools of whole images, rows or columns become pools of windows (`flow.frontend.pools`).
- Some operators become others that they are a form of (`flow.frontend.plain_forms`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flow.frontend.onnx_nodes import attributes_of, integers_of, live_nodes, set_nodes
from flow.frontend.onnx_shapes import Shapes, infer_shapes
from flow.frontend.plain_forms import PLAIN, needs_shapes, plain_form
from flow.frontend.pools import along_axis, global_max, without_ceil_mode
from flow.frontend.resize import resized

_SAME: Final = ("SAME_UPPER", "SAME_LOWER")
#: What is padded with this or less is padded with less than all numbers.
_LEAST: Final = -1e30
#: Reductions, and pools of the whole image.
_REDUCES: Final = ("ReduceMean", "ReduceMax", "GlobalMaxPool")
#: Operators that are rewritten by the shape of what they read.
_SHAPED: Final = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", *_REDUCES)


def simplify(proto: Any) -> Any:
    """Return the model with these nodes rewritten; `proto` is not changed.

    Parameters
    ----------
    proto : onnx.ModelProto
        Checked, of one static input shape.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    constants = constants_of(result.graph)
    outputs = {value.name for value in result.graph.output}
    read = outputs | {name for node in result.graph.node for name in node.input}
    versions = {entry.domain: entry.version for entry in result.opset_import}
    shapes: Shapes | None = None
    nodes: list[Any] = []
    rest = [*result.graph.node][::-1]
    while rest:
        node = rest.pop()
        if node.op_type in PLAIN:
            if shapes is None and needs_shapes(node):
                shapes = infer_shapes(proto)
            plain = plain_form(node, shapes or {}, constants, versions.get("", 1))
            if plain is not None:
                rest += plain.nodes[::-1]
                result.graph.initializer.extend(plain.tensors)
                constants |= {tensor.name: tensor for tensor in plain.tensors}
                continue
        if _trains(node) and read.isdisjoint(node.output[1:]):
            # The statistics are those of the one image, channel by channel.
            epsilon = attributes_of(node).get("epsilon", 1e-5)
            node = helper.make_node(
                "InstanceNormalization", node.input[:3], node.output[:1], node.name, epsilon=epsilon
            )
        _drop_unread(node, read, versions)
        if _does_nothing(node, constants):
            node = helper.make_node("Identity", node.input[:1], node.output, node.name)
        elif node.op_type == "Dropout" and _is_inference(node, constants, read):
            node = helper.make_node("Identity", node.input[:1], node.output[:1], node.name)
        elif node.op_type == "Clip" and clip_bounds(node, constants) == (0.0, float("inf")):
            node = helper.make_node("Relu", node.input[:1], node.output[:1], node.name)
        elif node.op_type == "Slice" and len(node.input) == 1:
            node, tensors = _with_slice_inputs(node)
            result.graph.initializer.extend(tensors)
        elif node.op_type == "Sum":
            nodes += _adds(node)
            continue
        elif node.op_type in ("Resize", "Upsample") and not node.domain:
            shapes = infer_shapes(proto) if shapes is None else shapes
            shape = shapes.get(node.input[0], ())
            made, tensors = resized(node, shape, constants, versions.get("", 1))
            nodes += made
            result.graph.initializer.extend(tensors)
            continue
        elif node.op_type in _SHAPED:
            if shapes is None and _needs_shapes(node):
                shapes = infer_shapes(proto)
            nodes += _with_shapes(node, shapes or {}, constants, versions.get("", 1))
            continue
        nodes.append(node)
    set_nodes(result.graph, live_nodes(_joined_pads(nodes, constants, outputs), outputs))
    _drop_unread_constants(result.graph, outputs)
    return result


def _trains(node: Any) -> bool:
    """Whether a BatchNormalization computes statistics: said by its results before version 14."""
    return node.op_type == "BatchNormalization" and (
        len(node.output) > 1 or bool(attributes_of(node).get("training_mode", 0))
    )


def _drop_unread(node: Any, read: set[str], versions: Mapping[str, int]) -> None:
    """Drop the last results of a node that it need not compute, as far as nobody reads them."""
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    while len(node.output) > 1 and len(node.output) <= len(schema.outputs):
        last = len(node.output) - 1
        if node.output[last] in read or schema.outputs[last].option != optional:
            return
        del node.output[last]


def _drop_unread_constants(graph: Any, outputs: set[str]) -> None:
    """Drop what nobody reads: TVM's importer reads all, and knows neither texts nor some types."""
    read = outputs | {name for node in graph.node for name in node.input}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in read:
            del graph.initializer[index]


def _does_nothing(node: Any, constants: Mapping[str, Any]) -> bool:
    """Whether a pool or Pad passes its input on."""
    attributes = attributes_of(node)
    if node.op_type in ("MaxPool", "AveragePool"):
        small = {1} >= {*attributes.get("kernel_shape", (0,)), *attributes.get("strides", ())}
        return small and not any(attributes.get("pads", ())) and len(node.output) == 1
    if node.op_type != "Pad":
        return False
    pads = integers_of(node, "pads", constants)
    return pads is not None and not np.any(pads)


def constants_of(graph: Any) -> dict[str, Any]:
    """Map initializers and outputs of Constant nodes to their tensors, None where not a tensor."""
    constants: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = next(
                (a.t for a in node.attribute if a.name == "value"), None
            )
    return constants


def clip_bounds(node: Any, constants: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return a Clip's bounds, from attributes or constant inputs, infinite where there is none.

    None when one is computed.
    """
    given = {a.name: float(a.f) for a in node.attribute}
    for key, source in zip(("min", "max"), node.input[1:], strict=False):
        if not source:
            continue
        if (tensor := constants.get(source)) is None or math.prod(tensor.dims) != 1:
            return None
        given[key] = float(numpy_helper.to_array(tensor).reshape(-1)[0])
    return given.get("min", float("-inf")), given.get("max", float("inf"))


def _is_inference(node: Any, constants: Mapping[str, Any], read: set[str]) -> bool:
    """Whether a Dropout passes its input on and nobody wants its mask."""
    if any(name in read for name in node.output[1:] if name):
        return False
    training = node.input[2] if len(node.input) > 2 else ""
    if not training:
        return True
    tensor = constants.get(training)
    return tensor is not None and not numpy_helper.to_array(tensor).any()


def _with_slice_inputs(node: Any) -> tuple[Any, list[Any]]:
    """Return a Slice by inputs for one by attributes, and the constants that it reads."""
    given = attributes_of(node)
    given.setdefault("axes", list(range(len(given.get("starts", ())))))
    names = {key: f"{node.output[0]}.{key}" for key in ("starts", "ends", "axes")}
    tensors = [
        numpy_helper.from_array(np.asarray(given.get(key, ()), np.int64), name)
        for key, name in names.items()
    ]
    return helper.make_node(
        "Slice", [node.input[0], *names.values()], node.output, node.name
    ), tensors


def _adds(node: Any) -> list[Any]:
    """Return a chain of Adds for a Sum."""
    first, *others = node.input
    if not others:
        return [helper.make_node("Identity", node.input, node.output, node.name)]
    sums = [f"{node.output[0]}.sum{i}" for i in range(len(others) - 1)] + [node.output[0]]
    lefts = [first, *sums[:-1]]
    return [
        helper.make_node("Add", [left, right], [total], node.name)
        for left, right, total in zip(lefts, others, sums, strict=True)
    ]


def _auto_pad(attributes: Mapping[str, Any]) -> str:
    value: bytes = attributes.get("auto_pad", b"NOTSET")
    return value.decode()


def _needs_shapes(node: Any) -> bool:
    pools = node.op_type in ("AveragePool", *_REDUCES)
    return pools or bool({"auto_pad", "ceil_mode", "output_shape"} & attributes_of(node).keys())


def _with_shapes(
    node: Any, shapes: Shapes, constants: Mapping[str, Any], version: int
) -> list[Any]:
    """Return what a convolution, pool or mean becomes."""
    attributes, shape = attributes_of(node), shapes.get(node.input[0], ())
    if node.op_type in _REDUCES:
        return _reduced(node, attributes, shape, constants)
    weight = shapes.get(node.input[1], ()) if node.op_type in ("Conv", "ConvTranspose") else ()
    kernel = tuple(attributes.get("kernel_shape", weight[2:]))
    if len(shape) != 4 or len(kernel) != 2:
        return [node]
    if node.op_type == "AveragePool":
        whole = kernel == shape[2:] and not any(attributes.get("pads", ()))
        whole &= _auto_pad(attributes) not in _SAME  # which has a window around every pixel
        if whole and all(d == 1 for d in attributes.get("dilations", ())):
            return [_global_average(node, node.output[0])]
    if node.op_type == "ConvTranspose":
        return [_transposed(node, attributes, shape[2:], kernel)]
    if (mode := _auto_pad(attributes)) in _SAME:
        pads = _same_pads(mode, attributes, shape[2:], kernel)
    elif mode == "NOTSET" and attributes.get("ceil_mode"):
        pads = _ceil_pads(attributes, shape[2:], kernel)
    else:
        return [node]
    kept = {k: v for k, v in attributes.items() if k not in ("auto_pad", "ceil_mode", "pads")}
    if node.op_type == "AveragePool" and attributes.get("ceil_mode"):
        own = attributes.get("pads", (0, 0, 0, 0)) if mode == "NOTSET" else pads
        return without_ceil_mode(node, kept, own, pads, version)
    return [helper.make_node(node.op_type, node.input, node.output, node.name, pads=pads, **kept)]


def _same_pads(
    mode: str, attributes: Mapping[str, Any], size: tuple[int, ...], kernel: tuple[int, ...]
) -> list[int]:
    """Return [top, left, bottom, right] such that there are ceil(size / stride) windows an axis."""
    strides = attributes.get("strides", (1, 1))
    dilations = attributes.get("dilations", (1, 1))
    before, after = [], []
    for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        total = max((-(-n // stride) - 1) * stride + (k - 1) * dilation + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before + after


def _transposed(
    node: Any, attributes: dict[str, Any], size: tuple[int, ...], kernel: tuple[int, ...]
) -> Any:
    """Return a ConvTranspose whose size of output is said by its padding alone.

    total padding = stride (n - 1) + output_padding + (k - 1) dilation + 1 - size of output, from
    https://onnx.ai/onnx/operators/onnx__ConvTranspose.html; what is missing is padding of the
    output.
    """
    mode = _auto_pad(attributes)
    wanted = attributes.pop("output_shape", None)
    strides = attributes.get("strides", (1, 1))
    if wanted is None and mode in _SAME:
        wanted = [n * s for n, s in zip(size, strides, strict=True)]
    if wanted is None or len(wanted) != 2:
        return node
    dilations = attributes.get("dilations", (1, 1))
    extra = list(attributes.pop("output_padding", (0, 0)))
    before, after = [], []
    for axis, (n, k, stride, dilation) in enumerate(
        zip(size, kernel, strides, dilations, strict=True)
    ):
        total = stride * (n - 1) + extra[axis] + (k - 1) * dilation + 1 - wanted[axis]
        extra[axis] += max(-total, 0)
        total = max(total, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    kept = {k: v for k, v in attributes.items() if k not in ("auto_pad", "pads")}
    kept |= {"pads": before + after, "output_padding": extra}
    return helper.make_node(node.op_type, node.input, node.output, node.name, **kept)


def _ceil_pads(
    attributes: Mapping[str, Any], size: tuple[int, ...], kernel: tuple[int, ...]
) -> list[int]:
    """Return the padding with which a window beyond the image's end counts as one.

    None begins there.
    """
    strides = attributes.get("strides", (1, 1))
    dilations = attributes.get("dilations", (1, 1))
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    for axis, (n, k, stride, dilation) in enumerate(
        zip(size, kernel, strides, dilations, strict=True)
    ):
        reach, padded = (k - 1) * dilation + 1, n + pads[axis] + pads[axis + 2]
        windows = -((reach - padded) // stride) + 1
        if (windows - 1) * stride >= n + pads[axis]:
            windows -= 1
        pads[axis + 2] += max((windows - 1) * stride + reach - padded, 0)
    return pads


def _joined_pads(nodes: list[Any], constants: Mapping[str, Any], outputs: set[str]) -> list[Any]:
    """Return the nodes, Pads that only convolutions or only max-pools read as part of those."""
    pads: dict[str, tuple[Any, str, list[int]]] = {}
    for node in nodes:
        around = _around(node, constants) if node.op_type == "Pad" else None
        if around is not None and node.output[0] not in outputs:
            pads[node.output[0]] = (node, *around)
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in pads and (place or not _takes(node, constants, *pads[name][1:])):
                pads.pop(name)
    result = []
    for node in nodes:
        if node.input and node.input[0] in pads:
            pad, _, sides = pads[node.input[0]]
            attributes = attributes_of(node)
            attributes.pop("auto_pad", None)
            own = attributes.pop("pads", (0, 0, 0, 0))
            attributes["pads"] = [a + b for a, b in zip(own, sides, strict=True)]
            inputs = [pad.input[0], *node.input[1:]]
            made = helper.make_node(node.op_type, inputs, node.output, node.name, **attributes)
            result.append(made)
        elif not node.output or node.output[0] not in pads:
            result.append(node)
    return result


def _takes(node: Any, constants: Mapping[str, Any], kind: str, sides: Sequence[int]) -> bool:
    """Whether a Conv or MaxPool can pad by itself what a Pad for such an operator pads.

    No window may then be all padding: ONNX forbids it of a pool, and VTA of a convolution.
    """
    attributes = attributes_of(node)
    if node.op_type != kind or _auto_pad(attributes) not in ("NOTSET", "VALID"):
        return False
    weight = constants.get(node.input[1]) if kind == "Conv" else None
    kernel = attributes.get("kernel_shape", [] if weight is None else weight.dims[2:])
    dilations = attributes.get("dilations", [1] * len(kernel))
    reach = [(k - 1) * dilation for k, dilation in zip(kernel, dilations, strict=True)] * 2
    own = attributes.get("pads", [0] * len(sides))
    if len(reach) != len(sides) or len(own) != len(sides):
        return False
    return all(a + b <= most for a, b, most in zip(own, sides, reach, strict=True))


def _around(node: Any, constants: Mapping[str, Any]) -> tuple[str, list[int]] | None:
    """Return what operator pads so by itself, and [top, left, bottom, right] of a Pad, else None.

    A convolution pads with zeros, a max-pool with less than all numbers.
    """
    attributes = attributes_of(node)
    given: list[Any] = [attributes.get("pads"), attributes.get("value", 0.0)]
    for index, source in enumerate(node.input[1:3]):
        if source:
            tensor = constants.get(source)
            given[index] = None if tensor is None else numpy_helper.to_array(tensor).reshape(-1)
    pads, value = given
    plain = attributes.get("mode", b"constant") == b"constant" and len(node.input) <= 3
    if not plain or pads is None or value is None or len(pads) != 8:
        return None
    kind = "Conv" if not np.any(value) else "MaxPool" if np.all(value <= _LEAST) else ""
    numbers = [int(p) for p in pads]
    inside = min(numbers) >= 0 and not any(numbers[a] for a in (0, 1, 4, 5))
    return (kind, [numbers[a] for a in (2, 3, 6, 7)]) if inside and kind else None


def _global_average(node: Any, output: str) -> Any:
    return helper.make_node("GlobalAveragePool", node.input[:1], [output], node.name)


def _reduced(
    node: Any, attributes: Mapping[str, Any], shape: tuple[int, ...], constants: Mapping[str, Any]
) -> list[Any]:
    """Return pools, and Flatten unless dimensions are kept, for a mean or maximum of images."""
    axes = integers_of(node, "axes", constants) or ()
    whole = node.op_type == "GlobalMaxPool"
    over = [2, 3] if whole else sorted({int(axis) % 4 for axis in axes})
    if len(shape) != 4 or not over or not {2, 3}.issuperset(over):
        return [node]
    keeps = whole or bool(attributes.get("keepdims", 1))
    if over != [2, 3]:
        return along_axis(node, over[0], shape) if keeps else [node]
    output = node.output[0] if keeps else f"{node.output[0]}.pooled"
    if node.op_type == "ReduceMean":
        nodes = [_global_average(node, output)]
    else:
        nodes = global_max(node, shape, output)
    if not keeps:
        nodes.append(helper.make_node("Flatten", [output], node.output, f"{node.name}.flat"))
    return nodes
