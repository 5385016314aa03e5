"""What a tiling costs: its extents by hand, its cycles near the cycle model's."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from flow.compiler.cost import MAX_SLOTS, Cost, Slots, Tiling, cost, least_cycles, objective_cost
from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.compiler.normal_form import normal_layer
from flow.compiler.shapes import Capacity, ConvShape
from flow.compiler.tiling import choose_tiling
from flow.sim.tsim import TSim
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import conv, resnet_layer, subgraph
from vta_config.hardware import VTAConfig
from vta_config.timing import PROFILES

#: 4 blocks of output channels in two weight chunks, 8 x 16 vectors; 2 of 4 blocks of input.
TILING = Tiling(oc=4, oh=8, ow=16, ic=2, oc_w=2, oc_outer=True)


@pytest.fixture
def capacity(default_config: VTAConfig) -> Capacity:
    return Capacity.of(default_config, resident_inp=1, resident_wgt=2)


@pytest.fixture
def shape(default_config: VTAConfig) -> ConvShape:
    """Return 64 channels, 3 x 3, 32 x 32 pixels: 4 blocks in and out."""
    return resnet_layer(64, 32, default_config)


def test_elements_of_a_tile_and_its_chunks(shape: ConvShape) -> None:
    assert TILING.area(shape) == 10 * 18
    assert TILING.inp_elems(shape) == 2 * 180
    assert TILING.wgt_elems(shape) == 2 * (2 * 9 + 1)  # with a constant for each block
    assert TILING.acc_elems == 4 * 8 * 16
    assert (TILING.parts, TILING.places(shape), TILING.groups(shape)) == (2, 4 * 2, 1)
    assert TILING.weight_chunks(shape) == 2 * 2 * 1
    assert TILING.sizes(shape) == [(shape, 2)] and TILING.chunk_blocks(shape) == (2,)


def test_chunks_of_summands_fit_the_same_slots(shape: ConvShape) -> None:
    down = replace(shape, kernel=(1, 1), padding=(0, 0), ic=8, constants=0)
    both = replace(shape, summands=(down,))
    # inp: 360 elements hold two blocks of 128; wgt: 38 hold 19 of 2; of 8 blocks, even chunks.
    assert TILING.inp_elems(both) == 360 and TILING.wgt_elems(both) == 38
    assert TILING.chunk_blocks(both) == (2, 2)


def test_capacity_for_chunks(shape: ConvShape, capacity: Capacity) -> None:
    assert TILING.acc_slots(capacity) == 2048 // 512
    assert TILING.inp_capacity(shape, capacity) == 2047
    assert TILING.inp_capacity(replace(shape, residuals=1), capacity) == 2047 - 2 * 128


def test_bytes_that_are_loaded(shape: ConvShape, capacity: Capacity) -> None:
    """Weights stay for all places of the only group; inputs come once for each place."""
    whole = Tiling(oc=4, oh=8, ow=32, ic=4, oc_w=4, oc_outer=True)
    estimate = cost(shape, whole, capacity)
    weights = 4 * (4 * 9 + 1) * 256
    inputs = 4 * 4 * 10 * 32 * 16  # places, blocks, rows, columns, bytes
    assert estimate.loaded_bytes == weights + inputs
    steps = 4 * 4 * (32 * 3 - 2) ** 2
    assert estimate.cycles > shape.cycles == steps + 4096 * shape.vector_cycles


def test_more_slots_than_tokens_are_not_used(shape: ConvShape, capacity: Capacity) -> None:
    small = Tiling(oc=1, oh=1, ow=1, ic=1, oc_w=1, oc_outer=False)
    slots = cost(shape, small, capacity).slots
    assert sum(slots) <= MAX_SLOTS == (255 - 15) // 2


def test_micro_ops_beyond_the_buffer_cost_everything(shape: ConvShape, capacity: Capacity) -> None:
    assert cost(shape, TILING, capacity).cycles < inf
    # Blocks of channels and taps are micro-ops; rows and columns are the loops.
    assert cost(shape, TILING, replace(capacity, uop=2 * 2 * 9)).cycles < inf
    assert cost(shape, TILING, replace(capacity, uop=2 * 2 * 9 - 1)).cycles == inf


def test_a_bound_from_below(shape: ConvShape, capacity: Capacity) -> None:
    for tiling in (TILING, replace(TILING, ic=4), replace(TILING, oc_outer=False)):
        assert least_cycles(shape, tiling, capacity) <= cost(shape, tiling, capacity).cycles


def test_bytes_count_unless_latency_alone_does(capacity: Capacity) -> None:
    estimate = Cost(1000.0, 800.0, Slots(2, 2))
    assert objective_cost(estimate, capacity) == 1000 + 0.6 * 800 / 8
    assert objective_cost(estimate, replace(capacity, objective="latency")) == 1000


def test_the_default_machine_reaches_the_roofline_of_every_resnet_layer() -> None:
    config = VTAConfig.load("default")
    capacity = Capacity.of(config, resident_inp=1, resident_wgt=2)
    for channels, size, utilization in (
        (64, 56, 0.84),
        (128, 28, 0.84),
        (256, 14, 0.9),
        (512, 7, 0.92),
    ):
        shape = resnet_layer(channels, size, config)
        steps = shape.oc * shape.ic * shape.taps * size * size
        assert steps == 451_584
        estimate = cost(shape, choose_tiling(shape, capacity), capacity)
        assert steps / estimate.cycles >= utilization


@pytest.mark.parametrize("timing", PROFILES)
def test_estimates_are_near_the_cycle_model(timing: str) -> None:
    config = replace(VTAConfig.load("default"), timing=timing)
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 64, 16, 16), dtype="int8")
    layer = conv(rng, "conv", x, 64, (3, 3), padding=(1, 1, 1, 1))
    graph = subgraph((layer,), x)
    cycles = TSim(make_program(graph, lower(graph, config), config)).cycles
    normal = normal_layer(layer, config)
    capacity = Capacity.of(config, resident_inp=1, resident_wgt=0)
    estimate = cost(normal.shape, choose_tiling(normal.shape, capacity), capacity).cycles
    assert estimate == pytest.approx(cycles, rel=0.05)


def test_rows_that_lie_apart_are_stored_one_by_one(shape: ConvShape, capacity: Capacity) -> None:
    """Whole rows of 32 vectors: 4 bursts each; of 7 vectors, each begins a burst of its own."""
    narrow = replace(shape, kernel=(1, 1), padding=(0, 0), ic=1, out_width=7, width=7)
    tiling = replace(TILING, ow=7, oh=32, ic=1)
    joined = cost(narrow, tiling, capacity).cycles
    apart = cost(replace(narrow, stored_rows=True), tiling, capacity).cycles
    # 4 blocks of 32 rows of 112 bytes: 128 bursts instead of 4 times 28 of 128 bytes. Of the one
    # tile's four pieces the last one is waited for.
    assert apart - joined == pytest.approx(3 * (128 - 4 * 28) / 4)
    tall = replace(narrow, out_width=8, width=8)
    tiling = replace(tiling, ow=8)
    assert cost(replace(tall, stored_rows=True), tiling, capacity) == cost(tall, tiling, capacity)


def test_a_chunk_that_takes_longer_to_load_than_to_use_has_more_slots() -> None:
    """Four chunks of inp a tile: with two slots, each waits for the one before the last."""
    capacity = Capacity.of(VTAConfig.load("block32"), resident_inp=1, resident_wgt=0)
    shape = replace(resnet_layer(64, 32, VTAConfig.load("block32"), kernel=1), ic=4, oc=3)
    tiling = Tiling(oc=3, oh=16, ow=16, ic=1, oc_w=3, oc_outer=False)
    assert cost(shape, tiling, capacity).slots.inp == 3
    larger = replace(shape, kernel=(3, 3), padding=(1, 1))
    assert cost(larger, tiling, capacity).slots.inp == 2


def test_residuals_have_what_chunks_leave_of_inp(shape: ConvShape, capacity: Capacity) -> None:
    tiling = Tiling(oc=4, oh=8, ow=8, ic=1, oc_w=4, oc_outer=False)
    added = replace(shape, residuals=1)
    assert cost(shape, tiling, capacity).slots.residual == 2
    slots = cost(added, tiling, capacity).slots
    assert slots.residual == 4  # a tile's
    assert slots.inp * tiling.inp_elems(added) + slots.residual * 64 <= capacity.inp
    tight = replace(capacity, inp=2 * tiling.inp_elems(added) + 3 * 64)
    assert cost(added, tiling, tight).slots.residual == 3
    # The third and fourth wait for a slot: 128 beats and more take longer than 64 steps.
    assert cost(added, tiling, tight).cycles > cost(added, tiling, capacity).cycles
