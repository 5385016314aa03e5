"""flow.results.report: the JSON, its document, the table, and writing it whole or not at all."""

from __future__ import annotations

import io
import json
import re
from dataclasses import asdict, fields, replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from jsonschema import ValidationError
from rich.console import Console

from flow.results.evaluate import Metrics
from flow.results.latency import Latency
from flow.results.layer_facts import LayerFacts
from flow.results.placement import Placement
from flow.results.report import (
    COUNTERS,
    GEMM_PARTS,
    SCHEMA_VERSION,
    DataFacts,
    Exactness,
    LayerCounters,
    ProgramFacts,
    Report,
    Skipped,
    latency_table,
    layers_table,
    render,
    write_report,
)
from flow.results.run_facts import RunFacts
from relay_passes.integers.plan import LayerPlan, QuantPlan
from relay_passes.params import QuantParams
from relay_passes.partition.host_work import Fallback
from relay_passes.selection.choices import Candidate, Choice, LayerProof
from tests.flow.fakes import layer_timing
from vta_config import VTAConfig

DOCUMENT = Path(__file__).parents[3] / "docs" / "report.md"


def metrics(name: str, top1: float | None, sqnr: float | None = 20.5) -> Metrics:
    return Metrics(
        name=name,
        images=599,
        top1=top1,
        top5=top1,
        top1_change_margin=None if top1 is None or name == "float32" else 0.0123,
        agreement=0.98765,
        sqnr_db=sqnr,
        centred_sqnr_db=None if sqnr is None else sqnr - 8,
    )


def latency(cycles: int) -> Latency:
    layers = (
        layer_timing(
            name="conv1",
            cycles=cycles - 200,
            utilization=0.87654321,
            bound="gemm",
            inp_bytes=2048,
            floor=777,
            full_floor=900,
        ),
        layer_timing(
            name="fc",
            cycles=200,
            utilization=0.04,
            bound="load",
            inp_bytes=9216,
            floor=64,
            full_floor=0,
        ),
    )
    return Latency(timing_profile="chisel", cycles=cycles, ms=cycles / 1e5, layers=layers)


CHOICE = Choice(
    variant="dyadic",
    chosen="profiled_fused",
    candidates=(
        Candidate(name="dyadic", sqnr_db=20.0, centred_db=11.0),
        Candidate(name="profiled_fused", sqnr_db=24.0, centred_db=15.25),
    ),
    layers=(
        LayerProof(layer="conv1", damping=0.01, correct_bias=False, gain_db=1.5),
        LayerProof(layer="fc", damping=inf, correct_bias=True, gain_db=0.0),
    ),
)


def placement(*fallbacks: Fallback) -> Placement:
    return Placement(
        programs=2, crossing_bytes=4096, macs=400, vta_macs=300, fallbacks=tuple(fallbacks)
    )


@pytest.fixture
def report(default_config: VTAConfig) -> Report:
    return Report(
        model_name="digits-resnet18",
        model_sha256="ab" * 32,
        machine=default_config,
        engine="fsim",
        evaluation=DataFacts(name="digits", images=599),
        calibration=DataFacts(name="digits train", images=125),
        variants=(
            metrics("float32", 0.9933, None),
            metrics("stock_relay", 0.95),
            metrics("single_scale", 0.9),
            metrics("profiled", None),
            metrics("profiled_fused", 0.99),
        ),
        deployed="profiled_fused",
        layers=(
            LayerCounters(name="conv1", kind="conv2d", counters=dict.fromkeys(COUNTERS, 1_000_000)),
            LayerCounters(name="fc", kind="dense", counters={"gemm_ops": 8}),
        ),
        seconds={"import": 0.12345, "fsim": 2.0},
        programs=(
            ProgramFacts(
                variant="stock_relay",
                latency=latency(7654321),
                placement=placement(Fallback(name="conv1", operator="nn.conv2d", reason="float")),
                exact=Exactness(images=4, tensors=120, mismatches=0),
            ),
            ProgramFacts(variant="profiled", latency=None, placement=placement()),
            ProgramFacts(
                variant="profiled_fused",
                latency=latency(1234567),
                placement=placement(
                    Fallback(
                        name="act0",
                        operator="sigmoid",
                        reason="the operator has no integer implementation",
                        node="/act/Sigmoid",
                        node_type="Sigmoid",
                    ),
                    Fallback(name="conv9", operator="nn.conv2d", reason="groups must be 1, got 2"),
                    Fallback(
                        name="act1",
                        operator="sigmoid",
                        reason="the operator has no integer implementation",
                    ),
                ),
                requantization_error=1.96e-8,
                exact=Exactness(images=20, tensors=640, mismatches=0),
            ),
            ProgramFacts(
                variant="dyadic",
                latency=latency(9999),
                choice=CHOICE,
                placement=placement(
                    *(
                        Fallback(name=f"n{i}", operator="add", reason="float")
                        for i in (0, *range(11))
                    )
                ),
                requantization_error=3e-5,
                exact=Exactness(images=4, tensors=60, mismatches=0),
            ),
        ),
        skipped=(Skipped(variant="best", reason="too large"),),
    )


