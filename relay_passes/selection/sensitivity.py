"""Measure what fewer bits of one layer cost: the perturbation of the results, layer by layer.

One layer at a time has fewer bits and everything else stays float:

    Omega(b) = sum (z_b - z)² / sum z²,

z the results (logits) of calibration images in float32, z_b those with only that layer's weights,
or only the tensor that it reads, at b bits. A layer with weights of w and activations of a bits has
Omega(w) + Omega(a), since both errors hardly know of each other; so the time goes with the number
of different widths, not of pairs. The widest of each counts as no error: its own is a 256th of that
of four bits fewer. What layers read together is quantized for all that read it, sums included, and
its error is shared out evenly among these layers, so that the errors of all layers add up.

Integers are what the flow makes of these bits: the chooser's scales of a network of which all
layers have b bits, rounded to nearest. Given the moments of the layers' inputs, weights are learned
and biases corrected as the options say, which serves some layers far more than others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relay_passes import numerics
from relay_passes.calibration.moments import LayerMoments
from relay_passes.choose_scales import choose_scales
from relay_passes.graph import Module, read_graph
from relay_passes.host.float_graph import FloatGraph
from relay_passes.operators.calls import split_bias, weight_of_rows, weight_rows
from relay_passes.params import TensorProfile
from relay_passes.quant_options import QuantOptions
from relay_passes.scales.bit_widths import UniformWidths, Widths
from relay_passes.scales.block_scales import BlockScales
from relay_passes.scales.layer_bits import layers_by_input
from vta_config.errors import CalibrationError

#: Perturbations by layer, by widths.
Sensitivity: TypeAlias = Mapping[str, Mapping[Widths, float]]
#: Images that are enough.
USUAL_IMAGES: Final = 32
#: Output scales that the search tries, as the variants with fewer bits do.
_FACTORS: Final = tuple(2.0 ** (k / 8) for k in range(-4, 5))


def usual_options() -> QuantOptions:
    """Return what integers are made by by default: scales searched by error, to nearest."""
    return QuantOptions(chooser=BlockScales(factors=_FACTORS, clip=1))


def measured_sensitivity(
    mod: Module,
    profiles: Mapping[str, TensorProfile],
    images: Iterable[NDArray[Any]],
    choices: Sequence[Widths],
    *,
    options: QuantOptions | None = None,
    moments: LayerMoments | None = None,
    count: int = USUAL_IMAGES,
    workers: int = 1,
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
        Chooser, rounder, block and limits of the integers; its passes are not run. Default:
        `usual_options`.
    moments : dict[str, Moments], optional
        Of the layers' inputs, for options that learn; without, all weights are rounded to nearest.
        Of other images: on those that it learned from, a layer's error is far too small.
    count : int
        Images at most.
    workers : int
        Threads that take an image each. Best one a core, with numpy's own set to one thread.
    progress : callable (done, total), optional
        Called after every image.

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
    quantized = Quantized(mod, profiles, options or usual_options(), moments)
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
    offsets = {trial: quantized.offset(trial[1], trial[2]) for trial in weights}
    for name in readers:  # chosen here, since threads would choose twice
        for bits in activation_bits:
            quantized.tensor(name, bits, np.zeros(1))

    def errors_of(image: NDArray[Any]) -> tuple[list[float], float]:
        """Return the squared error of each trial, and the sum of squares without any."""
        values = graph.run(image)
        reference = [values[str(v.name)] for v in graph.graph.results]
        found = []
        for trial in trials:
            kind, name, bits = trial
            if kind == "weight":
                new = graph.compute(name, values, weight=weights[trial])
                new += numerics.along(offsets[trial], new.ndim, 1)
            else:
                new = quantized.tensor(name, bits, values[name])
            results = graph.results(values, {name: new})
            found.append(sum(map(_square_error, results, reference)))
        return found, sum(float(np.square(z, dtype=np.float64).sum()) for z in reference)

    sums, power = np.zeros(len(trials)), 0.0
    with ThreadPoolExecutor(workers) as pool:
        for done, (found, own) in enumerate(pool.map(errors_of, used), 1):
            sums, power = sums + found, power + own
            if progress is not None:
                progress(done, len(used))
    errors = dict(zip(trials, sums.tolist(), strict=True))
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


def _square_error(z: NDArray[Any], reference: NDArray[Any]) -> float:
    return float(np.square(z.astype(np.float64) - reference).sum())


class Quantized:
    """What the flow makes of weights and tensors at any bits, all layers alike.

    Parameters
    ----------
    mod : IRModule
    profiles : dict[str, TensorProfile]
    options : QuantOptions
        Chooser, rounder, block and limits, and whether biases are corrected.
    moments : dict[str, Moments], optional
        What the rounder learns from, and biases are corrected by.
    """

    def __init__(
        self,
        mod: Module,
        profiles: Mapping[str, TensorProfile],
        options: QuantOptions,
        moments: LayerMoments | None = None,
    ) -> None:
        """Start without scales; they are chosen where they are asked for."""
        self._mod, self._profiles, self._options = mod, profiles, options
        self._moments = moments or {}
        self._rounder = options.rounder.learned(self._moments, noise={}, dampings={})
        self._rounded: dict[tuple[str, int], NDArray[np.float32]] = {}
        found = (split_bias(b.value) for b in read_graph(mod).bindings)
        self._biased = {str(pair[0].name) for pair in found if pair is not None}
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
        if (layer, bits) not in self._rounded:
            call, block = self._calls[layer], self._options.block
            params = self._chosen(Widths(weight_bits=bits)).weights[layer]
            q = self._rounder(layer, weight_rows(call), params)
            rows = numerics.dequantize(q, params, block=block)
            self._rounded[layer, bits] = weight_of_rows(call, rows).astype(np.float32)
        return self._rounded[layer, bits]

    def offset(self, layer: str, bits: int) -> NDArray[np.float32]:
        """Return what is added to a layer's bias for its weights at `bits`, float32[O]."""
        call = self._calls[layer]
        rows = weight_rows(call).astype(np.float64)
        if not self._options.correct_bias or not {layer} <= self._biased & set(self._moments):
            return np.zeros(len(rows), np.float32)
        error = rows - weight_rows(call, self.weight(layer, bits))
        return self._moments[layer].outputs(error).astype(np.float32)

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
