"""Concatenations: every engine gives what numpy puts side by side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import conv, max_pool
from tests.flow.compiler.operators.moves import check_engines, concat, graph_of
from vta_config.hardware import VTAConfig, preset_names


@pytest.mark.slow
@pytest.mark.parametrize("preset", preset_names())
@settings(max_examples=8)
@given(data=st.data())
def test_every_engine_on_every_machine(preset: str, data: st.DataObject) -> None:
    """Inputs and results of layers side by side; some are read by others, too."""
    config = VTAConfig.load(preset)
    size = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    counts = data.draw(st.lists(st.integers(1, 2 * config.block), min_size=1, max_size=4))
    if data.draw(st.booleans()):
        counts = [-(-count // config.block) * config.block for count in counts]
    x = TensorSpec(name="x", shape=(config.batch, 16, *size), dtype="int8")
    parts = [conv(rng, f"conv{i}", x, count, (1, 1)) for i, count in enumerate(counts)]
    together = concat("together", *parts, *([x] if data.draw(st.booleans()) else []))
    twice = concat("twice", together, parts[0])
    last = conv(rng, "last", twice, 8, (3, 3), padding=(1, 1, 1, 1))
    wanted = data.draw(st.integers(1, 3))
    check_engines(graph_of((*parts, together, twice, last), x, wanted=wanted), config)


def test_whole_blocks_are_stored_in_place(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(3)
    x = TensorSpec(name="x", shape=(1, 16, 12, 12), dtype="int8")
    left = conv(rng, "left", x, 32, (3, 3), padding=(1, 1, 1, 1))
    right = conv(rng, "right", left, 24, (1, 1))
    first = concat("first", left, right)
    pooled = max_pool("pooled", first, 2, 2)
    small = concat("small", pooled, pooled)
    last = conv(rng, "last", small, 20, (3, 3), padding=(1, 1, 1, 1))
    program = check_engines(graph_of((left, right, first, pooled, small, last), x), default_config)
    # The same tensor a second time is copied.
    names = [record.name for record in program.layers]
    assert names == ["left", "right", "pooled", "small", "last"]


def test_parts_of_several_readers_and_padding(default_config: VTAConfig) -> None:
    """As in a U-Net: a map that goes on, is pooled, and is padded by the number for 0.0."""
    rng = np.random.default_rng(5)
    x = TensorSpec(name="x", shape=(1, 16, 8, 8), dtype="int8")
    ring = {"padding": (1, 1, 1, 1), "pad_value": -128}
    down = conv(rng, "down", x, 16, (3, 3), padding=(1, 1, 1, 1))
    own = conv(rng, "own", down, 16, (3, 3), **ring)
    both = concat("both", own, down)
    last = conv(rng, "last", both, 16, (3, 3), **ring)
    program = check_engines(graph_of((down, own, both, last), x), default_config)
    assert [record.name for record in program.layers] == ["down", "own", "last"]


@pytest.mark.parametrize("preset", preset_names())
@settings(max_examples=4)
@given(data=st.data())
def test_rows_and_columns_side_by_side(preset: str, data: st.DataObject) -> None:
    config = VTAConfig.load(preset)
    axis = data.draw(st.sampled_from([2, 3]))
    channels, count = data.draw(st.integers(1, 2 * config.block)), data.draw(st.integers(1, 3))
    sources = []
    for index in range(count):
        size = [data.draw(st.integers(1, 6)), 5]
        size = size if axis == 2 else size[::-1]
        shape = (config.batch, channels, *size)
        sources.append(TensorSpec(name=f"x{index}", shape=shape, dtype="int8"))
    layer = concat("together", *sources, axis=axis)
    check_engines(graph_of((layer,), *sources), config)
