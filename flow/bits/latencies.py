"""What each layer takes at each width: timed by tsim in programs of the machine itself.

A program is compiled for each pair of bits, all layers alike, and its layers are timed where they
stand, with what the layers around them leave loaded. What has no weights of its own, such as a
pool, is counted with the layer that comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flow.bits.kept import Kept, key_of, numbers_fit
from flow.results.latency import latency_of
from relay_passes.rounding.nearest import NearestRounder
from relay_passes.scales.bit_widths import Widths
from relay_passes.variants import MIXED, RECIPES

if TYPE_CHECKING:
    from flow.pipeline import Pipeline
    from relay_passes.selection.bit_costs import LayerFacts
    from relay_passes.selection.bit_program import Bits

#: A width must save this share of a program's cycles to save any: where instructions fall into
#: place otherwise, a program takes a few cycles more or less.
LEAST_GAIN: Final = 0.01


class Meter:
    """Times programs of one pipeline's model on its machine.

    Parameters
    ----------
    pipeline : Pipeline
        Calibrated.
    layers : sequence of LayerFacts
        Those of its model.
    cache : Path, optional
        A JSON file that results are kept in.
    """

    def __init__(
        self, pipeline: Pipeline, layers: Sequence[LayerFacts], cache: Path | None = None
    ) -> None:
        """Start without a program."""
        self._pipeline, self._layers, self._kept = pipeline, layers, Kept(cache)

    def cycles(self, bits: Mapping[str, Bits]) -> dict[str, int]:
        """Return the cycles of each layer of the program in which layers have these bits.

        They add up to those of the program, or programs; 0 for what the host runs.

        Parameters
        ----------
        bits : mapping of str to (weight bits, activation bits)
            Of every layer, by name.

        Raises
        ------
        CapacityError
            When accumulators may overflow, or a layer does not fit the machine.
        """
        pairs = tuple((layer.tensor, *bits[layer.name]) for layer in self._layers)
        key = key_of(self._pipeline, "cycles", self._pipeline.scheduling, pairs)
        names = [layer.name for layer in self._layers]
        found = self._kept.get(key, lambda: self._measure(bits), numbers_fit(names))
        return {name: int(found[name]) for name in names}

    def _measure(self, bits: Mapping[str, Bits]) -> dict[str, int]:
        """Compile with weights rounded to nearest: what they are takes no time."""
        options = replace(
            RECIPES[MIXED].options,
            rounder=NearestRounder(),
            correct_bias=False,
            widths=widths_of(self._layers, bits),
        )
        compiled = self._pipeline.compile(self._pipeline.quantize(options))
        latency = latency_of(compiled.timed)
        timed = [] if latency is None else [(x.name, x.cycles) for x in latency.layers]
        return by_layer(timed, [layer.name for layer in self._layers])


def widths_of(layers: Iterable[LayerFacts], bits: Mapping[str, Bits]) -> dict[str, Widths]:
    """Return bits by layer as quantization takes them."""
    return {
        layer.tensor: Widths(weight_bits=bits[layer.name][0], activation_bits=bits[layer.name][1])
        for layer in layers
    }


def by_layer(timed: Sequence[tuple[str, int]], layers: Sequence[str]) -> dict[str, int]:
    """Add the cycles of what is no layer to the layer after it, or to the last one.

    Parameters
    ----------
    timed : sequence of (name, cycles)
        In the order of execution.
    layers : sequence of str
        Names of the layers; those that were not timed get 0.
    """
    result = dict.fromkeys(layers, 0)
    waiting, last = 0, layers[-1]
    for name, cycles in timed:
        waiting += cycles
        if name in result:
            result[name] += waiting
            waiting, last = 0, name
    result[last] += waiting
    return result
