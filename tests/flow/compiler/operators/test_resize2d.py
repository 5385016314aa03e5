"""Linear interpolation: every engine gives the sums of numpy, on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes.operators.interpolation import KNOWN, interpolated_line
from relay_passes.operators.movement import Movement, interpolated
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import conv, requantize
from tests.flow.compiler.operators.moves import check_engines, graph_of, moving
from tests.relay_passes.models import CNN
from vta_config.hardware import VTAConfig, preset_names


def resized(shape: tuple[int, ...], axis: int, size: int, mode: str) -> Movement:
    """Return the movement of a Resize along one axis."""
    net, after = CNN(shape), [*shape[2:]]
    after[axis - 2] = size
    call = relax.op.image.resize2d(
        net.data,
        tuple(after),
        layout="NCHW",
        method="linear",
        coordinate_transformation_mode=mode,
        rounding_method="",
    )
    line = interpolated_line(net.builder.normalize(call))
    assert line is not None
    return interpolated(shape, line)


@pytest.mark.slow
@pytest.mark.parametrize("preset", preset_names())
@settings(max_examples=8)
@given(data=st.data())
def test_every_engine_on_every_machine(preset: str, data: st.DataObject) -> None:
    draw, config = data.draw, VTAConfig.load(preset)
    shape = (
        config.batch,
        draw(st.integers(1, 3 * config.block)),
        *(draw(st.integers(2, 9)) for _ in "ab"),
    )
    axis, size = draw(st.sampled_from([2, 3])), draw(st.integers(1, 30))
    assume(size != shape[axis])
    movement = resized(shape, axis, size, draw(st.sampled_from(sorted(KNOWN))))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = TensorSpec(name="x", shape=shape, dtype="int8")
    post_ops = requantize(rng, shape[1], draw(st.integers(1, 8)))
    layer = moving("resized", movement, x, kind="resize2d", post_ops=post_ops)
    check_engines(graph_of((layer,), x), config)


@pytest.mark.parametrize("mode", ["align_corners", "half_pixel"])
@pytest.mark.parametrize("axis", [2, 3])
def test_maps_that_need_many_tiles(axis: int, mode: str, default_config: VTAConfig) -> None:
    rng, shape = np.random.default_rng(4), (1, 40, 30, 60)
    x = TensorSpec(name="x", shape=shape, dtype="int8")
    first = conv(rng, "first", x, 40, (1, 1))
    movement = resized(shape, axis, 2 * shape[axis], mode)
    post_ops = requantize(rng, 40, 7)
    layer = moving("resized", movement, first, kind="resize2d", post_ops=post_ops)
    check_engines(graph_of((first, layer), x), default_config)
