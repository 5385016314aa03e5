"""The check that every engine gives what a layer means in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from relay_passes.partition.layers import Layer, TensorSpec
from tests.flow.compiler.networks import subgraph, weights
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.hardware import VTAConfig


def check_engines(
    layers: Layer | tuple[Layer, ...],
    x: TensorSpec,
    config: VTAConfig,
    *more: TensorSpec,
    seed: int = 7,
) -> Program:
    """Compare fsim in two instruction orders, tsim and the oracle with the layers' meaning."""
    layers = layers if isinstance(layers, tuple) else (layers,)
    graph = subgraph(layers, x, *more)
    program = make_program(graph, lower(graph, config), config)
    rng = np.random.default_rng(seed)
    data = [weights(rng, *spec.shape) for spec in (x, *more)]
    expected = run_subgraph(graph, data)[layers[-1].output]
    sim = ProgramSim(program)
    results: list[list[Any]] = [
        sim.run(data).outputs,
        sim.run(data, seed=3).outputs,
        TSim(program).run(data).outputs,
        run_program(program, data).outputs,
    ]
    for outputs in results:
        np.testing.assert_array_equal(outputs[0].reshape(expected.shape), expected)
    return program
