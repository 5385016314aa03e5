"""Limits of weight scales: tiny, huge, dead and constant parts of networks in every variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes import numerics
from relay_passes.calibration.moments import collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.graph import constant, op_name, rewrite
from relay_passes.host.run import HostModule
from relay_passes.params import MIN_SCALE, QuantParams
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.partition.layers import Layer
from relay_passes.partition.read import layers_of
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.requirements import PICTURES
from relay_passes.scales.limit_scales import limit_scales, live_profiles
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.scales.scales import Scales
from relay_passes.stock_relay.quantize import StockRelay
from relay_passes.variants import VARIANTS
from tests.relay_passes.models import CNN, images
from vta_config import VTAConfig

#: What a change of constants gets: "weight" or "bias", its number among these, and its value.
Change = Callable[[str, int, Any], Any]
#: What one GEMM step adds with blocks of 16.
REACH = 127 * 127 * 15 + 127


def network() -> Any:
    """Build a stem, a residual block and a head: 4 layers, the third in the residual branch."""
    net = CNN((1, 3, 8, 8))
    x = net.relu(net.conv(net.data, 16))
    y = net.conv(net.relu(net.conv(x, 16)), 16)
    return net.module(net.head(net.relu(net.add(y, x))))


def changed(mod: Any, change: Change) -> Any:
    """Return a float module with other constants."""
    count = {"weight": 0, "bias": 0}

    def visit(builder: Any, var: Any, value: Any) -> Any:
        kind = "weight" if op_name(value) in ("nn.conv2d", "matmul") else "bias"
        old = constant(value.args[1]) if op_name(value) in ("nn.conv2d", "matmul", "add") else None
        if old is None:
            return value
        new = np.asarray(change(kind, count[kind], old), np.float32)
        count[kind] += 1
        return relax.Call(value.op, [value.args[0], relax.const(new)], value.attrs, value.ty_args)

    return rewrite(mod, visit)


def scaled(kind: str, number: int | None, factor: float, channel: int | None = None) -> Change:
    """Scale the constants of a kind, one of them or all, whole or in one channel."""

    def change(own: str, index: int, value: Any) -> Any:
        if own not in kind.split() or number not in (None, index):
            return value
        if channel is None:
            return value * np.float64(factor)
        result = value.astype(np.float64)
        (result if own == "weight" else result.reshape(-1))[channel] *= factor
        return result

    return change


@dataclass(frozen=True)
class Case:
    """A float network, what calibration says of it, and one result."""

    mod: Any
    folded: Any
    data: list[Any]
    profiles: Any
    reference: Any
    #: What calibration says of the network after passes, by passes: the same for several variants.
    found: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, change: Change, data: list[Any]) -> Case:
        mod = changed(network(), change)
        folded = prepare(mod)
        reference = HostModule(folded, fast=True)(data[0])[0]
        return cls(mod, folded, data, profile(folded, data), reference)

    def quantize(self, variant: str, config: VTAConfig) -> Any:
        if variant == "stock_relay":
            return StockRelay()(self.mod)
        options = VARIANTS[variant].options.for_machine(config)

        def once(measure: Callable[..., Any]) -> Callable[[Any], Any]:
            key = measure, options.passes

            def run(mod: Any) -> Any:
                if key not in self.found:
                    self.found[key] = measure(mod, images=self.data)
                return self.found[key]

            return run

        return quantize_model(
            self.folded,
            self.profiles,
            options,
            measure=once(collect_moments),
            observe=once(profile),
        )


@cache
def case_of(name: str) -> Case:
    """Make each case once for all variants."""
    return Case.of(CASES[name], images(3, (1, 3, 8, 8)))


def check_cost(layers: tuple[Layer, ...]) -> None:
    """Check that no layer needs large shifts, many constant steps or many residual steps."""
    for layer in layers:
        if layer.weight is None:
            continue
        parts = [layer.weight, *(p.weight for p in layer.summands if p.weight is not None)]
        steps = sum(w[0].size for w in parts) // 16
        lead = next((i for i, s in enumerate(layer.post_ops) if s.op in ("shr", "shl", "max")), 99)
        total = sum(
            np.abs(np.asarray(s.value, np.int64)).max()
            for s in layer.post_ops[:lead]
            if s.op == "add"
        )
        assert total <= REACH * max(4, steps // 12) * 1.1, (layer.name, total)
        assert all(np.max(s.value) <= 15 for s in layer.post_ops if s.op in ("shr", "shl"))
        for step in layer.post_ops:
            if step.op in ("add_tensor", "add_scaled"):
                value = np.max(step.value)
                assert (1 << int(value) if step.op == "add_tensor" else value) <= 127 * 9


CASES: dict[str, Change] = {
    "tiny weights": scaled("weight", 1, 1e-4),
    "far too small weights": scaled("weight", 1, 1e-20),
    "huge weights": scaled("weight", 1, 1e15),
    "a huge channel": scaled("weight bias", 1, 1e5, channel=3),
    "a dead channel": lambda kind, i, v: (
        v - 1e6 * (np.arange(v.size) == 2).reshape(v.shape) if (kind, i) == ("bias", 1) else v
    ),
    "a dead layer": lambda kind, i, v: v - 100 if (kind, i) == ("bias", 1) else v,
    "zeros": scaled("weight bias", 1, 0.0),
    "a tiny branch": scaled("weight bias", 2, 1e-15),
    "a huge branch": scaled("weight bias", 2, 1e8),
    "a tiny head": scaled("weight", 3, 1e-20),
}


#: These variants in these cases reach most of what the others share with them.
QUICK = ("stock_relay", "profiled", "profiled_fused", "best")
HARD = ("far too small weights", "a dead channel", "a tiny branch")


@pytest.mark.parametrize(
    ("case", "variant"),
    [
        pytest.param(c, v, marks=() if v in QUICK and c in HARD else pytest.mark.slow)
        for c in CASES
        for v in ("stock_relay", *(n for n, row in VARIANTS.items() if not row.needs & PICTURES))
    ],
)
def test_every_variant_bears_any_weights(
    case: str, variant: str, default_config: VTAConfig
) -> None:
    tried = case_of(case)
    integers = tried.quantize(variant, default_config)
    result = HostModule(integers, fast=True)(tried.data[0])[0]
    assert np.isfinite(result).all()
    if variant in ("stock_relay", "single_scale"):
        return  # whose scales follow nothing
    if (case, variant) == ("a dead channel", "profiled"):
        return  # which quantizes before the ReLU, where -1e6 sets the scale
    least = {"w4a8": 8, "w4a4": 5}.get(variant, 20)
    if (case, variant) == ("a huge channel", "w4a4"):
        least = 0  # 15 values of a tensor hold no channel beside one 100,000 times as large
    assert numerics.sqnr_db(tried.reference, result) > least
    assert not fallbacks(integers, default_config) or VARIANTS[variant].options.capabilities
    check_cost(layers_of(integers, default_config))


@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e-10, 1e10, 1e18])
def test_any_input_is_borne(factor: float, default_config: VTAConfig) -> None:
    data = [x * np.float32(factor) for x in images(2, (1, 3, 8, 8))]
    tried = Case.of(scaled("bias", None, factor), data)
    for variant in ("profiled", "best"):
        integers = tried.quantize(variant, default_config)
        result = HostModule(integers, fast=True)(data[0])[0]
        assert np.isfinite(result).all() and numerics.sqnr_db(tried.reference, result) > 20
        check_cost(layers_of(integers, default_config))


# ---- the limits themselves --------------------------------------------------------------------
def one_layer(bias: float, *, weight: float = 0.3) -> tuple[Any, Scales]:
    """Return conv and ReLU before another conv, and largest-value scales."""
    net = CNN()
    x = net.emit(relax.op.nn.conv2d(net.data, net.const(4, 3, 3, 3, scale=weight)))
    x = net.emit(relax.op.add(x, relax.const(np.full((1, 4, 1, 1), bias, np.float32))))
    mod = prepare(net.module(net.conv(net.relu(x), 2, 1)))
    profiles = live_profiles(mod, profile(mod, images(2)))
    return mod, ProfiledScales()(mod, profiles)


def limited(mod: Any, scales: Scales) -> Scales:
    return limit_scales(mod, scales, fuse=True, pairs=False, block=16)


def test_usual_weights_keep_their_scales() -> None:
    mod, scales = one_layer(0.5)
    assert limited(mod, scales) == scales


@pytest.mark.parametrize("exponent", [3, 6, 12, 30])
def test_scales_rise_until_the_bias_takes_one_step(exponent: int) -> None:
    mod, scales = one_layer(0.5, weight=10.0**-exponent)
    found = limited(mod, scales)
    x, y = (found.tensors[name].scale[0] for name in ("data", "conv0.relu"))
    unit = x * found.weights["conv0.acc"].scale[0]
    assert 0.5 / unit + y / unit / 2 <= REACH < 2 * (0.5 / unit + y / unit / 2)
    assert np.log2(unit / x / scales.weights["conv0.acc"].scale[0]) % 1 == 0
    assert found.tensors == scales.tensors


def test_a_dead_relu_has_its_inputs_scale() -> None:
    mod, scales = one_layer(-50.0)
    assert scales.tensors["conv0.relu"].scale == scales.tensors["conv0"].scale
    assert limited(mod, scales) == scales


def test_weights_of_zeros_have_a_usual_shift() -> None:
    mod, scales = one_layer(1e-12, weight=0.0)
    found = limited(mod, scales)
    x, y = (found.tensors[name].scale[0] for name in ("data", "conv0.relu"))
    assert y / (x * found.weights["conv0.acc"].scale[0]) == 2**8


def test_scales_are_normal_numbers() -> None:
    assert numerics.scale_for(1e-44, 127) == MIN_SCALE
    assert numerics.scale_for(1e-44, 127, power_of_two=False) == MIN_SCALE
    mod, scales = one_layer(0.0, weight=1e-40)
    tiny = {**scales.weights, "conv0.acc": QuantParams(scale=(2.0**-140,))}
    found = limited(mod, Scales(tensors=scales.tensors, weights=tiny))
    assert found.weights["conv0.acc"].scale[0] >= MIN_SCALE


def test_an_addend_needs_no_bits_far_below_the_other() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 3))
    y = net.relu(net.conv(x, 3))
    mod = prepare(net.module(net.head(net.relu(net.add(x, y)))))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    tensors = {**scales.tensors, "conv1.relu": QuantParams(scale=(2.0**-50,), signed=False)}
    found = limited(mod, Scales(tensors=tensors, weights=scales.weights))
    x_scale = scales.tensors["conv0.relu"].scale[0]
    assert found.tensors["conv1.relu"].scale == (x_scale / 2**6,)
    assert found.tensors["conv0.relu"] == scales.tensors["conv0.relu"]  # others read it
