"""Chains of moves that choose channels become one operator; others stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flow.frontend.channel_moves import join_channel_moves
from flow.frontend.importer import import_model
from flow.frontend.onnx_session import OnnxSession
from flow.frontend.onnx_shapes import infer_shapes
from relay_passes.host.torch_graph import TorchGraph
from tests.flow.onnx_models import save

SHAPE = (1, 8, 2, 3)


def node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:
    *inputs, output = names
    return helper.make_node(kind, inputs, [output], f"n_{output}", **attributes)


def joined(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str] = ("y",), opset: int = 13, **values: Any
) -> list[str]:
    """Join; check that the outputs are the same; return the operators that are left."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", 1, list(SHAPE))],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    expected = OnnxSession(proto).run(outputs, {"x": image})
    join_channel_moves(proto, infer_shapes(proto), opset)
    for ours, theirs in zip(OnnxSession(proto).run(outputs, {"x": image}), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return [n.op_type for n in proto.graph.node]


SHUFFLE = (
    node("Reshape", "x", "split", "a"),
    node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
    node("Reshape", "b", "whole", "c"),
    node("Relu", "c", "y"),
)
SPLIT, WHOLE = np.asarray([1, 2, 4, 2, 3]), np.asarray(SHAPE)


def test_a_shuffle_is_one_gather() -> None:
    assert joined(SHUFFLE, split=SPLIT, whole=WHOLE) == ["Gather", "Relu"]


def test_two_shuffles_that_undo_each_other_are_nothing() -> None:
    back = (
        node("Reshape", "c", "back", "d"),
        node("Transpose", "d", "e", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "e", "whole", "f"),
        node("Relu", "f", "y"),
    )
    left = joined((*SHUFFLE[:3], *back), split=SPLIT, whole=WHOLE, back=np.asarray([1, 4, 2, 2, 3]))
    assert left == ["Identity", "Relu"]


HALVES = (
    node("Reshape", "x", "pairs", "a"),
    node("Transpose", "a", "b", perm=[1, 0, 2]),
    node("Reshape", "b", "halves", "c"),
    node("Gather", "c", "zero", "even", axis=0),
    node("Gather", "c", "one", "odd", axis=0),
)
INDICES: dict[str, Any] = {"pairs": [4, 2, 6], "halves": [2, 1, 4, 2, 3], "zero": 0, "one": -1}


@pytest.mark.parametrize("opset", [9, 13])
def test_halves_that_are_gathered(opset: int) -> None:
    """As ShuffleNetV2 splits: even channels and odd ones."""
    nodes = (*HALVES, node("Relu", "even", "y"), node("Relu", "odd", "z"))
    left = joined(nodes, ("y", "z"), opset, **INDICES)
    assert left == [*(["Slice"] * 2 if opset > 9 else ["Gather"] * 2), "Relu", "Relu"]


def test_a_split_behind_a_shuffle() -> None:
    nodes = [*SHUFFLE[:3], helper.make_node("Split", ["c", "sizes"], ["d", "e"], axis=1)]
    nodes += [node("Relu", "d", "y"), node("Relu", "e", "z")]
    left = joined(nodes, ("y", "z"), split=SPLIT, whole=WHOLE, sizes=np.asarray([4, 4]))
    assert sorted(left) == ["Gather", "Gather", "Relu", "Relu"]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Transpose", "x", "a", perm=[0, 1, 3, 2]), node("Relu", "a", "y")],
        [node("Reshape", "x", "flat", "a"), node("Relu", "a", "y")],
        [node("Slice", "x", "st", "en", "ax", "a"), node("Relu", "a", "y")],
        [node("Gather", "x", "rows", "a", axis=2), node("Relu", "a", "y")],
        [node("Relu", "x", "r"), node("Reshape", "r", "computed", "y")],
    ],
)
def test_other_moves_stay(nodes: list[onnx.NodeProto]) -> None:
    values: dict[str, Any] = {"flat": [1, -1], "st": [0], "en": [1], "ax": [2], "rows": [1, 0]}
    if "computed" in nodes[-1].input:
        nodes = [node("Shape", "x", "computed"), *nodes]
    read = {name for n in nodes for name in n.input}
    left = joined(nodes, **{k: np.asarray(v) for k, v in values.items() if k in read})
    assert left == [n.op_type for n in nodes]


def test_imported_halves_run_in_batches(tmp_path: Path) -> None:
    """Distillation and learning run the imported module in PyTorch, several images at once.

    A view of one image whose first dimension is not the batch would not do.
    """
    torch = pytest.importorskip("torch")
    graph = helper.make_graph(
        [*HALVES, node("Concat", "odd", "even", "y", axis=1)],
        "g",
        [helper.make_tensor_value_info("x", 1, list(SHAPE))],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in INDICES.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    mod = import_model(save(proto, tmp_path / "halves.onnx")).mod
    images = np.random.default_rng(1).normal(size=(3, *SHAPE[1:])).astype(np.float32)
    (found,) = TorchGraph(mod, torch)(torch.from_numpy(images))
    order = [1, 3, 5, 7, 0, 2, 4, 6]
    np.testing.assert_array_equal(found.numpy(), images[:, order].reshape(3, -1))
