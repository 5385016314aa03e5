"""How the inputs of a subgraph lie in DRAM: the form in which their one reader costs least."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flow.compiler.cost import Cost, cost
from flow.compiler.operators.conv_pool import choose_pooled, normal_layer_with_pool
from flow.compiler.tiling import choose_tiling
from flow.program.input_form import forms_of
from vta_config.errors import CapacityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.shapes import Capacity
    from relay_passes.partition.layers import Subgraph
    from vta_config.hardware import VTAConfig


def first_layers(
    subgraph: Subgraph, layers: Sequence[NormalLayer]
) -> Iterator[tuple[str, NormalLayer]]:
    """Yield each input that one layer reads, as what it convolves, and that layer."""
    for spec in subgraph.inputs:
        readers = [p for p in layers for name in p.layer.inputs if name == spec.name]
        if len(readers) == 1 and readers[0].layer.inputs[0] == spec.name:
            yield spec.name, readers[0]


def in_forms(
    normal: NormalLayer, config: VTAConfig, capacity: Capacity
) -> list[tuple[Cost, NormalLayer]]:
    """Return a layer with its input in each form worth weighing that fits, and what it costs."""
    result = []
    for form in forms_of(normal.layer, config.block):
        changed = normal_layer_with_pool(normal.layer, normal.pool, config, form, normal.planes)
        try:
            result.append((_cost(changed, capacity), changed))
        except CapacityError:
            continue
    return result


def _cost(normal: NormalLayer, capacity: Capacity) -> Cost:
    if normal.pool is not None:
        return choose_pooled(normal, normal.pool, capacity)[0]
    name = normal.layer.name
    return cost(normal.shape, choose_tiling(normal.shape, capacity, name), capacity)
