"""From float to integers: pairs, fusion, requantization; against numpy and for accuracy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes import numerics
from relay_passes.calibration.moments import collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.graph import constant, dtype_of, op_name, read_graph
from relay_passes.host.expose import expose_variables
from relay_passes.host.run import HostModule, conv2d
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.integer_facts import host_reasons
from relay_passes.integers.make_plan import make_plan
from relay_passes.integers.quantize import Quantize
from relay_passes.integers.requantize import Requantize
from relay_passes.params import QuantParams
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.requirements import PICTURES
from relay_passes.rounding.second_order import SecondOrderRounder
from relay_passes.scales.block_scales import BlockScales
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.scales.scales import Scales
from relay_passes.variants import STEPS, VARIANTS
from tests.relay_passes.models import CNN, images, residual_net
from vta_config import VTAConfig
from vta_config.errors import CalibrationError


def operators(mod: Any) -> Counter[str]:
    return Counter(op_name(b.value) for b in read_graph(mod).bindings)


def quantized(mod: Any, options: QuantOptions | None = None) -> tuple[Any, Any]:
    mod = prepare(mod)
    measure = partial(collect_moments, images=images(3))
    observe = partial(profile, images=images(3))
    profiles = observe(mod)
    return mod, quantize_model(mod, profiles, options, measure=measure, observe=observe)


def requantized(mod: Any, scales: Scales, *, fuse: bool = True) -> Any:
    """Return the integer module that scales make of a float module."""
    plan = make_plan(mod, scales, fuse=fuse)
    pairs = Quantize(plan=plan)(mod)
    return Requantize(plan=plan)(FuseConvRelu()(pairs) if fuse else pairs)


def sqnr(mod: Any, integers: Any) -> float:
    x = images(1)[0]
    return numerics.sqnr_db(HostModule(mod)(x)[0], HostModule(integers, fast=True)(x)[0])


class ResidualNet:
    """The residual network, prepared, measured and run once for all recipes."""

    def __init__(self) -> None:
        self.mod = prepare(residual_net())
        self.profiles = profile(self.mod, images(3))
        self.reference = HostModule(self.mod)(images(1)[0])[0]
        self.found: dict[Any, Any] = {}

    def quantized(self, options: QuantOptions) -> Any:
        def once(measure: Any) -> Any:
            key = measure, options.passes  # after the same passes the network is the same

            def run(mod: Any) -> Any:
                if key not in self.found:
                    self.found[key] = measure(mod, images(3))
                return self.found[key]

            return run

        return quantize_model(
            self.mod,
            self.profiles,
            options,
            measure=once(collect_moments),
            observe=once(profile),
        )

    def sqnr(self, integers: Any) -> float:
        run = HostModule(integers, fast=True)
        return numerics.sqnr_db(self.reference, run(images(1)[0])[0])


@pytest.fixture(scope="session")
def residual() -> ResidualNet:
    return ResidualNet()


def test_pairs_stand_where_integers_are_read() -> None:
    mod = prepare(residual_net())
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    pairs = Quantize(plan=make_plan(mod, scales))(mod)
    names = {
        b.var.name.removesuffix(".q")
        for b in read_graph(pairs).bindings
        if op_name(b.value) == "quantize"
    }
    assert {"data", "conv0", "conv0.relu", "conv2", "conv3", "conv2.add", "avgpool0"} <= names
    assert not any(name.endswith(".acc") for name in names)
    assert "dense0" not in names and "maxpool0" not in names
    fused = FuseConvRelu()(pairs)
    assert operators(pairs)["quantize"] - operators(fused)["quantize"] == 7
    kept = FuseConvRelu(residual=False)(pairs)
    assert operators(kept)["quantize"] - operators(fused)["quantize"] == 2


def test_one_convolution_equals_the_equations() -> None:
    net = CNN()
    mod, integers = quantized(net.module(net.relu(net.conv(net.data, 5))))
    bindings = {b.var.name: b.value for b in read_graph(integers).bindings}
    x = images(1)[0]
    float_scale = constant(bindings["data.q.scaled"].args[1])
    scales = ProfiledScales()(mod, profile(mod, images(3)))
    s_x = scales.tensors["data"].scale[0]
    assert 1 / float_scale == s_x
    # the network's result is no integer tensor: conv+ReLU ends as an accumulator
    weight = constant(read_graph(mod).bindings[0].value.args[1])
    q_w = numerics.quantize(weight, scales.weights["conv0.acc"])
    q_x = numerics.quantize(x, scales.tensors["data"])
    np.testing.assert_array_equal(q_w, constant(bindings["conv0.acc"].args[1]))
    s_acc = s_x * scales.weights["conv0.acc"].scale[0]
    bias = constant(read_graph(mod).bindings[1].value.args[1]).reshape(-1)
    acc = conv2d(q_x, q_w, padding=(1, 1, 1, 1), float_type=np.float64)
    acc += numerics.quantize_bias("conv0", bias, s_acc).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(
        HostModule(integers)(x)[0], (np.maximum(acc, 0) * s_acc).astype(np.float32)
    )


def test_requantize_equals_the_equation() -> None:
    net = CNN()
    y = net.conv(net.relu(net.conv(net.data, 5)), 4, 1)
    _, integers = quantized(net.module(y))
    graph = read_graph(integers)
    names = [b.var.name for b in graph.bindings]
    position = names.index("conv0.relu")
    assert [op_name(b.value) for b in graph.bindings[position - 4 : position + 1]] == [
        "nn.conv2d",
        "add",
        "right_shift",
        "clip",
        "astype",
    ]
    shift = int(constant(graph.bindings[position - 2].value.args[1]))
    bias = constant(graph.bindings[position - 3].value.args[1])
    assert bias.shape == (1, 5, 1, 1) and bias.dtype == np.int32
    low, high = (int(a.value) for a in graph.bindings[position - 1].value.args[1:])
    assert (low, high) == (0, 127) and 0 < shift < 16


@pytest.mark.parametrize("variant", [n for n, v in VARIANTS.items() if not v.needs & PICTURES])
def test_variants_are_integers_inside_and_close_to_float(
    variant: str, residual: ResidualNet
) -> None:
    integers = residual.quantized(VARIANTS[variant].options)
    inside = [b for b in read_graph(integers).bindings if op_name(b.value) == "nn.conv2d"]
    assert len(inside) == 6 and all(dtype_of(b.var) == "int32" for b in inside)
    assert "quantize" not in operators(integers) and "dequantize" not in operators(integers)
    assert residual.sqnr(integers) > {"single_scale": 1, "w4a8": 8, "w4a4": 4}.get(variant, 25)


def test_learning_needs_images() -> None:
    mod = prepare(residual_net())
    profiles = profile(mod, images(1))
    with pytest.raises(CalibrationError, match="calibration: must keep its images for GPTQ ro"):
        quantize_model(mod, profiles, VARIANTS["best"].options)


def test_options_follow_the_block() -> None:
    options = VARIANTS["best"].options.for_machine(VTAConfig.load("block32"))
    assert options.chooser == BlockScales(block=32, pair=True)
    assert options.passes == (PermuteChannels(block=32),)
    assert options.rounder == SecondOrderRounder(block=32) and options.block == 32


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_steps_run(name: str, residual: ResidualNet) -> None:
    integers = residual.quantized(STEPS[name].options)
    assert residual.sqnr(integers) > (5 if name.startswith("w4") else 20)


def test_fusion_quantizes_once(residual: ResidualNet) -> None:
    counts = [
        operators(residual.quantized(VARIANTS[v].options))["right_shift"]
        for v in ("profiled", "profiled_fused")
    ]
    assert counts[0] >= counts[1]


def test_fast_and_plain_runs_are_equal(residual: ResidualNet) -> None:
    integers = residual.quantized(VARIANTS["profiled"].options)
    plain, fast = HostModule(integers), HostModule(integers, fast=True)
    for x in images(4, seed=9):
        np.testing.assert_array_equal(plain(x)[0], fast(x)[0])


@pytest.mark.parametrize("granularity", ["block", "channel"])
def test_finer_weight_scales(granularity: Any, residual: ResidualNet) -> None:
    options = QuantOptions(chooser=ProfiledScales(weight_granularity=granularity))
    integers = residual.quantized(options)
    assert residual.sqnr(integers) > 25
    shifts = [
        constant(b.value.args[1]).size
        for b in read_graph(integers).bindings
        if op_name(b.value) == "right_shift"
    ]
    assert granularity == "block" or max(shifts) > 1


def test_relu6() -> None:
    net = CNN()
    x = net.emit(relax.op.clip(net.conv(net.data, 6), 0.0, 1.0))
    mod, integers = quantized(net.module(net.conv(x, 3)))
    assert operators(integers)["clip"] == 2
    assert sqnr(mod, integers) > 25
    plain = CNN()
    mod, integers = quantized(
        plain.module(plain.emit(relax.op.clip(plain.conv(plain.data, 6), 0.0, 1.0)))
    )
    assert operators(integers)["minimum"] == 1 and sqnr(mod, integers) > 25


def test_unsupported_operators_get_floats() -> None:
    net = CNN()
    x = net.emit(relax.op.nn.softmax(net.conv(net.data, 6), axis=1))
    x = net.emit(relax.op.nn.softmax(net.head(net.conv(x, 4)), axis=-1))
    mod, integers = quantized(net.module(x))
    assert operators(integers)["nn.softmax"] == 2
    assert sqnr(mod, integers) > 20


def test_relu_between_host_operators_is_not_rounded() -> None:
    net = CNN()
    x = net.conv(net.data, 6)
    shares = net.emit(relax.op.nn.softmax(x, axis=1))
    below = net.relu(net.emit(relax.op.subtract(relax.const(0.2), shares)))
    elu = net.add(net.emit(relax.op.negative(below)), net.relu(x))
    mod, integers = quantized(net.module(net.head(net.conv(elu, 4))))
    definitions = read_graph(integers).definitions()
    (relu,) = (v for v in definitions.values() if op_name(v) == "nn.relu")
    assert op_name(definitions[relu.args[0]]) == "subtract"  # a float, not an integer made float
    assert sqnr(mod, integers) > 25


@pytest.mark.parametrize("variant", ["single_scale", "profiled_fused", "best"])
def test_parts_of_a_split_are_integers(variant: str) -> None:
    net = CNN()
    parts = net.emit(relax.op.split(net.relu(net.conv(net.data, 8)), 2, axis=1))
    left, right = (net.emit(relax.TupleGetItem(parts, i)) for i in (0, 1))
    x = net.add(net.conv(left, 4), right)
    mod, integers = quantized(net.module(net.head(net.relu(x))), VARIANTS[variant].options)
    assert operators(integers)["split"] == 0 and host_reasons(integers) == {}
    assert sqnr(mod, integers) > 10


def test_computed_weights_odd_means_and_layouts_stay_float() -> None:
    net = CNN()
    weight = net.emit(relax.op.multiply(net.const(4, 3, 3, 3), net.const(1)))
    x = net.emit(relax.op.nn.conv2d(net.data, weight))
    x = net.emit(relax.op.mean(net.relu(x), axis=[1], keepdims=True))
    x = net.emit(relax.op.clip(x, -1.0, 1.0))
    mod, integers = quantized(net.module(x))
    assert operators(integers)["mean"] == 1
    assert sqnr(mod, integers) > 20


def test_two_accumulators_add() -> None:
    net = CNN()
    y = net.relu(net.add(net.conv(net.data, 4), net.conv(net.data, 4, 1)))
    mod = prepare(net.module(net.conv(y, 2)))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    bare = Scales(
        tensors={n: p for n, p in scales.tensors.items() if n not in ("conv0", "conv1")},
        weights=scales.weights,
    )
    integers = requantized(mod, bare, fuse=False)
    assert sqnr(mod, integers) > 25


@pytest.mark.parametrize("dyadic", [False, True])
def test_a_pair_is_requantized_once(dyadic: bool, residual: ResidualNet) -> None:
    counts = []
    small = dict.fromkeys(("log_inp_buff_bytes", "log_wgt_buff_bytes", "log_acc_buff_bytes"), 12)
    block_4 = replace(VTAConfig.load("default"), log_block=2, **small)
    for chooser in (
        BlockScales(pair=True, dyadic=dyadic),
        BlockScales(dyadic=dyadic),
    ):
        options = QuantOptions(chooser=chooser, dyadic=dyadic)
        integers = residual.quantized(options.for_machine(block_4))
        found = operators(integers)
        assert not found["left_shift"] and found["floor"] == 1  # the input's
        assert residual.sqnr(integers) > 25
        counts.append((found["right_shift"], found["multiply"]))
    assert counts[0][0] == counts[1][0] - 1
    # The residual's factor goes, and with multipliers the one of the downsample's own output.
    assert counts[0][1] == counts[1][1] - (2 if dyadic else 1)


def test_relu_before_a_sum_and_a_bias() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 3))
    x = net.emit(relax.op.add(x, net.const(1, 3, 1, 1)))
    x = net.relu(net.add(net.data, x))
    mod, integers = quantized(net.module(net.head(x)))
    assert sqnr(mod, integers) > 20


def test_coarser_accumulator_is_shifted_left() -> None:
    net = CNN()
    y = net.relu(net.add(net.conv(net.data, 3), net.data))
    mod = prepare(net.module(net.conv(y, 2)))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    coarse = QuantParams(scale=(4.0,))
    weights = {**scales.weights, "conv0.acc": coarse}
    integers = requantized(mod, Scales(tensors=scales.tensors, weights=weights))
    assert operators(integers)["left_shift"] == 1
    assert sqnr(mod, integers) > 0  # every weight rounds to 0: what is left is the skip


def test_a_layer_whose_scale_no_shift_reaches_is_an_error() -> None:
    net = CNN()
    mod = prepare(net.module(net.conv(net.relu(net.conv(net.data, 3)), 2)))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    tensors = {**scales.tensors, "conv0": QuantParams(scale=(0.3,))}
    odd = Scales(tensors=tensors, weights=scales.weights)
    sentence = (
        r"conv0: must have a scale that is a power of two times its accumulator's scale, got "
        r"[\d.]+ times it in channel 0; choose weight scales to fit, or allow multipliers"
    )
    with pytest.raises(CalibrationError, match=sentence):
        make_plan(mod, odd, fuse=False)
    plan = make_plan(mod, odd, fuse=False, dyadic=True)
    integers = Requantize(plan=plan)(Quantize(plan=plan)(mod))
    assert operators(integers)["floor"] == 1 and sqnr(mod, integers) > 5  # the input's


def test_an_activation_whose_scale_no_shift_reaches_goes_through_float() -> None:
    net = CNN()
    x = net.emit(relax.op.nn.max_pool2d(net.data, (2, 2), (2, 2)))
    mod = prepare(net.module(net.conv(net.relu(x), 2)))
    chosen = ProfiledScales()(mod, profile(mod, images(1)))
    (name,) = (b.var.name for b in read_graph(mod).bindings if op_name(b.value) == "nn.relu")
    tensors = {**chosen.tensors, name: QuantParams(scale=(0.03,))}  # free, of an int8 tensor
    plan = make_plan(mod, Scales(tensors=tensors, weights=chosen.weights))
    assert plan.floats == {name: "its scale is not a power of two times the scale of its operand"}
    integers = Requantize(plan=plan)(FuseConvRelu()(Quantize(plan=plan)(mod)))
    assert operators(integers)["floor"] == 2 and sqnr(mod, integers) > 25


def test_what_leaves_int32_stays_float_with_its_reason(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 2))
    mod = prepare(net.module(net.head(net.relu(net.conv(net.relu(net.conv(x, 4)), 2)))))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    weights = {**scales.weights, "conv1.acc": QuantParams(scale=(2.0**-30,))}
    integers = requantized(mod, Scales(tensors=scales.tensors, weights=weights))
    ((name, reason),) = host_reasons(integers).items()
    assert name == "conv1.acc"
    assert reason.startswith("conv1.relu.bias: must fit int32 at the accumulator's scale, got ")
    assert ";" not in reason
    kinds = {b.var.name: dtype_of(b.var) for b in read_graph(integers).bindings}
    assert (kinds["conv0.acc"], kinds["conv1.acc"], kinds["conv2.acc"]) == (
        "int32", "float32", "int32",
    )  # fmt: skip
    found = {f.name: f.reason for f in fallbacks(integers, default_config)}
    assert found["conv1"] == reason and "conv0" not in found and "conv2" not in found


def test_a_tensor_far_below_a_sum_adds_nothing() -> None:
    net = CNN()
    left, right = net.relu(net.conv(net.data, 3)), net.relu(net.conv(net.data, 3))
    mod = prepare(net.module(net.head(net.relu(net.add(left, right)))))
    scales = ProfiledScales()(mod, profile(mod, images(3)))
    found = []
    for exponent in (40, 50):
        fine = replace(scales.tensors["conv0.relu"], scale=(2.0**-exponent,))
        tensors = {**scales.tensors, "conv0.relu": fine}
        integers = requantized(mod, Scales(tensors=tensors, weights=scales.weights))
        assert host_reasons(integers) == {}
        found.append(HostModule(integers)(images(1)[0])[0])
    np.testing.assert_array_equal(*found)


def test_a_bias_that_saturates_is_no_larger_than_it_must_be() -> None:
    net = CNN()
    x = net.emit(relax.op.nn.conv2d(net.data, net.const(3, 3, 3, 3), padding=(1,) * 4))
    bias = np.float32([[-1e9, 0.5, 1e9]]).reshape(1, 3, 1, 1)
    x = net.relu(net.emit(relax.op.add(x, relax.const(bias))))
    mod = prepare(net.module(net.conv(x, 2, 1)))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    tensors = {**scales.tensors, "conv0.relu": QuantParams(scale=(2.0**-4,), signed=False)}
    integers = requantized(mod, Scales(tensors=tensors, weights=scales.weights))
    graph = {b.var.name: b for b in read_graph(integers).bindings}
    (added,) = (constant(b.value.args[1]) for n, b in graph.items() if n == "conv0.relu.bias")
    assert np.abs(added).max() < 2**20
    shown = expose_variables(integers, [graph["conv0.relu"].var])
    q = HostModule(shown)(np.float32(100) * images(1)[0])[-1]  # far beyond calibration
    assert (q[:, 0] == 0).all() and (q[:, 2] == 127).all() and len(np.unique(q[:, 1])) > 10


@pytest.mark.parametrize("octaves", [3, 8, 9, 60])
def test_left_shifts_saturate(octaves: int) -> None:
    net = CNN()
    x = net.conv(net.data, 3)
    mod = prepare(net.module(net.conv(net.relu(x), 2, 1)))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    unit = scales.tensors["data"].scale[0] * scales.weights["conv0.acc"].scale[0]
    output = QuantParams(scale=(unit * 0.5**octaves,), signed=False)
    tensors = {**scales.tensors, "conv0.relu": output}
    integers = requantized(mod, Scales(tensors=tensors, weights=scales.weights))
    assert "conv0.acc" not in host_reasons(integers)
    graph = {b.var.name: b for b in read_graph(integers).bindings}
    q = HostModule(expose_variables(integers, [graph["conv0.relu"].var]))(images(1)[0])[-1]
    names = {b.var.name: b.var for b in read_graph(mod).bindings}
    y = HostModule(expose_variables(mod, [names["conv0"]]))(images(1)[0])[-1]
    assert ((q == 127) == (y > 0))[np.abs(y) > 1000 * unit].all()
