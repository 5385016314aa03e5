"""What may be learned in a quantized float graph: tensors, scales that move together, blocks.

`Quantize` and `FuseConvRelu` say which tensors are integers. From there on

- the scales of tensors that a sum or an average relates are *tied*: they change by one factor, so
  that every shift and every residual's multiplier stays the integer that it is;
- a layer's weight scale follows, s_w ~ s_y / s_x, with y the tensor that its accumulator becomes;
- channels that a ReLU, a pool or a sum ties may be scaled together: f * channel in what writes
  them, 1 / f in what reads them. This gives each channel of a weight a scale of its own.

A *block* is what lies between two places where a single tensor is all that goes on: a residual
block, or a single layer.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from relay_passes.float_model.channels import ChannelGroup, channel_groups
from relay_passes.graph import (
    Expr,
    Graph,
    Module,
    constant,
    op_name,
    read_graph,
    source_name,
    variables,
)
from relay_passes.host.torch_operators import SOFTMAX
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.plan import QuantPlan
from relay_passes.integers.quantize import Quantize
from relay_passes.operators.averages import is_average
from relay_passes.operators.calls import (
    AVERAGES,
    WEIGHT_AXIS,
    ends_accumulator,
    is_concat,
    is_move,
    moved,
    split_bias,
)
from relay_passes.rounding.nearest import GivenWeights
from relay_passes.scales.scales import Scales

#: Layers of a block after which it ends, whatever goes on: blocks of a graph that nothing narrows.
_MOST_LAYERS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a graph.

    Parameters
    ----------
    inputs, outputs : tuple of str
        Tensors that others make, and that others read.
    layers : tuple of str
        Those with weights, in order.
    tensors : tuple of str
        All that it makes, in order.
    croppable : bool
        Whether it may read a part of its input's picture: no operator has a shape of its own.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[str, ...]
    tensors: tuple[str, ...]
    croppable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What may be learned; see the module's text.

    Parameters
    ----------
    quantized : frozenset of str
        Tensors that are integers.
    roots : dict[str, str]
        The tensor of integers whose values a tensor holds, itself or moved.
    layers : dict[str, tuple[str, str]]
        The tensor of integers that each layer reads, "" for floats, and the one that its
        accumulator becomes, "" where it becomes none.
    free : frozenset of str
        Layers whose accumulators become no integers and are added to nothing: logits. The scales of
        their weights may be any.
    tied : dict[str, str]
        The first of the tensors whose scales move together, by tensor.
    biases : dict[str, str]
        The add of each layer that has a bias of its own.
    groups : tuple of ChannelGroup
        Channels that may be scaled.
    blocks : tuple of Block
    """

    quantized: frozenset[str]
    roots: Mapping[str, str]
    layers: Mapping[str, tuple[str, str]]
    free: frozenset[str]
    tied: Mapping[str, str]
    biases: Mapping[str, str]
    groups: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...]

    def group_of(self) -> dict[str, int]:
        """Return the place in `groups` of each tensor that is in one."""
        return {name: i for i, group in enumerate(self.groups) for name in group.tensors}


def structure_of(
    mod: Module,
    scales: Scales,
    weights: Mapping[str, object],
    *,
    fuse: bool,
    block: int,
) -> Structure:
    """Return the structure of a float module with chosen scales.

    Parameters
    ----------
    mod : IRModule
    scales : Scales
    weights : dict[str, int8[O, K]]
        Rounded.
    fuse : bool
        Whether conv+ReLU is fused.
    block : int
        Output channels that share a scale.
    """
    draft = QuantPlan(tensors=scales.tensors, weights=scales.weights, block=block)
    marked = Quantize(plan=draft, rounder=GivenWeights(weights=weights))(mod)  # type: ignore[arg-type]
    if fuse:
        marked = FuseConvRelu()(marked)
    ties = _Ties(marked, set(weights), scales.tensors)
    graph = read_graph(mod)
    return Structure(
        quantized=frozenset(ties.quantized),
        roots=_roots(graph, set(ties.quantized)),
        layers={name: (ties.reads[name], ties.ends.get(name, "")) for name in ties.reads},
        free=frozenset(ties.free - ties.ends.keys()),
        tied={name: ties.find(name) for name in ties.quantized},
        biases=_biases(graph, set(ties.reads)),
        groups=tuple(
            group
            for group in channel_groups(mod)
            if group.scalable
            and group.writers
            and group.readers
            and {*group.writers, *group.readers} <= set(ties.reads)
        ),
        blocks=tuple(_blocks(graph, set(ties.reads), set(ties.quantized))),
    )


