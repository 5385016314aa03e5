"""What fewer bits of a layer cost, against doing it by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from relay_passes.calibration.moments import collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.graph import Module, constant, op_name, read_graph, rewrite
from relay_passes.host.float_graph import FloatGraph
from relay_passes.host.run import HostModule
from relay_passes.numerics import dequantize, quantize
from relay_passes.quantize_model import prepare
from relay_passes.rounding.second_order import SecondOrderRounder
from relay_passes.scales.bit_widths import UniformWidths, Widths
from relay_passes.scales.layer_bits import layers_by_input, precision_of
from relay_passes.selection.sensitivity import (
    Quantized,
    measured_sensitivity,
    rank_correlation,
    usual_options,
)
from tests.relay_passes.models import CNN, images
from vta_config.errors import CalibrationError

CHOICES = [Widths(weight_bits=w, activation_bits=a) for w in (3, 4, 8) for a in (4, 8)]
W4, A4, W8A8 = Widths(weight_bits=4), Widths(activation_bits=4), Widths()


@pytest.fixture(scope="module")
def found(net: Any, profiles: Any) -> Any:
    return measured_sensitivity(net, profiles, images(2), CHOICES)


def with_weight(mod: Module, layer: str, weight: Any) -> Module:
    from tvm import relax

    def visit(_: Any, var: Any, value: Any) -> Any:
        if var.name != layer:
            return value
        return relax.Call(value.op, [value.args[0], relax.const(weight)], value.attrs)

    return rewrite(mod, visit)


def test_weights_of_one_layer(net: Any, profiles: Any, found: Any) -> None:
    """The same as the whole network with that weight, quantized as the chooser's scale says."""
    options = usual_options()
    precision = precision_of(net, UniformWidths(inner=W4))
    scales = options.chooser(net, profiles, precision)  # no limit is met in this network
    run = HostModule(net)
    calls = {b.var.name: b.value for b in read_graph(net).bindings}
    for layer in ("conv1.acc", "conv3.acc"):
        weight = constant(calls[layer].args[1])
        assert weight is not None
        params = scales.weights[layer]
        near = dequantize(quantize(weight, params, block=16), params, block=16)
        changed = HostModule(with_weight(net, layer, near.astype(np.float32)))
        pairs = [(run(x)[0].astype(float), changed(x)[0]) for x in images(2)]
        noise = sum(np.square(b - a).sum() for a, b in pairs)
        power = sum(np.square(a).sum() for a, _ in pairs)
        assert found[layer][W4] == pytest.approx(noise / power, rel=1e-3)


def test_what_layers_read_together_is_shared_out(net: Any, found: Any) -> None:
    sources = layers_by_input(net)
    assert sources["conv1.acc"] == sources["conv3.acc"] == "conv0.relu"
    assert found["conv1.acc"][A4] == found["conv3.acc"][A4] > 0
    both = found["conv1.acc"][Widths(weight_bits=4, activation_bits=4)]
    assert both == pytest.approx(found["conv1.acc"][W4] + found["conv1.acc"][A4])


def test_fewer_bits_cost_more(net: Any, found: Any) -> None:
    assert list(found) == list(layers_by_input(net))
    for row in found.values():
        assert row[W8A8] == 0.0
        assert row[W4] > 0 and row[A4] > 0
    totals = [sum(row[Widths(weight_bits=bits)] for row in found.values()) for bits in (3, 4, 8)]
    assert totals[0] > 1.5 * totals[1] > totals[2] == 0  # of one layer on two images not always


def test_it_says_how_far_it_is(net: Any, profiles: Any) -> None:
    calls: list[tuple[int, int]] = []
    choices = [W8A8, W4]
    measured_sensitivity(
        net, profiles, images(3), choices, count=2, progress=lambda *done: calls.append(done)
    )
    assert calls == [(1, 2), (2, 2)]


def test_threads_change_nothing(net: Any, profiles: Any, found: Any) -> None:
    assert found == measured_sensitivity(net, profiles, images(2), CHOICES, workers=2)


