"""Programs of every kind of network give numpy's integers in any legal order of their modules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions, subgraph_of
from relay_passes.variants import RECIPES
from tests.flow.compiler.kinds_of_networks import NETWORKS, STEPS, chain
from tests.flow.compiler.operators.moves import check_engines
from tests.relay_passes.partition.integers import quantized
from tests.strategies import tiny_configs
from vta_config.errors import FlowError
from vta_config.hardware import VTAConfig


def check(make: Callable[[], Any], config: VTAConfig, *, zero_points: bool = False) -> None:
    """Compare fsim in stream order and in a random one, tsim and the oracle with numpy."""
    options = RECIPES["profiled_fused"].options
    mod = quantized(make(), replace(options, zero_points=zero_points))
    (function,) = annotated_functions(partition(mod, config))  # nothing is left to the host
    check_engines(subgraph_of(function, config), config, seed=zero_points)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_any_legal_order(name: str, default_config: VTAConfig) -> None:
    check(NETWORKS[name], default_config)


@pytest.mark.parametrize("name", ["U-Net, bilinear", "ResNet-20 A", "DS-CNN", "pyramid", "YOLO"])
def test_with_zero_points_and_small_buffers(name: str) -> None:
    check(NETWORKS[name], VTAConfig.load("small"), zero_points=True)


@settings(max_examples=40)
@given(
    config=tiny_configs(),
    steps=st.lists(st.integers(0, len(STEPS) - 1), min_size=1, max_size=3),
    channels=st.sampled_from([2, 4, 12]),
    size=st.integers(1, 6),
    zero_points=st.booleans(),
)
def test_a_tiny_machine_runs_a_network_or_says_why_not(
    config: VTAConfig, steps: list[int], channels: int, size: int, zero_points: bool
) -> None:
    options = replace(RECIPES["profiled_fused"].options, zero_points=zero_points)
    mod = quantized(chain(steps, channels, size), options)
    with contextlib.suppress(FlowError):
        for function in annotated_functions(partition(mod, config)):
            check_engines(subgraph_of(function, config), config, seed=zero_points)
