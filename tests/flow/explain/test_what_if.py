"""What helps is what is known to help: the bus where that binds, a block where GEMM does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.compiler.search import Compiling
from flow.explain.again import Network
from flow.explain.explain import Compiled, explain_network
from flow.explain.what_if import (
    CannotApply,
    Subject,
    WhatIf,
    comparable,
    head_of,
    plain,
    sort,
    with_bits,
)
from flow.results.explanation import Change
from flow.stages import Stages
from relay_passes.rounding.nearest import NearestRounder
from relay_passes.scales.bit_widths import UniformWidths, Widths
from relay_passes.variants import KEEP, RECIPES, STOCK_RELAY
from tests.flow import qdq_models
from tests.flow.explain.networks import compiled, conv_net, gemm_bound
from vta_config import VTAConfig
from vta_config.errors import CapacityError


def changes(found: Compiled, layer: str = "") -> dict[str, Change]:
    return {c.name: c for c in explain_network(found, Stages(), layer).changes}


def test_bound_by_the_bus(on_bus: Compiled) -> None:
    network, layer = changes(on_bus), changes(on_bus, "c2")
    for found in (network, layer):
        # The cycles of half the beats, and the same latencies.
        assert -0.5 < found["bus of 128 bits"].share < -0.45
        # Half the bytes of weights.
        assert -0.5 < found["weights of 4 bits"].share < -0.4
        # The same bytes of weights: nothing is gained.
        assert abs(found["block of 32"].share) < 0.05
    change = network["bus of 128 bits"]
    assert change.cycles == sum(change.layers.values())
    assert change.base_cycles == sum(t.cycles for t in on_bus.model.timed)
    assert change.share_of("c2") == pytest.approx(layer["bus of 128 bits"].share, abs=0.01)
    assert change.share_of("nothing") is None
    assert next(iter(network)) == "bus of 128 bits"  # the best comes first


def test_bound_by_gemm(on_gemm: Compiled) -> None:
    network, layer = changes(on_gemm), changes(on_gemm, "c2")
    assert abs(network["bus of 128 bits"].share_of("c2")) < 0.02
    assert abs(layer["bus of 128 bits"].share) < 0.02
    # A quarter of the steps; less of the rest.
    assert -0.75 < network["block of 32"].share_of("c2") < -0.6
    assert -0.75 < layer["block of 32"].share < -0.6
    for found in (network, layer):
        assert found["block of 32"].multipliers == 768
        assert found["inp buffer ×2"].share is None
        assert found["inp buffer ×2"].reason.startswith("cannot be built: ")


@pytest.mark.slow
def test_the_program_of_another_machine(on_gemm: Compiled, tmp_path: Path) -> None:
    """What is told of a machine is what a deployment for it takes."""
    other = compiled(gemm_bound(), tmp_path, "block32")
    own = sum(t.cycles for t in other.model.timed)
    assert changes(on_gemm)["block of 32"].cycles == own
    wide = replace(VTAConfig.load("default"), bus_bits=128)
    path = tmp_path / "wide.json"
    path.write_text(json.dumps(wide.to_json()))
    other = compiled(gemm_bound(), tmp_path, str(path))
    assert changes(on_gemm)["bus of 128 bits"].cycles == sum(t.cycles for t in other.model.timed)


@pytest.mark.slow
def test_a_variant_that_learns_is_compared_with_itself(tmp_path: Path) -> None:
    found = compiled(conv_net((16, 32, 32), size=8, kernel=3), tmp_path, variant="best")
    known = changes(found)
    own = sum(t.cycles for t in found.model.timed)
    assert known["bus of 128 bits"].base_cycles == own
    # Rounded to nearest, as it is for another block.
    assert known["block of 32"].base_cycles == pytest.approx(own, rel=0.1)
    assert known["block of 32"].share < 0


def test_weights_that_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    b = qdq_models.Builder()
    w = b.weight("conv.weight", rng.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8), 2.0**-8)
    y = b.pair(b.node("Conv", [b.pair("x", 2.0**-5, 0, np.int8), w], "c"), 2.0**-4, 0, np.int8)
    b.node("Flatten", [b.node("GlobalAveragePool", [y], "p")], "y")
    found = compiled(qdq_models.model(b.nodes, b.tensors), tmp_path)
    assert found.variant == KEEP
    known = changes(found)
    assert known["weights of 4 bits"].reason == (
        "the model is quantized already, and its weights are kept"
    )
    assert known["block of 32"].cycles is not None


@pytest.mark.slow
def test_layers_that_would_move_to_the_host(tmp_path: Path) -> None:
    """A product of two tensors needs operands of 8 bits."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("HardSigmoid", ["p"], ["s"], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["r", "s"], ["m"], name="scale"),
        helper.make_node("Conv", ["m", "v"], ["y"], name="last"),
    ]
    weights = [
        numpy_helper.from_array(rng.normal(size=(16, size, 1, 1)).astype(np.float32), name)
        for name, size in (("w", 3), ("v", 16))
    ]
    graph = helper.make_graph(
        nodes,
        "gated",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 8, 8])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found = compiled(model, tmp_path)
    (product,) = explain_network(found, Stages(), "scale").layers
    reason = (
        f"{product.name} would stay on the host: a product of two tensors needs a machine of batch "
        "1 and operands of 8 bits"
    )
    assert changes(found)["weights of 4 bits"].reason == reason
    assert changes(found, "scale")["weights of 4 bits"].reason == reason
    assert changes(found, "last")["weights of 4 bits"].share is not None


