"""What a first deploy costs is printed by stage; what cannot run is one sentence."""

from __future__ import annotations

import pytest

from scripts import bench_flow


@pytest.mark.slow
def test_every_stage_has_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "digits-resnet18", "--limit", "4", "--variant", "profiled"]
    assert bench_flow.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("first deploy of digits-resnet18, variants: 1; ")
    rows = {line[:30].strip(): line[30:].split() for line in lines[1:]}
    for stage in ("import", "float32", "calibrate", "quantize", "compile", "verify"):
        cpu, wall = map(float, rows[stage])
        assert cpu >= 0 and wall >= 0
    total = float(rows["all, with imports"][0])
    assert total >= sum(float(rows[stage][0]) for stage in ("quantize", "compile", "verify")) > 0
    assert float(rows["peak memory"][0]) > 50


def test_unknown_model_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_flow.main(["--model", "nope"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nope: must be an ONNX file or a known name, got neither; known")
