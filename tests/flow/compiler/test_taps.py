"""Weights of taps that always lie on the padding are neither stored nor loaded."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.lower import Lowering
from flow.compiler.taps import read_taps, with_read_taps, without_unread_taps
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.networks import conv, requantize
from tests.flow.compiler.test_borders import check, outputs
from vta_config.hardware import VTAConfig, preset_names

SAME = {"padding": (1, 1, 1, 1)}


def spec(channels: int, rows: int, columns: int) -> TensorSpec:
    return TensorSpec(name="x", shape=(1, channels, rows, columns), dtype="int8")


def taps_read(layer: Layer) -> set[tuple[int, int]]:
    """Return the taps that lie inside at some output, one by one."""
    return {
        (ky, kx)
        for (y, x), (ky, kx) in product(np.ndindex(*layer.out_shape[2:]), np.ndindex(*layer.kernel))
        if 0 <= y * layer.stride[0] - layer.padding[0] + ky * layer.dilation[0] < layer.in_shape[2]
        and 0 <= x * layer.stride[1] - layer.padding[1] + kx * layer.dilation[1] < layer.in_shape[3]
    }


@pytest.mark.parametrize(
    ("size", "options", "rows", "columns"),
    [
        ((1, 1), SAME, (1, 1), (1, 1)),
        ((1, 4), SAME, (1, 1), (0, 3)),
        ((2, 2), SAME, (0, 3), (0, 3)),
        ((2, 2), {**SAME, "stride": (2, 2)}, (1, 2), (1, 2)),
        ((3, 9), {"padding": (6, 6, 6, 6), "dilation": (6, 6)}, (1, 1), (0, 3)),
        # A tap that goes takes a dilation (3) of the padding, of which there are two rows.
        ((2, 3), {"padding": (2, 1, 3, 1), "dilation": (3, 1)}, (0, 2), (0, 3)),
    ],
)
def test_taps_at_the_ends_that_no_output_reads_are_left_out(
    size: tuple[int, int],
    options: dict[str, Any],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> None:
    layer = conv(np.random.default_rng(0), "a", spec(5, *size), 7, (3, 3), **options)
    assert (read_taps(layer, 0), read_taps(layer, 1)) == (rows, columns)
    cut = without_unread_taps(layer)
    assert cut.kernel == (rows[1], columns[1])
    assert cut.out_shape == layer.out_shape
    assert without_unread_taps(cut) is cut


def test_a_layer_all_of_whose_taps_are_read_stays_as_it_is() -> None:
    layer = conv(np.random.default_rng(0), "a", spec(5, 2, 2), 7, (3, 3), **SAME)
    assert without_unread_taps(layer) is layer
    # Nor is there anything to cut where no tap is read at all.
    far = conv(np.random.default_rng(0), "a", spec(5, 1, 1), 7, (1, 1), **SAME, stride=(2, 2))
    assert without_unread_taps(far) is far


def test_padding_that_is_not_zero_becomes_a_constant_of_each_channel() -> None:
    layer = conv(np.random.default_rng(0), "a", spec(5, 1, 1), 7, (3, 3), **SAME, pad_value=-128)
    cut = without_unread_taps(layer)
    added, *rest = cut.post_ops
    assert layer.weight is not None
    lacking = layer.weight.sum((1, 2, 3), np.int64) - layer.weight[:, :, 1, 1].sum(1, np.int64)
    np.testing.assert_array_equal(added.value, -128 * lacking)
    assert tuple(rest) == layer.post_ops
    assert not any(cut.padding)


def test_weights_that_are_never_multiplied_take_no_space(default_config: VTAConfig) -> None:
    x = spec(64, 1, 1)
    layer = conv(np.random.default_rng(0), "a", x, 64, (3, 3), **SAME)
    (normal,) = Lowering(outputs((layer,), x), default_config).layers
    assert normal.weight_elems == 4 * (normal.shape.constants + 4)


@pytest.mark.parametrize("name", preset_names())
def test_results_stay(name: str) -> None:
    rng, x = np.random.default_rng(1), spec(33, 2, 2)
    a = conv(rng, "a", x, 20, (3, 3), **SAME, stride=(2, 2), pad_value=7)
    b = conv(rng, "b", a, 40, (3, 5), padding=(1, 2, 1, 2), pad_value=-128)
    residual = PostOp(op="add_tensor", value=3, tensor="b")
    bias, *rest = requantize(rng, 40, 11)
    by_channel = replace(
        conv(rng, "c", b, 40, (3, 3), **SAME, post_ops=()),
        kind="depthwise_conv2d",
        weight=rng.integers(-127, 128, (40, 1, 3, 3)).astype(np.int8),
        inputs=("b", "b"),
        post_ops=(bias, residual, *rest),
    )
    check(outputs((a, b, by_channel), x), VTAConfig.load(name), oracle=True)


def test_summands_lose_their_taps_too(default_config: VTAConfig) -> None:
    rng, x = np.random.default_rng(1), spec(33, 1, 1)
    a = conv(rng, "a", x, 20, (1, 1))
    plain = {"post_ops": (), "out_dtype": "int32"}
    more = conv(rng, "more", a, 20, (3, 3), **SAME, pad_value=5, **plain)
    both = conv(rng, "both", x, 20, (3, 3), **SAME, summands=(more,))
    graph = outputs((a, both), x)
    _, cut = with_read_taps(graph).layers
    assert (cut.kernel, cut.summands[0].kernel) == ((1, 1), (1, 1))
    check(graph, default_config)


extent = st.integers(1, 4)
pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(deadline=None)
@given(
    size=st.tuples(extent, extent),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=pair,
    dilation=pair,
    padding=st.tuples(*[st.integers(0, 6)] * 4),
    pad_value=st.sampled_from((0, -128, 3)),
)
def test_any_window_keeps_its_result_and_the_taps_it_reads(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int, int, int],
    pad_value: int,
    default_config: VTAConfig,
) -> None:
    reach = [dilation[a] * (kernel[a] - 1) + 1 - padding[a] - padding[2 + a] for a in (0, 1)]
    if any(s < r for s, r in zip(size, reach, strict=True)):
        return
    x = spec(20, *size)
    window = {"stride": stride, "dilation": dilation, "padding": padding, "pad_value": pad_value}
    layer = conv(np.random.default_rng(2), "a", x, 17, kernel, **window)
    cut = without_unread_taps(layer)
    assert len(taps_read(cut)) == len(taps_read(layer))
    if dilation == (1, 1) and taps_read(layer):
        for axis in (0, 1):
            read = {tap[axis] for tap in taps_read(layer)}
            assert cut.kernel[axis] == max(read) - min(read) + 1
    check(outputs((layer,), x), default_config)
