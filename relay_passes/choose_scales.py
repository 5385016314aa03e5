"""Choose the scale of every tensor and weight: from profiles, or one for all.

A chooser reads the float graph and returns `Scales`. Powers of two in the ``shift`` mode. Two
kinds of tensors have no choice of their own: max-pool, reshape and other operators that only move
values keep their input's scale; a global average of H*W values, which is an integer sum followed by
a shift by n, has scale s_x * 2^n / (H*W), and the next layer's weight scale absorbs the H*W, so
that the product s_x * s_w is a power of two again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, frexp, log2
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, Module, constant, dtype_of, op_name, read_graph, static_shape
from relay_passes.numerics import exact_log2, power_of_two_at_least, scale_for
from relay_passes.observers import MaxAbs, Observer
from relay_passes.params import Granularity, QuantParams, TensorProfile
from vta_config.errors import CalibrationError

#: Operators whose output holds the input's values in another shape or order.
RESHAPES: Final = frozenset({"reshape", "permute_dims", "squeeze", "expand_dims"})
#: Operators that move values and compute nothing: the output has the input's scale.
MOVES: Final = frozenset({"nn.max_pool2d", *RESHAPES})
#: Operators that clip: an accumulator may end behind one.
ACTIVATIONS: Final = frozenset({"nn.relu", "clip"})
#: Operators whose second operand is a weight, with the axis of its output channels.
WEIGHT_AXIS: Final = {"nn.conv2d": 0, "matmul": 1}


def weight_rows(call: Expr, values: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the weight of a convolution or dense layer as one row an output channel, [O, K].

    Parameters
    ----------
    call : relax.Call
        Its weight is a constant, unless `values` are given.
    values : number[...], optional
        In place of the weight and laid out like it: its integers.
    """
    weight = constant(call.args[1]) if values is None else values
    assert weight is not None, call
    axis = WEIGHT_AXIS[op_name(call)]
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def weight_of_rows(call: Expr, rows: NDArray[Any]) -> NDArray[Any]:
    """Return what `weight_rows` made rows of, laid out as the weight of the call."""
    axis, shape = WEIGHT_AXIS[op_name(call)], static_shape(call.args[1])
    moved = shape[axis], *shape[:axis], *shape[axis + 1 :]
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis))


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

    def __call__(self, mod: Module, profiles: Mapping[str, TensorProfile]) -> Scales:
        """Return the scales of the float module `mod`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledScales:
    """Choose a power-of-two scale for each tensor from its profile.

    s = smallest power of two >= m / (2^(bits-1) - 1), where m is the observer's magnitude for an
    activation, max|w| for a weight.

    Parameters
    ----------
    observer : Observer
        Turns an activation's profile into a magnitude.
    bits, weight_bits : int
        Widths of activations and weights.
    weight_granularity : {"tensor", "block", "channel"}
        What shares a weight scale.
    block : int
        Output channels a block, for granularity ``block``.
    """

    observer: Observer = field(default_factory=MaxAbs)
    bits: int = 8
    weight_bits: int = 8
    weight_granularity: Granularity = "tensor"
    block: int = 16

    def __call__(self, mod: Module, profiles: Mapping[str, TensorProfile]) -> Scales:
        """Return the scales of the float module `mod`.

        Raises
        ------
        CalibrationError
            When a tensor was not profiled.
        """
        qmax = (1 << (self.bits - 1)) - 1

        def magnitude(name: str) -> float:
            if name not in profiles:
                raise CalibrationError(
                    name, "must have been profiled", hint="profile the graph that is quantized"
                )
            return self.observer(profiles[name], qmax)

        tensors = _tensor_scales(
            mod,
            own=lambda name: scale_for(magnitude(name), qmax),
            average=lambda name, unit, count: _shift_for(magnitude(name) / (unit * qmax)),
            bits=self.bits,
        )
        weights = {}
        for name, rows, source in _weights(mod):
            params = tensors.get(source)
            absorbed = _odd_part(params.scale[0]) if params is not None else 1.0
            limit = (1 << (self.weight_bits - 1)) - 1
            peaks = largest_weights(rows, self.weight_granularity, self.block)
            weights[name] = QuantParams(
                scale=tuple(scale_for(p * absorbed, limit) / absorbed for p in peaks),
                bits=self.weight_bits,
                granularity=self.weight_granularity,
            )
        return Scales(tensors=tensors, weights=weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleScale:
    """Use one scale for every activation: the baseline of stock Relay quantization.

    s = global_scale / 2^(bits-1) (8 / 128 = 1/16); weights 2^ceil(log2 max|w|) / 2^(bits-1), with
    the largest weight clipped to 127 where max|w| is itself a power of two.

    Parameters
    ----------
    global_scale : float
        Magnitude that 2^(bits-1) stands for; a power of two.
    bits : int
        Width of activations and weights.

    Raises
    ------
    CalibrationError
        When global_scale is not a power of two.
    """

    global_scale: float = 8.0
    bits: int = 8

    def __post_init__(self) -> None:
        """Check that shifts can express the scale."""
        if not 0 < self.global_scale < float("inf") or frexp(self.global_scale)[0] != 0.5:
            raise CalibrationError(
                "SingleScale.global_scale",
                "must be a power of two",
                got=self.global_scale,
                hint="8.0 is stock",
            )

    def __call__(self, mod: Module, profiles: Mapping[str, TensorProfile]) -> Scales:
        """Return the scales of the float module `mod`; profiles are not used."""
        steps = 1 << (self.bits - 1)
        tensors = _tensor_scales(
            mod,
            own=lambda name: self.global_scale / steps,
            average=lambda name, unit, count: ceil(log2(count)),  # a mean is at most the maximum
            bits=self.bits,
        )
        weights = {}
        for name, rows, source in _weights(mod):
            absorbed = _odd_part(tensors[source].scale[0]) if source in tensors else 1.0
            peak = float(np.abs(rows).max(initial=0.0)) * absorbed
            scale = power_of_two_at_least(peak) / steps / absorbed
            weights[name] = QuantParams(scale=(scale,), bits=self.bits)
        return Scales(tensors=tensors, weights=weights)


def _tensor_scales(mod: Module, own: Any, average: Any, bits: int) -> dict[str, QuantParams]:
    """Walk the graph: own scale, the input's, or the average's that follows from its input's."""
    graph = read_graph(mod)
    result: dict[str, QuantParams] = {}
    nonnegative: set[str] = set()
    for param in graph.params:
        result[param.name] = QuantParams(scale=(own(param.name),), bits=bits)
    for binding in graph.bindings:
        name, value = binding.var.name, binding.value
        kind = op_name(value)
        if dtype_of(binding.var) != "float32":
            continue
        source = getattr(value.args[0], "name", "") if kind and value.args else ""
        if kind == "nn.relu" or (kind == "clip" and float(value.args[1]) == 0.0):
            nonnegative.add(name)
        elif kind in (*MOVES, "mean") and source in nonnegative:
            nonnegative.add(name)
        signed = name not in nonnegative
        if kind in MOVES and source in result:
            scale = result[source].scale
        elif kind == "mean" and source in result and is_global_average(value):
            count = averaged(value)
            unit = result[source].scale[0] / count
            shift = average(name, unit, count)
            scale = (unit * 2.0**shift,)
        else:
            scale = (own(name),)
        result[name] = QuantParams(scale=scale, bits=bits, signed=signed)
    return result


