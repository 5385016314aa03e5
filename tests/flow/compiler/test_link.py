"""A program has the names and shapes of its subgraph."""

from __future__ import annotations

import numpy as np

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from tests.flow.compiler.networks import residual_network
from vta_config import VTAConfig
from vta_config.isa import Opcode


def test_ports_and_records(default_config: VTAConfig) -> None:
    graph = residual_network(np.random.default_rng(0))
    lowered = lower(graph, default_config)
    program = make_program(graph, lowered, default_config)
    assert program.symbol == "vta_0" and program.insns == tuple(lowered.insns)
    assert (program.constants, program.constants_at) == (lowered.constants, lowered.constants_at)
    (x,), (y,) = program.inputs, program.outputs
    assert (x.name, x.shape, x.dtype) == ("x", (1, 3, 32, 32), "int8")
    assert x.address == lowered.tensors["x"].address and x.form == lowered.forms["x"]
    assert (y.name, y.shape, y.dtype, y.form) == ("dense", (1, 100, 1, 1), "int32", None)
    # The pool is inside the convolution before it: a layer that stores the pool's tensor.
    names = [(record.name, record.kind, record.output.name) for record in program.layers]
    assert names[0] == ("stem", "conv2d+max_pool2d", "pool")
    assert [name for name, _, _ in names[1:]] == [
        "first", "skip", "second", "dilated", "strided", "added", "average", "dense",
    ]  # fmt: skip


def test_the_last_store_of_a_layer_ends_its_tensor(default_config: VTAConfig) -> None:
    graph = residual_network(np.random.default_rng(0))
    program = make_program(graph, lower(graph, default_config), default_config)
    for record in program.layers:
        stores = [
            i
            for i, insn in enumerate(program.insns)
            if insn.opcode == Opcode.STORE and insn["x_size"] and insn.origin.layer == record.name
        ]
        assert record.last_store == stores[-1]
