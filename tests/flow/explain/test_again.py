"""What is compiled again takes what the program takes; a layer with those beside it almost so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.compiler.search import Compiling
from flow.explain.again import Network
from flow.explain.explain import Compiled
from tests.flow.compiler.networks import residual_network
from tests.flow.explain.networks import compiled, conv_net, gemm_bound
from vta_config import VTAConfig


def own_cycles(found: Compiled) -> dict[str, int]:
    return {layer.name: layer.cycles for t in found.model.timed for layer in t.result.layers}


@pytest.mark.parametrize("config", ["default", "block32", "w4"])
def test_a_network_takes_what_its_program_takes(tmp_path: Path, config: str) -> None:
    found = compiled(gemm_bound(), tmp_path, config)
    network = Network.of(found.model.quantized, found.model.config)
    assert network.cycles(Compiling()) == own_cycles(found)
    assert network.layers == ("c1", "c2", "c3") and not network.refused


def test_several_programs_and_another_objective(tmp_path: Path) -> None:
    found = compiled(conv_net((16, 16, 16, 16), size=8, kernel=3, between="Sin"), tmp_path)
    assert len(found.model.programs) == 3
    network = Network.of(found.model.quantized, found.model.config)
    own = own_cycles(found)
    assert network.cycles(Compiling()) == own
    assert network.cycles(Compiling(objective="latency")).keys() == own.keys()
    # Alone in its program: the layer with those beside it is all there is.
    assert network.cycles_beside("c2", 3, Compiling()) == {"c2": own["c2"]}


def test_searched_schedules(tmp_path: Path) -> None:
    found = compiled(conv_net((16, 16), size=8, kernel=3), tmp_path)
    network = Network.of(found.model.quantized, found.model.config)
    searched = network.cycles(Compiling(schedules=tmp_path / "schedules.json"))
    assert searched["c1"] == pytest.approx(own_cycles(found)["c1"], rel=0.02)
    assert (tmp_path / "schedules.json").is_file()


def test_a_layer_with_those_beside_it(on_bus: Compiled, on_gemm: Compiled) -> None:
    for found in (on_bus, on_gemm):
        network = Network.of(found.model.quantized, found.model.config)
        own = own_cycles(found)
        for name in own:
            beside = network.cycles_beside(name, 1, Compiling())
            assert beside[name] == pytest.approx(own[name], rel=0.03)
        assert list(network.cycles_beside("c3", 1, Compiling())) == ["c2", "c3"]
        assert list(network.cycles_beside("c1", 1, Compiling())) == ["c1", "c2"]


def test_a_residual_from_outside(default_config: VTAConfig) -> None:
    """A layer adds what one far before it made: that tensor is an input of what is compiled."""
    rng = np.random.default_rng(3)
    graph = residual_network(rng)
    network = Network(machine=default_config, subgraphs=(graph,), refused={})
    own = network.cycles(Compiling())
    adding = next(layer.name for layer in graph.layers if len(layer.inputs) > 1)
    assert network.cycles_beside(adding, 1, Compiling())[adding] == pytest.approx(
        own[adding], rel=0.05
    )
