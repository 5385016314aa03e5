"""A network is quantized once for all machines that agree in what decides its integers."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.data.models import DIGITS
from flow.machines.axes import varied
from flow.options import Options
from flow.pipeline import Pipeline
from flow.results.evaluate import Metrics
from flow.stages import Stages
from flow.sweep.measure import Network
from flow.sweep.networks import Networks, Refused, accuracy_of, numbers_of, numbers_text
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig
from vta_config.errors import CapacityError

DEFAULT = VTAConfig.load("default")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    path = save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")
    return Networks(Options(model=str(path), check_import=False), (), Stages())


def test_what_decides_the_integers() -> None:
    same = varied(DEFAULT, bus=128, clock=2e8, inp_buffer=1 << 14, profile="hls", batch=1)
    assert numbers_of(same) == numbers_of(DEFAULT) == (16, 8, 8)
    others = [varied(DEFAULT, block=32), varied(DEFAULT, weight_bits=4)]
    assert [numbers_of(m) for m in others] == [(32, 8, 8), (16, 8, 4)]
    assert numbers_text((32, 8, 4)) == "block 32, W4A8"


def test_one_network_for_many_machines(networks: Networks) -> None:
    first = networks.of("profiled_fused", DEFAULT)
    assert isinstance(first, Network)
    assert networks.of("profiled_fused", varied(DEFAULT, bus=128)) is first
    wide = networks.of("profiled_fused", varied(DEFAULT, block=32))
    # One scale for a tensor: the block changes nothing, and the integers are the same.
    assert isinstance(wide, Network) and wide is not first and wide.digest == first.digest
    assert networks.variants == ("profiled_fused",)
    assert networks.images is None and networks.reference is None
    assert networks.calibrated_on == "2 random tensors"


def test_what_cannot_be_quantized_says_why(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Pipeline, name: str) -> None:
        raise CapacityError("conv", f"must fit {name}", got=1)

    monkeypatch.setattr(Pipeline, "form", fail)
    found = networks.of("per_tensor", DEFAULT)
    assert found == Refused(reason="conv: must fit per_tensor, got 1")


@pytest.mark.slow
def test_accuracy_is_that_of_the_network(tmp_path: Path) -> None:
    options = Options(limit=40, cache=tmp_path / "cache")
    networks = Networks(options, ("profiled_fused",), Stages())
    assert networks.model.name == DIGITS and networks.images is not None
    reference = networks.reference
    assert reference is not None and reference.agreement == 1.0
    network = networks.of("profiled_fused", DEFAULT)
    assert isinstance(network, Network)
    found = networks.accuracy("profiled_fused", network, DEFAULT)
    assert found.images == 40 and found.top1 is not None and found.top1 > 0.9
    # The same integers on another machine, out of what was kept.
    other = networks.accuracy("profiled_fused", network, varied(DEFAULT, bus=128))
    assert other == found
    assert len(networks.accuracy_key(network)) == 64
    without = Network(digest="x", module=None, arrays=None)
    assert not networks.accuracy_key(without)


def metrics(**values: float | None) -> Metrics:
    usual = dict.fromkeys(("top1", "top5", "agreement", "sqnr_db", "centred_sqnr_db"))
    return Metrics(name="x", images=1, **(usual | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "quantity", "value"),
    [
        ({"top1": 0.5, "agreement": 0.6, "sqnr_db": 20.0}, "top-1", 0.5),
        ({"agreement": 0.6, "sqnr_db": 20.0}, "agreement", 0.6),
        ({"sqnr_db": 20.0, "centred_sqnr_db": 10.0}, "centred SQNR", 10.0),
        ({"sqnr_db": 20.0}, "SQNR", 20.0),
        ({}, "SQNR", None),
    ],
)
def test_what_is_compared(values: dict[str, float], quantity: str, value: float | None) -> None:
    found = accuracy_of(metrics(**values))
    assert (found.quantity, found.value) == (quantity, value)
