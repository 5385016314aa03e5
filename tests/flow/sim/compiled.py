"""A compiled network with every kind of layer, for the tests of programs and their time."""

from __future__ import annotations

import numpy as np

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from tests.flow.compiler.networks import residual_network
from vta_config.hardware import VTAConfig


def compiled(preset: str = "default", size: int = 32) -> Program:
    """Return its program for a preset."""
    config = VTAConfig.load(preset)
    graph = residual_network(np.random.default_rng(1), size=size)
    return make_program(graph, lower(graph, config), config)
