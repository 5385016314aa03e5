"""A convolution and the sum over the picture that follows it, lowered as one.

What the convolution makes lies in acc until it is stored. A global average adds it up there, tile
by tile, so that it is neither stored nor loaded:

    tile = clip(sums >> shift)                         as without the average
    total[block] += tile[block, pixel] for each pixel
    ... and after the last tile: average = clip(total >> shift), stored

The ALU takes two cycles for each vector that it adds. Where it was stored, GEMM takes one, once it
has been loaded. Which is faster depends on the machine and on the tiles: both are estimated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flow.compiler.cost import BEAT_COST
from flow.compiler.epilogue_ops import ImmediateOp, epilogue_ops
from flow.compiler.geometry import NO_RANGE, Dim
from flow.compiler.multiply import ShiftAdds
from flow.compiler.normal_form import normal_layer
from flow.compiler.planes import output_range, within_int8
from flow.compiler.tiling import choose_tiling
from relay_passes.operators.conv2d import OPERATOR as CONV2D
from relay_passes.operators.grouped_conv2d import OPERATOR as GROUPED_CONV2D
from relay_passes.operators.sum_pool2d import OPERATOR as SUM_POOL2D
from vta_config.errors import CapacityError
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flow.compiler.emit import Tile
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.shapes import Capacity
    from flow.compiler.tokens import Emitted
    from flow.compiler.workbench import Residents, Workbench
    from relay_passes.partition.layers import Layer, Subgraph
    from vta_config.hardware import VTAConfig

#: The part of acc that the sums of a layer may fill.
_SUMS_SHARE: Final = 8
#: Cycles from the last step of a layer to the first one of a layer that reads it, without the time
#: that its bytes take: a STORE, a token, a LOAD.
_BETWEEN_CYCLES: Final = 150


def with_sums(
    layers: Sequence[NormalLayer],
    subgraph: Subgraph,
    config: VTAConfig,
    residents: Residents,
    planes: Mapping[str, int],
) -> Iterator[NormalLayer]:
    """Yield the layers, with convolutions joined with the sum that alone reads them if that pays.

    Parameters
    ----------
    layers : sequence of NormalLayer
    subgraph : Subgraph
        Of these layers.
    config : VTAConfig
    residents : Residents
        What stays in the scratchpads.
    planes : Mapping[str, int]
        Of each tensor.
    """
    readers: dict[str, list[Layer]] = {}
    for normal in layers:
        for name in normal.layer.inputs:
            readers.setdefault(name, []).append(normal.layer)
    kept = {spec.name for spec in subgraph.outputs}
    done = set()
    for normal in layers:
        output = normal.last.output
        found = readers.get(output, [])
        if len(found) == 1 and output not in kept and found[0].operator is SUM_POOL2D:
            joined = replace(normal, total=_total(found[0], config, planes))
            capacity = residents.capacity_of(joined)
            if _can_join(joined, residents.capacity) and _pays(joined, capacity):
                done.add(found[0].name)
                yield joined
                continue
        if normal.layer.name not in done:
            yield normal


def _total(layer: Layer, config: VTAConfig, planes: Mapping[str, int]) -> NormalLayer:
    """Return a sum without constants of its own: the ALU adds them."""
    normal = normal_layer(layer, config, planes=planes)
    return replace(
        normal,
        shape=replace(normal.shape, constants=0, summands=()),
        digits=None,
        own_digits=NO_RANGE,
        summands=(),
        exponents=(0,),
        epilogue=tuple(epilogue_ops(layer.post_ops, layer, config, planes)),
        input_multipliers=frozenset(),
    )


def _can_join(normal: NormalLayer, capacity: Capacity) -> bool:
    """Tell whether acc has room for the sums, and holds what would be stored."""
    total = normal.total
    assert total is not None
    return (
        normal.layer.operator in (CONV2D, GROUPED_CONV2D)
        and normal.pool is None
        and not normal.flat
        and normal.layer.out_dtype == "int8"
        and within_int8(output_range(normal.layer, {}))
        and all(isinstance(step, ImmediateOp | ShiftAdds) for step in total.epilogue)
        and normal.sum_elems * _SUMS_SHARE <= capacity.acc
    )


def _pays(normal: NormalLayer, capacity: Capacity) -> bool:
    """Tell whether to add in acc takes less than to store, to load, and to add by GEMM."""
    shape, timing = normal.shape, capacity.timing
    try:
        tiling = choose_tiling(shape, capacity, normal.layer.name)
    except CapacityError:
        return False
    each = capacity.inp_elem_bytes * shape.out_planes
    beats = shape.vectors * each / capacity.bus_bytes
    apart = max(beats, shape.vectors * timing.gemm_step) + _BETWEEN_CYCLES
    if capacity.objective == "balanced":
        apart += BEAT_COST * beats
    insns = 1 if tiling.oc > 1 else (tiling.oh * tiling.ow).bit_length()
    insns *= tiling.places(shape) * tiling.groups(shape)
    return timing.alu_reg_step * shape.vectors + insns * timing.overhead(alu=True) < apart


def add_to_sums(bench: Workbench, tile: Tile, sums: Tile) -> Iterator[Emitted]:
    """Add a tile's vectors to the sum of their block; the tile does not outlive it.

    No ALU step may read what the step before it wrote. Of several blocks, one after the other gets
    a vector. A single block is folded first: its last half is added to its first one.
    """
    left, total = tile.area, sums.acc + tile.oc.start
    origin = tile.origin.to(Purpose.POOL)
    while tile.oc.count == 1 and left > 1:
        half = left // 2
        start = (tile.acc, tile.acc + left - half)
        yield bench.emit.alu("add", (Dim(half, 1, 1),), start, origin)
        left -= half
    dims = (Dim(left, 0, 1), Dim(tile.oc.count, 1, tile.area))
    yield bench.emit.alu("add", dims, (total, tile.acc), origin)
