"""Where tensors lie in DRAM, and from which layer to which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from flow.program.program import Program
from flow.results.details.memory import program_memory
from flow.sim.scratchpads import SCRATCHPADS, scratchpad_bytes
from tests.flow.onnx_models import save, weights
from vta_config import VTAConfig


@pytest.fixture
def program(default_config: VTAConfig, tmp_path: Path) -> Program:
    """Return a residual block: x → a → b, and b + x is read again behind it."""
    names = ("a", "b", "c")
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a0"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["a0"], ["a1"]),
        helper.make_node("Conv", ["a1", "w1"], ["b0"], name="second", pads=[1] * 4),
        helper.make_node("Relu", ["b0"], ["b1"]),
        helper.make_node("Conv", ["b1", "w2"], ["c0"], name="third", pads=[1] * 4),
        helper.make_node("Add", ["c0", "a1"], ["d0"]),
        helper.make_node("Relu", ["d0"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    shape = (16, 16, 3, 3)
    values = {f"w{k}": rng.normal(0, 0.1, shape).astype(np.float32) for k in range(len(names))}
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [1, 16, 8, 8])],
        [info("y", TensorProto.FLOAT, [1, 16, 8, 8])], weights(**values),
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    pipeline = Pipeline(import_model(save(model, tmp_path / "m.onnx")), default_config)
    pipeline.calibrate(rng.normal(0, 1, (4, 1, 16, 8, 8)).astype(np.float32))
    (found,) = pipeline.compile(pipeline.quantize("profiled_fused")).programs
    return found


def test_lives_of_tensors(program: Program) -> None:
    found = program_memory(program)
    assert len(found.layers) == 3
    regions = {(r.first, r.last): r for r in found.regions}
    # Input, read by the first layer; its output, read by the second and as the residual of the
    # third; that of the second; the output.
    assert set(regions) == {(-1, 0), (0, 2), (1, 2), (2, 3)}
    assert regions[-1, 0].kind == "input" and regions[2, 3].kind == "output"
    assert regions[0, 2].kind == "activation" and regions[0, 2].size_bytes == 16 * 64
    for a in found.regions:
        for b in found.regions:
            if a is not b and a.first <= b.last and b.first <= a.last:
                apart = (
                    a.address + a.size_bytes <= b.address or b.address + b.size_bytes <= a.address
                )
                # An output may take the place of what its layer reads.
                assert apart or a.last == b.first or b.last == a.first


def test_sums(program: Program) -> None:
    found = program_memory(program)
    assert found.total_bytes == program.arena_bytes
    assert found.activation_bytes + found.constant_bytes == found.total_bytes
    assert found.constant_bytes > 3 * 16 * 16 * 9
    assert found.insn_bytes == 16 * len(program.insns)
    peaks = {pad.name: max(pad.layer_bytes) for pad in found.scratchpads}
    assert list(peaks) == list(SCRATCHPADS)
    assert all(peaks[k] <= v for k, v in scratchpad_bytes([program]).items())
    assert peaks["wgt"] == scratchpad_bytes([program])["wgt"]
