"""What stays on the host, and why; multiply-accumulate operations on either side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.partition.fallbacks import fallbacks, host_work
from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions, layers_of
from relay_passes.variants import VARIANTS
from tests.relay_passes.models import CNN
from tests.relay_passes.partition.integers import (
    Int8,
    check_meaning,
    quantized,
    refused,
    vector,
)
from vta_config.hardware import VTAConfig

DEQUANTIZED = ("dequantize", "an operator on the host needs floats")
QUANTIZED = ("quantize", "an integer operator reads a float tensor of the host")


def test_fallbacks_say_why(default_config: VTAConfig) -> None:
    t = Int8()
    shifted = t.module(t.small(t.conv(t.data), 32))
    assert refused(shifted, default_config)[0] == ("nn.conv2d", "a shift must be in [0, 31]")
    assert layers_of(shifted, default_config) == ()
    t = Int8((1, 4, 40, 40))
    weight = relax.const(np.ones((2, 4, 35, 35), np.int8))
    padded = t.emit(relax.op.nn.conv2d(t.data, weight, padding=17, out_dtype="int32"))
    assert refused(t.module(padded), default_config) == [
        ("nn.conv2d", "the padding must be at most 15 on every side")
    ]
    for padding, stride, runs in (((1, 0), 1, False), ((0, 1), 1, False), ((0, 1), 3, True)):
        t = Int8((1, 4, 8, 8))
        weight = relax.const(np.ones((2, 4, 1, 1), np.int8))
        sides = (padding[0], 0, padding[1], 0)
        rows = t.emit(relax.op.nn.conv2d(t.data, weight, stride, sides, out_dtype="int32"))
        reasons = [reason for _, reason in refused(t.module(t.small(rows)), default_config)]
        met = not any("every window of a convolution" in reason for reason in reasons)
        assert met is runs
    t = Int8()
    pool = t.emit(relax.op.nn.max_pool2d(t.data, (2, 2), (2, 2), 0, (1, 1), ceil_mode=True))
    assert refused(t.module(pool), default_config)[0][1].startswith(
        "a pooling must have dilation 1"
    )
    t = Int8((1, 16, 8, 8))
    pool = t.emit(relax.op.nn.max_pool2d(t.data, (2, 2), (3, 3), (2, 0, 0, 0)))
    assert refused(t.module(pool), default_config)[0][1].startswith("a pooling window must start")
    t = Int8()
    total = t.emit(relax.op.sum(t.wide(t.data), axis=[1], keepdims=True))
    assert refused(t.module(total), default_config)[-1] == (
        "sum",
        "a sum must be over all rows and columns and keep its dimensions",
    )
    t = Int8((1, 2, 3))
    assert refused(t.module(t.emit(relax.op.nn.relu(t.wide(t.data)))), default_config) == [
        ("astype", "no pattern for VTA matches these integer operands"),
        ("nn.relu", "no pattern for VTA matches these integer operands"),
    ]


@pytest.mark.parametrize("factor", [3, -3])
def test_multiplication_by_less_than_one_needs_the_capability(
    factor: int, default_config: VTAConfig
) -> None:
    t = Int8()
    acc = t.emit(relax.op.multiply(t.conv(t.data), vector([factor] * 4)))
    mod = t.module(t.small(acc))
    if factor < 1:
        assert (
            "nn.conv2d",
            "a multiplication of the accumulator by less than 1 needs a machine with capability"
            " mul",
        ) in refused(mod, default_config)
        source = default_config.to_json() | {"CAPABILITIES": ["mul"]}
        default_config = VTAConfig.from_json(source)
    (layer,) = check_meaning(mod, default_config)
    assert layer.post_ops[0].op == "mul"


def test_float_operators_are_named(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.emit(relax.op.nn.softmax(net.conv(net.data, 6), axis=1))
    mod = quantized(net.module(net.emit(relax.op.nn.softmax(net.head(net.conv(x, 4)), axis=-1))))
    assert refused(mod, default_config) == [
        DEQUANTIZED,
        ("nn.softmax", "the operator has no integer implementation"),
        QUANTIZED,
    ]
    assert [f.operator for f in host_work(mod, default_config).behind] == ["nn.softmax"]
    functions = annotated_functions(partition(mod, default_config))
    assert len(functions) == 2


def test_network_with_a_refused_layer_runs_in_parts(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.relu(net.conv(x, 8, kernel=33))  # padded by 16
    mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))))
    assert [f.name for f in fallbacks(mod, default_config)] == ["conv1"]
    assert len(annotated_functions(partition(mod, default_config))) == 2


@pytest.mark.parametrize("limits", [(-1.0, 1.0), (0.1, 0.5), (-1.0, 0.0)])
@pytest.mark.parametrize("name", ["profiled", "profiled_fused", "best"])
def test_a_clip_with_any_limits_runs_on_vta(
    name: str, limits: tuple[float, float], default_config: VTAConfig
) -> None:
    net = CNN()
    x = net.emit(relax.op.clip(net.conv(net.data, 8), *limits))
    mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))), VARIANTS[name].options)
    assert refused(mod, default_config) == []


def test_a_clip_of_the_input_says_so(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.emit(relax.op.clip(net.data, -1.0, 1.0))
    mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))))
    sentence = "integers express a clip only from 0 to a positive limit"
    (clip,) = host_work(mod, default_config).before
    assert (clip.operator, clip.reason) == ("clip", sentence)


def test_what_feature_maps_the_host_reads_are_int8(default_config: VTAConfig) -> None:
    """Four bytes a number would take VTA longer to store than many layers to compute."""
    net = CNN()
    x = net.emit(relax.op.nn.softmax(net.conv(net.data, 6), axis=1))
    mod = quantized(net.module(net.emit(relax.op.nn.softmax(net.head(net.conv(x, 4)), axis=-1))))
    kinds = [layer.out_dtype for layer in layers_of(mod, default_config)]
    assert kinds[0] == "int8" and kinds[-1] == "int32"


@pytest.mark.parametrize("operator", ["batch_norm", "a factor per pixel"])
def test_float_arithmetic_with_constants(operator: str, default_config: VTAConfig) -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    if operator == "batch_norm":
        x = net.batch_norm(x)
    else:
        x = net.emit(relax.op.multiply(x, net.const(1, 1, 12, 12)))
    mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))))
    listed = [] if operator == "batch_norm" else ["dequantize", "multiply", "quantize"]
    assert [f.operator for f in fallbacks(mod, default_config)] == listed


def test_an_addend_of_another_scale_is_multiplied(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.relu(net.add(net.relu(net.conv(x, 8)), x))
    mod = quantized(net.module(net.head(net.conv(x, 8))), VARIANTS["best"].options)
    assert refused(mod, default_config) == []


def test_quantizing_the_input_and_scaling_the_output_are_not_told(
    default_config: VTAConfig,
) -> None:
    net = CNN()
    mod = quantized(net.module(net.head(net.relu(net.conv(net.data, 8)))))
    assert host_work(mod, default_config).fallbacks == ()


def test_moves_between_programs_are_told(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.emit(relax.op.permute_dims(x, [0, 1, 3, 2]))
    mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))))
    assert refused(mod, default_config) == [("permute_dims", "VTA programs cannot rearrange data")]


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("kind", ["abs", "multiply"])
def test_an_operator_of_floats_is_told_wherever_it_stands(
    kind: str, place: str, default_config: VTAConfig
) -> None:
    net = CNN()

    def scaled(x: Any, where: str) -> Any:
        if where != place:
            return x
        if kind == "abs":
            return net.emit(relax.op.abs(x))
        return net.emit(relax.op.multiply(x, relax.const(np.float32(0.3))))

    x = net.relu(net.conv(scaled(net.data, "first"), 8))
    x = net.relu(net.conv(scaled(x, "middle"), 8))
    mod = quantized(net.module(scaled(net.head(x), "last")))
    told = [f.operator for f in fallbacks(mod, default_config)]
    # Behind the last layer it is one of the answer's last steps.
    assert told == (["abs"] if kind == "abs" and place == "first" else [])


def test_macs_are_counted_on_both_sides(default_config: VTAConfig) -> None:
    net = CNN((1, 3, 8, 8))
    x = net.relu(net.conv(net.data, 8))
    x = net.relu(net.conv(x, 8, kernel=33))  # padded by 16: the host's
    work = host_work(quantized(net.module(net.head(x, 5))), default_config)
    on_vta, padded = 8 * 8 * 8 * 3 * 9 + 8 * 5, 8 * 8 * 8 * 8 * 33 * 33
    assert (work.vta_macs, work.macs) == (on_vta, on_vta + padded)


def test_what_is_computed_from_constants_is_not_told(default_config: VTAConfig) -> None:
    net = CNN()
    weight = net.emit(relax.op.permute_dims(net.const(8, 3, 3, 3), [0, 1, 3, 2]))
    x = net.emit(relax.op.nn.conv2d(net.data, weight, padding=1))
    mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))))
    assert "permute_dims" not in [f.operator for f in fallbacks(mod, default_config)]
