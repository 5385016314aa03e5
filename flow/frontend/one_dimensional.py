"""Networks on signals [N, C, L] as networks on images of one row, [N, C, 1, L].

VTA convolves images. Every operator between one-dimensional convolutions and pools that works on
each number, on channels or along the signal reads and makes images of one row too, so that nothing
is reshaped between layers. A Reshape or Flatten behind them sees the same numbers in the same
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import helper, numpy_helper

from flow.frontend.onnx_nodes import GraphRewriter, integers_of
from flow.frontend.onnx_shapes import Shapes

_WINDOWS: Final = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"})
#: Attributes of windows, and what a row of images has beside the signal's own number.
_BESIDE: Final = {
    "kernel_shape": 1,
    "strides": 1,
    "dilations": 1,
    "output_padding": 0,
    "output_shape": 1,
}
#: Operators whose first input and output are signals, and whose other inputs stay as they are.
_SAME: Final = frozenset(
    {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "HardSwish", "Elu", "Selu"}
    | {"Identity", "Dropout", "Abs", "Neg", "Exp", "Sqrt", "Softplus", "Erf", "Gelu", "Mish"}
    | {"BatchNormalization", "InstanceNormalization", "GlobalAveragePool", "GlobalMaxPool"}
)
_PAIRS: Final = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Sum"})
_FLAT: Final = frozenset({"Reshape", "Flatten", "Squeeze"})
_SIGNAL, _IMAGE = 3, 4


def as_images(proto: Any, shapes: Shapes) -> None:
    """Rewrite the parts of a model that work on signals, in place.

    Parameters
    ----------
    proto : onnx.ModelProto
        With constants folded.
    shapes : mapping
        Of its tensors.
    """
    windows = (node for node in proto.graph.node if node.op_type in _WINDOWS and not node.domain)
    if any(len(shapes.get(node.input[0], ())) == _SIGNAL for node in windows):
        _Lifter(proto.graph, shapes).run()


@dataclass(slots=True)
class _Lifter(GraphRewriter):
    """Walks through a graph; `lifted` has the image of each signal that has one."""

    lifted: dict[str, str] = field(init=False, default_factory=dict)
    there: set[str] = field(init=False)

    def __post_init__(self) -> None:
        GraphRewriter.__post_init__(self)
        self.there = {value.name for value in self.graph.input} | self.constants.keys()

    def run(self) -> None:
        """Visit every node; a signal that others read is made of its image."""
        for node in self.graph.node:
            if not self._lift(node):
                for name in node.input:
                    self._lower(name)
                self.nodes.append(node)
                self.there.update(node.output)
        for value in self.graph.output:
            self._lower(value.name)
        self.finish()

    def _rank(self, name: str) -> int:
        return len(self.shapes.get(name, ()))

    def _lower(self, name: str) -> None:
        """Make a signal of its image, once."""
        if name in self.lifted and name not in self.there:
            self.reshape(self.lifted[name], name, self.shapes[name])
            self.there.add(name)

    def _image(self, name: str) -> str:
        """Return the image of a signal; make it where there is none."""
        if name not in self.lifted:
            n, c, length = self.shapes[name]
            self.lifted[name] = f"{name}.row"
            self.reshape(name, self.lifted[name], (n, c, 1, length))
        return self.lifted[name]

    def _row(self, name: str) -> str:
        """Return a constant that is broadcast to signals as one that is broadcast to images."""
        value = numpy_helper.to_array(self.constants[name])
        if value.ndim <= 1:
            return name
        return self.constant(np.expand_dims(value, -2), f"{name}.row")

    def _lift(self, node: Any) -> bool:
        """Rewrite a node that works on signals; False: as it stands."""
        if node.domain or not node.input or len(node.output) != 1:
            return False
        kind, first = node.op_type, node.input[0]
        signals = [name for name in node.input if self._rank(name) == _SIGNAL]
        if kind in _WINDOWS and first in signals:
            return self._window(node)
        if not any(name in self.lifted for name in signals):
            return False
        if kind in _SAME:
            return self._follow(node, [self._image(first), *node.input[1:]])
        if kind in _PAIRS:
            return self._pair(node)
        if kind == "Concat":
            axis = next(int(a.i) for a in node.attribute if a.name == "axis") % _SIGNAL
            images = [self._image(name) for name in node.input]
            return self._follow(node, images, axis=axis + (axis == _SIGNAL - 1))
        if kind in _FLAT and first in self.lifted and (target := self.shapes.get(node.output[0])):
            self.reshape(self.lifted[first], node.output[0], target, node.name)
            self.there.add(node.output[0])
            return True
        return kind == "ReduceMean" and self._mean(node)

    def _follow(self, node: Any, inputs: Sequence[str], **changed: Any) -> bool:
        """Write a node like `node` that makes an image."""
        output = node.output[0]
        self.lifted[output] = f"{output}.row"
        self.emit(node, inputs, self.lifted[output], **changed)
        return True

    def _window(self, node: Any) -> bool:
        """Make a window of one row."""
        changed: dict[str, Any] = {}
        for attribute in node.attribute:
            values = list(attribute.ints)
            if attribute.name in _BESIDE:
                changed[attribute.name] = [_BESIDE[attribute.name], *values]
            elif attribute.name == "pads":
                changed["pads"] = [0, values[0], 0, values[1]]
        inputs = list(node.input)
        if node.op_type in ("Conv", "ConvTranspose"):
            if inputs[1] not in self.constants:
                return False
            weight = np.expand_dims(numpy_helper.to_array(self.constants[inputs[1]]), 2)
            inputs[1] = self.replaced(inputs[1], weight, "row")
        return self._follow(node, [self._image(inputs[0]), *inputs[1:]], **changed)

    def _pair(self, node: Any) -> bool:
        inputs = []
        for name in node.input:
            if name in self.constants:
                inputs.append(self._row(name))
            elif self._rank(name) == _SIGNAL:
                inputs.append(self._image(name))
            else:
                return False
        return self._follow(node, inputs)

    def _mean(self, node: Any) -> bool:
        """Make a mean over the signal one over the image."""
        axes = integers_of(node, "axes", self.constants)
        if axes is None or [axis % _SIGNAL for axis in axes] != [_SIGNAL - 1]:
            return False
        pooled = f"{node.output[0]}.pooled"
        image = self._image(node.input[0])
        self.nodes.append(helper.make_node("GlobalAveragePool", [image], [pooled], node.name))
        self.reshape(pooled, node.output[0], self.shapes[node.output[0]])
        self.there.add(node.output[0])
        return True
