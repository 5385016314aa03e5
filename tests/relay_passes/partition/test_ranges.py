"""What the host clips its integers to is known to the layers that read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import GraphBuilder
from relay_passes.operators.chain import Padding
from relay_passes.operators.padding import padded
from relay_passes.partition.layers import INT8_RANGE
from relay_passes.partition.partition import _ranges, partition
from relay_passes.partition.ranges import int8_range
from relay_passes.partition.read import annotated_functions, subgraph_of
from tests.relay_passes.models import CNN
from vta_config import VTAConfig


def network(limits: tuple[float, float] | None, *, moved: bool = False) -> Any:
    """Return a convolution of floats that are rounded and clipped to `limits` before."""
    net = CNN((1, 4, 6, 6))
    x = net.emit(relax.op.floor(net.data))
    if limits is not None:
        x = net.emit(relax.op.clip(x, *limits))
    x = net.emit(relax.op.astype(x, "int8"))
    if moved:
        x = net.emit(relax.op.permute_dims(x, (0, 1, 3, 2)))
    weight = np.random.default_rng(0).integers(-127, 128, (4, 4, 3, 3)).astype(np.int8)
    x = net.emit(relax.op.nn.conv2d(x, relax.const(weight), padding=1, out_dtype="int32"))
    x = net.emit(relax.op.right_shift(x, relax.const(np.int32(9))))
    return net.module(net.emit(relax.op.astype(net.emit(relax.op.clip(x, -127, 127)), "int8")))


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ((-119.0, 119.0), (-119, 119)),
        ((0.0, 7.5), (0, 7)),
        ((-300.0, 300.0), INT8_RANGE),
        (None, INT8_RANGE),
    ],
)
@pytest.mark.parametrize("moved", [False, True])
def test_the_range_of_an_input(
    limits: tuple[float, float] | None, found: tuple[int, int], moved: bool
) -> None:
    config = VTAConfig.load("w4a4")
    partitioned = partition(network(limits, moved=moved), config)
    (function,) = annotated_functions(partitioned)
    (spec,) = subgraph_of(function, config).inputs
    assert (spec.low, spec.high) == found


def test_what_is_padded_has_the_number_outside_as_well() -> None:
    data, builder = relax.Var("data", relax.TensorType((1, 4, 6, 6), "float32")), GraphBuilder()
    clip = builder.emit(relax.op.clip(data, 0.0, 7.0), "clip")
    x = builder.emit(relax.op.astype(clip, "int8"), "q")
    x = builder.emit(padded(x, Padding((1, 1, 1, 1), -8)), "pad")
    definitions = {binding.var: binding.value for binding in builder.bindings}
    assert int8_range(x, definitions) == (-8, 7)


def test_an_argument_of_main_may_be_any_int8() -> None:
    assert int8_range(relax.Var("x", relax.TensorType((1, 4), "int8")), {}) == INT8_RANGE


def test_a_function_that_is_called_twice_has_the_range_of_both() -> None:
    data, builder = relax.Var("data", relax.TensorType((1, 4), "float32")), GraphBuilder()
    numbers = []
    for limit in (7.0, 119.0):
        clip = builder.emit(relax.op.clip(data, -limit, limit / 7), "clip")
        numbers.append([builder.emit(relax.op.astype(clip, "int8"), "q")])
    definitions = {binding.var: binding.value for binding in builder.bindings}
    assert _ranges(numbers, definitions) == [-119, 17]
    assert _ranges(numbers[:1], definitions) == [-7, 1]
