"""Lowering of grouped convolutions: bundles of groups that fill whole blocks, one by one.

Groups of few channels share a block: its weights have a small dense block for each group on the
diagonal and zeros elsewhere. As many groups as fill whole blocks of input and of output channels
are a bundle, and a bundle is a convolution of its own. Where a bundle is one block of both, the
layer is lowered like a depthwise convolution, whose tiles have many blocks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flow.compiler.cost import cost
from flow.compiler.operators.conv2d import lower_tiled
from flow.compiler.operators.depthwise_conv2d import depthwise_conv2d
from flow.compiler.operators.operator import Lowerer
from flow.compiler.tiling import choose_tiling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.workbench import Workbench


def grouped_conv2d(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower a grouped convolution, bundle by bundle, in the tiles that are best for one."""
    bundles = normal.bundles
    assert bundles is not None
    if bundles.ic == bundles.oc == 1:
        yield from depthwise_conv2d(bench, normal)
        return
    one, capacity = replace(normal.shape, oc=bundles.oc), bench.residents.capacity_of(normal)
    tiling = choose_tiling(one, capacity, normal.layer.name)
    yield from lower_tiled(bench, normal, tiling, cost(one, tiling, capacity).slots)


LOWERER: Final = Lowerer(lower=grouped_conv2d)
