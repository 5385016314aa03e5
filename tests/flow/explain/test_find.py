"""Layers are found by all names that people know; a name that is none has close ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.explain.explain import Compiled, explain_network, explain_programs
from flow.explain.find import by_name, namesakes, several, unknown
from flow.stages import Stages
from relay_passes.partition.host_work import Fallback
from tests.flow.explain.networks import compiled, conv_net
from vta_config.errors import ConfigError


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Convolution, BatchNorm, ReLU, max-pool, identity, sine on the host, dense layer."""
    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> object:
        return numpy_helper.from_array(rng.uniform(0.5, 1, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv_node", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", *"sbmv"], ["n"], name="bn_node"),
        helper.make_node("Relu", ["n"], ["r"], name="relu_node"),
        helper.make_node(
            "MaxPool", ["r"], ["p"], name="pool_node", kernel_shape=[2, 2], strides=[2, 2]
        ),
        helper.make_node("Identity", ["p"], ["i"], name="identity_node"),
        helper.make_node("Sin", ["i"], ["t"], name="sin_node"),
        helper.make_node("Flatten", ["t"], ["f"], name="flat_node"),
        helper.make_node("Gemm", ["f", "head"], ["y"], name="dense_node", transB=1),
    ]
    tensors = [tensor("w", 16, 3, 3, 3), *(tensor(n, 16) for n in "sbmv"), tensor("head", 4, 256)]
    graph = helper.make_graph(
        nodes,
        "folded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return compiled(model, tmp_path_factory.mktemp("folded"))


@pytest.mark.parametrize("name", ["conv_node", "bn_node", "relu_node", "c", "r", "pool_node"])
def test_nodes_that_a_layer_covers(folded: Compiled, name: str) -> None:
    found = explain_network(folded, Stages(), name)
    (layer,) = found.layers
    assert found.layer == layer.name and not found.host
    assert layer.kind == "conv2d+max_pool2d"
    text = found.answers[0].text
    assert text.startswith(layer.name)
    if name != layer.name:
        assert f"which {name} is a part of" in text


def test_an_operator_on_the_host(folded: Compiled) -> None:
    found = explain_network(folded, Stages(), "sin_node")
    assert not found.layers and not found.changes
    (operator,) = found.host
    assert operator.label == "sin_node (Sin)"
    assert operator.reason == "the operator has no integer implementation"
    assert operator.advice.startswith("replace it by operators that VTA runs")
    assert [a.about for a in found.answers] == ["runs on", "because", "what to do"]


def test_an_unknown_name(folded: Compiled) -> None:
    with pytest.raises(
        ConfigError,
        match="--explain: must name a layer on VTA or an operator on the host, got conv_nod; "
        "close to it: conv_node",
    ):
        explain_network(folded, Stages(), "conv_nod")


def test_operators_come_before_conversions() -> None:
    sine = Fallback(name="t", operator="sin", reason="r", node="n", node_type="Sin")
    whole = Fallback(name="a", operator="dequantize", reason="r", node="n", node_type="Conv")
    assert by_name("n", [whole, sine]) == sine
    assert by_name("n (Sin)", [whole, sine]) == sine
    assert by_name("a", [whole, sine]) is None
    assert by_name("a", [whole, sine], conversions=True) == whole
    assert by_name("n (dequantize)", [whole], conversions=True) == whole


def test_others_with_a_name() -> None:
    assert namesakes("n", ["n", "n#2", "m#2", "n#x", "n#3#2", "n#10", "n#3"]) == [
        "n#2",
        "n#3",
        "n#10",
    ]
    with pytest.raises(
        ConfigError,
        match="--explain: must name one layer or operator, got n, which is in 3 of them; "
        "give one of: t, a, b",
    ):
        raise several("n", ["t", "a", "b"])
    with pytest.raises(ConfigError, match="l0, .* l7 and 12 more"):
        raise several("n", [f"l{k}" for k in range(20)])


def test_nodes_with_one_name(tmp_path: Path) -> None:
    """Names that several nodes have get numbers; they are in layers and on the host."""
    rng = np.random.default_rng(0)
    layers = [
        numpy_helper.from_array(rng.normal(size=(16, 16, 1, 1)).astype(np.float32), name)
        for name in ("stem.weight", "head.weight")
    ]
    nodes = [
        helper.make_node("Conv", ["x", "stem.weight"], ["c"], name="same"),
        helper.make_node("Sin", ["c"], ["s"], name="same"),
        helper.make_node("Conv", ["s", "head.weight"], ["d"], name="same"),
        helper.make_node("Relu", ["d"], ["y"], name="same"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, 4, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "twins", ends[:1], ends[1:], layers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found = compiled(model, tmp_path)
    (sine,) = explain_network(found, Stages(), "same#2").host
    assert sine.label == "same#2 (Sin)"
    assert explain_network(found, Stages(), "same#3").layer == "head"
    with pytest.raises(ConfigError, match=f"in 3 of them; give one of: stem, {sine.name}, head"):
        explain_network(found, Stages(), "same")


def test_layers_with_one_name(tmp_path: Path) -> None:
    """Layers that share a weight are called after it; a note names the others."""
    model = conv_net((16, 16, 16), size=4, kernel=1)
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.input[1] = "c1.weight"
    found = compiled(model, tmp_path)
    first = explain_network(found, Stages(), "c1")
    assert (first.layer, first.answers[-1].text) == ("c1", "others have this name, too: c1#2")
    assert explain_network(found, Stages(), "c1#2").answers[-1].about == "would help"
    assert explain_programs(found.model.timed, "p", "c1").answers[-1] == first.answers[-1]


def test_close_names() -> None:
    known = ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "Stem"]
    assert "close to it: layer1.0.conv1, layer" in str(unknown("Layer1.0.Conv1", known))
    assert "close to it: Stem" in str(unknown("stem", known))
    assert "layer2.0.conv1" in str(unknown("2.0", known))  # a part of it
    assert "give no name to see all layers" in str(unknown("zzzz", known))
    assert "\\x1b" in str(unknown("\x1b[31m", known))
