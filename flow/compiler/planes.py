"""Planes: numbers that are wider than a machine's operands, as sums of digits.

A machine whose operands have 4 bits multiplies digits in [-8, 7]. A wider number is a sum

    v = Σ_p 2^(4p) · digit p,

exact in int32: digits 0 and 1 hold [-136, 119], three hold any int8. An activation lies in DRAM as
one tensor a digit, its *planes*; so do a layer's weights. The products of two planes are summed up
by falling *exponent* (the power of two that they stand for), and between two exponents the
accumulator is shifted left. How many planes there are is for the data to say: the range that a
layer clips its output to, the weights that a layer has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flow.compiler.borders import tensor_borders
from relay_passes.partition.layers import INT8_RANGE
from vta_config.lanes import plane_range, planes_of, wrap_lanes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from relay_passes.partition.layers import Layer, Subgraph
    from vta_config.hardware import VTAConfig

#: The exponents, in digits, of a layer's planes of weights. Weights that two digits do not hold
#: (120 to 127) take a third one beside the upper: 16 · (7 + 1) + digit.
_WEIGHT_DIGITS: Final[dict[int, tuple[int, ...]]] = {1: (0,), 2: (1, 0), 3: (1, 1, 0)}
_INT32_BITS: Final = 32
Interval = tuple[float, float]


# ---- weights ------------------------------------------------------------------------------------
def weight_exponents(weight: NDArray[np.int8], config: VTAConfig) -> tuple[int, ...]:
    """Return the exponent of each plane that a layer's weights take, falling."""
    bits = config.wgt_bits
    count = planes_of(int(weight.min()), int(weight.max()), bits)
    return tuple(bits * digit for digit in _WEIGHT_DIGITS[count])


def weight_plane(
    weight: NDArray[np.int8], index: int, exponents: tuple[int, ...], config: VTAConfig
) -> NDArray[np.int8]:
    """Return plane `index` of weights that take planes of these exponents.

    Returns
    -------
    int8 of the shape of `weight`, in the range of a wgt lane.
    """
    if len(exponents) == 1:
        return weight
    low = wrap_lanes(weight, config.wgt_bits)
    if index == len(exponents) - 1:
        return low
    upper = (weight.astype(np.int16) - low) >> config.wgt_bits
    most = np.minimum(upper, config.wgt_max)
    digit = most if index == len(exponents) - 2 else upper - most
    return np.asarray(digit, np.int8)


# ---- activations --------------------------------------------------------------------------------
def tensor_planes(subgraph: Subgraph, config: VTAConfig) -> dict[str, int]:
    """Return the planes of every tensor of a subgraph as it lies in DRAM, by name."""
    bits = config.inp_bits
    ranges: dict[str, Interval] = {spec.name: (spec.low, spec.high) for spec in subgraph.inputs}
    wide = {layer.output for layer in subgraph.layers if layer.out_dtype == "int32"}
    for layer in subgraph.layers:
        both = output_range(layer, ranges)
        ranges[layer.output] = both if within_int8(both) else INT8_RANGE
    for name, border in tensor_borders(subgraph, ()).items():
        low, high = ranges[name]
        ranges[name] = min(low, border.value), max(high, border.value)
    return {
        name: _INT32_BITS // bits if name in wide else planes_of(int(low), int(high), bits)
        for name, (low, high) in ranges.items()
    }


def plane_exponents(tensor: str, config: VTAConfig, planes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the exponents of a tensor's planes, falling."""
    bits = config.inp_bits
    count = planes.get(tensor, planes_of(*INT8_RANGE, bits))
    return tuple(bits * plane for plane in reversed(range(count)))


def int8_range(planes: int | None, config: VTAConfig) -> tuple[int, int]:
    """Return the int8 numbers that so many planes of a tensor hold, None being any."""
    low, high = plane_range(planes, config.inp_bits) if planes else INT8_RANGE
    return max(low, INT8_RANGE[0]), min(high, INT8_RANGE[1])


def within_int8(both: Interval) -> bool:
    """Tell whether all numbers of an interval are int8."""
    return INT8_RANGE[0] <= both[0] and both[1] <= INT8_RANGE[1]


def output_range(layer: Layer, ranges: Mapping[str, Interval]) -> Interval:
    """Return an interval that holds all that a layer makes, before it is cut to int8.

    Parameters
    ----------
    layer : Layer
    ranges : Mapping[str, (float, float)]
        Of its inputs, by name; the whole int8 where there is none.
    """
    low, high = -np.inf, np.inf
    if layer.operator.int8_range:
        low, high = ranges.get(layer.inputs[0], INT8_RANGE)
    if layer.movement is not None:
        found = (ranges.get(name, INT8_RANGE) for name in layer.data_inputs)
        lows, highs = zip(*found, strict=True)
        fill, total = layer.movement.fill, layer.movement.total
        low, high = min(*lows, fill) * total, max(*highs, fill) * total
    for step in layer.post_ops:
        least, most = int(np.min(step.value)), int(np.max(step.value))
        if step.op == "max":
            low, high = max(low, least), max(high, most)
        elif step.op == "min":
            low, high = min(low, least), min(high, most)
        elif step.op == "shr" and np.isfinite([low, high]).all():
            low, high = (
                min(int(low) >> n for n in (least, most)),
                max(int(high) >> n for n in (least, most)),
            )
        else:
            low, high = -np.inf, np.inf
    return low, high
