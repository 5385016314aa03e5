"""Errors by layer: sorted, and those of the tensors."""

from __future__ import annotations

import numpy as np

from relay_passes.calibration.layer_error import layer_errors
from relay_passes.calibration.profiling import profile
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.scales.bit_widths import UniformWidths, Widths
from tests.relay_passes.models import images, residual_net


def test_layers_worst_first() -> None:
    mod = prepare(residual_net())
    profiles = profile(mod, images(2))
    fine, coarse = (
        layer_errors(
            mod,
            quantize_model(
                mod,
                profiles,
                QuantOptions(widths=UniformWidths(inner=Widths(weight_bits=bits))),
            ),
            images(2),
        )
        for bits in (8, 4)
    )
    names = [error.name for error in fine]
    assert {"conv0.relu", "conv1.relu", "conv2.add.relu", "avgpool0"} <= set(names)
    values = [error.sqnr_db for error in fine]
    assert values == sorted(values) and min(values) > 25
    assert np.mean(values) > np.mean([error.sqnr_db for error in coarse]) + 5


def test_zeros() -> None:
    mod = prepare(residual_net())
    zeros = [np.zeros((1, 3, 12, 12), np.float32)]
    integers = quantize_model(mod, profile(mod, images(1)))
    assert all(np.isfinite(error.sqnr_db) for error in layer_errors(mod, integers, zeros))
