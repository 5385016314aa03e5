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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.observers import MaxAbs, Observer
from relay_passes.graph import Module, constant, dtype_of, op_name, read_graph
from relay_passes.numerics import exact_log2, power_of_two_at_least, scale_for
from relay_passes.operators import MOVES, WEIGHT_AXIS, averaged, is_global_average
from relay_passes.params import Granularity, QuantParams, TensorProfile
from relay_passes.scales.scales import Scales, largest_weights
from vta_config.errors import CalibrationError


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
        for name, weight, axis, source in _weights(mod):
            params = tensors.get(source)
            absorbed = _odd_part(params.scale[0]) if params is not None else 1.0
            limit = (1 << (self.weight_bits - 1)) - 1
            peaks = largest_weights(weight, axis, self.weight_granularity, self.block)
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
        for name, weight, _, source in _weights(mod):
            absorbed = _odd_part(tensors[source].scale[0]) if source in tensors else 1.0
            peak = float(np.abs(weight).max(initial=0.0)) * absorbed
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


def _shift_for(ratio: float) -> int:
    """Return the smallest n >= 0 with 2^n >= ratio."""
    return max(0, round(log2(power_of_two_at_least(ratio)))) if ratio > 0 else 0


def _odd_part(scale: float) -> float:
    """Return what keeps a scale from being a power of two, in [1, 2): 1.0 if nothing does."""
    if exact_log2(scale) is not None:
        return 1.0
    return frexp(scale)[0] * 2


def _weights(mod: Module) -> list[tuple[str, NDArray[np.float32], int, str]]:
    """List (tensor name, weight, axis of output channels, name of the input tensor)."""
    found = []
    for binding in read_graph(mod).bindings:
        axis = WEIGHT_AXIS.get(op_name(binding.value))
        if axis is not None and (weight := constant(binding.value.args[1])) is not None:
            source = getattr(binding.value.args[0], "name", "")
            found.append((binding.var.name, weight, axis, source))
    return found
