"""Measure what fewer bits of one layer cost: the perturbation of the results, layer by layer.

One layer at a time has fewer bits and everything else stays float:

    Omega(b) = sum (z_b - z)² / sum z²,

z the results (logits) of calibration images in float32, z_b those with only that layer's weights,
or only the tensor that it reads, at b bits. A layer with weights of w and activations of a bits has
Omega(w) + Omega(a), since both errors hardly know of each other; so the time goes with the number
of different widths, not of pairs. The widest of each counts as no error: its own is a 256th of that
of four bits fewer. What layers read together is quantized for all that read it, sums included, and
its error is shared out evenly among these layers, so that the errors of all layers add up.

Integers are what the flow makes of these bits without learning: the chooser's scales of a network
of which all layers have b bits, rounded to nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relay_passes import numerics
from relay_passes.choose_scales import choose_scales
from relay_passes.graph import Module, read_graph
from relay_passes.host.float_graph import FloatGraph
from relay_passes.operators.calls import weight_of_rows, weight_rows
from relay_passes.params import TensorProfile
from relay_passes.quant_options import QuantOptions
from relay_passes.scales.bit_widths import UniformWidths, Widths, layers_by_input
from relay_passes.scales.block_scales import BlockScales
from vta_config.errors import CalibrationError

#: Perturbations by layer, by widths.
Sensitivity: TypeAlias = Mapping[str, Mapping[Widths, float]]
#: Images that are enough.
USUAL_IMAGES: Final = 32
#: Output scales that the search tries, as the variants with fewer bits do.
_FACTORS: Final = tuple(2.0 ** (k / 8) for k in range(-4, 5))


def usual_options() -> QuantOptions:
    """Return what integers are made by where nothing else is said: scales searched by error."""
    return QuantOptions(chooser=BlockScales(factors=_FACTORS, clip=1))


def measured_sensitivity(
    mod: Module,
    profiles: Mapping[str, TensorProfile],
    images: Iterable[NDArray[Any]],
    choices: Sequence[Widths],
    *,
    options: QuantOptions | None = None,
    count: int = USUAL_IMAGES,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[Widths, float]]:
    """Return the perturbation of each layer at each of `choices`; see the module's text.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named, after the passes of the options.
    profiles : dict[str, TensorProfile]
        Of its tensors.
    images : iterable of float32[N, C, H, W]
        Calibration images, of which the first `count` are used.
    choices : sequence of Widths
        Each layer's.
    options : QuantOptions, optional
        Chooser, block and limits of the integers; its passes are not run. Default:
        `usual_options`.
    count : int
        Images at most.
    progress : callable (done, total), optional
        Called after every image of each layer.

    Raises
    ------
    CalibrationError
        When there are no choices, no images or no results but zeros, or a tensor was not profiled.
    """
    weight_bits, activation_bits = _narrower(choices)
    used = list(islice(images, count))
    if not used:
        raise CalibrationError(
            "sensitivity",
            "must be measured on at least one image",
            got=0,
            hint="give calibration images",
        )
    quantized = Quantized(mod, profiles, options or usual_options())
    sources = layers_by_input(mod)
    readers: dict[str, list[str]] = {}
    for name, source in sources.items():
        readers.setdefault(source, []).append(name)
    graph = FloatGraph(mod)
    weights = {
        ("weight", name, bits): quantized.weight(name, bits)
        for name in sources
        for bits in weight_bits
    }
    trials = [*weights, *(("tensor", name, b) for name in readers for b in activation_bits)]
    errors: dict[tuple[str, str, int], float] = dict.fromkeys(trials, 0.0)
    power, done = 0.0, 0
    for image in used:
        values = graph.run(image)
        reference = [values[str(v.name)] for v in graph.graph.results]
        power += sum(float(np.square(z, dtype=np.float64).sum()) for z in reference)
        for trial in trials:
            _, name, bits = trial
            if trial in weights:
                new = graph.compute(name, values, weight=weights[trial])
            else:
                new = quantized.tensor(name, bits, values[name])
            results = graph.results(values, {name: new})
            errors[trial] += sum(
                float(np.square(z.astype(np.float64) - r).sum())
                for z, r in zip(results, reference, strict=True)
            )
            done += 1
            if progress is not None:
                progress(done, len(used) * len(trials))
    if not power:
        raise CalibrationError(
            "sensitivity",
            "must be measured on images with results other than 0",
            got=0,
            hint="check the model and the images",
        )
    return {
        name: {
            widths: (
                errors.get(("weight", name, widths.weight_bits), 0.0)
                + errors.get(("tensor", source, widths.activation_bits), 0.0) / len(readers[source])
            )
            / power
            for widths in choices
        }
        for name, source in sources.items()
    }


class Quantized:
    """What the flow makes of weights and tensors at any bits, all layers alike, to nearest.

    Parameters
    ----------
    mod : IRModule
    profiles : dict[str, TensorProfile]
    options : QuantOptions
        Chooser, block and limits.
    """

    def __init__(
        self, mod: Module, profiles: Mapping[str, TensorProfile], options: QuantOptions
    ) -> None:
        """Start without scales; they are chosen where they are asked for."""
        self._mod, self._profiles, self._options = mod, profiles, options
        self._scales: dict[Widths, Any] = {}
        self._calls = {str(b.var.name): b.value for b in read_graph(mod).bindings}

    def _chosen(self, widths: Widths) -> Any:
        if widths not in self._scales:
            rule = UniformWidths(inner=widths)
            options = self._options.with_widths(rule)
            self._scales[widths] = choose_scales(self._mod, self._profiles, options)
        return self._scales[widths]

    def weight(self, layer: str, bits: int) -> NDArray[np.float32]:
        """Return a layer's weights at `bits`, as floats, laid out as in the graph."""
        call, block = self._calls[layer], self._options.block
        params = self._chosen(Widths(weight_bits=bits)).weights[layer]
        q = numerics.quantize(weight_rows(call), params, block=block)
        rows = numerics.dequantize(q, params, block=block)
        return weight_of_rows(call, rows).astype(np.float32)

    def weight_error(self, layer: str, bits: int) -> float:
        """Return the sum of (w - q(w))² of a layer's weights at `bits`."""
        rows = weight_rows(self._calls[layer]).astype(np.float64)
        quantized = weight_rows(self._calls[layer], self.weight(layer, bits))
        return float(np.square(rows - quantized).sum())

    def tensor(self, name: str, bits: int, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return values of a tensor at `bits`, as floats."""
        params = self._chosen(Widths(activation_bits=bits)).tensors[name]
        return numerics.dequantize(numerics.quantize(x, params), params).astype(np.float32)


def _narrower(choices: Sequence[Widths]) -> tuple[list[int], list[int]]:
    """Return the widths of weights and of activations that are tried: all but the widest.

    Raises
    ------
    CalibrationError
        When there are none to choose from.
    """
    if not choices:
        raise CalibrationError(
            "sensitivity",
            "must be measured for at least one choice of widths",
            got="none",
            hint="give Widths(weight_bits=4), ...",
        )
    found = []
    for bits in ({c.weight_bits for c in choices}, {c.activation_bits for c in choices}):
        found.append(sorted(bits)[:-1])
    return found[0], found[1]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's correlation of two rows: that of their ranks, ties with their mean.

    NaN where either row has a single value, however often.
    """
    ranks = []
    for values in (first, second):
        _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks.append((ends - (counts - 1) / 2)[places])
    left, right = (r - r.mean() for r in ranks)
    norm = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / norm if norm else float("nan")
