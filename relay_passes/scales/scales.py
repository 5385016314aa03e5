"""What a chooser of scales is and returns, and what choosers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import frexp
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Module, constant, dtype_of, op_name, read_graph, source_name
from relay_passes.numerics import exact_log2
from relay_passes.operators.averages import averaged, is_average
from relay_passes.operators.calls import WEIGHT_AXIS, is_move, weight_rows
from relay_passes.params import Granularity, QuantParams, TensorProfile
from relay_passes.requirements import Need
from relay_passes.scales.bit_widths import Precision
from relay_passes.scales.signs import never_negative
from relay_passes.scales.ties import ties_of

#: All tensors and weights at 8 bits.
EIGHT_BITS: Final = Precision()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """The quantization parameters of a model.

    Parameters
    ----------
    tensors : dict[str, QuantParams]
        Activations by tensor name, the input included. One without stays an accumulator.
    weights : dict[str, QuantParams]
        Weights by the name of the convolution or dense tensor that uses them.
    """

    tensors: Mapping[str, QuantParams]
    weights: Mapping[str, QuantParams]


class ScaleChooser(Protocol):
    """Anything that chooses a model's scales."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it requires besides the graph."""
        ...

    @property
    def pair(self) -> bool:
        """Whether two layers that a sum adds share an accumulator."""
        ...

    def for_block(self, block: int) -> ScaleChooser:
        """Return the chooser for a machine whose shifts serve `block` output channels."""
        ...

    def __call__(
        self,
        mod: Module,
        profiles: Mapping[str, TensorProfile],
        precision: Precision = EIGHT_BITS,
    ) -> Scales:
        """Return the scales of the float module `mod`, with the bits that `precision` says."""
        ...


def largest_weights(
    rows: NDArray[Any], granularity: Granularity, block: int
) -> NDArray[np.float64]:
    """Return max|w| of the tensor, of each block or of each channel.

    Parameters
    ----------
    rows : floating[O, K]
        Weights of each output channel.
    granularity : {"tensor", "block", "channel"}
    block : int
        Output channels of a block.

    Returns
    -------
    float64[1], float64[blocks] or float64[channels]
    """
    peaks = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
    if granularity == "tensor":
        return np.asarray([peaks.max(initial=0.0)])
    if granularity == "block":
        starts = np.arange(0, len(peaks), block)
        return np.asarray(np.maximum.reduceat(peaks, starts), np.float64)
    return np.asarray(peaks)


def tensor_scales(
    mod: Module, own: Any, average: Any, precision: Precision
) -> dict[str, QuantParams]:
    """Walk the graph: own scale, the input's, or the average's that follows from its input's.

    Parameters
    ----------
    mod : IRModule
    own : callable (name) -> float
        Returns the scale of a tensor.
    average : callable (name, unit, count) -> int
        Returns the shift of a global average of `count` values, whose sum has the scale `unit`.
    precision : Precision
    """
    graph = read_graph(mod)
    result: dict[str, QuantParams] = {}
    nonnegative, ties = never_negative(mod), ties_of(graph)
    for param in graph.params:
        scale = max(map(own, ties.wholes(str(param.name))))
        result[param.name] = precision.tensor(param.name, scale)
    for binding in graph.bindings:
        name, value = binding.var.name, binding.value
        if dtype_of(binding.var) != "float32":
            continue
        source = source_name(value)
        signed = name not in nonnegative
        if is_move(value) and source in result:
            scale = result[source].scale[0]
        elif source in result and is_average(value):
            count = averaged(value)
            unit = result[source].scale[0] / count
            shift = average(name, unit, count)
            scale = unit * 2.0**shift
        else:
            scale = max(map(own, ties.wholes(name)))
        result[name] = precision.tensor(name, scale, signed=signed)
    return result


def odd_part(scale: float) -> float:
    """Return what keeps a scale from being a power of two, in [1, 2): 1.0 if nothing does."""
    if exact_log2(scale) is not None:
        return 1.0
    return frexp(scale)[0] * 2


def weights_of(mod: Module) -> list[tuple[str, NDArray[np.float32], str]]:
    """List (tensor name, weight rows, name of the input tensor)."""
    return [
        (b.var.name, weight_rows(b.value), source_name(b.value))
        for b in read_graph(mod).bindings
        if op_name(b.value) in WEIGHT_AXIS and constant(b.value.args[1]) is not None
    ]
