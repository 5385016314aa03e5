"""Lowering of additions: no taps, every operand a residual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flow.compiler.cost import Slots, Tiling
from flow.compiler.operators.conv2d import lower_tiled
from flow.compiler.operators.operator import Lowerer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.workbench import Workbench


def add(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower an addition: whole rows and blocks, as many as let two operands and two tiles fit.

    Tensors that are added several times stay in inp for all of a tile, and for the next one's loads
    there is as much again.
    """
    shape, capacity = normal.shape, bench.residents.capacity_of(normal)
    half = max(1, min(capacity.inp, capacity.acc) // 2)
    tensors = len({*normal.layer.inputs}) if normal.repeats_tensors else 1
    half = max(1, half // tensors)
    ow = min(shape.out_width, half)
    oh = min(shape.out_height, max(1, half // ow))
    acc = capacity.acc // 2
    oc = max(1, min(shape.oc, acc // (oh * ow), capacity.wgt // max(1, shape.constants)))
    slots = 2
    if normal.repeats_tensors:
        windows = capacity.inp // (oh * ow)
        oc = max(1, min(oc, windows // (2 * tensors)))
        slots = max(2, min(windows, 2 * tensors * oc))
    tiling = Tiling(oc=oc, oh=oh, ow=ow, ic=0, oc_w=oc, oc_outer=True)
    # It has two operands and nothing that comes back.
    return lower_tiled(bench, normal, tiling, Slots(2, 2, slots))


LOWERER: Final = Lowerer(lower=add)