def is_global_average(call: Expr) -> bool:
    """Whether a mean is a global average pool: over rows and columns, dimensions kept."""
    axes = call.attrs.axis
    if axes is None or len(static_shape(call.args[0])) != 4 or not bool(call.attrs.keepdims):
        return False
    return sorted(int(a) % 4 for a in axes) == [2, 3]


def averaged(call: Expr) -> int:
    """Return how many values one output of a global average pool is the mean of."""
    _, _, height, width = static_shape(call.args[0])
    return height * width


def _shift_for(ratio: float) -> int:
    """Return the smallest n >= 0 with 2^n >= ratio."""
    return max(0, round(log2(power_of_two_at_least(ratio)))) if ratio > 0 else 0


def _odd_part(scale: float) -> float:
    """Return what keeps a scale from being a power of two, in [1, 2): 1.0 if nothing does."""
    if exact_log2(scale) is not None:
        return 1.0
    return frexp(scale)[0] * 2


def _weights(mod: Module) -> list[tuple[str, NDArray[np.float32], str]]:
    """List (tensor name, weight rows, name of the input tensor)."""
    return [
        (b.var.name, weight_rows(b.value), getattr(b.value.args[0], "name", ""))
        for b in read_graph(mod).bindings
        if op_name(b.value) in WEIGHT_AXIS and constant(b.value.args[1]) is not None
    ]


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