def shown(what: object) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_json_has_what_the_document_promises(report: Report) -> None:
    value = report.to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["schema_version"] == SCHEMA_VERSION
    assert value["model"] == {"name": "digits-resnet18", "sha256": "ab" * 32}
    assert VTAConfig.from_json(value["machine"]) == report.machine
    assert [v["name"] for v in value["variants"]] == [
        "float32", "stock_relay", "single_scale", "profiled", "profiled_fused",
    ]  # fmt: skip
    assert set(value["variants"][0]) == {
        "name", "images", "top1", "top5", "agreement", "sqnr_db", "centred_sqnr_db", "outputs",
        "top1_change_margin", "latency", "placement", "steps", "requantization_error", "exact",
        "calibration", "bits", "kept", "layers", "layer_images",
    }  # fmt: skip
    assert value["deployed"] == "profiled_fused"
    by_name = {v["name"]: v for v in value["variants"]}
    assert by_name["float32"]["requantization_error"] is None
    assert by_name["profiled_fused"]["requantization_error"] == 1.96e-8
    assert by_name["profiled_fused"]["exact"] == value["exact"]
    assert by_name["stock_relay"]["exact"]["tensors"] == 120
    assert by_name["profiled"]["exact"] is None
    assert value["exact"] == {"images": 20, "tensors": 640, "mismatches": 0, "first": ""}
    assert value["counters"]["total"]["gemm_ops"] == 1_000_008
    assert value["counters"]["layers"][1]["wgt_bytes"] == 0
    assert value["seconds"] == {"import": 0.123, "fsim": 2.0}
    assert value["plan"] is None  # of a variant that has none


def test_latency_of_the_best_and_of_each_variant(report: Report) -> None:
    value = report.to_json()
    by_name = {v["name"]: v for v in value["variants"]}
    assert value["latency"] == by_name["profiled_fused"]["latency"]
    assert value["latency"]["engine"] == "tsim"
    assert value["latency"]["timing_profile"] == "chisel"
    assert value["latency"]["cycles"] == 1234567 and value["latency"]["ms"] == 12.34567
    assert value["latency"]["floor_cycles"] == 841
    assert value["latency"]["full_floor_cycles"] == 900
    assert value["latency"]["above_floor"] == round(1234567 / 841 - 1, 6)
    assert value["latency"]["layers"][1]["above_floor"] == 2.125
    assert value["latency"]["layers"][1]["above_full_floor"] is None
    assert value["latency"]["layers"][0] == {
        "name": "conv1",
        "cycles": 1234367,
        "gemm_utilization": 0.876543,
        "bound": "gemm",
        "path": {},
        "bytes": 2048,
        "floor_cycles": 777,
        "full_floor_cycles": 900,
        "above_floor": round(1234367 / 777 - 1, 6),
        "above_full_floor": round(1234367 / 900 - 1, 6),
    }
    assert by_name["float32"]["latency"] is None and by_name["float32"]["placement"] is None
    assert by_name["profiled"]["latency"] is None
    assert by_name["stock_relay"]["latency"]["cycles"] == 7654321
    assert [f["name"] for f in by_name["stock_relay"]["placement"]["fallbacks"]] == ["conv1"]
    assert value["latency"]["partial"] is True and value["placement"]["vta_mac_share"] == 0.75
    assert value["placement"]["fallbacks"][0] == {
        "name": "act0",
        "operator": "sigmoid",
        "reason": "the operator has no integer implementation",
        "node": "/act/Sigmoid",
        "node_type": "Sigmoid",
    }


