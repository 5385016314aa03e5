"""Multiplication without MUL: shifts and additions give the very same integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.compiler.multiply import Action, ShiftAdds, shift_adds
from flow.program.program import Program
from flow.sim.oracle import run_program
from flow.sim.tsim import TSim
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, requantize, residual_network, subgraph, weights
from tests.flow.compiler.test_lower import check
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.hardware import VTAConfig, preset_names
from vta_config.isa import AluOp, Opcode
from vta_config.portable import MAX_SHIFT


def run(actions: tuple[Action, ...], a: int) -> tuple[int, int]:
    """Return what the actions make of a, and the largest magnitude on the way."""
    y, copy, largest = a, 0, abs(a)
    for action in actions:
        if action.move == "shr":
            assert 1 <= action.amount <= MAX_SHIFT
            y >>= action.amount
        elif action.move == "double":
            y += y
        elif action.move == "copy":
            copy = y
        elif action.move == "add":
            y += copy
        else:
            copy += copy
        largest = max(largest, abs(y), abs(copy))
    return y, largest


@given(data=st.data(), multiplier=st.integers(1, 1 << 20), shift=st.integers(0, 31))
def test_floor_of_the_product(data: st.DataObject, multiplier: int, shift: int) -> None:
    most = ((1 << 31) - 1) // multiplier
    a = data.draw(st.integers(-most, most))
    y, largest = run(shift_adds(multiplier, shift), a)
    assert y == a * multiplier >> shift
    assert largest <= abs(a) * multiplier


def test_actions_and_their_cycles() -> None:
    assert shift_adds(1, 4) == (Action("shr", 4),)
    assert shift_adds(1, 20) == (Action("shr", 15), Action("shr", 5))
    assert shift_adds(8, 5) == shift_adds(2, 3) == shift_adds(1, 2)
    assert shift_adds(4, 0) == (Action("double"), Action("double"))
    three_halves = shift_adds(3, 9)
    assert three_halves == (Action("copy"), Action("shr", 1), Action("add"), Action("shr", 8))
    mixed = ShiftAdds.of((1, 3, 3), (8, 9, 9))
    assert mixed.actions[1] == three_halves and mixed.copies
    assert mixed.passes == -(-(1 + 7 + 7) // 3)
    assert not ShiftAdds.of((2, 1), (0, 3)).copies


def scaled(rng: np.random.Generator, channels: int, block: int, *, most: int = 64) -> list[PostOp]:
    """Return bias, a multiplier and a shift a block of channels, and a clip."""
    per_block = -(-channels // block)
    numbers = [rng.integers(1, most, per_block), rng.integers(0, 20, per_block)]
    b, c = (np.repeat(n, block)[:channels].astype(np.int32) for n in numbers)
    bias, _, _, low, high = requantize(rng, channels, 8)
    return [bias, PostOp(op="mul", value=b), PostOp(op="shr", value=c), low, high]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 70)),
    kernel=st.sampled_from([1, 3]),
    preset=st.sampled_from(preset_names()),
)
def test_any_convolution(
    seed: int, size: tuple[int, int], channels: tuple[int, int], kernel: int, preset: str
) -> None:
    rng = np.random.default_rng(seed)
    block = VTAConfig.load(preset).block
    x = TensorSpec(name="x", shape=(1, channels[0], *size), dtype="int8")
    edge = kernel // 2
    layer = conv(
        rng,
        "conv",
        x,
        channels[1],
        (kernel, kernel),
        padding=(edge,) * 4,
        post_ops=tuple(scaled(rng, channels[1], block)),
    )
    check(subgraph((layer,), x), preset)


def dyadic_network(rng: np.random.Generator, block: int, *, size: int = 32) -> Subgraph:
    """Return the network of every kind of layer with a multiplication before each first shift."""
    graph = residual_network(rng, size=size)

    def multiplied(layer: Layer) -> Layer:
        first = next((i for i, s in enumerate(layer.post_ops) if s.op == "shr"), None)
        if first is None:
            return layer
        count = -(-layer.out_shape[1] // block)
        b = np.repeat(rng.integers(1, 8, count), block)[: layer.out_shape[1]]
        step = PostOp(op="mul", value=b.astype(np.int32))
        return replace(layer, post_ops=(*layer.post_ops[:first], step, *layer.post_ops[first:]))

    return replace(graph, layers=tuple(map(multiplied, graph.layers)))


def program_of(graph: Subgraph, config: VTAConfig) -> Program:
    return make_program(graph, lower(graph, config), config)


@pytest.mark.parametrize("preset", preset_names())
def test_every_kind_of_layer_on_every_machine(preset: str) -> None:
    block = VTAConfig.load(preset).block
    check(dyadic_network(np.random.default_rng(1), block), preset)


def test_all_engines_agree_with_and_without_mul(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(2)
    graph = dyadic_network(rng, default_config.block, size=16)
    x = weights(rng, 1, 3, 16, 16)
    expected = run_subgraph(graph, [x])["dense"]
    multiplies = replace(default_config, capabilities=frozenset({"mul"}))
    for config in (default_config, multiplies):
        program = program_of(graph, config)
        used = {i.values["alu_opcode"] for i in program.insns if i.opcode == Opcode.ALU}
        assert (AluOp.MUL in used) == (config is multiplies)
        np.testing.assert_array_equal(run_program(program, [x]).outputs[0], expected)
        np.testing.assert_array_equal(TSim(program).run([x]).outputs[0], expected)