def test_stock_relay_has_eight_bits(on_bus: Compiled) -> None:
    subject = Subject(
        pipeline=on_bus.pipeline,
        variant=STOCK_RELAY,
        quantized=None,
        how=Compiling(),
        cycles={},
    )
    assert subject.options() is None
    with pytest.raises(CannotApply, match="stock_relay has weights of 8 bits only"):
        subject.again(on_bus.model.config, 4)


def test_a_layer_that_depends_on_more_than_its_neighbours(
    on_bus: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the network is compiled, and the layer's part of it is told."""
    monkeypatch.setattr("flow.explain.what_if._MOST_DIFFERENCE", -1.0)
    found = explain_network(on_bus, Stages(), "c2")
    assert not found.alone
    change = found.changes[0]
    assert change.base_cycles == found.layers[0].cycles
    assert -0.5 < change.share < -0.45


def test_what_does_not_fit_is_told(on_bus: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Network, how: Compiling) -> dict[str, int]:
        raise CapacityError("c1", "must fit", got="more", hint="less")

    monkeypatch.setattr(Network, "cycles", full)
    change = changes(on_bus)["bus of 128 bits"]
    assert change.reason == "cannot be compiled: c1: must fit, got more; less"
    assert change.cycles is None


def test_progress_counts_all_changes(on_bus: Compiled) -> None:
    told: list[tuple[int, int, str]] = []
    what = WhatIf(
        subject=Subject(
            pipeline=on_bus.pipeline,
            variant=on_bus.variant,
            quantized=on_bus.model.quantized,
            how=Compiling(),
            cycles={
                layer.name: layer.cycles for t in on_bus.model.timed for layer in t.result.layers
            },
        ),
        layer="c2",
    )
    found = what.changes(lambda done, total, note="": told.append((done, total, note)))
    assert told[0] == (0, len(found), "bus of 128 bits") and told[-1][:2] == (11, 11)


def test_a_pool_that_joins_on_one_machine_only() -> None:
    joined, apart = {"a": 10, "c": 5}, {"a": 8, "b": 4, "c": 5}
    assert comparable(joined, apart) == ({"a": 10, "c": 5}, {"a": 12, "c": 5})
    assert comparable(apart, joined) == ({"a": 12, "c": 5}, {"a": 10, "c": 5})
    assert head_of("b", apart, joined) == "a" and head_of("c", apart, joined) == "c"
    assert comparable({"b": 1, "c": 2}, {"c": 3}) == ({"c": 3}, {"c": 3})
    assert head_of("b", {"b": 1, "c": 2}, {"c": 3}) == "c"


def test_options_without_what_takes_long() -> None:
    best = RECIPES["best"].options
    fast = plain(best)
    assert fast.rounder == NearestRounder() and not fast.correct_bias and fast.learner is None
    assert fast.chooser == best.chooser and plain(fast) == fast
    assert with_bits(fast, None) is fast
    assert with_bits(fast, 4).widths == UniformWidths(inner=Widths(weight_bits=4))
    narrow = fast.with_widths(
        UniformWidths(inner=Widths(weight_bits=8, activation_bits=4), ends=Widths())
    )
    assert with_bits(narrow, 4).widths == UniformWidths(
        inner=Widths(weight_bits=4, activation_bits=4)
    )


def test_order() -> None:
    none = Change(name="none", sets={}, reason="r")
    good = Change(name="good", sets={}, cycles=5, base_cycles=10)
    bad = Change(name="bad", sets={}, cycles=15, base_cycles=10)
    assert [c.name for c in sort([none, bad, good])] == ["good", "bad", "none"]
