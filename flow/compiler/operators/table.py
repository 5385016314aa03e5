"""The table of lowerings: a row for each operator of `relay_passes.operators.table`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from flow.compiler.operators import (
    add,
    avg_pool2d,
    concat,
    conv2d,
    dense,
    depthwise_conv2d,
    grouped_conv2d,
    max_pool2d,
    move,
    resize2d,
    scale_channels,
    sum_pool2d,
)

#: By kind of layer.
LOWERERS: Final = MappingProxyType(
    {
        "depthwise_conv2d": depthwise_conv2d.LOWERER,
        "grouped_conv2d": grouped_conv2d.LOWERER,
        "conv2d": conv2d.LOWERER,
        "dense": dense.LOWERER,
        "add": add.LOWERER,
        "max_pool2d": max_pool2d.LOWERER,
        "avg_pool2d": avg_pool2d.LOWERER,
        "sum_pool2d": sum_pool2d.LOWERER,
        "resize2d": resize2d.LOWERER,
        "scale_channels": scale_channels.LOWERER,
        "concat": concat.LOWERER,
        "move": move.LOWERER,
    }
)
