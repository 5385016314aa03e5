"""A Pad of known numbers is imported as one operator, and pads as ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from flow.frontend.importer import import_model
from relay_passes.graph import op_name, read_graph
from tests.flow.onnx_models import save, tiny_model


def model(name: str, *nodes: Any, **constants: Any) -> Any:
    """Return the small model with nodes in it, and constants that they read."""
    made = tiny_model(extra=nodes)
    tensors = (numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    made.graph.initializer.extend(tensors)
    made.graph.name = name
    return made


def kinds(made: Any, folder: Path) -> list[str]:
    mod = import_model(save(made, folder / "model.onnx")).mod
    return [op_name(b.value) for b in read_graph(mod).bindings]


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pads_of_constants(mode: str, tmp_path: Path) -> None:
    node = helper.make_node("Pad", ["r", "widths", "number"], ["e"], "pad", mode=mode)
    widths, number = np.asarray([0, 0, 1, 2, 0, 0, 3, 0]), np.float32(-1.5)
    found = kinds(model("padded", node, widths=widths, number=number), tmp_path)
    assert found.count("nn.pad") == 1 and "call_tir" not in found


def test_pads_that_cut_off_are_a_slice_first(tmp_path: Path) -> None:
    node = helper.make_node("Pad", ["r", "widths"], ["e"], "pad")
    widths = np.asarray([0, 0, -1, 2, 0, 0, 3, 0])
    made = model("cut", node, widths=widths)
    found = kinds(made, tmp_path)  # the import check compares what they compute
    assert found.index("strided_slice") + 1 == found.index("nn.pad")
