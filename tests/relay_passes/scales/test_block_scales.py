"""Scales whose ratios are shifts and integers, whatever the scales themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.calibration.observers import MeanSquare, square_error
from relay_passes.calibration.profiling import profile
from relay_passes.graph import op_name, read_graph, rewrite, static_shape
from relay_passes.numerics import exact_integers, exact_log2
from relay_passes.quantize_model import prepare
from relay_passes.scales.accumulators import fused_ends, paired_layers
from relay_passes.scales.bit_widths import Precision, UniformWidths, Widths
from relay_passes.scales.block_scales import (
    MAX_MULTIPLIER,
    BlockScales,
    _odd,
    block_shifts,
    channel_scales,
    fit_multiple,
    fit_residual,
    least_shift,
    multiplier_at_most,
    residual_octaves,
)
from relay_passes.scales.layer_bits import precision_of
from relay_passes.scales.scales import EIGHT_BITS
from tests.relay_passes.models import CNN, images
from vta_config.errors import CalibrationError

CHOICES = (
    (BlockScales(block=4, pair=True), 8),
    (BlockScales(block=4), 8),
    (BlockScales(block=4, per_channel=True, pair=True), 8),
    (BlockScales(block=4, pair=True), 4),
    (BlockScales(block=4, factors=(0.9, 1.0, 1.1), clip=1, pair=True), 8),
    (BlockScales(block=4, factors=(0.9, 1.0, 1.1), clip=2), 4),
)


def four_bits(net: Any) -> Precision:
    return precision_of(net, UniformWidths(inner=Widths(weight_bits=4)))


@pytest.mark.parametrize(("choice", "bits"), CHOICES)
def test_every_ratio_is_a_shift_or_an_integer(
    choice: BlockScales, bits: int, net: Any, profiles: Any
) -> None:
    scales = choice(net, profiles, four_bits(net) if bits == 4 else EIGHT_BITS)
    calls = {b.var.name: b.value for b in read_graph(net).bindings}
    assert exact_log2(scales.tensors["conv0.relu"].scale[0]) is None  # free, not a power of two
    for layer, end in fused_ends(net, paired_layers(net) if choice.pair else {}).items():
        weight, x = scales.weights[layer], scales.tensors[calls[layer].args[0].name].scale[0]
        assert weight.bits == bits
        if not end.output:
            assert weight.granularity == "channel"
            continue
        acc = x * np.asarray(weight.scale)
        shifts = [exact_log2(r) for r in scales.tensors[end.output].scale[0] / acc]
        assert all(n is not None and n >= 0 for n in shifts), layer
        if end.partner:
            other = scales.tensors[calls[end.partner].args[0].name].scale[0]
            np.testing.assert_allclose(other * np.asarray(scales.weights[end.partner].scale), acc)
        if end.skip:
            factor = exact_integers(scales.tensors[end.skip].scale[0] / acc)
            assert factor is not None and factor.max() <= MAX_MULTIPLIER  # one step: few weights
    average = scales.tensors["avgpool0"].scale[0]
    (mean,) = (c for c in calls.values() if op_name(c) == "mean")
    height, width = (int(v) for v in mean.args[0].ty.shape.values[2:])
    pooled = scales.tensors[mean.args[0].name].scale[0] / (height * width)
    assert exact_log2(average / pooled) is not None


def test_a_shift_a_channel(net: Any, profiles: Any) -> None:
    blocks = BlockScales(block=4)(net, profiles)
    channels = BlockScales(block=4, per_channel=True)(net, profiles)
    differ = False
    for layer, end in fused_ends(net).items():
        if not end.output:
            continue
        scale = channels.weights[layer].scales(16)
        assert channels.weights[layer].granularity == "channel"
        spread = np.log2(scale.max() / scale)
        assert np.abs(spread - np.round(spread)).max() < 1e-6 and spread.max() < 2.5
        if not end.skip:
            assert (scale <= blocks.weights[layer].scales(len(scale), 4) * 1.001).all()
        differ |= bool(np.ptp(scale.reshape(-1, 4), axis=1).any())
    assert differ


def test_search_lowers_the_error(net: Any, profiles: Any) -> None:
    plain = BlockScales(block=4)(net, profiles, four_bits(net))
    searched = CHOICES[-1][0](net, profiles, four_bits(net))
    assert searched.weights != plain.weights
    for name in ("conv0.relu", "conv1.relu"):  # stays near the best scale of the tensor
        best = MeanSquare()(profiles[name], 127) / 127
        assert 0.85 < searched.tensors[name].scale[0] / best < 1.15
        assert square_error(profiles[name], searched.tensors[name].scale[0], 127) < best**2


def test_dyadic_scales_fit_each_block(net: Any, profiles: Any) -> None:
    scales = BlockScales(block=4, dyadic=True)(net, profiles)
    calls = {b.var.name: b.value for b in read_graph(net).bindings}
    weight = calls["conv1.acc"].args[1].value.numpy()
    peaks = np.abs(weight).reshape(4, -1).max(axis=1)
    np.testing.assert_allclose(scales.weights["conv1.acc"].scale, peaks / 127)
    skip = scales.tensors["conv2.add.relu"].scale[0] / scales.tensors["conv4.relu"].scale[0]
    factor = exact_integers(skip / np.asarray(scales.weights["conv5.acc"].scale))
    assert factor is not None and factor.max() <= MAX_MULTIPLIER


@pytest.mark.parametrize("dyadic", [False, True])
def test_a_pair_has_the_scale_at_which_both_fit(dyadic: bool, net: Any, profiles: Any) -> None:
    scales = BlockScales(block=4, dyadic=dyadic, pair=True)(net, profiles)
    assert not {"conv2", "conv3"} & set(scales.tensors)
    calls = {b.var.name: b.value for b in read_graph(net).bindings}
    fill: Any = np.stack(
        [
            np.abs(calls[name].args[1].value.numpy()).reshape(4, -1).max(axis=1)
            / np.asarray(scales.weights[name].scale)
            / 127
            for name in ("conv2.acc", "conv3.acc")
        ]
    ).max(axis=0)
    if dyadic:
        np.testing.assert_allclose(fill, 1)
    else:  # the largest shift at which both fit
        assert ((fill > 0.499) & (fill <= 1.001)).all()


@pytest.mark.parametrize(("share", "octaves"), [(0.505, 1), (0.7, 0)])
def test_a_pair_is_shifted_further_where_that_clips_little(
    share: float, octaves: int, net: Any, profiles: Any
) -> None:
    """One weight is `share` of what fits, all others half of it at most."""
    before = BlockScales(block=4, pair=True)(net, profiles)

    def visit(builder: Any, var: Any, value: Any) -> Any:
        if var.name not in ("conv2.acc", "conv3.acc"):
            return value
        weight = value.args[1].value.numpy().copy()
        limit = 127 * np.asarray(before.weights[var.name].scale)[0]
        weight[:4] = np.clip(weight[:4], -limit / 2, limit / 2)
        if var.name == "conv3.acc":
            weight[2, 5, 0, 0] = share * limit
        return relax.Call(value.op, [value.args[0], relax.const(weight)], value.attrs)

    after = BlockScales(block=4, pair=True)(rewrite(net, visit), profiles)
    for name in ("conv2.acc", "conv3.acc"):
        first, second = (np.asarray(s.weights[name].scale) for s in (before, after))
        np.testing.assert_allclose(second, first / [2.0**octaves, 1, 1, 1])


def test_a_pair_of_logits_and_blocks_of_zeros() -> None:
    net = CNN((1, 3, 4, 4))
    h = net.relu(net.conv(net.data, 5))
    zero = relax.const(np.zeros((8, 5, 1, 1), np.float32))
    left = net.emit(relax.op.nn.conv2d(h, zero))
    right = net.emit(relax.op.nn.conv2d(net.relu(net.conv(net.data, 5)), zero))
    mod = prepare(net.module(net.add(left, right)))
    for dyadic in (False, True):
        choice = BlockScales(block=4, dyadic=dyadic, pair=True)
        scales = choice(mod, profile(mod, images(2, (1, 3, 4, 4))))
        calls = {b.var.name: b.value for b in read_graph(mod).bindings}
        ((left, right),) = paired_layers(mod).values()
        left, right = (
            np.asarray(scales.weights[n].scale) * scales.tensors[calls[n].args[0].name].scale[0]
            for n in (left, right)
        )
        assert left.shape == (8,)
        np.testing.assert_allclose(left, right)


@pytest.mark.parametrize("multipliers", [(1,), (2, 3), (8, 9, 10, 12)])
def test_chosen_multipliers(net: Any, profiles: Any, multipliers: tuple[int, ...]) -> None:
    chooser = BlockScales(block=4, dyadic=True, multipliers=multipliers)
    scales = chooser(net, profiles)
    finest = BlockScales(block=4, dyadic=True)(net, profiles)
    for layer, source, output in (
        ("conv1.acc", "conv0.relu", "conv1.relu"),
        ("conv5.acc", "conv4.relu", "conv2.add.relu.add.relu"),
    ):
        s = np.asarray(scales.weights[layer].scale)
        x, y = (scales.tensors[name].scale[0] for name in (source, output))
        odd = {b // (b & -b) for b in multipliers}
        for ratio in s * x / y:  # b / 2^c with a b of the set
            assert any(exact_log2(ratio / b) is not None for b in odd)
        loss = s / np.asarray(finest.weights[layer].scale)
        assert (loss >= 0.98).all() and (loss < 2.02 if len(odd) == 1 else loss < 1.53).all()
    skip = scales.tensors["conv2.add.relu"].scale[0] / scales.tensors["conv4.relu"].scale[0]
    assert exact_integers(skip / s) is not None  # s is conv5's


@pytest.mark.parametrize("multipliers", [(1,), (2, 3), (4, 5, 6)])
def test_an_average_has_a_chosen_multiplier(
    net: Any, profiles: Any, multipliers: tuple[int, ...]
) -> None:
    scales = BlockScales(block=4, dyadic=True, multipliers=multipliers)(net, profiles)
    (call,) = (b for b in read_graph(net).bindings if op_name(b.value) == "mean")
    x, y = (scales.tensors[v.name].scale[0] for v in (call.value.args[0], call.var))
    _, _, height, width = static_shape(call.value.args[0])
    ratio = x / (height * width) / y
    assert any(exact_log2(ratio * 2.0**40 / b) is not None for b in map(_odd, multipliers))
    profile_of = profiles[call.var.name]
    least = min(square_error(profile_of, y * factor, 127) for factor in (0.5, 1.0, 2.0))
    assert square_error(profile_of, y, 127) == least


@pytest.mark.parametrize("seed", range(20))
def test_multiple_fits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, skip = 2.0 ** rng.uniform(-8, 2, 2)
    largest, odd = skip * 2.0 ** rng.uniform(-9, 0), int(rng.choice([1, 3, 5]))
    fitted = fit_multiple(skip, y, largest, odd)
    least = least_shift(skip / fitted)
    multiple = round(skip / fitted * 2.0**least)
    assert exact_integers(np.asarray([skip / fitted * 2.0**least])) is not None
    assert multiple % odd == 0 and skip * odd / multiple >= min(largest, skip / 2) * 0.98
    assert abs(fitted / y - 1) <= 0.5 * odd / (multiple - 0.5 * odd) * 1.01 + 0.02


@pytest.mark.parametrize("seed", range(20))
def test_residual_fits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, accumulator = 2.0 ** rng.uniform(-8, 2), 2.0 ** rng.uniform(-14, -9, 5)
    skip = y * 2.0 ** rng.uniform(-2, 2)
    fitted = fit_residual(skip, y, accumulator)
    least = least_shift(skip / fitted)
    assert exact_integers(np.asarray([skip / fitted * 2.0**least])) is not None
    if skip / y * 2.0**least > 64:
        assert abs(fitted / y - 1) <= 1 / 127
    assert (block_shifts(fitted, accumulator) >= least).all()


@pytest.mark.parametrize("octaves", [0, 1, 4])
@pytest.mark.parametrize("seed", range(10))
def test_residual_takes_few_steps(octaves: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, accumulator = 2.0 ** rng.uniform(-8, 2), 2.0 ** rng.uniform(-20, -15, 5)  # large shifts
    skip = y * 2.0 ** rng.uniform(-2, 2)
    fitted = fit_residual(skip, y, accumulator, octaves)
    factor = skip / fitted * 2.0 ** least_shift(skip / fitted)
    assert abs(fitted / y - 1) <= 1 / 127
    while factor <= MAX_MULTIPLIER * 2.0**octaves / 2:
        factor *= 2
    assert exact_integers(np.asarray([factor])) is not None
    assert MAX_MULTIPLIER * 2.0**octaves / 2 < factor <= MAX_MULTIPLIER * 2.0**octaves


def test_steps_that_a_residual_may_take() -> None:
    # ResNet-18's stages on blocks of 16: 36, 72, 144 and 288 GEMM steps an output element
    assert [residual_octaves(9 * c, 16) for c in (64, 128, 256, 512)] == [0, 1, 2, 3]
    assert residual_octaves(27, 16) == 0 and residual_octaves(1 << 20, 16) == 4


def test_small_parts() -> None:
    np.testing.assert_array_equal(
        block_shifts(1.0, np.asarray([0.26, 0.25, 0.0, 2.0])), [1, 2, 0, 0]
    )
    assert [multiplier_at_most(r) for r in (0.3, 5.9, 127.0, 131.0, 300.0, 9999.0)] == [
        1,
        5,
        127,
        130,
        300,
        2032,
    ]
    assert [multiplier_at_most(r, 1) for r in (127.0, 131.0, 300.0)] == [127, 130, 254]
    assert least_shift(0.75) == 2 and least_shift(1 / 3) == 0
    rows = np.asarray([[0.0, 0.0], [1.0, -2.0]])
    np.testing.assert_allclose(channel_scales(rows, 7, clip=False), [1.0, 2 / 7])
    assert channel_scales(rows, 7, clip=True)[1] <= 2 / 7


def test_unprofiled_tensor(net: Any) -> None:
    with pytest.raises(CalibrationError, match="must have been profiled; profile the graph"):
        BlockScales()(net, {})


def test_an_operator_of_one_operand_ends_a_layer() -> None:
    net = CNN()
    x = net.emit(relax.op.sigmoid(net.conv(net.data, 6)))
    mod = prepare(net.module(net.head(net.conv(x, 4))))
    scales = BlockScales(block=4)(mod, profile(mod, images(2)))
    assert len(scales.weights) == 3
    first = read_graph(mod).bindings[0].var.name
    assert first in fused_ends(mod) and not fused_ends(mod)[first].skip


@pytest.mark.parametrize("choice", [BlockScales(), BlockScales(multipliers=(4, 5, 6), dyadic=True)])
def test_tiny_weights_do_not_make_long_constants(choice: BlockScales) -> None:
    net = CNN()
    weight = np.random.default_rng(0).normal(0, 0.3, (32, 3, 3, 3)).astype(np.float32)
    weight[16:] *= 1e-7
    x = net.emit(relax.op.nn.conv2d(net.data, relax.const(weight), padding=1))
    x = net.relu(net.emit(relax.op.add(x, net.const(1, 32, 1, 1))))
    mod = prepare(net.module(net.head(x)))
    scales = choice(mod, profile(mod, images(2)))
    layer, y = scales.weights["conv0.acc"], scales.tensors["conv0.relu"].scale[0]
    assert y / (scales.tensors["data"].scale[0] * layer.scale[1]) <= 2**14
