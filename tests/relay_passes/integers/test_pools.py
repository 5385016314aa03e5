"""Average pools become integer sums, with and without zero points and counted padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tvm import relax

from relay_passes.operators.averages import NO_AVERAGE
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.variants import RECIPES
from tests.relay_passes.models import CNN
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config import VTAConfig

AROUND = (1, 1, 1, 1)


def pooled(*args: Any, **options: Any) -> Any:
    """Return a network of a convolution, an average pool, another convolution and a head."""
    net = CNN()
    x = net.emit(relax.op.nn.avg_pool2d(net.relu(net.conv(net.data, 8)), *args, **options))
    return net.module(net.head(net.relu(net.conv(x, 8))))


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("variant", ["profiled_fused", "dyadic"])
@pytest.mark.parametrize(
    ("args", "options", "kind"),
    [
        (((2, 2), (2, 2)), {}, "depthwise_conv2d"),
        (((3, 3), (1, 1), AROUND), {"count_include_pad": True}, "depthwise_conv2d"),
        (((3, 3), (1, 1), AROUND), {"count_include_pad": False}, "avg_pool2d"),
        (((3, 2), (2, 1), (0, 1, 1, 0)), {}, "avg_pool2d"),
        (((2, 3), (1, 2), (0, 0, 0, 0)), {"dilation": (2, 1)}, "depthwise_conv2d"),
    ],
    ids=["plain", "counted", "not counted", "uneven", "dilated"],
)
def test_pools_run_on_vta_as_the_host_computes(
    args: Any,
    options: Any,
    kind: str,
    variant: str,
    zero_points: bool,
    default_config: VTAConfig,
) -> None:
    recipe = replace(RECIPES[variant].options, zero_points=zero_points)
    machine = replace(default_config, capabilities=recipe.capabilities)
    mod = quantized(pooled(*args, **options), recipe)
    assert fallbacks(mod, machine) == ()
    layers = check_meaning(mod, machine)
    assert [layer.kind for layer in layers] == ["conv2d", kind, "conv2d", "sum_pool2d", "dense"]


def test_one_channel_alone(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 1))
    x = net.emit(relax.op.nn.avg_pool2d(x, (3, 3), (1, 1), AROUND))
    layers = check_meaning(quantized(net.module(net.head(net.conv(x, 8)))), default_config)
    assert layers[1].kind == "avg_pool2d"


def test_others_stay_on_the_host_with_the_reason(default_config: VTAConfig) -> None:
    mod = quantized(pooled((2, 2), (1, 1), (1, 1, 1, 1), dilation=(2, 2), count_include_pad=False))
    reasons = {f.operator: f.reason for f in fallbacks(mod, default_config)}
    assert reasons["nn.avg_pool2d"] == NO_AVERAGE
