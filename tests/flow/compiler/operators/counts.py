"""Steps of a layer's program, counted by what they are for."""

from __future__ import annotations

from typing import Any

from flow.results.counters import counters_by_layer
from flow.sim.program_sim import ProgramSim
from relay_passes.partition.layers import Layer, TensorSpec
from tests.flow.compiler.networks import subgraph
from tests.flow.compiler.test_lower import check


def counted(*layers: Layer, inputs: tuple[TensorSpec, ...], **options: Any) -> dict[str, int]:
    """Check layers against numpy; return what the last one does."""
    program = check(subgraph(layers, *inputs), **options)
    return counters_by_layer(ProgramSim(program))[program.layers[-1].name]
