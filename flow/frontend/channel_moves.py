"""Shuffles, splits and slices of channels, however they are written, as one Gather or Slice.

Exporters write a channel shuffle as a Reshape, a Transpose and another Reshape, and a Gather or a
Split behind them. Here every such chain is followed with the places of the numbers in its source:
where its result is a choice of whole channels, one operator takes them from the source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.frontend.onnx_nodes import attributes_of, live_nodes, set_nodes
from flow.frontend.onnx_shapes import Shapes

_RESHAPES: Final = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
#: Larger tensors are not followed.
_MOST_ELEMS: Final = 1 << 24
#: From this version on, a Slice reads its numbers, and may step.
_SLICE_BY_INPUTS: Final = 10


def join_channel_moves(proto: Any, shapes: Shapes, opset: int) -> None:
    """Rewrite chains of moves whose result is a choice of channels, in place.

    Parameters
    ----------
    proto : onnx.ModelProto
        With constants folded.
    shapes : mapping
        Of its tensors.
    opset : int
        Version of the default operator set.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    #: Tensor -> its source, the channel of each of its own if it is such a choice, else places.
    followed: dict[str, tuple[str, NDArray[np.int64]]] = {}
    moves: set[str] = set()
    nodes = []
    for node in graph.node:
        results = _places(node, followed, constants, shapes)
        if results is None:
            nodes.append(node)
            continue
        for output, (source, places) in results.items():
            followed[output] = source, places
            moves.add(output)
        joined = [_joined(node, output, followed[output], shapes, opset) for output in results]
        chosen = all(made is not None for made in joined)
        worth = node.op_type not in ("Slice", "Identity") and not _is_plain_reshape(node, shapes)
        if not chosen or not worth:
            nodes.append(node)
            continue
        for made in joined:
            assert made is not None
            new, tensors = made
            nodes += new
            graph.initializer.extend(tensors)
    set_nodes(graph, live_nodes(nodes, (value.name for value in graph.output)))


def _is_plain_reshape(node: Any, shapes: Shapes) -> bool:
    """Whether a node gives its input another shape, and nothing else."""
    return node.op_type in _RESHAPES and len(shapes.get(node.input[0], ())) == len(
        shapes.get(node.output[0], (0,))
    )


def _places(
    node: Any,
    followed: Mapping[str, tuple[str, NDArray[np.int64]]],
    constants: Mapping[str, Any],
    shapes: Shapes,
) -> dict[str, tuple[str, NDArray[np.int64]]] | None:
    """Return the source of each output, and the place there of each of its numbers.

    None for a node that computes, or moves what is not followed.
    """
    if node.domain or not node.input or node.input[0] in constants:
        return None
    name, shape = node.input[0], shapes.get(node.input[0])
    if shape is None or not 0 < math.prod(shape) <= _MOST_ELEMS or min(shape, default=1) < 1:
        return None
    known = node.op_type in _RESHAPES or node.op_type in ("Transpose", "Gather", "Slice", "Split")
    if not known or any(output not in shapes for output in node.output):
        return None
    if name in followed:
        source, places = followed[name]
        places = places.reshape(shape)
    else:
        source, places = name, np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    moved = _moved(node, places, constants, shapes)
    if moved is None:
        return None
    return {
        output: (source, part)
        for output, part in zip(node.output, moved, strict=True)
        if part.shape == shapes[output]
    }


def _moved(
    node: Any, places: NDArray[np.int64], constants: Mapping[str, Any], shapes: Shapes
) -> list[NDArray[np.int64]] | None:
    """Do to places what a node does to numbers; None where it depends on what is computed."""
    attributes = attributes_of(node)
    if any(name and name not in constants for name in node.input[1:]):
        return None
    values = [numpy_helper.to_array(constants[n]) if n else None for n in node.input[1:]]
    if node.op_type in _RESHAPES:
        shape = shapes[node.output[0]]
        # Of a batch that is one image now, a shape may be what it was for all.
        return [places.reshape(shape)] if math.prod(shape) == places.size else None
    if node.op_type == "Transpose":
        return [places.transpose(attributes.get("perm"))]
    if node.op_type == "Gather":
        assert values[0] is not None
        axis = attributes.get("axis", 0)
        size = places.shape[axis]
        if not ((-size <= values[0]) & (values[0] < size)).all():
            return None
        return [np.take(places, values[0] % size, axis)]
    if node.op_type == "Split":
        axis = attributes.get("axis", 0)
        sizes = [shapes[output][axis] for output in node.output]
        return np.split(places, np.cumsum(sizes)[:-1].tolist(), axis)
    return _sliced(places, attributes, values)


def _sliced(
    places: NDArray[np.int64], attributes: Mapping[str, Any], values: Sequence[Any]
) -> list[NDArray[np.int64]]:
    """Slice places."""
    given = [attributes.get(name) for name in ("starts", "ends", "axes")]
    for place, value in enumerate(values[:3]):
        given[place] = given[place] if value is None else value.tolist()
    starts, ends, axes = given
    assert starts is not None and ends is not None
    steps = values[3].tolist() if len(values) > 3 and values[3] is not None else [1] * len(starts)
    index = [slice(None)] * places.ndim
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps, strict=True):
        first, last = int(start), int(end)
        if step < 0 and last < -places.shape[axis]:
            index[axis] = slice(first, None, step)
        else:
            index[axis] = slice(first, last, step)
    return [places[tuple(index)]]


def _joined(
    node: Any, output: str, known: tuple[str, NDArray[np.int64]], shapes: Shapes, opset: int
) -> tuple[list[Any], list[Any]] | None:
    """Return a node that takes whole channels from the source, and its constants, if one can."""
    source, places = known
    before, after = shapes[source], shapes[output]
    if len(before) != 4 or len(after) != 4 or before[0] != 1 or after[0] != 1:
        return None
    if before[2:] != after[2:]:
        return None
    plane = before[2] * before[3]
    rows = places.reshape(after[1], plane)
    channels = rows[:, 0] // plane
    if (rows != channels[:, np.newaxis] * plane + np.arange(plane)).any():
        return None
    if channels.tolist() == list(range(before[1])):
        return [helper.make_node("Identity", [source], [output], node.name)], []
    names = [f"{output}.{part}" for part in ("starts", "ends", "axes", "steps")]
    first, last = int(channels[0]), int(channels[-1])
    step = int(channels[1] - channels[0]) if len(channels) > 1 else 1
    even = step > 0 and channels.tolist() == list(range(first, last + 1, step))
    if even and opset >= _SLICE_BY_INPUTS:
        numbers = (first, last + 1, 1, step)
        tensors = [
            numpy_helper.from_array(np.asarray([number], np.int64), name)
            for number, name in zip(numbers, names, strict=True)
        ]
        return [helper.make_node("Slice", [source, *names], [output], node.name)], tensors
    index = numpy_helper.from_array(channels, f"{output}.channels")
    return [helper.make_node("Gather", [source, index.name], [output], node.name, axis=1)], [index]
