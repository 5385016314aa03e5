"""Corrected biases: the mean of a layer's output is that of the float layer."""

from __future__ import annotations

import numpy as np

from relay_passes.calibration.moments import collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.graph import constant, read_graph
from relay_passes.host.run import conv2d
from relay_passes.numerics import quantize
from relay_passes.operators.calls import weight_rows
from relay_passes.quantize_model import prepare
from relay_passes.rounding.bias_correction import CorrectBias
from relay_passes.scales.bit_widths import UniformWidths, Widths
from relay_passes.scales.layer_bits import precision_of
from relay_passes.scales.power_of_two import ProfiledScales
from tests.relay_passes.models import CNN, images


def test_mean_error_goes_into_the_bias() -> None:
    net = CNN()
    mod = prepare(net.module(net.head(net.relu(net.conv(net.data, 5)))))
    data = images(3)
    precision = precision_of(mod, UniformWidths(inner=Widths(weight_bits=4)))
    scales = ProfiledScales()(mod, profile(mod, data), precision)
    moments = collect_moments(mod, data)
    graph = {b.var.name: b.value for b in read_graph(mod).bindings}
    weights = {
        name: quantize(weight_rows(graph[name]), params) for name, params in scales.weights.items()
    }
    fixed = CorrectBias(scales=scales, weights=weights, moments=moments)(mod)
    after = {b.var.name: b.value for b in read_graph(fixed).bindings}
    for layer, bias in (("conv0.acc", "conv0"), ("dense0.acc", "dense0")):
        scale = scales.weights[layer].scale[0]
        error = weight_rows(graph[layer]) - scale * weights[layer]
        change = constant(after[bias].args[1]) - constant(graph[bias].args[1])
        expected = error @ moments[layer].mean
        np.testing.assert_allclose(change.reshape(-1), expected, atol=1e-5)
        assert np.abs(expected).max() > 1e-3


def test_depthwise_layers_have_their_biases_corrected() -> None:
    net = CNN()
    mod = prepare(net.module(net.head(net.relu(net.conv(net.data, 3, groups=3)))))
    data = images(3)
    precision = precision_of(mod, UniformWidths(inner=Widths(weight_bits=4)))
    scales = ProfiledScales()(mod, profile(mod, data), precision)
    graph = {b.var.name: b.value for b in read_graph(mod).bindings}
    weights = {
        name: quantize(weight_rows(graph[name]), params) for name, params in scales.weights.items()
    }
    moments = collect_moments(mod, data, places=10_000)
    fixed = CorrectBias(scales=scales, weights=weights, moments=moments)(mod)
    bias = {b.var.name: b.value for b in read_graph(fixed).bindings}["conv0"].args[1]
    change = (constant(bias) - constant(graph["conv0"].args[1])).reshape(-1)
    exact = constant(graph["conv0.acc"].args[1])
    rounded = scales.weights["conv0.acc"].scale[0] * weights["conv0.acc"].reshape(exact.shape)
    error = conv2d(
        np.concatenate(data), (exact - rounded).astype(np.float32), padding=(1, 1, 1, 1), groups=3
    )
    np.testing.assert_allclose(change, error.mean(axis=(0, 2, 3)), atol=1e-5)
    assert np.abs(change).max() > 1e-3


def test_layers_without_rounded_weights_stay() -> None:
    net = CNN()
    mod = prepare(net.module(net.conv(net.data, 5)))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    same = CorrectBias(scales=scales, weights={}, moments={})(mod)
    before, after = (constant(read_graph(m).bindings[1].value.args[1]) for m in (mod, same))
    np.testing.assert_array_equal(before, after)
