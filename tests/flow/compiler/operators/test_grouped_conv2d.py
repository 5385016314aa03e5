"""Grouped convolutions: every engine gives what their definition says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.program.layouts import Bundles, pack_groups, pack_weight
from relay_passes.partition.layers import Layer, TensorSpec
from tests.flow.compiler.networks import conv, output_of, requantize, weights
from tests.flow.compiler.operators.engines import check_engines
from vta_config.errors import UnsupportedModelError
from vta_config.hardware import VTAConfig, preset_names


def grouped(
    rng: np.random.Generator,
    source: Layer | TensorSpec,
    groups: int,
    channels: int,
    kernel: tuple[int, int] = (3, 3),
    *,
    name: str = "grouped",
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilation: tuple[int, int] = (1, 1),
    **options: Any,
) -> Layer:
    """Return a convolution of `groups` groups to `channels` channels with random weights."""
    tensor, in_shape = output_of(source)
    n, read, *size = in_shape
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    out = [(size[a] + padding[a] + padding[a + 2] - reach[a]) // stride[a] + 1 for a in (0, 1)]
    return Layer(
        name=name,
        kind="grouped_conv2d",
        inputs=(tensor,),
        output=name,
        in_shape=in_shape,
        out_shape=(n, channels, *out),
        weight=weights(rng, channels, read // groups, *kernel),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        post_ops=requantize(rng, channels, 9),
        **options,
    )


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize(
    ("groups", "read", "made"),
    [(8, 4, 4), (3, 16, 32), (2, 24, 24), (5, 24, 8), (20, 1, 2), (3, 5, 7), (2, 48, 64)],
    ids=str,
)
def test_every_engine_on_every_machine(preset: str, groups: int, read: int, made: int) -> None:
    config, rng = VTAConfig.load(preset), np.random.default_rng(1)
    x = TensorSpec(name="x", shape=(config.batch, groups * read, 5, 6), dtype="int8")
    check_engines(grouped(rng, x, groups, groups * made), x, config)


@settings(max_examples=40)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    config = VTAConfig.load(draw(st.sampled_from(preset_names())))
    groups = draw(st.integers(2, 9))
    read, made = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    if read == made == 1:
        made = 2
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding: Any = tuple(draw(st.integers(0, kernel[a % 2] - 1)) for a in range(4))
    size = [draw(st.integers(k + stride[a] - 1, 9)) for a, k in enumerate(kernel)]
    x = TensorSpec(name="x", shape=(config.batch, groups * read, *size), dtype="int8")
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    layer = grouped(rng, x, groups, groups * made, kernel, stride=stride, padding=padding)
    check_engines(layer, x, config)


def test_wide_groups_need_many_tiles(default_config: VTAConfig) -> None:
    x = TensorSpec(name="x", shape=(1, 512, 20, 20), dtype="int8")
    layer = grouped(np.random.default_rng(3), x, 2, 512)  # 16 · 16 · 9 wgt elements a bundle
    program = check_engines(layer, x, default_config)
    assert len({insn.origin.tile for insn in program.insns if insn.origin.tile}) > 4


def test_between_other_layers_and_with_a_border(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(4)
    x = TensorSpec(name="x", shape=(1, 16, 8, 8), dtype="int8")
    first = conv(rng, "first", x, 64, (1, 1))
    second = grouped(rng, first, 16, 96, pad_value=-7)
    check_engines((first, second, conv(rng, "last", second, 32, (1, 1))), x, default_config)


@pytest.mark.parametrize(
    ("channels", "groups", "expected"),
    [
        ((64, 64), 16, Bundles(groups=16, each=4, ic=1, oc=1, all_ic=4, all_oc=4)),
        ((64, 128), 16, Bundles(groups=16, each=4, ic=1, oc=2, all_ic=4, all_oc=8)),
        ((64, 96), 4, Bundles(groups=4, each=2, ic=2, oc=3, all_ic=4, all_oc=6)),
        ((72, 72), 3, Bundles(groups=3, each=2, ic=3, oc=3, all_ic=5, all_oc=5)),
        ((15, 21), 3, Bundles(groups=3, each=3, ic=1, oc=2, all_ic=1, all_oc=2)),
    ],
    ids=str,
)
def test_bundles(channels: tuple[int, int], groups: int, expected: Bundles) -> None:
    assert Bundles.of(*channels, groups, 16) == expected


def test_what_a_bundle_reads_and_makes() -> None:
    bundles = Bundles.of(72, 72, 3, 16)
    assert bundles.outputs(2) == [(0, 2), (2, 1), (3, 2)]
    assert [bundles.inputs_of(block) for block in range(5)] == [(0, 3)] * 3 + [(3, 2)] * 2


@given(data=st.data())
def test_blocks_have_the_weights_of_all_channels_with_zeros(data: st.DataObject) -> None:
    draw = data.draw
    groups, read, made = (draw(st.integers(1, most)) for most in (20, 25, 25))
    config = VTAConfig.load("default")
    weight = weights(np.random.default_rng(1), groups * made, read, 2, 1)
    bundles = Bundles.of(groups * read, groups * made, groups, 16)
    whole = np.zeros((groups * made, groups * read, 2, 1), np.int8)
    for group in range(groups):
        rows = slice(group * made, (group + 1) * made)
        whole[rows, group * read : (group + 1) * read] = weight[rows]
    packed, wide = pack_groups(weight, bundles, config), pack_weight(whole, config)
    rebuilt = np.zeros_like(wide)
    for block in range(len(packed)):
        first, count = bundles.inputs_of(block)
        rebuilt[block, first : first + count] = packed[block, :count]
        assert not packed[block, count:].any()
    np.testing.assert_array_equal(rebuilt, wide)


def test_weights_must_fit_whole_groups() -> None:
    x = TensorSpec(name="x", shape=(1, 12, 5, 5), dtype="int8")
    layer = grouped(np.random.default_rng(5), x, 3, 9)
    assert layer.macs == 9 * 25 * 4 * 9
    for channels in (5, 8):  # no whole number of groups; no whole number of outputs a group
        with pytest.raises(UnsupportedModelError, match=r"grouped\.weight: must be int8\[9, 12, 3"):
            Layer(
                name="grouped",
                kind="grouped_conv2d",
                inputs=("x",),
                output="y",
                in_shape=(1, 12, 5, 5),
                out_shape=(1, 9, 3, 3),
                weight=np.zeros((9, channels, 3, 3), np.int8),
                kernel=(3, 3),
            )
