"""flow.deploy and flow.stages: the order of things, with a backend that needs no compiler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flow.data.models import DIGITS
from flow.deploy import deploy
from flow.options import (
    MAIN_VARIANTS,
    OTHERS_EXACT_IMAGES,
    VARIANTS,
    Options,
)
from flow.stages import Stages
from flow.system.tracebacks import InternalError
from tests.flow.data.test_datasets import write_image
from tests.flow.fakes import FakeBackend, Recorder
from tests.flow.onnx_models import save, tiny_model
from vta_config.errors import (
    CapacityError,
    ConfigError,
    DriverError,
    HazardError,
    UnsupportedModelError,
)


def test_report_of_the_embedded_model() -> None:
    display = Recorder()
    stages = Stages(display)
    report, compiled = deploy(Options(limit=50, exact_images=5), stages, factory=FakeBackend)
    assert [m.name for m in report.variants] == ["float32", *VARIANTS]
    assert {m.images for m in report.variants} == {50}
    by_name = {m.name: m for m in report.variants}
    reference, coarse, fine = (by_name[name] for name in ("float32", "single_scale", "best"))
    assert report.deployed == "best"
    assert reference.sqnr_db is None and reference.agreement == 1.0
    assert fine.sqnr_db is not None and coarse.sqnr_db is not None
    assert fine.sqnr_db > coarse.sqnr_db + 20
    assert report.model_name == DIGITS and report.machine.name == "default"
    assert report.exact is not None and report.exact.images == 5
    assert report.evaluation is not None and report.evaluation.images == 50
    assert report.calibration is not None and report.calibration.images == 125
    images = {p.variant: p.calibration and p.calibration.images for p in report.programs}
    assert images == dict.fromkeys(VARIANTS, 125) | {
        "stock_relay": None, "single_scale": None, "best_zero_shot": 7,
    }  # fmt: skip
    assert list(report.seconds) == [
        "import", "float32", "calibrate", "quantize", "compile", "time", "fsim", "verify",
        "layers", "details",
    ]  # fmt: skip
    assert [p.variant for p in report.programs] == list(VARIANTS)
    exact = {p.variant: p.exact.images for p in report.programs if p.exact is not None}
    assert exact == dict.fromkeys(VARIANTS, OTHERS_EXACT_IMAGES) | {"best": 5}
    assert all(p.requantization_error == 2e-8 for p in report.programs)
    assert report.latency == compiled.latency
    assert report.layers == compiled.layers and report.placement == compiled.placement
    assert display.open_bars == 0 and "running profiled on fsim" in display.texts
    assert (125, 125) in display.moves and (50, 50) in display.moves


def test_chosen_variants_without_comparison() -> None:
    options = Options(limit=3, exact_images=0, variants=("profiled",))
    report, _ = deploy(options, Stages(), factory=FakeBackend)
    assert [m.name for m in report.variants] == ["float32", "profiled"] and report.exact is None
    assert report.deployed == "profiled"


def test_own_model_with_folders(tmp_path: Path) -> None:
    model = save(tiny_model(), tmp_path / "mine.onnx")
    for name in ("0/a.png", "4/b.png", "4/c.png"):
        write_image(tmp_path / "eval" / name)
    write_image(tmp_path / "calib" / "x.png")
    options = Options(
        model=str(model), images=tmp_path / "eval", calibration=tmp_path / "calib", exact_images=1
    )
    report, _ = deploy(options, Stages(), factory=FakeBackend)
    assert report.model_name == "mine" and report.variants[0].images == 3
    assert [p.variant for p in report.programs] == list(MAIN_VARIANTS)
    assert report.calibration is not None and report.calibration.images == 1


def test_errors_of_the_compiler_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBackend, "broken", frozenset(VARIANTS))
    with pytest.raises(UnsupportedModelError, match="conv1: must be something else; change it"):
        deploy(Options(limit=2), Stages(), factory=FakeBackend)


def test_model_that_stock_relay_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBackend, "broken", frozenset({"stock_relay"}))
    report, _ = deploy(Options(limit=2, exact_images=0), Stages(), factory=FakeBackend)
    assert [m.name for m in report.variants] == ["float32", *VARIANTS[1:]]
    (skipped,) = report.to_json()["skipped"]
    assert skipped["variant"] == "stock_relay"
    assert skipped["reason"] == "conv1: must be something else; change it"
    with pytest.raises(UnsupportedModelError, match="conv1: must be something else; change it"):
        deploy(Options(limit=2, variants=("stock_relay",)), Stages(), factory=FakeBackend)


PLACES = ("quantize", "compile", "run", "verify", "layers")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [IndexError("list index out of range"), MemoryError()])
def test_unexpected_error_in_one_variant_leaves_the_others(
    place: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeBackend, "faults", {"best": error})
    monkeypatch.setattr(FakeBackend, "place", place)
    options = Options(limit=3, exact_images=3, variants=("profiled", "best", "w4a8"))
    report, _ = deploy(options, Stages(), factory=FakeBackend, folder=tmp_path)
    assert [m.name for m in report.variants] == ["float32", "profiled", "w4a8"]
    assert [p.variant for p in report.programs] == ["profiled", "w4a8"]
    assert report.deployed == "profiled" and report.stopped == ""
    assert report.exact is not None and report.exact.images == 3
    (skipped,) = report.skipped
    path = tmp_path / "internal-error-best.txt"
    assert skipped.reason.startswith(f"internal error, got {type(error).__name__}")
    assert skipped.reason.endswith(f"; please report it with {path}, which has the traceback")
    assert "Traceback" in path.read_text() and type(error).__name__ in path.read_text()


def test_nothing_left_after_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = CapacityError("conv1", "must fit")
    options = Options(limit=2, variants=("profiled", "best"))
    for faults, kind, sentence in (
        ({"profiled": refused, "best": IndexError("i")}, InternalError, "best: internal error, "),
        ({"profiled": refused, "best": ConfigError("x", "must")}, CapacityError, "conv1: must fit"),
        (
            {"profiled": HazardError("insn", "must"), "best": refused},
            InternalError,
            "got HazardErr",
        ),
    ):
        monkeypatch.setattr(FakeBackend, "faults", faults)
        with pytest.raises(kind, match=sentence):
            deploy(options, Stages(), factory=FakeBackend, folder=tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_report_of_the_variants_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBackend, "faults", {"w4a8": KeyboardInterrupt()})
    options = Options(limit=3, exact_images=1, variants=("profiled", "best", "w4a8"))
    with pytest.raises(KeyboardInterrupt):
        deploy(options, Stages(), factory=FakeBackend, folder=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [v["name"] for v in report["variants"]] == ["float32", "profiled", "best"]
    assert report["deployed"] == "best" and report["stopped"] == "the run has not ended"
    assert report["skipped"] == [
        {"variant": "w4a8", "reason": "not measured: the run has not reached this variant"}
    ]
    (tmp_path / "file").write_text("x")  # a folder that cannot be written is told of at the end
    with pytest.raises(KeyboardInterrupt):
        deploy(options, Stages(), factory=FakeBackend, folder=tmp_path / "file")


def test_driver_that_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = DriverError("lib.so", "must finish the program", got="status 1")
    monkeypatch.setattr(FakeBackend, "faults", {"profiled_fused": error})
    monkeypatch.setattr(FakeBackend, "place", "run")
    options = Options(limit=3, variants=("profiled", "profiled_fused", "best"))
    report, _ = deploy(options, Stages(), factory=FakeBackend, folder=tmp_path)
    assert report.stopped == "lib.so: must finish the program, got status 1"
    assert report.deployed == "profiled" and [p.variant for p in report.programs] == ["profiled"]
    assert [(s.variant, s.reason) for s in report.skipped] == [
        ("profiled_fused", report.stopped),
        ("best", "the driver failed before"),
    ]
    monkeypatch.setattr(FakeBackend, "faults", {"profiled": error})
    with pytest.raises(DriverError, match="lib.so: must finish the program, got status 1"):
        deploy(options, Stages(), factory=FakeBackend, folder=tmp_path)
