"""Fold Transposes away: they move through what does not depend on the order of dimensions.

Exporters of networks with channels last put a Transpose before and after most operators. Here a
Transpose is kept in mind instead of computed: of every tensor it is known of which other tensor it
is the transposed one. Operators on each number, Pads, Concats and reductions read that other
tensor, a product with a matrix becomes a 1×1 convolution, and the weights behind a Flatten get
their rows in another order. Only where none of this holds, a Transpose remains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import helper, numpy_helper

from flow.frontend.onnx_nodes import GraphRewriter, integers_of
from flow.frontend.onnx_shapes import Shapes

#: Operators on each number alone.
_UNARY: Final = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "Clip",
        "HardSigmoid",
        "HardSwish",
        "Elu",
        "Selu",
        "Exp",
    }
    | {"Identity", "Dropout", "Abs", "Neg", "Sqrt", "Softplus", "Softsign", "Erf", "Gelu", "Mish"}
    | {"Floor", "Ceil", "Round", "Cast", "Celu", "ThresholdedRelu", "Log", "Reciprocal"}
)
#: Operators on pairs of numbers, with broadcasting.
_PAIRS: Final = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Sum", "Mean"})
_REDUCTIONS: Final = frozenset(
    {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2", "ReduceProd"}
)
_ALONG_AN_AXIS: Final = frozenset({"Concat", "Softmax", "LogSoftmax", "ArgMax", "ArgMin"})
_RESHAPES: Final = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
#: From this version on, Softmax works along one axis.
_SOFTMAX_ALONG_AXIS: Final = 13


@dataclass(frozen=True, slots=True)
class _Moved:
    """A tensor that is the transposed one of another: dimension i of it is perm[i] of `source`."""

    source: str
    perm: tuple[int, ...]


def fold_transposes(proto: Any, shapes: Shapes, opset: int) -> None:
    """Rewrite a model with as few Transposes as can be, in place.

    Parameters
    ----------
    proto : onnx.ModelProto
        With constants folded.
    shapes : mapping
        Of its tensors.
    opset : int
        Version of the default operator set.
    """
    if any(node.op_type == "Transpose" and not node.domain for node in proto.graph.node):
        _Folder(proto.graph, shapes, opset=opset).run()


@dataclass(slots=True)
class _Folder(GraphRewriter):
    """Walks through a graph; `moved` has what is known of the tensors so far."""

    opset: int
    moved: dict[str, _Moved] = field(init=False, default_factory=dict)
    #: Flattened tensors -> tensor in another order, and the place there of each of its numbers.
    shuffled: dict[str, tuple[str, Any]] = field(init=False, default_factory=dict)
    #: Weights, and the tensor that they multiply -> weights in that tensor's order.
    made: dict[tuple[str, str], str] = field(init=False, default_factory=dict)

    def run(self) -> None:
        """Visit every node; what is still moved at the end is transposed for who reads it."""
        for node in self.graph.node:
            if not self._fold(node):
                for name in node.input:
                    self._materialize(name)
                self.nodes.append(node)
        for value in self.graph.output:
            self._materialize(value.name)
        self.finish()

    # ---- what is known ---------------------------------------------------------------------------
    def _set(self, name: str, source: str, perm: Sequence[int]) -> None:
        """Note that `name` is a tensor transposed."""
        self.moved[name] = _Moved(source, tuple(perm))

    def _materialize(self, name: str) -> None:
        """Compute a tensor that was only known of."""
        if name in self.shuffled:
            self._unshuffle(name)
        if (known := self.moved.pop(name, None)) is None:
            return
        if known.perm == tuple(range(len(known.perm))):
            self.nodes.append(helper.make_node("Identity", [known.source], [name]))
        else:
            perm = list(known.perm)
            self.nodes.append(helper.make_node("Transpose", [known.source], [name], perm=perm))

    def _unshuffle(self, name: str) -> None:
        """Put the numbers of a flattened tensor into their order."""
        source, places = self.shuffled.pop(name)
        index = self.constant(places.astype(np.int64), f"{name}.places")
        node = helper.make_node("Gather", [source, index], [name], axis=1)
        self.nodes.append(node)

    # ---- operators -------------------------------------------------------------------------------
    def _fold(self, node: Any) -> bool:
        """Rewrite a node for what its inputs are the transposed ones of; False: as it stands."""
        if node.domain or len(node.output) != 1 or not node.input:
            return False
        if node.op_type == "Transpose":
            return self._transpose(node)
        if node.op_type in ("MatMul", "Gemm") and node.input[0] in self.shuffled:
            return self._dense_of_shuffled(node)
        if all(self.moved.get(name) is None for name in node.input):
            return False
        if node.op_type in _UNARY:
            return self._elementwise(node, node.input[1:])
        if node.op_type in _PAIRS:
            return self._elementwise(node, ())
        if node.op_type in _ALONG_AN_AXIS:
            return self._along_axis(node)
        if node.op_type in _REDUCTIONS:
            return self._reduction(node)
        if node.op_type == "Pad":
            return self._pad(node)
        if node.op_type in _RESHAPES:
            return self._reshape(node)
        if node.op_type == "MatMul":
            return self._matmul(node)
        return False

    def _transpose(self, node: Any) -> bool:
        name, rank = node.input[0], len(self.shapes.get(node.input[0], ()))
        if not rank or name in self.shuffled:
            return False
        perm = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
        perm = perm or tuple(range(rank))[::-1]
        known = self.moved.get(name) or _Moved(name, tuple(range(rank)))
        self._set(node.output[0], known.source, [known.perm[i] for i in perm])
        return True

    def _elementwise(self, node: Any, kept: Sequence[str]) -> bool:
        """Let an operator on each number read the sources; `kept` are its parameters."""
        data = [name for name in node.input if name not in kept]
        known = [self.moved.get(name) for name in data]
        perm = next(k.perm for k in known if k is not None)
        sources = []
        for name, own in zip(data, known, strict=True):
            if own is not None and own.perm == perm:
                sources.append(own.source)
            elif own is None and name in self.constants and name:
                value = numpy_helper.to_array(self.constants[name])
                if value.ndim > len(perm):
                    return False
                sources.append(self._moved_constant(name, value, perm))
            else:
                return False
        self._follow(node, [*sources, *kept], perm)
        return True

    def _follow(
        self, node: Any, inputs: Sequence[str], perm: Sequence[int], **changed: Any
    ) -> None:
        """Emit a node on the sources; its output is the transposed one of the result."""
        output = node.output[0]
        if list(perm) == list(range(len(perm))):  # it is the result itself
            self.emit(node, inputs, output, **changed)
            return
        inner = f"{output}.source"
        while inner in self.shapes:
            inner += "_"
        self.emit(node, inputs, inner, **changed)
        self._set(output, inner, perm)

    def _moved_constant(self, name: str, value: Any, perm: Sequence[int]) -> str:
        """Return a constant as the source's order of dimensions has it."""
        if value.size == 1:
            return name
        full = value.reshape((1,) * (len(perm) - value.ndim) + value.shape)
        return self.constant(full.transpose(_inverse(perm)), f"{name}.moved")

    def _along_axis(self, node: Any) -> bool:
        known = [self.moved.get(name) for name in node.input]
        first = known[0]
        if first is None or any(k is None or k.perm != first.perm for k in known):
            return False
        softmax = node.op_type in ("Softmax", "LogSoftmax")
        axis = next((int(a.i) for a in node.attribute if a.name == "axis"), None)
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        if (softmax and self.opset < _SOFTMAX_ALONG_AXIS) or (not softmax and not keeps):
            return False
        if axis is None:
            axis = -1 if softmax else 0
        sources = [k.source for k in known if k is not None]
        self._follow(node, sources, first.perm, axis=first.perm[axis % len(first.perm)])
        return True

    def _reduction(self, node: Any) -> bool:
        known = self.moved.get(node.input[0])
        axes = integers_of(node, "axes", self.constants)
        if known is None or axes is None:
            return False
        rank = len(known.perm)
        moved = sorted(known.perm[axis % rank] for axis in axes)
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        perm: Sequence[int] = known.perm
        if not keeps:
            left = [axis for axis in range(rank) if axis not in moved]
            perm = [left.index(axis) for axis in known.perm if axis in left]
        if len(node.input) > 1:
            name = self.constant(np.asarray(moved, np.int64), f"{node.output[0]}.axes")
            self._follow(node, [known.source, name], perm)
        else:
            self._follow(node, [known.source], perm, axes=moved)
        return True

    def _pad(self, node: Any) -> bool:
        known = self.moved.get(node.input[0])
        if known is None or len(node.input) > 3:
            return False
        rank = len(known.perm)
        pads = integers_of(node, "pads", self.constants)
        if pads is None or len(pads) != 2 * rank:
            return False
        moved = [0] * (2 * rank)
        for axis, place in enumerate(known.perm):
            moved[place], moved[place + rank] = pads[axis], pads[axis + rank]
        if len(node.input) > 1:
            name = self.constant(np.asarray(moved, np.int64), f"{node.output[0]}.pads")
            self._follow(node, [known.source, name, *node.input[2:]], known.perm)
        else:
            self._follow(node, [known.source], known.perm, pads=moved)
        return True

    def _reshape(self, node: Any) -> bool:
        """Reshape the source where that gives the same numbers, or remember their order."""
        name, output = node.input[0], node.output[0]
        known, shape = self.moved.get(name), self.shapes.get(name)
        target = self.shapes.get(output)
        if known is None or shape is None or target is None:
            return False
        source = tuple(shape[i] for i in _inverse(known.perm))
        wide = [axis for axis in known.perm if source[axis] > 1]
        if wide == sorted(wide):  # only dimensions of 1 moved
            self.reshape(known.source, output, target, node.name)
            return True
        if len(target) != 2 or target[0] != 1 or not self._feeds_dense(output):
            return False
        inner = f"{output}.source"
        self.reshape(known.source, inner, target, node.name)
        places = np.arange(math.prod(shape)).reshape(source).transpose(known.perm).reshape(-1)
        self.shuffled[output] = inner, places
        return True

    def _feeds_dense(self, name: str) -> bool:
        """Whether only products with constant weights read a tensor."""
        readers = [node for node in self.graph.node if name in node.input]
        return (
            bool(readers)
            and all(value.name != name for value in self.graph.output)
            and all(
                node.op_type in ("MatMul", "Gemm")
                and node.input[0] == name
                and node.input[1] in self.constants
                and not any(a.name == "transA" and a.i for a in node.attribute)
                for node in readers
            )
        )

    def _dense_of_shuffled(self, node: Any) -> bool:
        """Put the rows of the weights into the order of the tensor that there is."""
        source, places = self.shuffled[node.input[0]]
        weight = numpy_helper.to_array(self.constants[node.input[1]])
        axis = int(any(a.name == "transB" and a.i for a in node.attribute))
        moved = np.take(weight, np.argsort(places), axis=axis)
        key = node.input[1], source
        if key not in self.made:
            self.made[key] = self.replaced(node.input[1], moved, "moved")
        self.emit(node, [source, self.made[key], *node.input[2:]], node.output[0])
        return True

    def _matmul(self, node: Any) -> bool:
        """Make a 1×1 convolution of a product along the channels of an NHWC tensor."""
        known, weight = self.moved.get(node.input[0]), self.constants.get(node.input[1])
        if known is None or weight is None or len(weight.dims) != 2 or known.perm != (0, 2, 3, 1):
            return False
        value = numpy_helper.to_array(weight).T[:, :, np.newaxis, np.newaxis]
        name = self.replaced(node.input[1], value, "moved")
        inner = f"{node.output[0]}.source"
        made = helper.make_node("Conv", [known.source, name], [inner], node.name)
        made.attribute.append(helper.make_attribute("kernel_shape", [1, 1]))
        self.nodes.append(made)
        self._set(node.output[0], inner, known.perm)
        return True


def _inverse(perm: Sequence[int]) -> list[int]:
    return [list(perm).index(axis) for axis in range(len(perm))]
