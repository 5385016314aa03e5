"""Take the scales of a model that is quantized already, as far as the machine can.

Activations keep their scales; a zero point is the machine's (`KeptTensor.params`). What is left
are the weights: an accumulator of scale s_x * s_w becomes int8 of scale s_y by a shift, so that

    s_w[b] = s_y / (s_x * 2^n[b])

for each block b of output channels. That is the file's own scale where it is a power of two apart;
else it is the next below at which the weights fit, and the weights are rounded again: to integers
that stand for the same real numbers. With `dyadic` they stay as they are where one scale serves the
block, and b / 2^c does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, log2
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.observers import MeanSquare, Observer
from relay_passes.graph import Expr, Module, dtype_of, read_graph, source_name
from relay_passes.numerics import exact_log2, scale_for
from relay_passes.operators.averages import averaged, is_average
from relay_passes.operators.calls import is_move, weight_rows
from relay_passes.params import FULL_LIMIT, Granularity, QuantParams, TensorProfile
from relay_passes.requirements import NOTHING, Need
from relay_passes.scales.accumulators import AccumulatorEnd, fused_ends
from relay_passes.scales.bit_widths import Precision
from relay_passes.scales.block_scales import (
    MAX_BLOCK_SHIFT,
    MAX_MULTIPLIER,
    MAX_OCTAVES,
    block_shifts,
    fit_residual,
    fitting_scales,
    least_shift,
    multiplier_at_most,
)
from relay_passes.scales.kept import KeptModel, KeptTensor
from relay_passes.scales.scales import EIGHT_BITS, Scales
from relay_passes.scales.ties import ties_of

#: A scale may be so much below the one that is needed: rounding of float32.
_ROUNDING: Final = 2.0**-18


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptScales:
    """Take the scales of a model that is quantized already; see the module's text.

    A tensor that the file leaves in float gets a scale from its profile where there is one, and
    stays in float, on the host, where there is none.

    Parameters
    ----------
    model : KeptModel
        The numbers of the file, by the names of the float module.
    observer : Observer
        Of tensors that the file leaves in float.
    block : int
        Output channels that share a shift.
    dyadic : bool
        Whether accumulators are multiplied by b / 2^c.
    """

    needs: ClassVar[frozenset[Need]] = NOTHING
    pair: ClassVar[bool] = False

    model: KeptModel
    observer: Observer = field(default_factory=MeanSquare)
    block: int = 16
    dyadic: bool = False

    def for_block(self, block: int) -> KeptScales:
        """Return the chooser for blocks of `block` output channels."""
        return replace(self, block=block)

    def __call__(
        self,
        mod: Module,
        profiles: Mapping[str, TensorProfile],
        precision: Precision = EIGHT_BITS,
    ) -> Scales:
        """Return the scales of the float module `mod`."""
        graph = read_graph(mod)
        kept = self._spread(mod)
        ends = fused_ends(mod)
        layers = {b.var.name: b.value for b in graph.bindings if b.var.name in ends}
        ending: dict[str, list[str]] = {}
        for name, end in ends.items():
            ending.setdefault(end.output, []).append(name)
        tensors: dict[str, QuantParams] = {}
        weights: dict[str, QuantParams] = {}

        def own(name: str) -> QuantParams | None:
            if name in kept:
                return kept[name].params(precision.limits)
            if name not in profiles:
                return None
            levels = precision.tensor_levels(name)
            magnitude = self.observer(profiles[name], levels)
            return precision.tensor(name, scale_for(magnitude, levels, power_of_two=False))

        names = [str(param.name) for param in graph.params]
        found = {name: own(name) for name in names}
        tensors |= {name: params for name, params in found.items() if params is not None}
        for binding in graph.bindings:
            name, value = str(binding.var.name), binding.value
            if dtype_of(binding.var) != "float32":
                continue
            source = source_name(value)
            if is_move(value) and source in tensors:
                params: QuantParams | None = tensors[source]
            elif source in tensors and is_average(value):
                params = self._average(tensors[source], averaged(value), own(name))
            else:
                params = own(name)
            if params is None:
                continue
            tensors[name] = params
            for layer in ending.get(name, ()):
                fit = self._fit(layers[layer], layer, ends[layer], tensors, precision)
                if fit is not None:
                    tensors[name], weights[layer] = fit
        for name, value in layers.items():
            if name not in weights and source_name(value) in tensors:
                rows = weight_rows(value).astype(np.float64)
                scale = self._scales(name, rows, precision.limits.weight)
                weights[name] = self._weight(name, scale, "channel", precision)
        return Scales(tensors=tensors, weights=weights)

    def _spread(self, mod: Module) -> dict[str, KeptTensor]:
        """Return what the file says of tensors, of those moved and side by side the same."""
        result = dict(self.model.tensors)
        for binding in reversed(read_graph(mod).bindings):
            name, source = str(binding.var.name), source_name(binding.value)
            if is_move(binding.value) and name in result:
                result.setdefault(source, result[name])
        ties = ties_of(read_graph(mod))
        for root, wholes in ties.concats.items():
            names = [name for name, own in ties.roots.items() if own == root]
            parts = [result[name] for name in names if name in result]
            grids = [result[name] for name in wholes if name in result] or parts
            if grids:
                result |= dict.fromkeys(names, _widest(grids, parts))
        return result

    def _average(self, source: QuantParams, count: int, own: QuantParams | None) -> QuantParams:
        """Return the parameters of an average: shifts express its sum's scale times 2^n."""
        (unit,) = source.scale
        unit /= count
        if self.dyadic and own is not None:
            return own
        wanted = source.scale[0] if own is None else own.scale[0]
        shift = max(0, ceil(log2(wanted / unit) - _ROUNDING))
        return replace(own or source, scale=(unit * 2.0**shift,))

    def _scales(self, name: str, rows: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
        """Return the scale of each output channel: the file's, or the least that fits."""
        peaks = np.abs(rows).max(axis=1, initial=0.0)
        kept = self.model.weights.get(name)
        integers = np.full(len(rows), limit)
        if kept is not None and len(kept.peaks) == len(rows):
            # Of integers that do not fit, as of uint8 weights with a zero point, the largest is
            # `limit`; -128 alone becomes -127.
            most = np.asarray(kept.peaks)
            integers = np.where(most == limit + 1, most, np.clip(most, 1, limit))
        return np.where(peaks > 0, peaks / integers, 1.0)

    def _weight(
        self, name: str, scale: NDArray[np.float64], granularity: Granularity, precision: Precision
    ) -> QuantParams:
        kept = self.model.weights.get(name)
        return QuantParams(
            scale=tuple(scale.tolist()),
            bits=8 if kept is None else kept.bits,
            granularity=granularity,
            limit=precision.limits.weight,
        )

    def _fit(
        self,
        value: Expr,
        name: str,
        end: AccumulatorEnd,
        tensors: Mapping[str, QuantParams],
        precision: Precision,
    ) -> tuple[QuantParams, QuantParams] | None:
        """Return the output's parameters and the weight's; None where the input is floats."""
        output = tensors[end.output]
        if (source := tensors.get(source_name(value))) is None:
            return None
        (x,), (y,) = source.scale, output.scale
        rows = weight_rows(value).astype(np.float64)
        theirs = self._scales(name, rows, precision.limits.weight)
        starts = np.arange(0, len(rows), self.block)
        live = np.where(np.abs(rows).max(axis=1, initial=0.0) > 0, theirs, 0.0)
        own = np.maximum.reduceat(live, starts)
        own = np.where(own > 0, own, y / x)  # of a block of zeros any
        skip = tensors[end.skip].scale[0] if end.skip in tensors else 0.0
        if skip < y * 0.5**MAX_BLOCK_SHIFT:
            skip = 0.0
        if self.dyadic:
            if skip:
                units = (own * x).tolist()
                own = skip / np.asarray([multiplier_at_most(skip / u) for u in units]) / x
            return output, self._weight(name, own, "block", precision)
        limit = self._weight(name, own, "block", precision).qmax
        least = fitting_scales(rows, self.block, limit) * x
        lowest, highest = 0, MAX_BLOCK_SHIFT
        if skip:  # the sum's scale must fit its residual's
            y = fit_residual(skip, y, least)
            lowest = least_shift(skip / y)
            highest = max(lowest, floor(log2(MAX_MULTIPLIER * y / skip)) + MAX_OCTAVES)
        exact = [exact_log2(y / (x * s)) for s in own.tolist()]
        fits = [
            int(n) if k is None else k
            for k, n in zip(exact, block_shifts(y, least).tolist(), strict=True)
        ]
        shifts = np.clip(fits, lowest, highest)
        scale = y / x * 0.5**shifts
        return replace(output, scale=(y,)), self._weight(name, scale, "block", precision)


def _widest(grids: Sequence[KeptTensor], parts: Sequence[KeptTensor]) -> KeptTensor:
    """Return the integers of tensors side by side: the widest, symmetric if a part has a sign."""
    widest = max(grids, key=lambda grid: grid.highest)
    if widest.never_negative and not all(part.never_negative for part in parts):
        return KeptTensor(scale=widest.highest / FULL_LIMIT)
    return widest