class _Ties:
    """Follow the graph with quantize and dequantize pairs; find what scales must move together.

    A value is what it is made of: tensors of integers, and layers whose accumulators are in it.
    """

    def __init__(self, marked: Module, layers: set[str], tensors: Container[str]) -> None:
        graph = read_graph(marked)
        self.quantized: list[str] = []
        self.reads: dict[str, str] = {}
        self.ends: dict[str, str] = {}
        self.free: set[str] = set()
        self._added: set[str] = set()
        self._parent: dict[str, str] = {}
        env: dict[Expr, tuple[frozenset[str], frozenset[str]]] = {}
        nothing = frozenset[str](), frozenset[str]()
        for binding in graph.bindings:
            name, value = str(binding.var.name), binding.value
            kind, sources = op_name(value), [env.get(v, nothing) for v in variables(value)]
            parts = tuple(frozenset[str]().union(*(s[i] for s in sources)) for i in (0, 1))
            found = parts[0], parts[1]
            # Of a concatenation's integers, too, one scale decides.
            joins = is_concat(value) and name in tensors and all(source[0] for source in sources)
            if kind == "quantize" or joins:
                tensor = name if joins else str(value.args[0].name)
                self.quantized.append(tensor)
                self._parent.setdefault(tensor, tensor)
                self._tie([tensor, *sorted(found[0])])
                for layer in sorted(found[1]):
                    self._tie([self.ends.setdefault(layer, tensor), tensor])
                found = frozenset([tensor]), frozenset[str]()
            elif kind in WEIGHT_AXIS and name in layers:
                read = env.get(value.args[0], nothing)
                alone = len(read[0]) == 1 and not read[1]
                self.reads[name] = next(iter(read[0])) if alone else ""
                found = frozenset[str](), frozenset([name])
            elif not _keeps(value, kind):
                for source in sources:
                    self._loose(*source)
                found = nothing
            env[binding.var] = found
        for var in graph.results:
            self._loose(*env.get(var, nothing))

    def _loose(self, tensors: frozenset[str], layers: frozenset[str]) -> None:
        """Tie all of which floats are made: nothing else says what relates them."""
        if len(tensors) + len(layers) > 1:
            read = [self.reads[name] for name in sorted(layers) if self.reads[name]]
            self._tie([*sorted(tensors), *read])
            self._added |= layers
        self.free = (self.free | layers) - self._added

    def find(self, name: str) -> str:
        """Return the tensor that stands for all those tied to one."""
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def _tie(self, names: Iterable[str]) -> None:
        roots = [self.find(name) for name in names]
        for other in roots[1:]:
            self._parent[self.find(other)] = self.find(roots[0])


def _keeps(value: Expr, kind: str) -> bool:
    """Whether integers go through an operator with their scale, or a known part of it."""
    if kind in AVERAGES or is_average(value):
        return is_average(value)
    return kind in ("dequantize", "add") or bool(moved(value)) or ends_accumulator(value)


def _roots(graph: Graph, quantized: set[str]) -> dict[str, str]:
    """Return the tensor of integers whose values each tensor holds, itself or moved."""
    result = {name: name for name in quantized}
    for binding in graph.bindings:
        name, value = str(binding.var.name), binding.value
        source = source_name(value) if is_move(value) else ""
        if name not in result and source in result:
            result[name] = result[source]
    return result


def _biases(graph: Graph, layers: set[str]) -> dict[str, str]:
    """Return the first bias of each layer that has one of its own, by layer."""
    uses, result = graph.uses(), {}
    for binding in graph.bindings:
        name = str(binding.var.name)
        if name not in layers:
            continue
        readers = uses.get(binding.var, [])
        if len(readers) == 1 and readers[0] is not None:
            found = split_bias(readers[0].value)
            if found is not None and found[0].same_as(binding.var):
                result[name] = str(readers[0].var.name)
    return result


def _blocks(graph: Graph, layers: set[str], quantized: set[str]) -> list[Block]:
    """Cut the graph where one tensor of integers goes on; a max-pool stays with what it pools."""
    last: dict[str, int] = {}  # place of the last reader
    for i, binding in enumerate(graph.bindings):
        for var in variables(binding.value):
            last[str(var.name)] = i
    end = len(graph.bindings)
    results = [_before_softmax(graph, var) for var in graph.results]
    last |= {name: end for name in results}
    alive = {str(p.name) for p in graph.params}
    cuts: list[int] = []
    count, pooled = 0, True
    for i, binding in enumerate(graph.bindings):
        name, kind = str(binding.var.name), op_name(binding.value)
        alive = {n for n in {*alive, name} if last.get(n, -1) > i}
        count += name in layers
        pooled = pooled and kind == "nn.max_pool2d"
        if not alive:
            continue
        if count and name in quantized and (alive == {name} or count >= _MOST_LAYERS):
            cuts.append(i + 1)
            count, pooled = 0, True
        elif cuts and pooled and alive == {name}:
            cuts[-1] = i + 1  # a max-pool alone
    if count or not cuts:
        cuts.append(end)
    else:
        cuts[-1] = end
    made: set[str] = set()
    result = []
    for start, stop in zip([0, *cuts[:-1]], cuts, strict=True):
        result.append(_block(graph, layers, start, stop, last, made))
    return [block for block in result if block.layers]


def _block(
    graph: Graph, layers: set[str], start: int, stop: int, last: Mapping[str, int], made: set[str]
) -> Block:
    part = graph.bindings[start:stop]
    own = [str(b.var.name) for b in part]
    read = dict.fromkeys(str(v.name) for b in part for v in variables(b.value))
    return Block(
        inputs=tuple(name for name in read if name not in own),
        outputs=tuple(name for name in own if last.get(name, -1) >= stop),
        layers=tuple(name for name in own if name in layers),
        tensors=tuple(own),
        croppable=all(_is_local(b.value) for b in part),
    )


def _is_local(value: Expr) -> bool:
    kind = op_name(value)
    if kind == "add":
        return not any(v is not None and v.ndim == 4 and v.shape[2:] != (1, 1)
                       for v in (constant(a) for a in value.args))  # fmt: skip
    return kind in ("nn.conv2d", "nn.relu", "clip", "nn.max_pool2d", "nn.avg_pool2d")


def _before_softmax(graph: Graph, var: Expr) -> str:
    """Return a result's name, or that of the logits where it is a softmax of its own."""
    value: Expr = graph.definitions().get(var)
    return str(value.args[0].name if op_name(value) in SOFTMAX else var.name)