def test_a_layer_without_bias_that_another_reads() -> None:
    """One name for the layer and for the tensor that the next one reads."""
    cnn = CNN()
    x = cnn.conv(cnn.conv(cnn.data, 8, bias=False), 8, bias=False)
    mod = prepare(cnn.module(cnn.head(x)))
    first, second, *_ = layers_by_input(mod)
    assert layers_by_input(mod)[second] == first
    found = measured_sensitivity(mod, profile(mod, images(1)), images(1), [W8A8, W4, A4])
    assert found[first][W4] != found[second][A4] != 0


def test_refusals(net: Any, profiles: Any) -> None:
    with pytest.raises(CalibrationError, match="sensitivity: must be measured for at least one ch"):
        measured_sensitivity(net, profiles, images(1), [])
    with pytest.raises(CalibrationError, match="sensitivity: must be measured on at least one im"):
        measured_sensitivity(net, profiles, [], [W8A8, W4])
    zeros = CNN()
    x = zeros.emit(zeros.relu(zeros.conv(zeros.data, 4)))
    from tvm import relax

    x = zeros.emit(relax.op.multiply(x, relax.const(np.float32(0))))
    mod = prepare(zeros.module(x))
    with pytest.raises(CalibrationError, match="sensitivity: must be measured on images with res"):
        measured_sensitivity(mod, profile(mod, images(1)), images(1), [W8A8, W4])


def test_weight_error(net: Any, profiles: Any) -> None:
    quantized = Quantized(net, profiles, usual_options())
    calls = {b.var.name: b.value for b in read_graph(net).bindings}
    (dense,) = (name for name, value in calls.items() if op_name(value) == "matmul")
    weight = constant(calls[dense].args[1])
    assert weight is not None
    difference = weight - quantized.weight(dense, 4)
    assert quantized.weight_error(dense, 4) == pytest.approx(np.square(difference).sum(), rel=1e-4)
    assert quantized.weight_error(dense, 8) < quantized.weight_error(dense, 4) / 20


def test_learned_rounding(net: Any, profiles: Any) -> None:
    """With moments the integers are those of least output error, and biases are corrected."""
    data = images(8)
    moments = collect_moments(net, data)
    learns = replace(usual_options(), rounder=SecondOrderRounder())
    corrects = replace(learns, correct_bias=True)
    nearest, *others = (
        measured_sensitivity(net, profiles, data, [W8A8, W4], options=options, moments=given)
        for options, given in (
            (usual_options(), None),
            (usual_options(), moments),
            (corrects, None),
            (learns, moments),
            (corrects, moments),
        )
    )
    assert nearest == others[0] == others[1]
    totals = [sum(row[W4] for row in found.values()) for found in (nearest, *others[2:])]
    assert totals[0] > 1.2 * totals[1] > 1.2 * totals[2]


def test_an_offset_takes_the_mean_error_away(net: Any, profiles: Any) -> None:
    data = images(3)
    moments = collect_moments(net, data)
    options = replace(usual_options(), correct_bias=True)
    quantized = Quantized(net, profiles, options, moments)
    graph, layer = FloatGraph(net), "conv1.acc"
    differences = []
    for image in data:
        values = graph.run(image)
        new = graph.compute(layer, values, weight=quantized.weight(layer, 4))
        differences.append(new - values[layer])
    mean = np.mean(differences, axis=(0, 1, 3, 4))
    np.testing.assert_allclose(quantized.offset(layer, 4), -mean, atol=2e-2)
    assert np.abs(mean).max() > 0.1
    one = Quantized(net, profiles, options, {layer: moments[layer]})
    assert one.offset(layer, 4).any() and not one.offset("conv2.acc", 4).any()
    assert not Quantized(net, profiles, usual_options(), moments).offset(layer, 4).any()


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 300]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # ranks 1 2.5 2.5 4 and 1 3 2 4: 4.5 / sqrt(4.5 * 5)
    assert rank_correlation([0, 5, 5, 9], [1, 3, 2, 4]) == pytest.approx(4.5 / np.sqrt(22.5))
    assert np.isnan(rank_correlation([1, 1], [1, 2]))
