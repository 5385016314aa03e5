"""Indices are constants of the module, and what computed them is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flow.frontend.importer import import_model
from flow.frontend.takes import with_constant_indices
from relay_passes.graph import constant, op_name, read_graph
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save


def model(index: Any, axis: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Gather", ["x", "i"], ["y"], axis=axis)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 4, 2, 3])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(index), "i")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(("index", "axis"), [([2, 0, 3], 1), ([-1, 0], 2), (-2, 3)])
def test_indices_are_constants(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], index: Any, axis: int
) -> None:
    found = import_model(save(model(index, axis), tmp_path / "m.onnx"))
    bindings = read_graph(found.mod).bindings
    assert [op_name(b.value) for b in bindings] == ["take"]
    assert constant(bindings[0].value.args[1]) is not None
    image = np.random.default_rng(0).normal(size=(1, 4, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(HostModule(found.mod)(image)[0], np.take(image, index, axis))
    assert capfd.readouterr().err == ""  # TVM warns of indices that it cannot check


def test_other_modules_are_left_alone(tmp_path: Path) -> None:
    proto = model([0, 1, 2, 3], 1)
    proto.graph.node[0].CopyFrom(helper.make_node("Relu", ["x"], ["y"]))
    mod = import_model(save(proto, tmp_path / "m.onnx")).mod
    assert with_constant_indices(mod) is mod
