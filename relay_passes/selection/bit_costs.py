"""What each layer of a float network costs at each pair of bits: bytes and bit operations.

Both are HAWQ-V3's (arXiv 2011.10680): the bytes of the weights alone, and bits of weights times
bits of activations times multiply-accumulates. Which layers read one tensor, and so must agree
about its bits, is found here, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Module, op_name, read_graph, static_shape
from relay_passes.names import layer_names
from relay_passes.operators.calls import WEIGHT_AXIS
from relay_passes.operators.operator import macs
from relay_passes.scales.bit_widths import Widths
from relay_passes.scales.layer_bits import layers_by_input
from relay_passes.selection.bit_program import Tie

SIZE: Final = "size"
BOPS: Final = "bops"
LATENCY: Final = "latency"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """A convolution or dense layer.

    Parameters
    ----------
    name : str
        As users see it, and as programs name it.
    tensor : str
        What it makes, its bias not yet added: its key in `BitWidths`.
    reads : str
        The tensor that it reads, before all that move values.
    weights, macs : int
        How many; multiply-accumulates of one image.
    is_end : bool
        Whether it reads an input of the network, or is the last one.
    """

    name: str
    tensor: str
    reads: str
    weights: int
    macs: int
    is_end: bool = False


def layer_facts(mod: Module) -> tuple[LayerFacts, ...]:
    """Return the layers of a float module, folded and named, in order."""
    graph, names, reads = read_graph(mod), layer_names(mod), layers_by_input(mod)
    inputs = {str(param.name) for param in graph.params}
    found = []
    for binding in graph.bindings:
        tensor = str(binding.var.name)
        if tensor not in reads:
            continue
        weight = static_shape(binding.value.args[1])
        axis = WEIGHT_AXIS[op_name(binding.value)]
        found.append(
            LayerFacts(
                name=names.get(tensor, tensor),
                tensor=tensor,
                reads=reads[tensor],
                weights=int(np.prod(weight, dtype=np.int64)),
                macs=macs(static_shape(binding.var), weight, axis),
                is_end=reads[tensor] in inputs or tensor == next(reversed(reads)),
            )
        )
    return tuple(found)


def size_bytes(layers: Sequence[LayerFacts], choices: Sequence[Widths]) -> NDArray[np.float64]:
    """Return the bytes of the weights, float64[layers, choices]."""
    bits = np.array([choice.weight_bits for choice in choices], float)
    return np.outer([layer.weights for layer in layers], bits / 8)


def bit_operations(layers: Sequence[LayerFacts], choices: Sequence[Widths]) -> NDArray[np.float64]:
    """Return bits of weights · bits of activations · multiply-accumulates, [layers, choices]."""
    bits = np.array([choice.weight_bits * choice.activation_bits for choice in choices], float)
    return np.outer([layer.macs for layer in layers], bits)


def input_ties(layers: Sequence[LayerFacts]) -> tuple[Tie, ...]:
    """Return which layers read one tensor, such as a downsample and the convolution beside it."""
    readers: dict[str, list[str]] = {}
    for layer in layers:
        readers.setdefault(layer.reads, []).append(layer.name)
    return tuple(
        Tie(layers=tuple(names), what="activations") for names in readers.values() if len(names) > 1
    )