def test_steps_that_were_kept(report: Report) -> None:
    facts = report.facts("dyadic")
    assert facts is not None and facts.choice is not None
    value = facts.choice.to_json()
    assert value["form"] == "profiled_fused"
    assert value["compared"][1] == {
        "form": "profiled_fused",
        "sqnr_db": 24.0,
        "centred_sqnr_db": 15.25,
    }
    assert value["layers"][1] == {
        "layer": "fc",
        "rounding": "nearest",
        "damping": None,
        "correct_bias": True,
        "gain_db": 0.0,
    }
    assert CHOICE.candidates[0].behind(CHOICE.candidates) == 4.25
    text = DOCUMENT.read_text(encoding="utf-8")
    for key in (*value, *value["compared"][0], *value["layers"][0]):
        assert f"`{key}`" in text or f".{key}`" in text or f".{key}[]`" in text, key


def test_document_names_every_field(report: Report) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    named = {word for cell in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", cell)}
    value = report.to_json()
    keys = set(value) | set(value["variants"][0]) | set(value["exact"]) | set(COUNTERS)
    keys |= set(value["placement"]) | set(value["placement"]["fallbacks"][0])
    keys |= set(value["evaluation"]) | set(value["model"])
    keys |= set(value["skipped"][0]) | set(value["tool"]) | {f.name for f in fields(LayerFacts)}
    keys |= set(value["latency"]) | set(value["latency"]["layers"][0])
    assert keys <= named
    assert f"Version {SCHEMA_VERSION}:" in text


def test_empty_report_is_valid(default_config: VTAConfig) -> None:
    bare = Report(model_name="m", model_sha256="0" * 64, machine=default_config, engine="fsim")
    value = bare.to_json()
    assert value["exact"] is None and value["evaluation"] is None and value["variants"] == []
    assert value["latency"] is None and latency_table(bare).row_count == 0
    assert "on host" not in shown(render(bare))


def test_table(report: Report) -> None:
    text = shown(render(report))
    row = next(line for line in text.splitlines() if "profiled_fused" in line)
    assert "599" in row and "99.00" in row and "-0.33 ± 1.23" in row and "98.77" in row
    assert "│ 20.50 │     12.50 │" in row  # SQNR, centred SQNR
    assert (
        "on VTA     75.00% of 0.00 M MACs, in 2 programs; 0.004 MB copied between host and VTA"
        " per image\n"
        "on host    3 operators, not included in the latency:\n"
        "           2 × the operator has no integer implementation: /act/Sigmoid (Sigmoid), act1 "
        "(sigmoid)\n"
        "           1 × groups must be 1, got 2: conv9 (nn.conv2d)\n"
    ) in text
    assert "operators on VTA only: 1,234,567 cycles" in text
    assert "profiled_fused: 640 tensors of 20 images compared, all equal" in text
    assert "2 other variants: 180 tensors of 4 images compared, all equal" in text
    assert "│            2e-08 │" in row
    assert "1×16×16" in text and "1,000,008 GEMM steps" in text and "total 2.1" in text
    assert "–" in next(line for line in text.splitlines() if "profiled " in line)
    assert "1,234,567* │  12.35* │" in row
    assert "* profiled_fused" not in text
    assert "* dyadic: latency of the operators on VTA only; on host: n0 (add), n1" in text  # once
    assert "n7 (add) and 3 more\n" in text
    stock = next(line for line in text.splitlines() if "stock_relay" in line)
    assert "7,654,321*" in stock and "76.54*" in stock
    assert "* stock_relay: latency of the operators on VTA only; on host: conv1 (nn.conv2d)" in text
    assert "skipped    best: too large" in text
    assert (
        "selection  dyadic: replaced by profiled_fused, which has a centred SQNR of 15.2 dB on "
        "calibration images instead of 11.0 dB\n"
        "           dyadic: rounded to nearest in 1 layers: fc\n"
        "           dyadic: no bias correction in 1 layers: conv1\n"
    ) in text
    assert "1,234,567 cycles, 12.35 ms per image (tsim, timing profile chisel" in text


def test_mismatches_are_loud(default_config: VTAConfig) -> None:
    exact = Exactness(images=1, tensors=30, mismatches=2, first="layer2.0.conv1 on fsim")
    bare = Report(
        model_name="m",
        model_sha256="0" * 64,
        machine=default_config,
        engine="f",
        deployed="best",
        programs=(
            ProgramFacts(variant="profiled", latency=None, placement=placement(), exact=exact),
            ProgramFacts(variant="best", latency=None, placement=placement(), exact=exact),
        ),
    )
    assert bare.mismatches == 4
    text = shown(render(bare))
    assert "on host    only quantizing the input and dequantizing the outputs" in text
    for name in ("profiled", "best"):
        assert (
            f"{name}: 30 tensors of 1 images compared, 2 DIFFER; first: layer2.0.conv1 on" in text
        )


def test_layers_table(report: Report) -> None:
    text = shown(layers_table(report))
    assert "conv1" in text and "1,000,008" in text and "total" in text


def test_latency_table(report: Report) -> None:
    text = shown(latency_table(report))
    row = next(line for line in text.splitlines() if "conv1" in line)
    assert "1,234,367" in row and "87.7" in row and "777" in row and "1,000,000" in row
    assert "158763.2" in row and "137051.9" in row  # above the roofline, the full roofline
    assert len(GEMM_PARTS) == 4 and text.count("steps)") == 4 and "(cycles)" in text


def test_written_whole_with_the_folder(report: Report, tmp_path: Path) -> None:
    path = write_report(report, tmp_path / "out" / "deploy")
    assert path.name == "report.json" and json.loads(path.read_text()) == report.to_json()
    assert sorted(p.name for p in path.parent.iterdir()) == ["layers.csv", "report.json"]
    write_report(report, path.parent)  # again, over the old one
    assert sorted(p.name for p in path.parent.iterdir()) == ["layers.csv", "report.json"]


def test_which_run_it_is_and_what_layers_have(report: Report, tmp_path: Path) -> None:
    layer = LayerFacts(name="conv1", kind="conv2d", tensor="conv1.relu", sqnr_db=31.5, scale=0.5)
    programs = [
        replace(p, layers=(layer,), layer_images=4) if p.variant == "profiled_fused" else p
        for p in report.programs
    ]
    run = RunFacts(date="2026-01-31T12:00:00Z", command=("vta-flow", "deploy"), seeds={"images": 3})
    full = replace(report, programs=tuple(programs), run=run)
    value = json.loads(write_report(full, tmp_path).read_text())
    assert value["tool"]["name"] == "vta-flow" and value["tool"]["numpy"] == np.__version__
    assert value["date"] == "2026-01-31T12:00:00Z" and value["command"] == ["vta-flow", "deploy"]
    assert value["seeds"] == {"images": 3} and value["objective"] == "balanced"
    by_name = {v["name"]: v for v in value["variants"]}
    assert by_name["profiled_fused"]["layer_images"] == 4
    assert by_name["profiled_fused"]["layers"][0] == asdict(layer)
    assert by_name["float32"]["layers"] == [] and by_name["float32"]["layer_images"] == 0
    assert "profiled_fused,conv1,conv2d,conv1.relu,31.5," in (tmp_path / "layers.csv").read_text()


def test_names_that_are_no_utf8(report: Report, tmp_path: Path) -> None:
    named = replace(report, model_name=b"\xffnet".decode(errors="surrogateescape"))
    path = write_report(named, tmp_path)
    assert json.loads(path.read_bytes())["model"]["name"] == "\udcffnet"


def test_bits_of_the_layers(default_config: VTAConfig) -> None:
    plan = QuantPlan(
        tensors={"x": QuantParams(scale=(1.0,))},
        weights={"conv": QuantParams(scale=(1.0,), bits=4)},
        layers=(LayerPlan(name="conv", inputs=("x",), operators=("conv",)),),
    )
    facts = ProgramFacts(variant="w4a8", latency=None, placement=placement(), plan=plan)
    bare = Report(
        model_name="m",
        model_sha256="0" * 64,
        machine=default_config,
        engine="f",
        deployed="w4a8",
        programs=(facts,),
    )
    text = "bits       w4a8: weights 4, activations 8 in 1 layer (conv)\n"
    assert text in shown(render(bare))


def test_a_report_that_does_not_fit_the_schema_is_found(report: Report) -> None:
    wrong = replace(report, variants=(replace(report.variants[0], top1="high"),))  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="'high' is not of type"):
        wrong.to_json()
