"""Scales by options: the chooser's, with the options' bits, then limited."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relay_passes.calibration.profiling import profile
from relay_passes.choose_scales import choose_scales
from relay_passes.numerics import exact_log2
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare
from relay_passes.scales.bit_widths import Limits, Widths
from relay_passes.scales.block_scales import BlockScales
from tests.relay_passes.models import CNN, images, residual_net
from vta_config.errors import CalibrationError


def test_bits_and_limits_are_the_options() -> None:
    mod = prepare(residual_net())
    profiles = profile(mod, images(1))
    options = QuantOptions(
        chooser=BlockScales(),
        widths={"conv2.acc": Widths(weight_bits=4, activation_bits=3)},
        limits=Limits(weight=119, activation=100),
    )
    found = choose_scales(mod, profiles, options)
    assert found.weights["conv2.acc"].qmax == 7 and found.weights["conv1.acc"].qmax == 119
    assert found.tensors["conv1.relu"].qmax == 3 and found.tensors["data"].qmax == 100
    with pytest.raises(CalibrationError, match="widths: must name convolutions and dense layers"):
        choose_scales(mod, profiles, replace(options, widths={"other": Widths()}))


def test_a_large_bias_raises_the_weights_scale() -> None:
    """As `limit_scales` does; the chooser alone does not look at biases."""
    net = CNN()
    x = net.emit(net.conv(net.data, 4, bias=False))
    from tvm import relax

    x = net.relu(net.add(x, relax.const(np.full((1, 4, 1, 1), 1e6, np.float32))))
    mod = prepare(net.module(net.conv(x, 4)))
    profiles = profile(mod, images(1))
    options = QuantOptions(chooser=BlockScales())
    (layer, *_), chosen = choose_scales(mod, profiles, options).weights.items(), options.chooser
    before = chosen(mod, profiles).weights[layer[0]].scale[0]
    octaves = exact_log2(layer[1].scale[0] / before)
    assert octaves is not None and octaves > 0


def test_pixels_use_all_integers() -> None:
    """From 0 to 255 none is negative: with a zero point every pixel is a step of its own."""
    mod = prepare(residual_net())
    pixels = [np.floor(np.abs(x) * 60).clip(0, 255) for x in images(2)]
    pixels[0].flat[:2] = 0.0, 255.0
    options = QuantOptions(chooser=BlockScales(), zero_points=True)
    found = choose_scales(mod, profile(mod, pixels), options).tensors["data"]
    assert (found.zero_point, found.qmin, found.qmax) == (-128, -128, 127)
    assert found.scale[0] * 255 <= 255.0
    (x,) = (choose_scales(mod, profile(mod, images(2)), options).tensors["data"],)
    assert x.zero_point == 0  # some are negative
    plain = replace(options, zero_points=False)
    assert choose_scales(mod, profile(mod, pixels), plain).tensors["data"].zero_point == 0
