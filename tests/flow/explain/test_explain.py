"""A network, a layer, programs alone: what is explained of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.explain.explain import Compiled, explain_network, explain_programs
from flow.sim.tsim import TSim
from flow.stages import Stages
from tests.flow.explain.networks import compiled, conv_net
from vta_config.errors import ConfigError


def test_a_network(on_bus: Compiled) -> None:
    stages = Stages()
    found = explain_network(on_bus, stages)
    own = sum(timed.cycles for timed in on_bus.model.timed)
    assert (found.model, found.variant) == ("net", "profiled_fused")
    assert found.cycles == found.shown_cycles == own == sum(found.parts.values())
    assert [layer.name for layer in found.layers] == ["c1", "c2", "c3"]
    assert (found.layer, found.alone, found.host) == (None, False, ())
    assert list(stages.seconds) == ["explain"]
    assert "wait for weights from DRAM" in {a.about: a.text for a in found.answers}["bound by"]


def test_one_layer(on_gemm: Compiled) -> None:
    found = explain_network(on_gemm, Stages(), "c2", shown_variant="best_zero_shot")
    (layer,) = found.layers
    assert (layer.name, found.layer, found.variant) == ("c2", "c2", "best_zero_shot")
    assert found.alone and found.shown_cycles == layer.cycles < found.cycles
    assert "block of 32" in {a.about: a.text for a in found.answers}["would help"]


def test_the_host(tmp_path: Path) -> None:
    network = conv_net((16, 16, 16), size=4, kernel=1, between="Sin")
    found = explain_network(compiled(network, tmp_path), Stages())
    assert [o.label for o in found.host if "Sin" in o.label] == ["act1 (Sin)"]
    assert len({layer.program for layer in found.layers}) == 2
    assert found.changes[0].base_cycles == found.cycles


def test_an_operator_that_larger_buffers_take(tmp_path: Path) -> None:
    """A window of 17 × 17 pixels is more than the inp buffer of the machine `small` holds."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(16, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node(
            "Conv", ["r", "w"], ["y"], name="wide", group=16, dilations=[8, 8], pads=[8] * 4
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 32, 32])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found = explain_network(compiled(model, tmp_path, "small"), Stages(), "wide")
    told = {a.about: a.text for a in found.answers}
    assert told["because"].startswith("the window of one output, and its weights, must fit")
    assert "larger inp and wgt buffers" in told["what to do"]
    assert told["would help"] == "VTA runs it with: inp buffer ×2"


def test_nothing_on_vta(tmp_path: Path) -> None:
    found = explain_network(
        compiled(conv_net((3, 8), size=4, kernel=1), tmp_path, variant="stock_relay"), Stages()
    )
    assert not found.layers and not found.changes and found.cycles == 0
    assert found.answers[0].text == "the host: no layer runs on VTA"


def test_programs_alone(on_bus: Compiled) -> None:
    timed = on_bus.model.timed
    found = explain_programs(timed, "net.vta")
    assert found.layers == explain_network(on_bus, Stages()).layers
    (change,) = found.changes
    assert change.name == "bus of 128 bits" and -0.5 < change.share < -0.45
    assert change.base_cycles == found.cycles
    assert found.answers[-1].about == "note"
    one = explain_programs(timed, "net.vta", "c2")
    assert one.layer == "c2" and one.changes[0].cycles == change.layers["c2"]
    with pytest.raises(ConfigError, match="got c22; close to it: c2"):
        explain_programs(timed, "net.vta", "c22")


def test_programs_of_the_widest_bus(on_bus: Compiled) -> None:
    (program,) = on_bus.model.programs
    wide = replace(program, config=replace(program.config, bus_bits=512))
    (change,) = explain_programs([TSim(wide)], "wide").changes
    assert change.cycles is None and "must be among 32, 64, 128, 256, 512" in change.reason
