"""What stays in the scratchpads for a whole program, and what it leaves to layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flow.compiler.memory import Constants
from flow.compiler.normal_form import NormalLayer, normal_layer
from flow.compiler.workbench import Residents, Workbench
from flow.program.layouts import constant_vector, diagonal_weight
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv, requantize, sum_pool
from vta_config import VTAConfig
from vta_config.isa import Memory
from vta_config.origin import Purpose

X = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")


def layers(config: VTAConfig, *steps: PostOp, **options: Any) -> list[NormalLayer]:
    """Return a convolution with steps, in normal form."""
    layer = conv(np.random.default_rng(0), "conv1", X, 16, (1, 1), post_ops=steps, **options)
    return [normal_layer(layer, config)]


def bench(residents: Residents, config: VTAConfig) -> Workbench:
    return Workbench(config, residents, {}, Constants(256, 0), {})


def test_a_plain_layer_leaves_everything(default_config: VTAConfig) -> None:
    residents = Residents(layers(default_config), default_config, "balanced")
    assert not residents.needs_vector and residents.diagonal_at == {}
    assert (residents.capacity.inp, residents.capacity.wgt, residents.capacity.acc) == (
        2048, 1024, 2048,
    )  # fmt: skip
    assert bench(residents, default_config).resident_job().loads == []


def test_a_vector_and_diagonals_stay_at_the_ends(default_config: VTAConfig) -> None:
    """A bias multiplies the constant vector; a residual times 8 and a sum need diagonals 8, 1."""
    rng = np.random.default_rng(0)
    skip = PostOp(op="add_tensor", value=3, tensor="x")
    found = layers(default_config, skip, *requantize(rng, 16, 9))
    found.append(normal_layer(sum_pool("pool", found[0].layer, 4), default_config))
    residents = Residents(found, default_config, "latency")
    assert residents.needs_vector and residents.vector_at == 2047
    assert residents.diagonal_at == {1: 1022, 8: 1023}
    capacity = residents.capacity
    assert (capacity.inp, capacity.wgt, capacity.acc) == (2047, 1022, 2048)
    assert capacity.objective == "latency"
    workbench = bench(residents, default_config)
    loads = [emitted.insn for emitted in workbench.resident_job().loads]
    assert [(i["memory_type"], i["sram_base"], i.origin.purpose) for i in loads] == [
        (Memory.INP, 2047, Purpose.VECTOR),
        (Memory.WGT, 1022, Purpose.DIAGONAL),
        (Memory.WGT, 1023, Purpose.DIAGONAL),
    ]
    data = workbench.constants.data()
    for insn, content, size in (
        (loads[0], constant_vector(default_config), 16),
        (loads[1], diagonal_weight(1, default_config), 256),
        (loads[2], diagonal_weight(8, default_config), 256),
    ):
        at = insn["dram_base"] * size
        assert data[at : at + size] == np.ascontiguousarray(content).tobytes()


def test_shift_amounts_stay_in_acc(default_config: VTAConfig) -> None:
    config = replace(default_config, capabilities=frozenset({"shr_register"}))
    amounts = PostOp(op="shr", value=np.arange(16, dtype=np.int32))
    residents = Residents(layers(config, amounts), config, "balanced")
    assert residents.amounts == (2047, 1) and residents.copy.count == 0
    assert residents.capacity.acc == 2047


def test_copies_of_a_multiplication_take_their_share(default_config: VTAConfig) -> None:
    found = layers(default_config, PostOp(op="mul", value=5), PostOp(op="shr", value=12))
    residents = Residents(found, default_config, "balanced")
    assert residents.copy.count > 0
    assert residents.copy.start + residents.copy.count == 2048
    assert residents.capacity.acc == 2048 - residents.copy.count


def test_late_constants_come_off_a_layers_weights(default_config: VTAConfig) -> None:
    late = PostOp(op="add", value=np.arange(16, dtype=np.int32))
    (normal,) = found = layers(default_config, PostOp(op="shr", value=9), late)
    residents = Residents(found, default_config, "balanced")
    assert normal.late_elems == 1 and residents.late_slots(normal) == 2
    assert residents.capacity_of(normal).wgt == residents.capacity.wgt - 2


def test_jobs_are_counted(default_config: VTAConfig) -> None:
    workbench = bench(Residents([], default_config, "balanced"), default_config)
    first, second = workbench.new_job(), workbench.new_job()
    assert workbench.job == 2 and first is not second and not first.body
