"""Moves: every engine gives what numpy copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.lower import lower
from relay_passes.operators.movement import Movement, Part, along_axes, enlarged, of_places
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv, requantize
from tests.flow.compiler.operators.moves import check_engines, graph_of, moving
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig, preset_names


def rearranged(shape: tuple[int, ...], block: int, *, to_depth: bool) -> Movement:
    """Return depth to space, in ONNX's order DCR, or its inverse."""
    _, channels, height, width = shape
    places = np.arange(channels * height * width)
    if to_depth:
        small = places.reshape(channels, height // block, block, width // block, block)
        moved = small.transpose(2, 4, 0, 1, 3)
        result = moved.reshape(channels * block**2, height // block, width // block)
    else:
        small = places.reshape(block, block, channels // block**2, height, width)
        moved = small.transpose(2, 3, 0, 4, 1)
        result = moved.reshape(channels // block**2, height * block, width * block)
    movement = of_places(result, shape)
    assert movement is not None
    return movement


@st.composite
def movements(draw: st.DrawFn, batch: int, block: int) -> Movement:
    """Draw what a tensor is copied together from."""
    channels = draw(st.integers(1, 3 * block))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shape = (batch, channels, height, width)
    kind = draw(st.sampled_from(("slice", "gather", "pad", "enlarge", "to depth", "to space")))
    if kind == "enlarge":
        return enlarged(shape, (draw(st.integers(1, 3)), draw(st.integers(1, 3))))
    if kind in ("to depth", "to space"):
        times = draw(st.integers(1, 3))
        if kind == "to depth":
            return rearranged(
                (batch, channels, height * times, width * times), times, to_depth=True
            )
        return rearranged((batch, channels * times**2, height, width), times, to_depth=False)
    if kind == "slice":
        taken = {}
        for axis in (1, 2, 3):
            first = draw(st.integers(0, shape[axis] - 1))
            last = draw(st.integers(first + 1, shape[axis]))
            taken[axis] = np.arange(first, last, draw(st.integers(1, 3)))
        movement = along_axes(shape, taken)
    elif kind == "gather":
        places = draw(st.lists(st.integers(0, channels - 1), min_size=1, max_size=2 * block))
        movement = along_axes(shape, {1: np.asarray(places)})
    else:
        widths = {axis: draw(st.tuples(*[st.integers(0, 3)] * 2)) for axis in (2, 3)}
        lines = {
            axis: np.pad(np.arange(shape[axis]), sides, constant_values=-1)
            for axis, sides in widths.items()
        }
        movement = along_axes(shape, lines, fill=draw(st.sampled_from((0, -128, 5))))
    assert movement is not None
    return movement


@pytest.mark.slow
@pytest.mark.parametrize("preset", preset_names())
@settings(max_examples=12)
@given(data=st.data())
def test_every_engine_on_every_machine(preset: str, data: st.DataObject) -> None:
    config = VTAConfig.load(preset)
    movement = data.draw(movements(config.batch, config.block))
    x = TensorSpec(name="x", shape=movement.shapes[0], dtype="int8")
    check_engines(graph_of((moving("moved", movement, x),), x), config)


@pytest.mark.parametrize(
    "movement",
    [
        enlarged((1, 40, 31, 60), (2, 2)),
        rearranged((1, 160, 20, 33), 2, to_depth=False),
        rearranged((1, 9, 36, 60), 3, to_depth=True),
        along_axes((1, 64, 40, 40), {1: np.arange(64).reshape(2, 32).T.ravel()}),
    ],
    ids=["enlarged", "to space", "to depth", "shuffled"],
)
def test_pictures_that_need_many_tiles(movement: Movement, default_config: VTAConfig) -> None:
    x = TensorSpec(name="x", shape=movement.shapes[0], dtype="int8")
    check_engines(graph_of((moving("moved", movement, x),), x), default_config)


def test_blocks_that_share_one_of_their_parts(default_config: VTAConfig) -> None:
    """The first block reads rows 600 apart, the second one those of the first part alone."""
    rows, columns, channels = np.arange(700), np.arange(4), np.arange(32)
    first, second = (np.where(half, channels, -1) for half in (channels < 16, channels >= 16))
    parts = (
        Part(source=0, channels=channels, rows=rows, columns=columns),
        Part(source=0, channels=first, rows=(rows + 600) % 700, columns=columns, phase=(1, 0)),
        Part(source=0, channels=second, rows=rows, columns=columns, phase=(1, 0)),
    )
    movement = Movement(shapes=((1, 32, 700, 4),), shape=(1, 32, 1400, 4), parts=parts, step=(2, 1))
    x = TensorSpec(name="x", shape=movement.shapes[0], dtype="int8")
    check_engines(graph_of((moving("moved", movement, x),), x), default_config)


@pytest.mark.parametrize("preset", ["default", "block32"])
def test_what_follows_on_the_accumulator(preset: str) -> None:
    """An enlarged map to which another one is added, as in feature pyramids."""
    config, rng = VTAConfig.load(preset), np.random.default_rng(2)
    small = TensorSpec(name="small", shape=(config.batch, 40, 5, 6), dtype="int8")
    large = TensorSpec(name="large", shape=(config.batch, 40, 10, 12), dtype="int8")
    post_ops = (PostOp(op="add_tensor", value=2, tensor="large"), *requantize(rng, 40, 3))
    layer = moving("sum", enlarged(small.shape, (2, 2)), small, post_ops=post_ops)
    check_engines(graph_of((layer,), small, large), config)


def test_a_slice_of_whole_blocks_takes_no_instructions(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(3)
    x = TensorSpec(name="x", shape=(1, 16, 6, 6), dtype="int8")
    first = conv(rng, "first", x, 48, (3, 3), padding=(1, 1, 1, 1))
    movement = along_axes(first.out_shape, {1: np.arange(16, 48)})
    assert movement is not None
    part = moving("part", movement, first)
    last = conv(rng, "last", part, 20, (3, 3), padding=(1, 1, 1, 1))
    program = check_engines(graph_of((first, part, last), x), default_config)
    assert [record.name for record in program.layers] == ["first", "last"]


def test_a_matrix_that_does_not_fit(default_config: VTAConfig) -> None:
    config = replace(default_config, log_wgt_buff_bytes=9)
    movement = along_axes((1, 96, 1, 1), {1: np.arange(96).reshape(6, 16).T.ravel()})
    assert movement is not None
    x = TensorSpec(name="x", shape=movement.shapes[0], dtype="int8")
    with pytest.raises(CapacityError, match=r"moved: the matrices of a block of channels must fit"):
        lower(graph_of((moving("moved", movement, x),), x), config)


def test_a_source_that_does_not_fit(default_config: VTAConfig) -> None:
    config = replace(default_config, log_inp_buff_bytes=8)
    movement = rearranged((1, 1, 5, 5), 5, to_depth=True)
    x = TensorSpec(name="x", shape=movement.shapes[0], dtype="int8")
    with pytest.raises(CapacityError, match=r"moved: what a number is copied from must fit"):
        lower(graph_of((moving("moved", movement, x),), x), config)
