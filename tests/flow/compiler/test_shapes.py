"""The extents of a convolution, and of the memories that it must fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flow.compiler.geometry import Range
from flow.compiler.shapes import Capacity, ConvShape
from vta_config import VTAConfig


def shape(**changes: Any) -> ConvShape:
    """Return 3 x 3 over 56 x 28, stride (2, 1), padded by 1: 4 blocks in, 8 out."""
    values: dict[str, Any] = {
        "oc": 8,
        "ic": 4,
        "height": 56,
        "width": 28,
        "out_height": 28,
        "out_width": 28,
        "kernel": (3, 3),
        "stride": (2, 1),
        "dilation": (1, 1),
        "padding": (1, 1),
        "constants": 2,
        "vector_cycles": 5,
        "tile_cycles": 100,
    }
    return ConvShape(**values | changes)


def test_steps_and_cycles() -> None:
    assert shape().taps == 9 and shape().vectors == 8 * 28 * 28
    # The first row lacks a row of taps, the first and the last column a column.
    steps = 4 * (28 * 3 - 1) * (28 * 3 - 2)
    assert shape().steps == steps
    assert shape(padding=(0, 0), height=58, width=30).steps == 4 * 28 * 28 * 9
    # The last row of taps has as many outputs as there are.
    assert shape(last_ic=3).steps == steps - 28 * (28 * 3 - 2)
    assert shape().cycles == 8 * (steps + 28 * 28 * 5)
    assert shape(step_cycles=4).cycles == 8 * (4 * steps + 28 * 28 * 5)


def test_summands_are_reductions_into_the_same_sums() -> None:
    down = shape(kernel=(1, 1), ic=2, padding=(0, 0), constants=0)
    assert down.steps == 2 * 28 * 28
    both = shape(summands=(down,))
    assert both.reductions == (both, down)
    assert both.cycles == shape().cycles + 8 * 28 * 28 * 2


@pytest.mark.parametrize(
    ("changes", "outputs", "rows", "columns"),
    [
        ({}, 4, 3 * 2 + 3, 3 + 3),
        ({"kernel": (7, 1)}, 2, 2 + 7, 1 + 1),
        ({"dilation": (2, 3)}, 1, 2 * 2 + 1, 2 * 3 + 1),
    ],
)
def test_inputs_that_outputs_need(
    changes: dict[str, Any], outputs: int, rows: int, columns: int
) -> None:
    assert shape(**changes).extent_in(outputs, 0) == rows
    assert shape(**changes).extent_in(outputs, 1) == columns


def test_windows_of_a_tile() -> None:
    assert shape().axis(Range(0, 4), 0).window == (0, 8)
    assert shape().axis(Range(24, 4), 0).window == (47, 9)
    assert shape().axis(Range(0, 28), 1).window == (0, 28)
    assert (shape().window_in(4, 0), shape().window_in(28, 1)) == (9, 28)
    # Every second row from row 1 on: rows 2, 6 and 10 of the picture, less the padding.
    phase = shape().axis(Range(0, 3), 0, step=2, phase=1)
    assert (phase.stride, phase.offset, phase.window) == (4, 1, (1, 11))


def test_pieces_at_an_edge_have_more_runs_of_taps() -> None:
    assert shape().runs(28, 0) == (2, 1)  # all rows: taps 0, and 1 and 2
    assert shape().runs(7, 0) == (2 + 3 * 1, 2)
    assert shape().runs(28, 1) == (3, 1)
    assert shape().runs(7, 1) == (2 + 2 * 1 + 2, 3)


def test_capacity_is_what_residents_leave(default_config: VTAConfig) -> None:
    """Buffers of 32, 256 and 128 KiB, elements of 16, 256 and 64 bytes."""
    capacity = Capacity.of(default_config, resident_inp=1, resident_wgt=3, resident_acc=7)
    assert (capacity.inp, capacity.wgt, capacity.acc) == (2048 - 1, 1024 - 3, 2048 - 7)
    assert capacity.uop == 2048  # of 8,192 that the buffer has, the portable ones
    assert (capacity.bus_bytes, capacity.burst_beats, capacity.store_burst_bytes) == (8, 16, 128)
    assert (capacity.inp_elem_bytes, capacity.wgt_elem_bytes) == (16, 256)
    assert capacity.objective == "balanced"


def test_stores_go_out_in_bursts_of_the_machine(default_config: VTAConfig) -> None:
    longer = replace(default_config, burst_beats=64)
    capacity = Capacity.of(longer, resident_inp=0, resident_wgt=0, objective="latency")
    assert capacity.store_burst_bytes == 4 * 128 and capacity.objective == "latency"


def test_a_load_takes_what_the_profile_says(default_config: VTAConfig) -> None:
    for timing in ("chisel", "chisel-simple"):
        config = replace(default_config, timing=timing)
        capacity = Capacity.of(config, resident_inp=0, resident_wgt=0)
        assert capacity.load_cycles(3, 20) == config.profile.load_cycles(3, 20, 16)
