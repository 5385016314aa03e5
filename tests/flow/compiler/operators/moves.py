"""Layers that only copy, to be lowered, and engines compared on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from relay_passes.operators.movement import Movement, joined
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import output_of, weights
from tests.relay_passes.layer_oracle import run_subgraph

if TYPE_CHECKING:
    from flow.program.program import Program
    from vta_config.hardware import VTAConfig


def moving(
    name: str,
    movement: Movement,
    *sources: Layer | TensorSpec,
    kind: str = "move",
    post_ops: tuple[PostOp, ...] = (),
) -> Layer:
    """Return a layer that moves what layers make, or inputs."""
    residuals = (step.tensor for step in post_ops if step.tensor)
    return Layer(
        name=name,
        kind=kind,
        inputs=(*(output_of(source)[0] for source in sources), *residuals),
        output=name,
        in_shape=movement.shapes[0],
        out_shape=movement.shape,
        weight=None,
        post_ops=post_ops,
        movement=movement,
    )


def concat(name: str, *sources: Layer | TensorSpec, axis: int = 1) -> Layer:
    """Return a concatenation."""
    movement = joined([output_of(source)[1] for source in sources], axis)
    return moving(name, movement, *sources, kind="concat")


def graph_of(layers: tuple[Layer, ...], *inputs: TensorSpec, wanted: int = 1) -> Subgraph:
    """Return a subgraph whose outputs are the last `wanted` layers'."""
    outputs = tuple(
        TensorSpec(name=layer.output, shape=layer.out_shape, dtype=layer.out_dtype)
        for layer in layers[-wanted:]
    )
    return Subgraph(symbol="vta_0", inputs=inputs, outputs=outputs, layers=layers)


def check_engines(graph: Subgraph, config: VTAConfig, *, seed: int = 0) -> Program:
    """Compare fsim in two orders, tsim and the oracle with numpy: outputs, and layers of fsim."""
    program = make_program(graph, lower(graph, config), config)
    rng = np.random.default_rng(seed)
    data = [weights(rng, *spec.shape) for spec in graph.inputs]
    expected = run_subgraph(graph, data)
    sim = ProgramSim(program)
    runs = [sim.run(data), sim.run(data, seed=seed + 3)]
    results = [*(run.outputs for run in runs), TSim(program).run(data).outputs]
    results.append(run_program(program, data).outputs)
    for outputs in results:
        for spec, output in zip(graph.outputs, outputs, strict=True):
            want = expected[spec.name]
            np.testing.assert_array_equal(output.reshape(want.shape), want, err_msg=spec.name)
    for run in runs:
        for name, tensor in run.layers.items():
            np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    return program
