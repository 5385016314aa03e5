"""Transposed convolutions as convolutions; the network means the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes.float_model.split_phases import SplitPhases
from relay_passes.graph import op_name, read_graph, static_shape
from relay_passes.host.run import HostModule
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.variants import RECIPES
from tests.relay_passes.models import CNN
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config import VTAConfig


def split(mod: Any) -> list[str]:
    """Split, compare the results with those before, and return the operators."""
    result = SplitPhases()(mod)
    x = np.random.default_rng(3).normal(size=static_shape(read_graph(mod).params[0]))
    x = x.astype(np.float32)
    ours, theirs = (HostModule(m)(x)[0] for m in (result, mod))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    return [op_name(b.value) for b in read_graph(result).bindings]


def transposed(
    channels: tuple[int, int] = (3, 4),
    size: tuple[int, int] = (4, 5),
    kernel: tuple[int, int] = (2, 2),
    groups: int = 1,
    **options: Any,
) -> tuple[CNN, Any]:
    net = CNN((1, channels[0], *size))
    weight = net.const(channels[0], channels[1] // groups, *kernel)
    options = {"strides": (2, 2), **options}
    return net, net.emit(relax.op.nn.conv2d_transpose(net.data, weight, groups=groups, **options))


@pytest.mark.parametrize(
    ("options", "convolutions"),
    [
        ({}, 1),
        ({"kernel": (3, 3), "padding": (1, 1, 1, 1), "output_padding": (1, 1)}, 4),
        ({"kernel": (3, 3), "padding": (1, 1, 1, 1)}, 4),
        ({"kernel": (4, 4), "padding": (1, 1, 1, 1)}, 4),
        ({"kernel": (5, 4), "padding": (3, 3, 3, 3)}, 4),
        ({"kernel": (3, 3), "strides": (3, 3)}, 1),
        ({"kernel": (3, 2), "strides": (1, 1), "padding": (1, 0, 1, 0)}, 1),
        ({"kernel": (4, 3), "strides": (3, 1)}, 3),
        ({"kernel": (4, 4), "groups": 4, "channels": (4, 4), "padding": (1, 1, 1, 1)}, 4),
        ({"kernel": (2, 2), "groups": 2, "channels": (4, 6)}, 4),
        ({"kernel": (1, 1)}, 1),
        ({"kernel": (1, 2), "strides": (3, 2), "output_padding": (2, 0)}, 1),
        ({"kernel": (3, 3), "strides": (1, 1), "dilation": (2, 2)}, 1),
        ({"kernel": (3, 2), "dilation": (3, 1), "padding": (2, 0, 1, 0)}, 4),
    ],
    ids=str,
)
def test_a_convolution_a_phase(options: dict[str, Any], convolutions: int) -> None:
    net, x = transposed(**options)
    found = split(net.module(x))
    assert found.count("nn.conv2d") == convolutions and "nn.conv2d_transpose" not in found


@settings(max_examples=20)
@given(data=st.data())
def test_any_window(data: st.DataObject) -> None:
    draw = data.draw
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    kernel = tuple(draw(st.integers(1, s + 3)) for s in strides)
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, kernel[a % 2] - 1)) for a in range(4))
    more = tuple(draw(st.integers(0, s - 1)) for s in strides)
    size = (draw(st.integers(2, 5)), draw(st.integers(2, 5)))
    out = [
        (size[a] - 1) * strides[a]
        - padding[a]
        - padding[a + 2]
        + (kernel[a] - 1) * dilation[a]
        + 1
        + more[a]
        for a in (0, 1)
    ]
    assume(min(out) > 0)
    net, x = transposed(
        size=size,
        kernel=kernel,
        strides=strides,
        padding=padding,
        output_padding=more,
        dilation=dilation,
    )
    assert "nn.conv2d_transpose" not in split(net.module(x))


def test_what_follows_belongs_to_the_phases() -> None:
    net, x = transposed(kernel=(4, 4), padding=(1, 1, 1, 1))
    x = net.emit(relax.op.add(x, net.const(1, 4, 1, 1)))
    x = net.emit(relax.op.multiply(x, net.const(1, 4, 1, 1)))
    x = net.emit(relax.op.clip(net.relu(x), 0.0, 0.5))
    found = split(net.module(net.emit(relax.op.add(x, net.const(1, 4, 1, 1)))))
    assert found[:4] == ["nn.conv2d", "add", "nn.relu", "clip"]
    assert found.count("add") == 5 and "multiply" not in found


def test_what_others_read_is_made() -> None:
    net, x = transposed()
    found = split(net.module(net.add(net.relu(x), x)))
    assert found.count("nn.relu") == 1 and found[-2:] == ["nn.relu", "add"]


@pytest.mark.parametrize("kind", ["transposed", "transposed 4"])
@pytest.mark.parametrize("zero_points", [False, True])
def test_they_run_on_vta(kind: str, zero_points: bool, default_config: VTAConfig) -> None:
    net = CNN((1, 3, 6, 6))
    x = net.relu(net.conv(net.data, 16))
    width = 4 if kind.endswith("4") else 2
    call = relax.op.nn.conv2d_transpose(
        x, net.const(16, 16, width, width), (2, 2), padding=(width // 2 - 1,) * 4
    )
    x = net.emit(relax.op.add(net.emit(call), net.const(1, 16, 1, 1)))
    x = net.relu(x)
    options = replace(RECIPES["profiled_fused"].options, zero_points=zero_points)
    mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))), options)
    assert fallbacks(mod, default_config) == ()
    check_meaning(mod, default_config)
