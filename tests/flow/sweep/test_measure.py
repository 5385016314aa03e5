"""A machine is measured as an estimate measures it, wherever that runs; what fails is a result."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from flow.compiler.search import Compiling
from flow.data.datasets import random_images
from flow.estimate import estimate
from flow.frontend.importer import import_model
from flow.machines.axes import AxisValue, varied
from flow.options import Options
from flow.parallel.shared import Shared
from flow.pipeline import Pipeline
from flow.stages import Stages
from flow.sweep import measure as module_of_measure
from flow.sweep.measure import (
    Measured,
    Network,
    Opened,
    Task,
    key_of_machine,
    measure,
    measure_module,
)
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig

DEFAULT = VTAConfig.load("default")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


def quantized(model: Path, machine: VTAConfig) -> Any:
    pipeline = Pipeline(import_model(model), machine)
    pipeline.calibrate(random_images((1, 3, 8, 8), 2))
    return pipeline.form("profiled_fused")


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"block": 32},
        {"bus": 128, "profile": "chisel-simple"},
        {"weight-bits": 4},
        {"batch": 2, "acc-buffer": 1 << 16},
        {"inp-buffer": 1 << 11, "wgt-buffer": 1 << 14, "clock": 333e6},
    ],
)
def test_it_is_what_an_estimate_says(
    model: Path, tmp_path: Path, axes: dict[str, AxisValue]
) -> None:
    machine = varied(DEFAULT, **axes)
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(machine.to_json()))
    expected = estimate(Options(model=str(model), config=str(file)), Stages())
    network = Network.of(quantized(model, machine))
    found = measure_module(network.module, machine, Compiling())
    assert found.work is not None and not found.reason
    assert found.work.cycles == expected.cycles
    assert found.work.data_bytes == expected.dram_bytes
    assert found.work.utilization == pytest.approx(expected.utilization)
    assert (found.macs, found.vta_macs) == (expected.placement.macs, expected.placement.vta_macs)
    assert found.programs == len(expected.programs)
    assert found.host_operators == len(expected.placement.fallbacks)
    sent = pickle.loads(pickle.dumps(Shared.of({network.digest: network.arrays})))
    again = measure(sent, Compiling(), Task(digest=network.digest, machine=machine))
    assert (again.work, again.macs) == (found.work, found.macs)
    assert Measured.from_json(found.to_json()) == found


def test_a_network_that_does_not_fit(model: Path) -> None:
    network = Network.of(quantized(model, DEFAULT))
    small = varied(DEFAULT, wgt_buffer=512)
    found = measure_module(network.module, small, Compiling())
    assert found.work is None and not found.internal
    assert "smallest tile must fit" in found.reason
    assert Measured.from_json(found.to_json()) == found


def test_a_fault_of_ours_does_not_stop_the_others(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network.of(quantized(model, DEFAULT))

    def fail(timed: object) -> None:
        raise AssertionError("never\nso")

    monkeypatch.setattr(module_of_measure, "work_of", fail)
    found = measure_module(network.module, DEFAULT, Compiling())
    assert (found.reason, found.internal) == ("internal error: AssertionError: never so", True)
    lost = measure(Shared.of({}), Compiling(), Task(digest="gone", machine=DEFAULT))
    assert lost.internal and lost.reason.startswith("internal error: KeyError")


def test_what_a_measurement_depends_on(model: Path) -> None:
    network = Network.of(quantized(model, DEFAULT))
    key = key_of_machine(network, DEFAULT, Compiling())
    assert key == key_of_machine(network, varied(DEFAULT, "mine", clock=2e8), Compiling())
    others = [
        key_of_machine(network, varied(DEFAULT, bus=128), Compiling()),
        key_of_machine(network, DEFAULT, Compiling(objective="latency")),
        key_of_machine(network, DEFAULT, Compiling(schedules=Path("x"))),
        key_of_machine(
            Network(digest="other", module=None, arrays=network.arrays), DEFAULT, Compiling()
        ),
    ]
    assert len({key, *others}) == 5
    assert not key_of_machine(Network(digest="x", module=None, arrays=None), DEFAULT, Compiling())


def test_a_network_that_cannot_be_sent(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = quantized(model, DEFAULT)

    def refuse(mod: object) -> None:
        raise module_of_measure.UnknownModuleError("no")

    monkeypatch.setattr(module_of_measure, "packed", refuse)
    found = Network.of(module)
    assert found.arrays is None and measure_module(found.module, DEFAULT, Compiling()).work


def test_a_worker_keeps_the_last_networks(model: Path) -> None:
    network = Network.of(quantized(model, DEFAULT))
    assert network.arrays is not None
    opened = Opened({str(k): network.arrays for k in range(6)})
    first = opened.module("0")
    assert opened.module("0") is first
    for k in range(1, 6):
        opened.module(str(k))
    assert opened.module("0") is not first


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"macs": "1"}, "not the values of Measured"),
        ({"reason": "both"}, "work or a reason"),
        ({"work": {}}, "not the fields of Work"),
        ({"more": 1}, "more"),
    ],
)
def test_what_is_no_measurement(model: Path, change: dict[str, Any], error: str) -> None:
    network = Network.of(quantized(model, DEFAULT))
    value = measure_module(network.module, DEFAULT, Compiling()).to_json()
    with pytest.raises((TypeError, ValueError), match=error):
        Measured.from_json(value | change)
