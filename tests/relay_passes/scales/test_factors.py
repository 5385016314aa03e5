"""Scales of what feature maps are multiplied by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.calibration.profiling import profile
from relay_passes.graph import read_graph
from relay_passes.numerics import exact_log2
from relay_passes.quantize_model import prepare
from relay_passes.scales.block_scales import BlockScales
from relay_passes.scales.factors import factor_tensors, fitted_scale, products
from relay_passes.scales.layer_bits import precision_of
from relay_passes.scales.ties import ties_of
from tests.relay_passes.models import CNN, images


def excited(*, flat: bool = False, again: bool = False, relu: bool = False) -> Any:
    """Return a network with squeeze-and-excitation."""
    net = CNN(seed=4)
    x = net.relu(net.conv(net.data, 8))
    pooled = net.emit(relax.op.mean(x, axis=[2, 3], keepdims=True))
    s = net.conv(net.relu(net.conv(pooled, 4, 1)), 8, 1)
    if flat:
        s = net.emit(relax.op.reshape(s, (1, 8)))
    s = net.relu(s) if relu else net.emit(relax.op.sigmoid(s))
    if flat:
        s = net.emit(relax.op.reshape(s, (1, 8, 1, 1)))
    y = net.emit(relax.op.multiply(s, x))
    y = net.conv(y, 8)
    if again:
        y = net.emit(relax.op.multiply(y, s))
    return prepare(net.module(net.head(net.conv(y, 8))))


def test_which_tensors_are_factors() -> None:
    graph = read_graph(excited(flat=True))
    assert factor_tensors(graph, ties_of(graph)) == {"sigmoid0", "sigmoid0.flat"}


@pytest.mark.parametrize("flat", [False, True])
def test_a_product_is_a_power_of_two_of_the_output(flat: bool) -> None:
    mod = excited(flat=flat)
    graph, profiles = read_graph(mod), profile(mod, images())
    precision = precision_of(mod, {}, zero_points=True)
    tensors = BlockScales()(mod, profiles, precision).tensors
    (name,) = (str(b.var.name) for b in graph.bindings if "multiply" in str(b.var.name))
    ratio = tensors["conv0.relu"].scale[0] * tensors["sigmoid0"].scale[0] / tensors[name].scale[0]
    assert exact_log2(ratio) is not None
    factor = tensors["sigmoid0"]
    assert (factor.zero_point, factor.levels) == (-127, 254)
    most = profiles["sigmoid0"].hi
    assert 0.49 * most <= factor.scale[0] * factor.levels / 2 <= 1.01 * most
    if flat:
        assert tensors["sigmoid0.flat"] == factor


def test_a_factor_that_a_layer_makes_is_fitted_too() -> None:
    mod = excited(relu=True)
    scales = BlockScales()(mod, profile(mod, images()), precision_of(mod, {}, zero_points=True))
    (factor,) = products(read_graph(mod), ties_of(read_graph(mod)))
    tensors = scales.tensors
    ratio = tensors["conv0.relu"].scale[0] * tensors[factor].scale[0]
    assert exact_log2(ratio / tensors["multiply0"].scale[0]) is not None
    (layer,) = (n for n in scales.weights if n.startswith(factor.removesuffix(".relu")))
    (source,) = (str(b.value.args[0].name) for b in read_graph(mod).bindings if b.var.name == layer)
    accumulator = tensors[source].scale[0] * np.asarray(scales.weights[layer].scale)
    assert all(exact_log2(s) is not None for s in tensors[factor].scale[0] / accumulator)


def test_a_factor_that_others_read_keeps_its_scale() -> None:
    graph = read_graph(excited(again=True))
    assert factor_tensors(graph, ties_of(graph)) and not products(graph, ties_of(graph))


def test_the_least_scale_that_fits() -> None:
    assert fitted_scale(0.25, 0.5, 1.0) == 0.25
    assert fitted_scale(0.3, 0.5, 1.0) == 0.5
    assert 0.3 <= fitted_scale(0.3, 0.7, 1.1) < 0.6
