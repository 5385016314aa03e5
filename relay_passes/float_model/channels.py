"""Find the tensors whose channels belong together: what may be reordered or scaled as one.

A ReLU, a pool or a sum ties the channels of what it reads to those of what it makes. A convolution
or dense layer ends one group (its input channels) and starts another (its output channels). Groups
that hold an input or a result of the network, or that an unknown operator reads, are fixed.

A depthwise convolution ties the order of its channels, but not their scale: what is written may be
scaled by its weights. So it is inside a group where channels are ordered, and between two groups
where they are scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    Module,
    constant,
    op_name,
    read_graph,
    rewrite,
    static_shape,
    variables,
)
from relay_passes.operators.averages import is_average
from relay_passes.operators.calls import (
    WEIGHT_AXIS,
    is_dense_layer,
    is_grouped_layer,
    split_bias,
    weight_rows,
)
from relay_passes.operators.depthwise_conv2d import is_depthwise

_ELEMENTWISE: Final = frozenset({"nn.relu", "nn.max_pool2d", "nn.avg_pool2d", "add", "clip"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Tensors with common channels.

    Parameters
    ----------
    channels : int
        How many.
    tensors : tuple[str, ...]
        In the order of the graph.
    writers, readers : tuple[str, ...]
        Convolution and dense tensors whose output, input channels these are.
    scalable : bool
        Whether scaling the channels commutes with all operators inside (not with ReLU6).
    """

    channels: int
    tensors: tuple[str, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    scalable: bool


def channel_groups(
    mod: Module, depthwise: Literal["ordered", "scaled", "fixed"] = "fixed"
) -> tuple[ChannelGroup, ...]:
    """Return the groups of `mod` whose channels may change, in the order of the graph.

    Parameters
    ----------
    mod : IRModule
    depthwise : {"ordered", "scaled", "fixed"}
        What depthwise convolutions are: inside a group, which they write; between two groups,
        reader and writer; or unknown.
    """
    graph = read_graph(mod)
    parent: dict[str, str] = {p.name: p.name for p in graph.params}
    fixed = {p.name for p in graph.params} | {v.name for v in graph.results}
    unscalable: set[str] = set()
    writers: dict[str, str] = {}
    readers: dict[str, str] = {}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for binding in graph.bindings:
        name, value = binding.var.name, binding.value
        kind = op_name(value)
        parent[name] = name
        sources = [v.name for v in variables(value)]
        if is_dense_layer(value) or (depthwise == "scaled" and is_depthwise_layer(value)):
            writers[name] = name
            readers[name] = sources[0]
        elif depthwise == "ordered" and is_depthwise_layer(value):
            writers[name] = name
            parent[find(sources[0])] = find(name)
        elif _ties(value):
            for source in sources:
                parent[find(source)] = find(name)
            if kind == "clip":
                unscalable.add(name)
        else:
            fixed.update(sources)
            fixed.add(name)
    members: dict[str, list[str]] = {}
    for name in parent:
        members.setdefault(find(name), []).append(name)
    closed = {find(name) for name in fixed}
    shapes = {v.name: v for v in (*graph.params, *(b.var for b in graph.bindings))}
    return tuple(
        ChannelGroup(
            channels=static_shape(shapes[names[0]])[1],
            tensors=tuple(names),
            writers=tuple(w for w in writers if find(w) == root),
            readers=tuple(r for r, source in readers.items() if find(source) == root),
            scalable=not unscalable.intersection(names),
        )
        for root, names in members.items()
        if root not in closed
    )


def is_depthwise_layer(value: Expr) -> bool:
    """Whether a call is a depthwise convolution with a constant weight, one filter a channel."""
    return is_grouped_layer(value) and is_depthwise(value)


def _ties(value: Expr) -> bool:
    """Whether an operator works on each channel alone, the same way for all."""
    kind = op_name(value)
    if kind == "mean":
        return is_average(value)
    if kind == "reshape":  # [N, C, 1, 1] -> [N, C]
        before, after = static_shape(value.args[0]), static_shape(value)
        return len(after) == 2 and before == (*after, 1, 1)
    if kind == "add" and split_bias(value) is None:
        return (
            all(isinstance(a, relax.Var) for a in value.args)
            and len({static_shape(a) for a in value.args}) == 1
        )
    return kind in _ELEMENTWISE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelMap:
    """What becomes of a group's channels: new channel i is factor[i] * old channel order[i].

    Parameters
    ----------
    order : int64[C]
        A permutation.
    factor : float64[C]
        Positive.
    """

    order: NDArray[np.int64]
    factor: NDArray[np.float64]


def map_channels(
    mod: Module, groups: tuple[ChannelGroup, ...], maps: tuple[ChannelMap, ...]
) -> Module:
    """Return `mod` with each group's channels changed as its map says; the results stay equal.

    Maps of groups that depthwise convolutions are between must keep the order.
    """
    out: dict[str, ChannelMap] = {}  # tensor -> map of its channels
    into: dict[str, ChannelMap] = {}  # layer -> map of its input's channels
    for group, change in zip(groups, maps, strict=True):
        out |= dict.fromkeys(group.tensors, change)
        into |= dict.fromkeys(group.readers, change)

    def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
        name = var.name
        if name not in out and name not in into:
            return value
        if is_dense_layer(value):
            axis = WEIGHT_AXIS[op_name(value)]
            weight: Any = constant(value.args[1])
            if name in into:
                weight = _mapped(weight, into[name], 1 - axis, inverse=True)
            if name in out:
                weight = _mapped(weight, out[name], axis)
            weight = relax.const(np.ascontiguousarray(weight, np.float32))
            return relax.Call(value.op, [value.args[0], weight], value.attrs, value.ty_args)
        if is_depthwise_layer(value):
            weight = constant(value.args[1])
            assert weight is not None
            written, read = out.get(name), into.get(name)
            if written is not None:
                weight = _mapped(weight, written, 0)
            if read is not None:  # scaled alone: an order is the whole group's
                weight = weight / read.factor.reshape(-1, 1, 1, 1)
            weight = relax.const(np.ascontiguousarray(weight, np.float32))
            return relax.Call(value.op, [value.args[0], weight], value.attrs, value.ty_args)
        found = split_bias(value) if op_name(value) == "add" else None
        if found is None:
            return value
        bias = _mapped(np.asarray(found[1], np.float64), out[name], 0)
        shape = [1] * len(static_shape(var))
        shape[1] = len(bias)
        return relax.op.add(found[0], relax.const(bias.reshape(shape).astype(np.float32)))

    return rewrite(mod, visit)


def input_orders(
    mod: Module, groups: tuple[ChannelGroup, ...], maps: tuple[ChannelMap, ...]
) -> dict[str, NDArray[np.int64]]:
    """Return the order of each layer's input channels, int64[C], where `map_channels` changes it.

    Of dense layers, convolutions of one group and depthwise convolutions.
    """
    result: dict[str, NDArray[np.int64]] = {}
    names = {b.var.name for b in read_graph(mod).bindings if is_depthwise_layer(b.value)}
    for group, change in zip(groups, maps, strict=True):
        result |= dict.fromkeys((*group.readers, *names.intersection(group.writers)), change.order)
    return result


def _mapped(
    values: NDArray[Any], change: ChannelMap, axis: int, *, inverse: bool = False
) -> NDArray[np.float64]:
    """Reorder and scale along `axis`; `inverse` divides, for the layer that reads."""
    factor = 1.0 / change.factor if inverse else change.factor
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    taken = np.take(values, change.order, axis=axis).astype(np.float64)
    return np.asarray(taken * factor.reshape(shape))


def layer_weights(mod: Module) -> dict[str, NDArray[np.float64]]:
    """Return each layer's weight, float64[O, I...], by tensor name.

    Of dense layers, convolutions of one group and depthwise convolutions (float64[C, 1, KH, KW]).
    """
    result = {}
    for binding in read_graph(mod).bindings:
        if is_dense_layer(binding.value) or is_depthwise_layer(binding.value):
            rows = weight_rows(binding.value).astype(np.float64)
            axis, shape = WEIGHT_AXIS[op_name(binding.value)], static_shape(binding.value.args[1])
            result[binding.var.name] = rows.reshape(len(rows), shape[1 - axis], *shape[2:])
    return result
