"""Differences and paddings as sums; the network means the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes.float_model.as_sums import AsSums
from relay_passes.graph import op_name, read_graph, static_shape
from relay_passes.host.run import HostModule
from relay_passes.partition.fallbacks import fallbacks
from tests.relay_passes.models import CNN
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config import VTAConfig


def rewritten(mod: Any) -> list[str]:
    """Rewrite, compare the results with those before, and return the operators."""
    result = AsSums()(mod)
    x = np.random.default_rng(3).normal(size=static_shape(read_graph(mod).params[0]))
    x = x.astype(np.float32)
    ours, theirs = (HostModule(m)(x)[0] for m in (result, mod))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    return [op_name(b.value) for b in read_graph(result).bindings]


def minus(net: CNN, left: Any, right: Any) -> Any:
    return net.emit(relax.op.subtract(left, right))


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_is_subtracted_by_adding_it(bias: bool) -> None:
    net = CNN()
    x = minus(net, net.data, net.conv(net.data, 3, bias=bias))
    found = rewritten(net.module(x))
    assert found[-2:] == ["multiply", "add"] and "subtract" not in found


def test_other_differences_stay() -> None:
    net = CNN()
    layer = net.conv(net.data, 3)
    for x in (
        minus(net, layer, net.data),  # not a layer's result
        minus(net, net.data, layer),  # which others read, too
        minus(net, net.data, net.conv(net.data, 1)),  # of another shape
        minus(net, net.const(1, 3, 1, 1), layer),
    ):
        assert "multiply" not in rewritten(net.module(net.add(x, layer)))


@settings(max_examples=10)
@given(data=st.data())
def test_a_padding_is_a_sum(data: st.DataObject) -> None:
    net = CNN((1, 3, 4, 5))
    widths = [0, 0, *(data.draw(st.integers(0, 3)) for _ in range(6))]
    value = data.draw(st.sampled_from([0.5, -2.0, 0.0]))
    x = net.emit(relax.op.nn.pad(net.data, widths, pad_value=value))
    found = rewritten(net.module(x))
    assert found == (["add", "nn.pad", "add"] if value else ["nn.pad"])


def test_other_paddings_stay() -> None:
    net = CNN((1, 3, 4, 5))
    x = net.emit(relax.op.nn.pad(net.data, [0, 0, 0, 0, 1, 1, 1, 1], pad_mode="reflect"))
    x = net.emit(relax.op.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1], pad_value=-float("inf")))
    x = net.emit(relax.op.nn.max_pool2d(x, (3, 3)))
    assert rewritten(net.module(x)) == ["nn.pad", "nn.pad", "nn.max_pool2d"]


def test_they_run_on_vta(default_config: VTAConfig) -> None:
    net = CNN((1, 3, 8, 8))
    x = net.relu(net.conv(net.data, 16))
    x = net.emit(relax.op.nn.pad(x, [0, 0, 0, 0, 1, 2, 0, 1], pad_value=0.75))
    x = minus(net, net.relu(net.conv(x, 16)), net.conv(x, 16))
    mod = quantized(net.module(net.head(net.relu(x))))
    assert fallbacks(mod, default_config) == ()
    check_meaning(mod, default_config)
