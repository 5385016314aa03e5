"""Tensors that are never negative use all integers: what becomes of them, from scales to layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tvm import relax

from relay_passes.partition.fallbacks import fallbacks
from relay_passes.variants import RECIPES
from tests.relay_passes.models import CNN, residual_net
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config import VTAConfig

VARIANTS = (
    "profiled",
    "profiled_fused",
    "per_tensor",
    "best",
    "fine_residuals",
    "dyadic",
    "dyadic_any",
    "per_channel",
    "w4a8",
    "w4a4",
)


def clipped_net() -> Any:
    """Depthwise convolution, ReLU6, uneven padding, a residual of a clipped tensor, two heads."""
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.relu(net.conv(x, 8, groups=8))
    x = net.emit(relax.op.clip(net.conv(x, 16, padding=(0, 1, 2, 0)), 0.0, 0.7))
    x = net.relu(net.add(x, net.conv(x, 16)))
    return net.module(net.head(net.conv(x, 8)))


def dense_net() -> Any:
    """A dense layer that covers a feature map, and one behind it."""
    net = CNN()
    x = net.emit(relax.op.nn.max_pool2d(net.relu(net.conv(net.data, 4)), (4, 4), (4, 4)))
    x = net.emit(relax.op.reshape(x, (1, 36)))
    x = net.relu(net.add(net.emit(relax.op.matmul(x, net.const(36, 9))), net.const(9)))
    return net.module(net.emit(relax.op.matmul(x, net.const(9, 5))))


@pytest.mark.slow
@pytest.mark.parametrize("make", [residual_net, clipped_net, dense_net])
@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_mean_what_the_graph_computes(
    make: Any, variant: str, default_config: VTAConfig
) -> None:
    options = replace(RECIPES[variant].options, zero_points=True)
    machine = replace(default_config, capabilities=options.capabilities)
    mod = quantized(make(), options)
    assert fallbacks(mod, machine) == ()
    layers = check_meaning(mod, machine)
    zero = -8 if variant == "w4a4" else -128
    padded = {
        layer.pad_value for layer in layers[1:] if any(layer.padding) and layer.weight is not None
    }
    assert padded <= {zero, -128} and (zero in padded or make is dense_net)
    assert layers[0].pad_value == 0
