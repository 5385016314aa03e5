"""Choosing bits on a machine: what is tied and fixed, limits, and what programs really take."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.bit_request import BitRequest, Bound
from flow.bits import choose as module
from flow.bits.choose import MOST_ROUNDS, BitChooser, machine_choices
from flow.bits.latencies import Meter
from flow.pipeline import Pipeline
from relay_passes.selection.bit_program import Bits
from tests.flow.bits.network import LAYERS, calibrated
from vta_config import VTAConfig
from vta_config.errors import CalibrationError, ConfigError, LimitError

#: What the layers take in a machine on which four bits are twice as fast.
STEPS = dict(zip(LAYERS, (100, 200, 200, 300, 400, 50, 10), strict=True))


@pytest.fixture(scope="module")
def pipeline(default_config: VTAConfig, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return calibrated(default_config, tmp_path_factory.mktemp("net"))


def timed_by(monkeypatch: pytest.MonkeyPatch, cycles: Callable[[str, Bits], int]) -> None:
    """Put a formula in the place of programs."""

    def of(self: Meter, bits: Mapping[str, Bits]) -> dict[str, int]:
        return {name: cycles(name, pair) for name, pair in bits.items()}

    monkeypatch.setattr(Meter, "cycles", of)


def halved(name: str, bits: Bits) -> int:
    return STEPS[name] * bits[0] * bits[1] // 64


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> BitChooser:
    timed_by(monkeypatch, halved)
    return BitChooser(pipeline, BitRequest())


def test_ends_are_wide_and_the_rest_is_chosen(fast: BitChooser) -> None:
    found = fast.choose([Bound(cost="latency", value=0)])
    assert list(found.bits) == list(LAYERS)
    assert set(found.bits.values()) == {(4, 8), (8, 8)}
    assert [layer.name for layer in found.layers if layer.fixed] == ["stem", "head"]
    assert found.bits["stem"] == found.bits["head"] == (8, 8)
    assert all(bits == (4, 8) for name, bits in found.bits.items() if name in LAYERS[1:-1])
    assert found.costs["latency"] == found.measured_cycles == 110 + 1150 / 2
    assert found.ranges["latency"] == (685, 1260)


def test_limits_are_kept(fast: BitChooser) -> None:
    for share in (0.25, 0.5, 0.75):
        for cost in ("latency", "size", "bops"):
            found = fast.choose([Bound(cost=cost, value=share)])  # type: ignore[arg-type]
            least, widest = found.ranges[cost]
            assert found.limits[cost] == least + share * (widest - least)
            assert found.costs[cost] <= found.limits[cost]
    both = fast.choose([Bound(cost="latency", value=0.5), Bound(cost="size", value=0.3)])
    assert set(both.limits) == {"latency", "size"}


def test_absolute_limits(fast: BitChooser) -> None:
    # 100 MHz: 9 µs are 900 cycles.
    found = fast.choose([Bound.parse("latency", "9us")])
    assert found.limits["latency"] == pytest.approx(900)
    assert fast.choose([Bound.parse("latency", "900cycles")]).bits == found.bits
    assert fast.choose([Bound.parse("size", "12kB")]).limits["size"] == 12_000


def test_without_limits_half_of_what_the_machine_gains_by(fast: BitChooser) -> None:
    assert fast.choose().limits.keys() == {"size"}


def test_machines_choose_from_what_they_are_faster_with() -> None:
    assert machine_choices(VTAConfig.load("default")) == ((4, 8), (8, 8))
    assert machine_choices(VTAConfig.load("w4")) == ((4, 8), (8, 8))
    assert machine_choices(VTAConfig.load("w4a4")) == ((4, 4), (4, 8), (8, 4), (8, 8))


def test_an_infeasible_limit_names_the_nearest(fast: BitChooser) -> None:
    sentence = (
        "limit: must leave a choice of bits, got latency 600; the nearest that can be kept is "
        "latency 685"
    )
    with pytest.raises(LimitError, match=f"^{sentence}$"):
        fast.choose([Bound.parse("latency", "600cycles")])


def test_two_limits_of_one_cost(fast: BitChooser) -> None:
    bounds = [Bound.parse("size", "0.5"), Bound.parse("size", "6MB")]
    with pytest.raises(LimitError, match="--max-size: must be given once, got two; leave one out"):
        fast.choose(bounds)


def test_no_cycle_to_win(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    # A few cycles less are no gain.
    timed_by(monkeypatch, lambda name, bits: 1000 - (bits == (4, 8)) * 5)
    chooser = BitChooser(pipeline, BitRequest())
    found = chooser.choose([Bound(cost="latency", value=0.25)])
    assert set(found.bits.values()) == {(8, 8)}
    assert found.remarks == (
        "fewer bits buy no cycle on default: a limit on latency leaves 8 bits everywhere",
    )
    assert chooser.choose([Bound(cost="size", value=0)]).bits["a.1"] == (4, 8)


def test_programs_that_take_longer_than_their_sums(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline
) -> None:
    # A wide layer between narrow ones takes 5 % longer than among its like.
    def of(self: Meter, bits: Mapping[str, Bits]) -> dict[str, int]:
        mixed = len({bits[name] for name in LAYERS[1:-1]}) > 1
        return {
            name: halved(name, pair) * (21 if mixed and pair == (8, 8) else 20)
            for name, pair in bits.items()
        }

    monkeypatch.setattr(Meter, "cycles", of)
    found = BitChooser(pipeline, BitRequest()).choose([Bound(cost="latency", value=0.5)])
    assert 1 < found.rounds <= MOST_ROUNDS
    assert found.measured_cycles is not None
    assert found.measured_cycles <= found.limits["latency"]
    assert abs(found.measured_cycles / found.costs["latency"] - 1) < 0.01
    assert found.remarks == ()


def test_a_limit_that_programs_do_not_keep_is_told(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline
) -> None:
    calls = []

    def of(self: Meter, bits: Mapping[str, Bits]) -> dict[str, int]:
        calls.append(bits)
        late = 30 if len(calls) > len(machine_choices(pipeline.config)) else 0
        return {name: halved(name, pair) + late for name, pair in bits.items()}

    monkeypatch.setattr(Meter, "cycles", of)
    chooser = BitChooser(pipeline, BitRequest())
    monkeypatch.setattr(chooser, "_as_measured", lambda program, found, took: program)
    found = chooser.choose([Bound(cost="latency", value=0.5)])
    assert found.rounds == MOST_ROUNDS and len(found.remarks) == 1
    assert re.match(
        r"the program takes [\d,]+ cycles, more than the limit of 972.5, which the sum of its "
        r"layers keeps",
        found.remarks[0],
    )


def test_fixed_bits(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    timed_by(monkeypatch, halved)
    request = BitRequest(fixed={"stem": (4, 8), "a.1": (8, 8), "b.2": (6, 8)})
    found = BitChooser(pipeline, request).choose([Bound(cost="latency", value=0)])
    assert [found.bits[name] for name in ("stem", "a.1", "b.2")] == [(4, 8), (8, 8), (6, 8)]
    assert found.bits["a.2"] == (4, 8)


def test_layers_that_read_one_tensor_have_its_bits(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline
) -> None:
    timed_by(monkeypatch, halved)
    widths = ((4, 4), (4, 8), (8, 4), (8, 8))
    found = BitChooser(pipeline, BitRequest(widths=widths, fixed={"down": (8, 4)}))
    assert found.choose([Bound(cost="size", value=1)]).bits["b.1"][1] == 4
    sentence = "b.1, down: must agree in the bits of activations, got no bits that all of them"
    with pytest.raises(LimitError, match=sentence):
        BitChooser(pipeline, BitRequest(fixed={"down": (8, 4), "b.1": (8, 8)}))


def test_both_sensitivities_on_one_scale(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline
) -> None:
    pytest.importorskip("torch")
    timed_by(monkeypatch, halved)
    found = BitChooser(pipeline, BitRequest(sensitivity="hessian")).choose()
    assert found.sensitivity == "hessian" and found.agreement is not None
    sums = [
        sum(layer.omega[source][4, 8] for layer in found.layers if not layer.fixed)
        for source in ("measured", "hessian")
    ]
    assert 0.2 < sums[0] / sums[1] < 5
    chosen = sum(layer.omega["hessian"][layer.bits] for layer in found.layers)
    assert found.perturbation == pytest.approx(chosen)


def test_torch_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, tmp_path: Path
) -> None:
    timed_by(monkeypatch, halved)
    monkeypatch.setitem(sys.modules, "torch", None)
    sentence = "Hessian: must have PyTorch for its derivatives, got no module torch; pip"
    with pytest.raises(ConfigError, match=sentence):
        BitChooser(pipeline, BitRequest(sensitivity="hessian"))


def test_layers_that_there_are_not(pipeline: Pipeline) -> None:
    sentence = (
        "--fix-bits: must name layers of the model: stem, a.1, a.2, b.1, b.2, down, head, got c; "
        "take a name of that list"
    )
    with pytest.raises(LimitError, match=f"^{sentence}$"):
        BitChooser(pipeline, BitRequest(fixed={"c": (8, 8)}))


def test_images_that_are_missing(pipeline: Pipeline, default_config: VTAConfig) -> None:
    fresh = Pipeline(pipeline.model, default_config)
    with pytest.raises(CalibrationError, match="mixed: must have calibration images to choose"):
        BitChooser(fresh, BitRequest())
    with pytest.raises(CalibrationError, match="mixed: must be given the bits of its layers; give"):
        fresh.quantize("mixed")


def test_a_network_without_layers(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    monkeypatch.setattr(module, "layer_facts", lambda mod: ())
    with pytest.raises(LimitError, match="mixed: must have layers whose weights are"):
        BitChooser(pipeline, BitRequest())


def test_what_takes_long_is_kept(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, tmp_path: Path
) -> None:
    cache = tmp_path / "bits.json"
    first = BitChooser(pipeline, BitRequest(), cache=cache).choose()

    def again(*args: Any, **options: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "measured_sensitivity", again)
    monkeypatch.setattr(Meter, "_measure", again)
    assert BitChooser(pipeline, BitRequest(), cache=cache).choose() == first
    cache.write_text("damaged")
    with pytest.raises(AssertionError, match="measured again"):
        BitChooser(pipeline, BitRequest(), cache=cache)


def test_programs_are_what_their_layers_say(pipeline: Pipeline) -> None:
    # In the machine's own programs: the sum of the layers is the program's time.
    chooser = BitChooser(pipeline, BitRequest())
    found = chooser.choose([Bound(cost="size", value=0.5)])
    predicted = found.costs["latency"]
    assert found.measured_cycles is not None and predicted > 0
    assert found.measured_cycles == pytest.approx(predicted, rel=0.01)
    omegas = [omega for x in found.layers for omega in x.omega["measured"].values()]
    assert np.isfinite(omegas).all()
