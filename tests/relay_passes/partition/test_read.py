"""Layers read from a module, and from the functions that partition annotated."""

from __future__ import annotations

import numpy as np
import pytest
import tvm

from relay_passes.partition.layers import TensorSpec
from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions, find_layers, layers_of, subgraph_of
from tests.relay_passes.integers.stages import INTEGERS, Q0
from tests.relay_passes.models import residual_net
from tests.relay_passes.partition.integers import (
    Int8,
    quantized,
)
from vta_config import VTAConfig
from vta_config.errors import UnsupportedModelError


def test_foreign_function_is_rejected(default_config: VTAConfig) -> None:
    t = Int8()
    function = t.module(t.wide(t.data))["main"]
    with pytest.raises(
        UnsupportedModelError,
        match="main: lv0: must call a composite function for VTA, got astype; use partition",
    ):
        subgraph_of(function, default_config)


def test_code_generator_gets_the_function(default_config: VTAConfig) -> None:
    mod = partition(quantized(residual_net()), default_config)
    tvm.relax.analysis.well_formed(mod)
    (function,) = annotated_functions(mod)
    assert subgraph_of(function, default_config).symbol == "vta_0"


def test_layers_of_a_module(default_config: VTAConfig) -> None:
    first, second = layers_of(INTEGERS, default_config)
    assert (first.name, first.kind, first.inputs, first.output) == (
        "conv0", "conv2d", ("data.q",), "conv0.relu",
    )  # fmt: skip
    assert (first.in_shape, first.out_shape) == ((1, 1, 2, 2), (1, 2, 2, 2))
    assert first.out_dtype == "int8"
    assert first.weight is not None
    np.testing.assert_array_equal(first.weight, Q0)
    bias, *others = first.post_ops
    np.testing.assert_array_equal(bias.value, [3, -7])
    assert [(s.op, s.value) for s in others] == [("shr", 1), ("max", 0), ("min", 127)]
    assert (second.name, second.inputs, second.output) == ("conv1", ("conv0.relu",), "conv1")
    assert second.post_ops == () and second.out_dtype == "int32"


def test_a_subgraph_has_the_borders_of_its_function(default_config: VTAConfig) -> None:
    (function,) = annotated_functions(partition(INTEGERS, default_config))
    subgraph = subgraph_of(function, default_config)
    assert subgraph.symbol == "vta_0"
    x = TensorSpec(name="data.q", shape=(1, 1, 2, 2), dtype="int8", low=-127, high=127)
    assert subgraph.inputs == (x,)  # what the host clips it to
    assert subgraph.outputs == (TensorSpec(name="conv1", shape=(1, 1, 2, 2), dtype="int32"),)
    assert [layer.name for layer in subgraph.layers] == ["conv0", "conv1"]


def test_layers_that_vta_does_not_take_come_with_the_reason(default_config: VTAConfig) -> None:
    t = Int8()
    found = find_layers(t.module(t.small(t.conv(t.data), 32)), default_config)
    assert not found.chains
    ((chain, reason),) = found.refused
    assert chain.kind == "conv2d" and reason == "a shift must be in [0, 31]"
