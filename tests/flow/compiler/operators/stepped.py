"""Layers of steps, as partition finds them, on every engine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from relay_passes.integers.steps import StepsPlan, run_steps
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.networks import subgraph
from vta_config.hardware import VTAConfig


def layers_of(plan: StepsPlan, shape: tuple[int, ...]) -> list[Layer]:
    """Return the layers of a plan, a tensor each; the last one makes ``result``."""
    layers = []
    for part in plan.parts:
        post_ops = tuple(
            PostOp(
                op=step.op,
                value=step.value[0] if len(step.value) == 1 else np.asarray(step.value, np.int32),
                tensor="" if step.tensor is None else step.tensor,
            )
            for step in part.steps
        )
        layers.append(
            Layer(
                name=part.suffix or "result",
                kind="add",
                inputs=tuple(p.tensor for p in post_ops if p.tensor),
                output=part.suffix or "result",
                in_shape=shape,
                out_shape=shape,
                weight=None,
                post_ops=post_ops,
            )
        )
    return layers


def check_steps(
    plan: StepsPlan, data: Mapping[str, NDArray[np.int8]], config: VTAConfig
) -> Program:
    """Compare fsim in two orders, tsim and the oracle with what the steps say."""
    shape = next(iter(data.values())).shape
    specs = [TensorSpec(name=name, shape=shape, dtype="int8") for name in data]
    graph = subgraph(layers_of(plan, shape), *specs)
    program = make_program(graph, lower(graph, config), config)
    expected = run_steps(plan, data).astype(np.int8)
    sim, values = ProgramSim(program), [*data.values()]
    for outputs in (
        sim.run(values).outputs,
        sim.run(values, seed=3).outputs,
        TSim(program).run(values).outputs,
        run_program(program, values).outputs,
    ):
        np.testing.assert_array_equal(outputs[0].reshape(shape), expected)
    return program
