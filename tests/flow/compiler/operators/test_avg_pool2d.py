"""Average pools with windows of different sizes: every engine gives what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_passes.partition.layers import Layer, TensorSpec
from tests.flow.compiler.networks import output_of, requantize
from tests.flow.compiler.operators.engines import check_engines
from vta_config.hardware import VTAConfig, preset_names


def avg_pool(
    rng: np.random.Generator,
    source: Layer | TensorSpec,
    kernel: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (1, 1, 1, 1),
) -> Layer:
    """Return an average pool that does not count its padding."""
    tensor, in_shape = output_of(source)
    n, channels, *size = in_shape
    out = [(size[a] + padding[a] + padding[a + 2] - kernel[a]) // stride[a] + 1 for a in (0, 1)]
    return Layer(
        name="pool",
        kind="avg_pool2d",
        inputs=(tensor,),
        output="pool",
        in_shape=in_shape,
        out_shape=(n, channels, *out),
        weight=None,
        kernel=kernel,
        stride=stride,
        padding=padding,
        post_ops=requantize(rng, channels, 6, relu=False),
    )


@pytest.mark.parametrize("preset", preset_names())
def test_every_engine_on_every_machine(preset: str) -> None:
    config, rng = VTAConfig.load(preset), np.random.default_rng(1)
    x = TensorSpec(name="x", shape=(config.batch, 2 * config.block + 3, 7, 9), dtype="int8")
    check_engines(avg_pool(rng, x, (3, 3)), x, config)


@settings(max_examples=25)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    config = VTAConfig.load(draw(st.sampled_from(preset_names())))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding: Any = tuple(draw(st.integers(0, kernel[a % 2] - 1)) for a in range(4))
    size = [draw(st.integers(k + s - 1, 9)) for k, s in zip(kernel, stride, strict=True)]
    x = TensorSpec(name="x", shape=(config.batch, draw(st.integers(1, 40)), *size), dtype="int8")
    layer = avg_pool(np.random.default_rng(2), x, kernel, stride=stride, padding=padding)
    check_engines(layer, x, config)


def test_many_tiles(default_config: VTAConfig) -> None:
    x = TensorSpec(name="x", shape=(1, 48, 61, 70), dtype="int8")
    program = check_engines(avg_pool(np.random.default_rng(3), x, (3, 3)), x, default_config)
    assert len({insn.origin.tile for insn in program.insns if insn.origin.tile}) > 8
