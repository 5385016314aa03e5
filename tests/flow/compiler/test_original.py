"""The original compiler's convolutions: the same bytes, in fewer cycles of the same simulator."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from flow.compiler.lower import lower
from flow.compiler.program import make_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import time_insns
from relay_passes.params import Layer, Step, Subgraph, TensorSpec
from vta_config.hardware import VTAConfig


def stock_stream(path: Path) -> bytes:
    """Return the instructions of a dump of the original compiler's."""
    data = path.read_bytes()
    _, _, count, *_ = struct.unpack_from("<8s6I", data)
    return data[32 : 32 + 16 * count]


def same_layer(data: dict[str, np.ndarray]) -> Subgraph:
    """Return the layer of a dump: 3 × 3, then >> 8, + bias, min 127, max 0."""
    weight, shape = data["weight"], data["data"].shape
    layer = Layer(
        name="conv",
        kind="conv2d",
        inputs=("x",),
        output="y",
        in_shape=shape,
        out_shape=(1, weight.shape[0], *shape[2:]),
        weight=weight,
        kernel=(3, 3),
        padding=(1, 1, 1, 1),
        steps=(
            Step(op="shr", value=8),
            Step(op="add", value=data["bias"].ravel()),
            Step(op="min", value=127),
            Step(op="max", value=0),
        ),
    )
    return Subgraph(
        symbol="vta_0",
        inputs=(TensorSpec(name="x", shape=shape, dtype="int8"),),
        outputs=(TensorSpec(name="y", shape=layer.out_shape, dtype="int8"),),
        layers=(layer,),
    )


@pytest.mark.parametrize("name", ["C2", "C5", "C11"])
def test_same_bytes_in_fewer_cycles(
    shared_data: Path, default_config: VTAConfig, name: str
) -> None:
    folder = shared_data / "golden" / "vta_streams"
    data = dict(np.load(folder / f"{name}_io.npz"))
    graph = same_layer(data)
    program = make_program(graph, lower(graph, default_config), default_config)
    (output,) = ProgramSim(program).run([data["data"]]).outputs
    expected = data["out_packed"].transpose(0, 1, 5, 2, 3, 4).reshape(output.shape)
    np.testing.assert_array_equal(output, expected)
    stock, _ = time_insns(default_config, stock_stream(folder / f"run_00000_{name}.vtadump"))
    ours, _ = time_insns(default_config, program.insn_bytes)
    assert ours < stock, f"{ours} cycles, the original {stock}"
