"""Limit weight scales from below: shifts, biases and residuals' multipliers stay cheap.

A bias is added in units of s_x s_w, the scale of the accumulator, by GEMM steps that reach
127² (block - 1) + 127 each; a residual is added m = s_skip / (s_x s_w) times, 127 a step; one
instruction shifts by 15 at most. Weights that are tiny beside their bias, or beside the residual,
would make these numbers large, up to beyond int32, for nothing: their last bits are far below what
the output can show. So the scale of a group of weights is raised by a power of two until bias,
multiplier and shift fit, as ONNX Runtime raises it until the bias fits int32. Such weights use
fewer of the integers, in the extreme only 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, Graph, Module, constant, op_name, read_graph, source_name
from relay_passes.operators.averages import is_average
from relay_passes.operators.calls import AVERAGES, ends_accumulator, moved, split_bias, weight_rows
from relay_passes.params import MIN_SCALE, QuantParams, TensorProfile
from relay_passes.scales.accumulators import AccumulatorEnd, fused_ends, paired_layers, unfused_ends
from relay_passes.scales.scales import Scales
from vta_config.portable import MAX_SHIFT, MAX_WEIGHT, constant_reach

#: Steps of a residual that are taken at any price, and up to a quarter of the layer's own.
_FEW_RESIDUAL_STEPS: Final = (5, 9)
#: One constant step is free, and so is each that meets so many steps of the layer's own: 8 %.
_STEPS_A_CONSTANT_STEP: Final = 12
#: Constant steps for biases beyond what the output can hold, where bits of weights may matter more.
_FEW_STEPS: Final = 4
#: The addend that nothing else reads needs no bits below 2^-6 of the other one's last.
_ADDEND_OCTAVES: Final = 6
#: The shift of weights that are all zero, whose scale is free.
_USUAL_SHIFT: Final = 8


def live_profiles(
    mod: Module, profiles: Mapping[str, TensorProfile]
) -> Mapping[str, TensorProfile]:
    """Return `profiles` with that of each dead ReLU's output replaced by its input's.

    Zeros have no scale of their own; the input's makes its layer like any other, and fits whatever
    images bring it to life.
    """
    result = dict(profiles)
    for binding in read_graph(mod).bindings:
        if not ends_accumulator(binding.value):
            continue
        name, source = binding.var.name, source_name(binding.value)
        if name in result and source in result and result[name].max_abs == 0:
            result[name] = replace(result[source], name=name)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """One layer, or two that share an accumulator, whose weights' scales change together.

    Parameters
    ----------
    layers : dict[str, (float64[O, K], float)]
        Weight rows, and the largest value of the input, by name.
    bias : float64[O]
        Of both together.
    output, skip : float
        Scales of the tensor that the accumulator becomes, and of the residual; 0 for none.
    top, skip_top : int
        Largest integers of both.
    """

    layers: Mapping[str, tuple[NDArray[np.float64], float]]
    bias: NDArray[np.float64]
    output: float
    skip: float
    top: int
    skip_top: int

    def least(self, block: int) -> NDArray[np.float64]:
        """Return the least scale of the accumulator for each channel, float64[O]."""
        size = sum(rows.shape[1] for rows, _ in self.layers.values())
        steps = ceil(size / block)
        share = steps // _STEPS_A_CONSTANT_STEP
        reach = constant_reach(block)
        few, some = reach * max(1, share), reach * max(_FEW_STEPS, share)
        bias, y = np.abs(self.bias), self.output
        if not y:
            return np.asarray(bias / some)
        # Beyond what the sum can take back, a bias only saturates the output (see `Requantize`).
        sums = (np.abs(rows).sum(axis=1) * x for rows, x in self.layers.values())
        bias = np.minimum(bias, sum(sums) + self.skip_top * self.skip + 129 * y)
        within = np.minimum(bias, self.top * y)
        least = np.maximum((within + y / 2) / few, (bias + y / 2) / some)
        some, more = _FEW_RESIDUAL_STEPS
        residual = MAX_WEIGHT * max(some, min(more, steps // 4), share)
        return np.asarray(np.maximum(least, max(y * 0.5**MAX_SHIFT, self.skip / residual)))


def limit_scales(mod: Module, scales: Scales, *, fuse: bool, pairs: bool, block: int) -> Scales:
    """Return `scales` with weight scales raised where shifts, biases or residuals need it.

    Parameters
    ----------
    mod : IRModule
        Float module that they were chosen for.
    scales : Scales
    fuse : bool
        Whether accumulators end at the ReLU and take the residual in.
    pairs : bool
        Whether two layers that a sum adds share an accumulator, where their scales allow it.
    block : int
        Channels of a block.
    """
    graph = read_graph(mod)
    tensors = _coarse_addends(graph, scales.tensors)
    weights = dict(scales.weights)
    layers = {b.var.name: b for b in graph.bindings if b.var.name in weights}
    ends = fused_ends(mod, paired_layers(mod) if pairs else {}) if fuse else unfused_ends(mod)
    uses = graph.uses()
    done: set[str] = set()
    for name, binding in layers.items():
        x = tensors.get(source_name(binding.value))
        if name in done or x is None or name not in ends:
            continue
        end = ends[name]
        names = [n for n in (name, end.partner) if n]
        done.update(names)
        group = _group(uses, names, ends, layers, tensors)
        if group is None:
            continue
        shift = _raised(group, weights[name], x.scale[0], block)
        for part in names:
            scale = weights[part].scale
            weights[part] = replace(
                weights[part],
                scale=tuple(s * 2.0**k for s, k in zip(scale, shift, strict=True)),
            )
    return Scales(tensors=tensors, weights=weights)


def _raised(group: _Group, weight: QuantParams, x: float, block: int) -> list[int]:
    """Return by how many octaves each scale of a weight must rise, below 0 only for zeros."""
    rows, _ = next(iter(group.layers.values()))
    own = weight.scales(len(rows), block) * x
    least = np.maximum(group.least(block), MIN_SCALE * x)
    need = np.ceil(np.log2(least / own) - 2.0**-20)
    sizes = {"tensor": len(rows), "block": block, "channel": 1}
    starts = np.arange(0, len(rows), sizes[weight.granularity])
    octaves = [max(0, int(k)) for k in np.maximum.reduceat(need, starts)]
    if group.skip and weight.granularity != "tensor":
        # Their multipliers are integers a * 2^j, of which j octaves are left.
        octaves = [
            min(k, _twos(round(group.skip / s))) for k, s in zip(octaves, own[starts], strict=True)
        ]
    peaks = np.max([np.abs(r).max(axis=1) for r, _ in group.layers.values()], axis=0)
    if not peaks.any():
        wanted = group.output or float(np.abs(group.bias).max(initial=0.0))
        shift = log2(wanted / own[0]) if wanted else 0.0
        if not 0 <= shift <= MAX_SHIFT:
            return [round(shift) - _USUAL_SHIFT] * len(starts)
    return octaves


def _twos(number: int) -> int:
    """Return how often 2 divides a number; for 0, a residual that is left out, any often."""
    return (number & -number).bit_length() - 1 if number > 0 else 1 << 10


def _group(
    uses: Mapping[Expr, list[Expr]],
    names: list[str],
    ends: Mapping[str, AccumulatorEnd],
    layers: Mapping[str, Expr],
    tensors: Mapping[str, QuantParams],
) -> _Group | None:
    """Gather what the limits need; None where an input is no integer tensor."""
    found: dict[str, tuple[NDArray[np.float64], float]] = {}
    biases = []
    for name in names:
        value = layers[name].value
        x = tensors.get(value.args[0].name)
        if x is None or constant(value.args[1]) is None:
            return None
        rows = weight_rows(value).astype(np.float64)
        found[name] = rows, x.scale[0] * x.levels
        biases.append(sum(_biases(uses, layers[name].var), np.zeros(len(rows))))
    end = ends[names[0]]
    output, skip = (tensors.get(n) for n in (end.output, end.skip))
    return _Group(
        layers=found,
        bias=np.sum(biases, axis=0),
        output=output.scale[0] if output else 0.0,
        skip=skip.scale[0] if skip else 0.0,
        top=output.levels if output else 0,
        skip_top=skip.levels if skip else 0,
    )


def _biases(uses: Mapping[Expr, list[Expr]], var: Expr) -> Iterator[NDArray[np.float64]]:
    """Yield the constants added to a layer's result before anything else reads it."""
    while len(readers := uses.get(var, [])) == 1 and readers[0] is not None:
        found = split_bias(readers[0].value) if op_name(readers[0].value) == "add" else None
        if found is None:
            return
        yield found[1]
        var = readers[0].var


def _coarse_addends(graph: Graph, tensors: Mapping[str, QuantParams]) -> dict[str, QuantParams]:
    """Raise the scale of an addend that only a sum reads, where the other one's is far larger."""
    result, uses, definitions = dict(tensors), graph.uses(), graph.definitions()
    for binding in graph.bindings:
        value = binding.value
        if op_name(value) != "add" or split_bias(value) is not None:
            continue
        for own, other in (value.args, value.args[::-1]):
            names = getattr(own, "name", ""), getattr(other, "name", "")
            if not all(name in result for name in names) or len(uses.get(own, [])) != 1:
                continue
            maker: Expr = definitions.get(own)
            if op_name(maker) in (*AVERAGES, "") or is_average(maker) or moved(maker):
                continue
            octaves = ceil(log2(result[names[1]].scale[0] / result[names[0]].scale[0]))
            if octaves > _ADDEND_OCTAVES:
                scale = result[names[0]].scale[0] * 2.0 ** (octaves - _ADDEND_OCTAVES)
                result[names[0]] = replace(result[names[0]], scale=(scale,))
    return result
