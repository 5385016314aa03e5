"""A global average inside the convolution before it: what is joined, when, and what that saves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.lower import Lowering
from flow.compiler.schedule import Schedule
from flow.compiler.search import search
from flow.compiler.shapes import Objective
from flow.machines.axes import varied
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, requantize, subgraph, sum_pool
from tests.flow.compiler.operators.counts import counted
from tests.flow.compiler.operators.engines import check_engines
from tests.flow.compiler.test_lower import check
from vta_config.hardware import VTAConfig, preset_names

X = TensorSpec(name="x", shape=(1, 16, 25, 5), dtype="int8")


def averaged(channels: int = 64, x: TensorSpec = X) -> tuple[Layer, Layer, Layer]:
    """Return a convolution, another one of it, and the average of that."""
    rng = np.random.default_rng(0)
    first = conv(rng, "first", x, 16, (1, 1))
    second = conv(rng, "second", first, channels, (1, 1))
    return first, second, sum_pool("average", second, 7)


def kinds(
    graph: Subgraph, machine: str | VTAConfig = "default", objective: Objective = "balanced"
) -> list[str]:
    """Return what is lowered, by kind."""
    config = VTAConfig.load(machine) if isinstance(machine, str) else machine
    lowering = Lowering(graph, config, Schedule(objective=objective))
    return [normal.kind for normal in lowering.layers]


def test_the_convolutions_tensor_is_stored_nowhere() -> None:
    first, second, _ = layers = averaged()
    program = check(subgraph(layers, X))
    *_, record = program.layers
    assert (record.name, record.kind) == ("second", "conv2d+sum_pool2d")
    assert (record.output.name, record.output.shape) == ("average", (1, 64, 1, 1))
    counts, apart = counted(*layers, inputs=(X,)), counted(first, second, inputs=(X,))
    assert counts["out_bytes"] == apart["out_bytes"] - (125 - 1) * 64
    assert counts["inp_bytes"] == apart["inp_bytes"]


def test_only_what_the_average_alone_reads_stays_in_acc() -> None:
    first, second, average = averaged()
    apart = ["conv2d", "conv2d", "sum_pool2d"]
    assert kinds(subgraph((first, second, average), X)) == ["conv2d", "conv2d+sum_pool2d"]
    more = conv(np.random.default_rng(0), "more", second, 16, (1, 1))
    assert kinds(subgraph((first, second, average, more), X)) == [*apart, "conv2d"]
    both = replace(
        subgraph((first, second, average), X),
        outputs=tuple(
            TensorSpec(name=p.output, shape=p.out_shape, dtype="int8") for p in (second, average)
        ),
    )
    assert kinds(both) == apart


def test_what_a_store_would_cut_is_stored() -> None:
    """A sum that is not clipped wraps in DRAM, not in acc."""
    first, second, average = averaged()
    wrapping = replace(second, post_ops=second.post_ops[:-1])
    graph = subgraph((first, wrapping, average), X)
    assert kinds(graph) == ["conv2d", "conv2d", "sum_pool2d"]
    check(graph)


def test_constants_of_an_average_are_immediates() -> None:
    first, second, average = averaged()
    numbers = PostOp(op="add", value=np.arange(64, dtype=np.int32))
    by_channel = replace(average, post_ops=(numbers, *average.post_ops))
    assert kinds(subgraph((first, second, by_channel), X))[-1] == "sum_pool2d"
    offset = PostOp(op="add", value=-40_000)
    same = replace(average, post_ops=(offset, *average.post_ops))
    graph = subgraph((first, second, same), X)
    assert kinds(graph)[-1] == "conv2d+sum_pool2d"
    check(graph)


def test_the_faster_way_is_taken() -> None:
    """A bus of 128 bits loads a vector a cycle, and the ALU adds one in two."""
    graph = subgraph(averaged(), X)
    assert kinds(graph, "default", "latency")[-1] == "conv2d+sum_pool2d"
    assert kinds(graph, "ultra96", "latency")[-1] == "sum_pool2d"
    small = replace(X, shape=(1, 16, 4, 4))
    assert kinds(subgraph(averaged(x=small), small), "ultra96")[-1] == "conv2d+sum_pool2d"


def test_sums_that_leave_no_room_are_not_joined(default_config: VTAConfig) -> None:
    graph = subgraph(averaged(channels=160), X)
    assert kinds(graph)[-1] == "conv2d+sum_pool2d"
    tiny = varied(default_config, acc_buffer=1 << 12)
    assert kinds(graph, tiny)[-1] == "sum_pool2d"


def test_tilings_of_the_joined_layer_are_searched(
    default_config: VTAConfig, tmp_path: Path
) -> None:
    graph = subgraph(averaged(), X)
    schedule = search(graph, default_config, cache=tmp_path / "schedules.json")
    assert {"first", "second"} == {*schedule.tilings}
    check(graph, schedule=schedule)


@pytest.mark.parametrize("preset", preset_names())
def test_every_engine_and_machine(preset: str) -> None:
    check_engines(averaged(channels=40), X, VTAConfig.load(preset))


@pytest.mark.parametrize("batch", [1, 2])
def test_images_have_sums_of_their_own(batch: int, default_config: VTAConfig) -> None:
    config = varied(default_config, batch=batch)
    x = replace(X, shape=(4, 16, 6, 5))
    layers = averaged(channels=40, x=x)
    assert kinds(subgraph(layers, x), config)[-1] == "conv2d+sum_pool2d"
    check_engines(layers, x, config)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 100),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.sampled_from((1, 3)),
    relu=st.booleans(),
    preset=st.sampled_from(preset_names()),
)
def test_any_of_these_networks(
    channels: int, size: tuple[int, int], kernel: int, relu: bool, preset: str
) -> None:
    rng, x = np.random.default_rng(1), replace(X, shape=(1, 20, *size))
    first = conv(rng, "first", x, 24, (1, 1))
    post_ops = requantize(rng, channels, 10, relu=relu)
    padding = (kernel // 2,) * 4
    last = conv(rng, "last", first, channels, (kernel, kernel), padding=padding, post_ops=post_ops)
    check(subgraph((first, last, sum_pool("average", last, 6)), x), preset)
