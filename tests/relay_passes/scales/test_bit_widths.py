"""Which bits tensors and weights get, and that integers keep within them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from relay_passes.graph import constant, dtype_of, op_name, read_graph
from relay_passes.host.expose import expose_variables
from relay_passes.host.run import HostModule
from relay_passes.numerics import sqnr_db
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import quantize_model
from relay_passes.scales.bit_widths import Limits, Precision, UniformWidths, Widths
from relay_passes.scales.block_scales import BlockScales
from relay_passes.scales.layer_bits import precision_of, widths_of
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.scales.single_scale import SingleScale
from relay_passes.variants import VARIANTS
from tests.relay_passes.models import images
from vta_config import VTAConfig
from vta_config.errors import CalibrationError

DEFAULT = VTAConfig.load("default")
W4 = replace(DEFAULT, log_wgt_width=2, log_wgt_buff_bytes=17)
W4A4 = replace(W4, log_inp_width=2, log_inp_buff_bytes=14)
NARROW = Widths(weight_bits=4, activation_bits=4)
CHOOSERS = {
    "best": BlockScales(pair=True),
    "searched": BlockScales(factors=(0.9, 1.0, 1.1), clip=1),
    "dyadic_any": BlockScales(dyadic=True),
    "dyadic": BlockScales(dyadic=True, multipliers=(4, 5, 6)),
    "profiled": ProfiledScales(),
    "single": SingleScale(),
}


@pytest.mark.parametrize("bits", [1, 9, 4.0, True, "4"])
@pytest.mark.parametrize("what", ["weight_bits", "activation_bits"])
def test_widths_out_of_range(what: str, bits: Any) -> None:
    must = rf"^Widths\.{what}: must be an integer in \[2, 8\], got '?{bits}'?; VTA's operands have"
    with pytest.raises(CalibrationError, match=must):
        Widths(**{what: bits})


def test_what_machines_hold() -> None:
    assert Limits.of(DEFAULT) == Limits() == Limits(weight=127, activation=127)
    assert Limits.of(W4) == Limits(weight=119)
    assert Limits.of(W4A4) == Limits(weight=119, activation=119)
    options = VARIANTS["best"].options.for_machine(W4)
    assert options.limits == Limits(weight=119) and options.block == 16


@pytest.mark.parametrize("chooser", CHOOSERS.values(), ids=CHOOSERS)
@pytest.mark.parametrize("config", [DEFAULT, W4, W4A4], ids=["default", "w4", "w4a4"])
def test_integers_keep_to_their_bits(
    chooser: Any, config: VTAConfig, net: Any, profiles: Any
) -> None:
    """Every int8 constant and every tensor on images beyond what calibration saw."""
    dyadic = getattr(chooser, "dyadic", False)
    rule = UniformWidths(inner=NARROW, ends=Widths())
    options = QuantOptions(chooser=chooser, dyadic=dyadic, widths=rule).for_machine(config)
    plans = []
    integers = quantize_model(
        net, profiles, options, after=lambda name, x: plans.append(x) if name == "plan" else None
    )
    (plan,) = plans
    expected = precision_of(net, rule, options.limits)
    assert {p.bits for p in plan.weights.values()} == {4, 8}
    for name, params in plan.weights.items():
        assert params.qmax == expected.weight_qmax(name), name
    for name, params in plan.tensors.items():
        assert params.qmax == expected.tensor_levels(name), name
    bindings = read_graph(integers).bindings
    for binding in bindings:
        if op_name(binding.value) in ("nn.conv2d", "matmul"):
            weight = constant(binding.value.args[1])
            assert weight is not None and weight.dtype == np.int8
            assert np.abs(weight.astype(int)).max() <= plan.weights[str(binding.var.name)].qmax
    tensors = [b.var for b in bindings if dtype_of(b.var) == "int8"]
    run = HostModule(expose_variables(integers, tensors), fast=True)
    values = run(8 * images(1)[0])[-len(tensors) :]
    seen = set()
    for var, value in zip(tensors, values, strict=True):
        name = str(var.name).removesuffix(".q")
        if name in plan.tensors:
            most = int(np.abs(value.astype(int)).max())
            assert most <= plan.tensors[name].qmax, name
            seen |= {plan.tensors[name].qmax} & {most}
    assert {7, options.limits.activation} <= seen  # some values reach both


def test_more_bits_are_nearer(net: Any, profiles: Any) -> None:
    reference = HostModule(net, fast=True)(images(1)[0])[0]

    def error(widths: Any) -> float:
        options = QuantOptions(chooser=BlockScales(factors=(0.9, 1.0, 1.1), clip=1), widths=widths)
        quantized = quantize_model(net, profiles, options)
        return sqnr_db(reference, HostModule(quantized, fast=True)(images(1)[0])[0])

    mixed = widths_of(net, UniformWidths(inner=NARROW))
    layers = list(mixed)
    found = [error(mixed)]
    for name in (layers[0], layers[-1]):
        mixed[name] = Widths()
    found += [error(mixed), error({})]
    assert found == sorted(found)


def test_a_pair_of_different_bits(net: Any, profiles: Any) -> None:
    """Both layers of a sum go into one accumulator, each within its own integers."""
    from relay_passes.scales.accumulators import fused_ends, paired_layers

    pairs = paired_layers(net)
    assert pairs
    (one, other), *_ = pairs.values()
    precision = Precision(weights={one: 4})
    for chooser in (BlockScales(pair=True), BlockScales(pair=True, clip=1, dyadic=True)):
        scales = chooser(net, profiles, precision)
        assert (scales.weights[one].qmax, scales.weights[other].qmax) == (7, 127)
        calls = {b.var.name: b.value for b in read_graph(net).bindings}
        assert fused_ends(net, pairs)[one].partner == other
        for name in (one, other):
            params = scales.weights[name]
            rows = calls[name].args[1].value.numpy()
            rows = rows.reshape(len(rows), -1)
            ratio = np.abs(rows).max(axis=1) / params.scales(len(rows), 16)
            assert ratio.max() <= params.qmax * 1.001
        acc = [
            np.asarray(scales.weights[n].scale) * scales.tensors[calls[n].args[0].name].scale[0]
            for n in (one, other)
        ]
        np.testing.assert_allclose(acc[0], acc[1])
